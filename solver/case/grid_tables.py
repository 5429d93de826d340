"""``[grid]`` of a case: one table for each direction, checked, and the axis it describes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from solver.case.table import Coordinate, Length, Table
from solver.grid.axis import (
    Axis,
    Boundary,
    FiniteVolumeAxis,
    FourierAxis,
    FreeSlip,
    Inflow,
    NoSlip,
    Outflow,
    Periodic,
    focused_faces,
    stretched_faces,
)


class FourierTable(Table):
    """A periodic spectral direction."""

    kind: Literal["fourier"]
    n: int = Field(ge=1, le=100_000, description="modes; products are evaluated on half as many points again with 3/2")
    length: Length = Field(description="period, a number or a multiple of pi")
    dealias: Literal["3/2", "2/3"] = Field(default="3/2", description="rule that keeps products free of aliases")

    def axis(self) -> Axis:
        """The axis it describes."""
        return FourierAxis(self.n, self.length, self.dealias)


class NoSlipTable(Table):
    """A wall, possibly moving in its own plane."""

    kind: Literal["no_slip"]
    velocity: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 0.0), strict=False, description="of the wall, within its plane"
    )


Pairs = Annotated[tuple[Annotated[tuple[float, float], Field(strict=False)], ...], Field(strict=False)]


class InflowTable(Table):
    """Fluid enters here and leaves at an outflow at the other end."""

    kind: Literal["inflow"]
    velocity: tuple[float, float, float] = Field(strict=False, description="of the fluid that enters; u is positive")
    profile: Literal["uniform", "parabolic"] | Pairs = Field(
        default="uniform", description="multiplies u along y: a name, or pairs [y, factor]"
    )

    @model_validator(mode="after")
    def _enters(self) -> InflowTable:
        if not self.velocity[0] > 0:
            raise ValueError(f"velocity = {list(self.velocity)}: the first component should be larger than zero")
        if not isinstance(self.profile, str):
            y = [pair[0] for pair in self.profile]
            if len(y) < 2 or any(b <= a for a, b in pairwise(y)):
                raise ValueError("profile: should hold at least two pairs [y, factor], y increasing")
        return self


Named = Literal["periodic", "no_slip", "free_slip", "outflow"]
PLAIN: dict[Named, Callable[[], Boundary]] = {
    "periodic": Periodic,
    "no_slip": NoSlip,
    "free_slip": FreeSlip,
    "outflow": Outflow,
}
EndTable = Annotated[NoSlipTable | InflowTable, Field(discriminator="kind")]


def _boundary(value: Named | NoSlipTable | InflowTable) -> Boundary:
    if isinstance(value, NoSlipTable):
        return NoSlip(value.velocity)
    if isinstance(value, InflowTable):
        return Inflow(value.velocity, value.profile)
    return PLAIN[value]()


class FiniteVolumeTable(Table):
    """A staggered direction between two ends."""

    kind: Literal["finite_volume"]
    n: int = Field(ge=2, le=100_000, description="cells")
    start: Coordinate = Field(default=0.0, description="coordinate of the first face")
    end: Coordinate = Field(description="coordinate of the last face")
    stretching: float = Field(default=0.0, ge=0, le=6, description="clusters cells at both ends (tanh); 0 is uniform")
    focus: Annotated[tuple[Coordinate, Coordinate], Field(strict=False)] | None = Field(
        default=None, description="cells are equal between these two coordinates and grow outwards; no stretching then"
    )
    growth: float = Field(default=1.05, ge=1, le=2, description="ratio of neighbouring cells beyond the `focus`")
    lower: Named | EndTable = Field(default="no_slip", description="what is at the first face: a word or a table")
    upper: Named | EndTable = Field(default="no_slip", description="what is at the last face: a word or a table")

    @model_validator(mode="after")
    def _ordered(self) -> FiniteVolumeTable:
        if not self.end > self.start:
            raise ValueError(f"'end' = {self.end:g} should be larger than 'start' = {self.start:g}")
        if (self.lower == "periodic") != (self.upper == "periodic"):
            raise ValueError("'periodic' should be given for both 'lower' and 'upper'")
        if self.lower == "outflow" or isinstance(self.upper, InflowTable):
            raise ValueError("fluid enters at the lower end and leaves at the upper one: swap 'inflow' and 'outflow'")
        if isinstance(self.lower, InflowTable) != (self.upper == "outflow"):
            raise ValueError("lower = { kind = 'inflow', ... } and upper = 'outflow' belong together: give both")
        if self.focus is not None:
            first, last = self.focus
            if not self.start <= first < last <= self.end:
                raise ValueError(f"'focus' = {list(self.focus)} should be two increasing coordinates within the axis")
            if self.stretching:
                raise ValueError("'focus' and 'stretching' exclude each other: remove one")
        return self

    def axis(self) -> Axis:
        """The axis it describes."""
        if self.focus is not None:
            faces = focused_faces(self.n, self.start, self.end, self.focus, self.growth)
        else:
            faces = stretched_faces(self.n, self.start, self.end, self.stretching)
        return FiniteVolumeAxis(faces, _boundary(self.lower), _boundary(self.upper))


AxisTable = Annotated[FourierTable | FiniteVolumeTable, Field(discriminator="kind")]


class GridTable(Table):
    """``[grid]``: one table a direction, whose `kind` says what it is."""

    x: AxisTable = Field(description="streamwise")
    y: AxisTable = Field(description="normal to walls")
    z: AxisTable = Field(description="spanwise")

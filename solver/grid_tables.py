"""``[grid]`` of a case: one table for each direction, checked, and the axis it describes."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from solver.axis import (
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
from solver.table import Coordinate, Length, Table


class FourierTable(Table):
    """A periodic spectral direction."""

    kind: Literal["fourier"]
    n: int = Field(ge=1, le=100_000)
    length: Length
    dealias: Literal["3/2", "2/3"] = "3/2"

    def axis(self) -> Axis:
        """The axis it describes."""
        return FourierAxis(self.n, self.length, self.dealias)


class NoSlipTable(Table):
    """A wall, possibly moving in its own plane."""

    kind: Literal["no_slip"]
    velocity: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), strict=False)


Pairs = Annotated[tuple[Annotated[tuple[float, float], Field(strict=False)], ...], Field(strict=False)]


class InflowTable(Table):
    """Fluid enters; `profile` multiplies u along y: a name, or pairs [y, factor]."""

    kind: Literal["inflow"]
    velocity: tuple[float, float, float] = Field(strict=False)
    profile: Literal["uniform", "parabolic"] | Pairs = "uniform"

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
EndTable = Annotated[NoSlipTable | InflowTable, Field(discriminator="kind")]


def _boundary(value: Named | NoSlipTable | InflowTable) -> Boundary:
    if isinstance(value, NoSlipTable):
        return NoSlip(value.velocity)
    if isinstance(value, InflowTable):
        return Inflow(value.velocity, value.profile)
    return {"periodic": Periodic, "no_slip": NoSlip, "free_slip": FreeSlip, "outflow": Outflow}[value]()


class FiniteVolumeTable(Table):
    """A staggered direction between two ends.

    `stretching` clusters cells at both ends (tanh); `focus` makes them equal between two coordinates instead, and each
    `growth` times as large as the one before it from there on.
    """

    kind: Literal["finite_volume"]
    n: int = Field(ge=2, le=100_000)
    start: Coordinate = 0.0
    end: Coordinate
    stretching: float = Field(default=0.0, ge=0, le=6)
    focus: Annotated[tuple[Coordinate, Coordinate], Field(strict=False)] | None = None
    growth: float = Field(default=1.05, ge=1, le=2)
    lower: Named | EndTable = "no_slip"
    upper: Named | EndTable = "no_slip"

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
    """``[grid]``: one table a direction."""

    x: AxisTable
    y: AxisTable
    z: AxisTable

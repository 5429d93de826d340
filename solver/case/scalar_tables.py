"""``[[scalars]]`` of a case: what the flow carries without being changed by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from solver.case.case_tables import FlowTable, MassFluxTable
from solver.case.table import Table
from solver.grid.axis import Axis, FiniteVolumeAxis
from solver.grid.grid import Grid

NAMES_TAKEN = ("velocity", "pressure", "nu_t", "component", "time", "step", "nu", "x", "y", "z", "u", "v", "w", "p")


class ScalarWallTable(Table):
    """What is given at an end: the value there, or the flux into the fluid (velocity times scalar)."""

    value: float | None = Field(default=None, description="of the scalar at the end")
    flux: float | None = Field(default=None, description="into the fluid, an area and time; 0 lets nothing through")

    @model_validator(mode="after")
    def _one_of_them(self) -> ScalarWallTable:
        if (self.value is None) == (self.flux is None):
            raise ValueError("give 'value' or 'flux', one of them")
        return self


class SourceTable(Table):
    """What produces a scalar in the fluid."""

    kind: Literal["uniform", "streamwise"] = Field(
        description="the same everywhere, or in proportion to u: as the distance of a temperature from that of walls "
        "along which it rises, heated evenly"
    )
    rate: float = Field(description="production a time, its mean over the volume")


class ScalarTable(Table):
    """One of ``[[scalars]]``, which is carried by the flow and does not act on it.

    At ends of y and z that are not mentioned nothing passes.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$", description="by which files and tables call it")
    prandtl: float = Field(gt=0, description="Prandtl or Schmidt number, viscosity over diffusivity")
    prandtl_t: float = Field(
        default=0.9,
        ge=0.5,
        description="turbulent Prandtl number: the eddy viscosity over the eddy diffusivity of the subgrid scales, "
        "unless the closure has a flux of scalars of its own",
    )
    lower: ScalarWallTable | None = Field(default=None, description="at the first face of y")
    upper: ScalarWallTable | None = Field(default=None, description="at the last face of y")
    sides: ScalarWallTable | None = Field(default=None, description="at both ends of z, of a duct")
    source: SourceTable | None = Field(default=None, description="what produces it in the fluid")
    initial: float = Field(default=0.0, description="its value at the beginning")
    initial_per_u: float = Field(default=0.0, description="and so many times the velocity along x beside it")
    reference: str | None = Field(
        default=None, description="file beside the case: T_plus, T_rms_plus, uT_plus over y_over_h and y_plus; U_plus"
    )
    reference_flux: str | None = Field(default=None, description="file beside the case: minus_vT_plus over y_over_h")

    @property
    def paths(self) -> dict[str, str]:
        """The files given, by key."""
        return {key: path for key in ("reference", "reference_flux") if (path := getattr(self, key)) is not None}

    @model_validator(mode="after")
    def _beside_the_case(self) -> ScalarTable:
        if self.name in NAMES_TAKEN:
            raise ValueError(f"name = '{self.name}' is taken: choose another")
        for key, path in self.paths.items():
            if ".." in Path(path).parts:
                raise ValueError(f"'{key}' = '{path}' should lie beside the case: copy the file there")
        return self

    def ends(self) -> dict[tuple[int, int], ScalarWallTable]:
        """What is given, by axis and end (0 lower, 1 upper)."""
        given = {(1, 0): self.lower, (1, 1): self.upper, (2, 0): self.sides, (2, 1): self.sides}
        return {place: wall for place, wall in given.items() if wall is not None}

    def check(self, grid: Grid, flow: FlowTable, has_wall_model: bool) -> None:
        """Refuse what cannot be on a grid; raises ValueError."""
        where = f"[[scalars]] {self.name}:"
        for (axis, _), wall in self.ends().items():
            line, name = grid.axes[axis], "xyz"[axis]
            if not _has_ends(line):
                key = "sides" if axis == 2 else "lower and upper"
                raise ValueError(f"{where} [grid.{name}] is periodic: remove {key}")
            if has_wall_model and wall.value is not None:
                raise ValueError(
                    f"{where} [wall_model] gives no flux of a scalar at a wall of given value: give 'flux'"
                )
            if flow.nu == 0 and (wall.value is not None or wall.flux):
                raise ValueError(
                    f"{where} nothing diffuses through an end where [flow] nu = 0: remove what is given there"
                )
        bulk = flow.forcing.bulk_velocity if isinstance(flow.forcing, MassFluxTable) else 0.0
        if self.source is not None and self.source.kind == "streamwise" and bulk == 0:
            raise ValueError(f"{where} source kind = 'streamwise' needs [flow.forcing] kind = 'mass_flux', not of zero")


def _has_ends(line: Axis) -> bool:
    return isinstance(line, FiniteVolumeAxis) and not line.periodic


def check_scalars(
    scalars: Sequence[ScalarTable], grid: Grid, flow: FlowTable, has_wall_model: bool, around_solids: bool
) -> None:
    """Refuse what cannot be; raises ValueError."""
    if not scalars:
        return
    names = [scalar.name for scalar in scalars]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"[[scalars]] two are called '{twice}': choose another name")
    if around_solids or not grid.x.is_fourier:
        raise ValueError("[[scalars]] are carried through channels, ducts and boxes: set [grid.x] kind = 'fourier'")
    for scalar in scalars:
        scalar.check(grid, flow, has_wall_model)

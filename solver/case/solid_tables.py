"""``[solids]`` and ``[pressure]`` of a case: bodies in the flow, and how the pressure around them is solved for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from solver.case.table import Coordinate, Length, Table
from solver.pressure.krylov import Method, Preconditioner
from solver.solids import shapes
from solver.solids.surface import Surface

Corner = Annotated[tuple[Coordinate, Coordinate, Coordinate], Field(strict=False)]


class BoxTable(Table):
    """An axis-parallel block between two corners."""

    kind: Literal["box"]
    lower: Corner = Field(description="corner with the smallest coordinates")
    upper: Corner = Field(description="corner with the largest coordinates")

    @model_validator(mode="after")
    def _ordered(self) -> BoxTable:
        if not all(a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"'lower' = {self.lower} should be below 'upper' = {self.upper} in every direction")
        return self

    def shape(self, folder: Path) -> shapes.Shape:
        """The body."""
        return shapes.Box(self.lower, self.upper)


class SphereTable(Table):
    """A ball."""

    kind: Literal["sphere"]
    centre: Corner = Field(description="of the ball")
    radius: Length = Field(description="of the ball")

    def shape(self, folder: Path) -> shapes.Shape:
        """The body."""
        return shapes.Sphere(self.centre, self.radius)


class CylinderTable(Table):
    """A circular cylinder along one axis."""

    kind: Literal["cylinder"]
    centre: Corner = Field(description="a point on its axis")
    radius: Length = Field(description="of the circle")
    axis: Literal["x", "y", "z"] = Field(default="z", description="along which it lies")
    lower: Coordinate | None = Field(default=None, description="where it begins on its axis; endless if not given")
    upper: Coordinate | None = Field(default=None, description="where it ends on its axis; endless if not given")

    @model_validator(mode="after")
    def _ordered(self) -> CylinderTable:
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise ValueError(f"'lower' = {self.lower:g} should be below 'upper' = {self.upper:g}")
        return self

    def shape(self, folder: Path) -> shapes.Shape:
        """The body."""
        lower = -np.inf if self.lower is None else self.lower
        upper = np.inf if self.upper is None else self.upper
        return shapes.Cylinder(self.centre, self.radius, "xyz".index(self.axis), lower, upper)


class SurfaceTable(Table):
    """A surface in a file beside the case, turned, scaled, then shifted; a closed one encloses the body."""

    kind: Literal["surface"]
    path: str = Field(description="file beside the case: STL, or anything else that pyvista or meshio reads")
    scale: float = Field(default=1.0, gt=0, description="factor on the lengths of the file")
    shift: Corner = Field(default=(0.0, 0.0, 0.0), description="what is added to its coordinates after that")
    up: Literal["y", "z"] = Field(default="y", description="axis of the file that points away from the floor")
    close: Literal["ground"] | None = Field(
        default=None, description="ground: columns of cells are filled from their highest triangle down, as terrain is"
    )

    @model_validator(mode="after")
    def _beside_the_case(self) -> SurfaceTable:
        if ".." in Path(self.path).parts or Path(self.path).is_absolute():
            raise ValueError(f"'path' = '{self.path}' should lie beside the case: copy the file there")
        return self

    def shape(self, folder: Path) -> shapes.Shape:
        """The body."""
        return Surface(folder / self.path, self.scale, self.shift, self.up, self.close)


ShapeTable = Annotated[BoxTable | SphereTable | CylinderTable | SurfaceTable, Field(discriminator="kind")]


class CoefficientsTable(Table):
    """``[solids.coefficients]``: what forces and frequencies are made dimensionless with.

    ``c_d = F_x / (velocity^2 area / 2)``, ``c_l`` from F_y, Strouhal number ``f length / velocity``.
    """

    velocity: float = Field(gt=0, description="of the stream")
    area: Length = Field(description="area that the forces are divided by")
    length: Length = Field(description="length that frequencies are multiplied by")


class SolidsTable(Table):
    """``[solids]``: a list of bodies; a cell is solid if its centre lies in one of them."""

    shapes: tuple[ShapeTable, ...] = Field(min_length=1, strict=False, description="bodies, a table each")
    coefficients: CoefficientsTable | None = None

    @property
    def stands(self) -> bool:
        """Whether a surface is closed by the floor."""
        return any(isinstance(s, SurfaceTable) and s.close is not None for s in self.shapes)

    @property
    def paths(self) -> dict[str, str]:
        """Files of surfaces, as written in the case, by key."""
        return {f"shapes.{i}.path": s.path for i, s in enumerate(self.shapes) if isinstance(s, SurfaceTable)}


class PressureTable(Table):
    """``[pressure]``: by default direct without solids; around them box in plane flows and multigrid in space.

    "auto" finds out, while it runs, which of multigrid, box and those of PETSc that are here is fastest; which one
    solves a system then depends on the clock, so two runs agree to the tolerance only.

    "learned" takes a trained network, or a learned smoother of multigrid. What a network leaves unsolved goes to
    multigrid, and is counted in ``guard_interventions``. As a `preconditioner` of PETSc it has no such safety net.

    "box" is conjugate gradients preconditioned by the direct solver of the box without the solids: for plane flows and
    small or strongly stretched grids, which point smoothers dislike. "krylov" is PETSc.
    """

    solver: Literal["auto", "direct", "multigrid", "box", "krylov", "learned"] | None = Field(
        default=None, description="how the pressure is solved for; by default what fits the flow"
    )
    preconditioner: Preconditioner | None = Field(default=None, description="of ``krylov``: the one of PETSc")
    method: Method | None = Field(default=None, description="of ``krylov``: the one of PETSc")
    artefact: str | None = Field(
        default=None, min_length=1, description="of ``learned``: name of a shipped network, or a folder beside the case"
    )
    tolerance: float = Field(
        default=1e-8, ge=1e-13, le=1e-2, description="residual of each solve, relative to its source"
    )
    guesses: int = Field(
        default=0,
        ge=0,
        le=100,
        description="begin each solve with the best combination of so many solutions, not with the last pressure: "
        "faster, but a restart begins without them, so that two legs are one run to the tolerance only",
    )

    @property
    def is_iterative(self) -> bool:
        """Asked for by name, with or without solids."""
        return self.solver not in (None, "direct")

    @model_validator(mode="after")
    def _fitting(self) -> PressureTable:
        given = [key for key in ("preconditioner", "method") if getattr(self, key) is not None]
        if given and self.solver != "krylov":
            raise ValueError(f"'{given[0]}' belongs to solver = 'krylov': set it, or remove the key")
        learns = "learned" in (self.solver, self.preconditioner)
        if learns and self.artefact is None:
            key = "solver" if self.solver == "learned" else "preconditioner"
            raise ValueError(f"{key} = 'learned' needs artefact = 'NAME', a shipped one or a folder beside the case")
        if self.artefact is not None and not learns:
            raise ValueError("'artefact' belongs to solver = 'learned' or preconditioner = 'learned': remove the key")
        if self.preconditioner == "learned" and self.method == "cg":
            raise ValueError("method = 'cg' needs a linear preconditioner, not a learned one: use 'fcg' or 'gmres'")
        if self.guesses and self.solver in ("auto", "direct"):
            raise ValueError(f"'guesses' is of no use to solver = '{self.solver}': remove it, or choose another solver")
        return self

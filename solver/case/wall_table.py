"""``[wall_model]`` of a case: what gives the friction of walls that the cells do not resolve, and where it may."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from solver.case.table import Length
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

HEIGHT = 0.1  # by default, of the distance from a wall to the middle


class WallModelTable(BaseModel):
    """``[wall_model]``: friction of all no-slip walls from the velocity at a height; other keys are those of the model.

    The cells next to a wall are then those of a large-eddy simulation of the outer flow, near a tenth of its depth.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    name: str = Field(
        default="none", description="log_law, equilibrium_ode, reichardt or spalding, or one of another package"
    )
    height: Length | None = Field(
        default=None, description="distance from the wall of the velocity it sees; by default a tenth of the half depth"
    )
    filter: float = Field(
        default=0.0, ge=0, description="time over which that is averaged, in units of height / (kappa u_tau); 0: none"
    )

    @property
    def acts(self) -> bool:
        """Whether there is a wall model."""
        return self.name != "none"

    @property
    def options(self) -> dict[str, Any]:
        """What is handed to the model's factory."""
        return dict(self.model_extra or {})

    @property
    def given(self) -> dict[str, Any]:
        """What tells it from others of its name."""
        return self.model_dump(exclude={"name"}, exclude_defaults=True)

    def height_on(self, grid: Grid) -> float:
        """The height above the walls of a grid, a length."""
        return HEIGHT * min(grid.reach_of_walls(axis) for axis in grid.walls) if self.height is None else self.height

    def check(self, grid: Grid) -> None:
        """Refuse flows that it cannot act on.

        Raises
        ------
        CaseError : no walls at rest across y or z, or a height that the cells do not have.
        """
        if not grid.walls:
            raise CaseError("[wall_model] needs a no-slip wall, not free slip or periodic ends: remove it")
        if 0 in grid.walls or not grid.x.is_fourier:
            raise CaseError("[wall_model] acts on the walls of channels and ducts: set [grid.x] kind = 'fourier'")
        if isinstance(grid.z, FiniteVolumeAxis) and grid.z.periodic:
            raise CaseError("[wall_model] needs walls or kind = 'fourier' in [grid.z], not periodic cells")
        for axis, ends in grid.walls.items():
            self._check_walls(grid, axis, [end for end, wall in enumerate(ends) if wall is not None])

    def _check_walls(self, grid: Grid, axis: int, ends: list[int]) -> None:
        name, line, height = "xyz"[axis], grid.volume_axes[axis], self.height_on(grid)
        for end in ends:
            side = ("lower", "upper")[end]
            wall = grid.walls[axis][end]
            assert wall is not None
            if any(wall.velocity):
                raise CaseError(f"[wall_model] the wall at [grid.{name}] {side} moves: walls at rest alone have one")
            first = 0.5 * float(line.width[-end])
            if height < first * (1 - 1e-9):
                raise CaseError(
                    f"[wall_model] height = {height:.4g} is below the first centre of [grid.{name}] at {first:.4g} "
                    f"from its {side} end: raise it, or refine the cells there"
                )
            reach = grid.reach_of_walls(axis)
            if height > reach * (1 + 1e-9):
                raise CaseError(
                    f"[wall_model] height = {height:.4g} is beyond the middle of the fluid, {reach:.4g} from the walls "
                    f"of [grid.{name}]: lower it, a tenth of that is usual"
                )

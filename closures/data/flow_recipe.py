"""A recipe for filtered direct simulations (TOML): the tables of a case, a coarse grid, what is kept of the flow.

A recipe that lists several grids (``[[coarse]]``) is as many recipes that share a direct simulation, see
`closures.data.flow_grids`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from closures.data.filters import Kernel, check
from solver.case import Case, FlowTable, RunTable, TimeTable
from solver.errors import CaseError
from solver.explain import explain
from solver.grid import Grid
from solver.grid_tables import GridTable
from solver.initial_table import InitialTable
from solver.table import Table, refuse_idle

Amount = Annotated[float, Field(ge=0)]


class KernelTable(Table):
    """``[filter]``: see `closures.data.filters.Kernel`."""

    horizontal: Literal["sharp", "box"] = "sharp"
    width: float = Field(default=1.0, gt=0, le=8)
    vertical: Literal["face", "volume", "sample"] = "face"

    def kernel(self) -> Kernel:
        """The filter it describes."""
        return Kernel(self.horizontal, self.width, self.vertical)


class StartTable(Table):
    """``[start]``: every trajectory begins from this run or checkpoint, plus `perturbation` times noise of its own.

    A list of perturbations has one for each trajectory, the last one for all that follow; the one that is zero goes on
    from the stored flow as it is.
    """

    run: str
    perturbation: Amount | Annotated[tuple[Amount, ...], Field(strict=False, min_length=1)] = 1.0

    def noise(self, trajectory: int) -> float:
        """The perturbation of one trajectory."""
        if isinstance(self.perturbation, tuple):
            return self.perturbation[min(trajectory, len(self.perturbation) - 1)]
        return self.perturbation


class SamplingTable(Table):
    """``[sampling]``: snapshots `interval` apart, the first one after `spin_up`, in flow units."""

    spin_up: float = Field(ge=0)
    interval: float = Field(gt=0)
    snapshots: int = Field(ge=2)
    cfl: float = Field(default=1.4, gt=0, le=1.7)

    @property
    def times(self) -> np.ndarray:
        """Of the snapshots, from the beginning of a trajectory on."""
        return self.spin_up + self.interval * np.arange(self.snapshots)

    @property
    def end(self) -> float:
        """Time of the last snapshot."""
        return float(self.times[-1])


class StoreTable(Table):
    """``[store]``: what is kept besides the statistics.

    `velocity` at cell centres, and `staggered`; the subgrid `stress`; of each plane between walls the strain, the work
    of the subgrid stress and one-dimensional spectra (`planes`).
    """

    staggered: bool = False
    stress: bool = False
    velocity: bool = Field(default=True, exclude_if=lambda kept: kept)  # sets made before this key have no word of it
    planes: bool = Field(default=False, exclude_if=lambda kept: not kept)


class FarmTable(Table):
    """``[farm]``: MPI ranks that share a trajectory."""

    ranks: int = Field(default=1, ge=1)


class FlowRecipe(Table):
    """A data set of trajectories, whole and valid."""

    title: str
    seed: int = Field(ge=0)
    trajectories: int = Field(ge=1)
    test: int = Field(default=0, ge=0)
    grid: GridTable
    coarse: GridTable
    flow: FlowTable
    initial: InitialTable
    sampling: SamplingTable
    filter: KernelTable = KernelTable()
    start: StartTable | None = None
    store: StoreTable = StoreTable()
    farm: FarmTable = FarmTable()
    run: RunTable = RunTable()

    @model_validator(mode="after")
    def _consistent(self) -> FlowRecipe:
        if self.test >= self.trajectories:
            raise ValueError(f"'test' = {self.test} should be less than 'trajectories' = {self.trajectories}")
        if self.initial.kind == "run":
            raise ValueError("[initial] describes the noise of each trajectory: give the stored run in [start] run")
        still = [i for i in range(self.trajectories) if self.start is not None and self.start.noise(i) == 0]
        if len(still) > 1:
            raise ValueError(
                f"[start] perturbation: trajectories {still[0]} and {still[1]} would be the same flow: "
                "give a list with one zero, such as [0.0, 0.1]"
            )
        if self.store.planes and not self.coarse_grid.is_channel:
            raise ValueError("[store] planes: only a flow between walls has planes: remove it")
        refuse_idle(self.initial, {"seed": "'seed' of the recipe, from which each trajectory draws its own"})
        return self

    @property
    def coarse_grid(self) -> Grid:
        """The grid that the flow is filtered to."""
        return Grid(self.coarse.x.axis(), self.coarse.y.axis(), self.coarse.z.axis())

    def case(self, trajectory: int, draw: int = 0) -> Case:
        """The direct simulation of one trajectory; its seed depends on the recipe's, its number and `draw` alone."""
        seed = int(np.random.SeedSequence([self.seed, trajectory, draw]).generate_state(1)[0])
        return Case(
            title=f"{self.title}, trajectory {trajectory}",
            grid=self.grid,
            flow=self.flow,
            initial=self.initial.model_copy(update={"seed": seed}),
            time=TimeTable(end=max(self.sampling.end, self.sampling.interval), cfl=self.sampling.cfl),
            run=self.run,
        )

    def describe_filter(self) -> dict[str, Any]:
        """The filter in plain words and numbers, for the file."""
        return asdict(self.filter.kernel())


def held_out(test: int, whole: int, trajectories: int) -> int:
    """Test trajectories of a set of another size: the same share, at least one where there are two."""
    return min(max(round(test * trajectories / whole), min(test, 1)), trajectories - 1)


def parse_flow_recipe(data: dict[str, Any], source: str) -> FlowRecipe:
    """Validate a mapping; `source` is named in errors."""
    try:
        recipe = FlowRecipe.model_validate(data)
        check(recipe.case(0).build_grid(), recipe.coarse_grid, recipe.filter.kernel())
    except ValidationError as error:
        raise CaseError(f"{source}: {explain(error, FlowRecipe, data)}") from None
    except CaseError as error:
        raise CaseError(f"{source}: {error}") from None
    return recipe

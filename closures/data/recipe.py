"""A recipe for filtered direct simulations (TOML): the tables of a case, a coarse grid, what is kept of the flow.

A recipe that lists several grids (``[[coarse]]``) is as many recipes that share a direct simulation, see
`closures.data.grids`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from closures.data.filters import Kernel, check
from solver.case.case import Case
from solver.case.case_tables import FlowTable, RunTable, TimeTable
from solver.case.explain import explain
from solver.case.grid_tables import AxisTable, GridTable
from solver.case.initial_table import InitialTable
from solver.case.table import Table, refuse_idle
from solver.errors import CaseError
from solver.grid.grid import Grid

Amount = Annotated[float, Field(ge=0)]
Points = Annotated[int, Field(ge=1, le=100_000)]


class KernelTable(Table):
    """``[filter]``: see `closures.data.filters.Kernel`.

    Parameters
    ----------
    horizontal : transfer function along Fourier axes.
    width : of the box, in spacings of the coarse grid.
    vertical : how cells are joined along y; only ``face`` keeps the divergence zero between walls.
    """

    horizontal: Literal["sharp", "box"] = "sharp"
    width: float = Field(default=1.0, gt=0, le=8)
    vertical: Literal["face", "volume", "sample"] = "face"

    def kernel(self) -> Kernel:
        """The filter it describes."""
        return Kernel(self.horizontal, self.width, self.vertical)


class StartTable(Table):
    """``[start]``: every trajectory begins from a stored run, plus noise of its own.

    Parameters
    ----------
    run : folder or checkpoint.
    perturbation : times the noise of ``[initial]``. A list has one for each trajectory, the last one for all after
        it; the one that is zero goes on from the stored flow as it is.
    """

    run: str
    perturbation: Amount | Annotated[tuple[Amount, ...], Field(strict=False, min_length=1)] = 1.0

    def noise(self, trajectory: int) -> float:
        """The perturbation of one trajectory."""
        if isinstance(self.perturbation, tuple):
            return self.perturbation[min(trajectory, len(self.perturbation) - 1)]
        return self.perturbation


class SamplingTable(Table):
    """``[sampling]``: when snapshots are taken.

    Parameters
    ----------
    spin_up : time before the first snapshot.
    interval : time from snapshot to snapshot.
    snapshots : of each trajectory.
    cfl : CFL number of the direct simulation.
    frame : velocity along x of the frame in which its advection is stepped, as in ``[time]`` of a case.
    """

    spin_up: float = Field(ge=0)
    interval: float = Field(gt=0)
    snapshots: int = Field(ge=2)
    cfl: float = Field(default=1.4, gt=0, le=1.7)
    frame: float = Field(default=0.0, exclude_if=lambda speed: speed == 0)  # sets made before have no word of it

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

    Parameters
    ----------
    velocity : at cell centres.
    staggered : velocity where the solver has it.
    stress : the subgrid stress.
    planes : of each plane between walls the strain, the work of the subgrid stress and one-dimensional spectra.
    """

    staggered: bool = False
    stress: bool = False
    velocity: bool = Field(default=True, exclude_if=lambda kept: kept)  # sets made before this key have no word of it
    planes: bool = Field(default=False, exclude_if=lambda kept: not kept)


class FarmTable(Table):
    """``[farm]``: how ranks share the work.

    Parameters
    ----------
    ranks : of MPI that share a trajectory.
    """

    ranks: int = Field(default=1, ge=1)


class CoarseTable(Table):
    """``[[coarse]]``: one of several grids that a flow is filtered to.

    Parameters
    ----------
    name : of its file; ``16x16x8`` and the like by default.
    n : points along x, y and z, all else being as in ``[grid]``; or else the tables `x`, `y` and `z`.
    x, y, z : the axes, instead of `n`.
    filter : its own, else that of the recipe.
    store : its own, else that of the recipe.
    """

    name: str = Field(default="", pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    n: Annotated[tuple[Points, Points, Points], Field(strict=False)] | None = None
    x: AxisTable | None = None
    y: AxisTable | None = None
    z: AxisTable | None = None
    filter: KernelTable | None = None
    store: StoreTable | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> CoarseTable:
        if [self.n is None] * 3 != [axis is not None for axis in (self.x, self.y, self.z)]:
            raise ValueError("give either n = [nx, ny, nz] or the tables x, y and z")
        return self

    @property
    def title(self) -> str:
        """The name that it has in the set."""
        points = self.n or [axis.n for axis in (self.x, self.y, self.z) if axis is not None]
        return self.name or "x".join(map(str, points))


class FlowTables(Table):
    """What every recipe of flows has.

    Parameters
    ----------
    title : of the set.
    seed : of the noise; each trajectory draws its own from it.
    trajectories : how many to make.
    valid : how many of them, those before the test's, judge a training while it goes on.
    test : how many of them, the last ones, no training may see.
    grid : of the direct simulation.
    coarse : the grid that it is filtered to, or a list of several.
    """

    title: str
    seed: int = Field(ge=0)
    trajectories: int = Field(ge=1)
    valid: int = Field(default=0, ge=0, exclude_if=lambda count: count == 0)  # sets made before have no word of it
    test: int = Field(default=0, ge=0)
    grid: GridTable
    coarse: GridTable | tuple[CoarseTable, ...]
    flow: FlowTable
    initial: InitialTable
    sampling: SamplingTable
    filter: KernelTable = KernelTable()
    start: StartTable | None = None
    store: StoreTable = StoreTable()
    farm: FarmTable = FarmTable()
    run: RunTable = RunTable()

    @model_validator(mode="after")
    def _consistent(self) -> FlowTables:
        if self.valid + self.test >= self.trajectories:
            kept = (
                f"'valid' = {self.valid} and 'test' = {self.test} together" if self.valid else f"'test' = {self.test}"
            )
            raise ValueError(f"{kept} should be less than 'trajectories' = {self.trajectories}")
        if self.initial.kind == "run":
            raise ValueError("[initial] describes the noise of each trajectory: give the stored run in [start] run")
        still = [i for i in range(self.trajectories) if self.start is not None and self.start.noise(i) == 0]
        if len(still) > 1:
            raise ValueError(
                f"[start] perturbation: trajectories {still[0]} and {still[1]} would be the same flow: "
                "give a list with one zero, such as [0.0, 0.1]"
            )
        refuse_idle(self.initial, {"seed": "'seed' of the recipe, from which each trajectory draws its own"})
        return self


class FlowRecipe(FlowTables):
    """A data set of trajectories on one coarse grid, whole and valid."""

    coarse: GridTable

    @model_validator(mode="after")
    def _has_planes(self) -> FlowRecipe:
        if self.store.planes and not self.coarse_grid.is_channel:
            raise ValueError("[store] planes: only a flow between walls has planes: remove it")
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
            time=TimeTable(
                end=max(self.sampling.end, self.sampling.interval), cfl=self.sampling.cfl, frame=self.sampling.frame
            ),
            run=self.run,
        )

    def split_of(self, trajectory: int) -> str:
        """The part of the set that a trajectory is in: ``train``, ``valid`` or ``test``."""
        left = self.trajectories - self.test
        return "train" if trajectory < left - self.valid else "valid" if trajectory < left else "test"

    def of_one(self) -> FlowRecipe:
        """The recipe as the file of a trajectory has it, which does not depend on how many there are."""
        return self.model_copy(update={"trajectories": 1, "valid": 0, "test": 0})

    def describe_filter(self) -> dict[str, Any]:
        """The filter in plain words and numbers, for the file."""
        return asdict(self.filter.kernel())


def held_out(kept: int, whole: int, trajectories: int, most: int) -> int:
    """Trajectories kept for validation or tests in a set of another size: the same share, from one to `most`."""
    return max(min(max(round(kept * trajectories / whole), min(kept, 1)), most), 0)


def parse_flow_recipe(data: dict[str, Any], source: str) -> FlowRecipe:
    """Validate a mapping; `source` is named in errors.

    Raises
    ------
    CaseError : unknown key, wrong type or value; one line.
    """
    try:
        recipe = FlowRecipe.model_validate(data)
        check(recipe.case(0).build_grid(), recipe.coarse_grid, recipe.filter.kernel())
    except ValidationError as error:
        raise CaseError(f"{source}: {explain(error, FlowRecipe, data)}") from None
    except CaseError as error:
        raise CaseError(f"{source}: {error}") from None
    return recipe

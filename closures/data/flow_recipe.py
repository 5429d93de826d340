"""A recipe for filtered direct simulations (TOML): the tables of a case, a coarse grid, what is kept of the flow."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from closures.data.filters import Kernel, check
from closures.data.recipe import SHIPPED
from solver.case import Case, FlowTable, RunTable, TimeTable
from solver.errors import CaseError
from solver.explain import explain
from solver.grid import Grid
from solver.grid_tables import GridTable
from solver.initial_table import InitialTable
from solver.table import Table, refuse_idle


class KernelTable(Table):
    """``[filter]``: see `closures.data.filters.Kernel`."""

    horizontal: Literal["sharp", "box"] = "sharp"
    width: float = Field(default=1.0, gt=0, le=8)
    vertical: Literal["face", "volume", "sample"] = "face"

    def kernel(self) -> Kernel:
        """The filter it describes."""
        return Kernel(self.horizontal, self.width, self.vertical)


class StartTable(Table):
    """``[start]``: every trajectory begins from this run or checkpoint, plus `perturbation` times noise of its own."""

    run: str
    perturbation: float = Field(default=1.0, gt=0)


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
    """``[store]``: what is kept besides velocity at cell centres and the statistics."""

    staggered: bool = False
    stress: bool = False


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


def is_flow_recipe(path: Path) -> bool:
    """Whether a recipe is about flows: it has a ``[sampling]`` table. False where it cannot be read."""
    try:
        return "sampling" in _read(path)[0]
    except CaseError:
        return False


def load_flow_recipe(path: Path, trajectories: int | None = None, snapshots: int | None = None) -> FlowRecipe:
    """Read `path`, or the shipped recipe of that name; the numbers override it.

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value, grids without a filter; one line.
    """
    data, source = _read(path)
    if trajectories is not None:
        whole, test = data.get("trajectories"), data.get("test")
        data["trajectories"] = trajectories
        if isinstance(whole, int) and isinstance(test, int) and 0 <= test < whole:
            data["test"] = held_out(test, whole, trajectories)
    if snapshots is not None and isinstance(data.get("sampling"), dict):
        data["sampling"]["snapshots"] = snapshots
    return parse_flow_recipe(data, source)


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


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The mapping that a recipe holds, and the name of its file."""
    shipped = SHIPPED / f"{path}.toml"
    file = shipped if not path.exists() and shipped.exists() else path
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), str(file)
    except OSError as error:
        raise CaseError(f"{file}: cannot be read ({error.strerror}): give a TOML file or a shipped recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{file}: not valid TOML: {error}") from None

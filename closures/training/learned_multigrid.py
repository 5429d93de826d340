"""Learn the numbers of the V-cycle: recipe in, ``smoothing.toml`` out, in a minute or two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from torch import Tensor

from closures.pressure_nets.bodies import random_fluid
from closures.pressure_nets.learned_multigrid import Convergence, LearnedCycle, Levels
from closures.pressure_nets.learned_multigrid_file import write_smoothing
from closures.training.processes import check_alone
from closures.training.study import Trained, write_recipe
from closures.training.tables import CardTable
from solver.case.table import Table
from solver.discretisation.calculus import Operators
from solver.errors import CaseError
from solver.files.folder import commit
from solver.grid.axis import FiniteVolumeAxis, NoSlip
from solver.grid.grid import Grid
from solver.parallel import ranks
from solver.parallel.slabs import Slabs
from solver.pressure.poisson import Poisson
from solver.solids.mask import Solids

STEEPEST = 0.95  # what |q| should stay below, see `LearnedCycle.expansion`
PENALTY = 50.0


Degrees = Annotated[tuple[Annotated[int, Field(ge=1, le=6)], ...], Field(strict=False, min_length=1, max_length=8)]


class MultigridTable(Table):
    """``[multigrid]``: a cycle with smoothers of `degrees`, learned in closed cubes of `cells`^3 with random bodies.

    What is minimised is the residual after so many steps of conjugate gradients from white noise.

    Parameters
    ----------
    degrees : of the smoother, for each level from the finest on; the last serves all that are coarser.
    damping : cells beside solids have weights of their own, which costs a pass over one more array in every sweep.
    cells : along each side.
    geometries : that are trained on, the first of them empty.
    validation : geometries that judge.
    sources : fields of white noise in each.
    steps : of conjugate gradients.
    iterations : of L-BFGS.
    seed : of geometries and sources.
    """

    degrees: Degrees = (2, 2, 2)
    damping: bool = False
    cells: int = Field(default=32, ge=8, le=128)
    geometries: int = Field(default=4, ge=1, le=100)
    validation: int = Field(default=2, ge=1, le=100)
    sources: int = Field(default=3, ge=1, le=100)
    steps: int = Field(default=6, ge=2, le=50)
    iterations: int = Field(default=25, ge=1, le=10_000)
    seed: int = Field(default=1, ge=0)


class MultigridRecipe(Table):
    """How one cycle is learned.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    multigrid: MultigridTable
    card: CardTable


Sample = tuple[Levels, Tensor]


def learn(recipe: MultigridRecipe, out: Path, console: Console | None = None) -> Trained:
    """Learn, and write the numbers into the folder `out`.

    Raises
    ------
    CaseError : the recipe is wrong, or there are several processes.
    RunFolderError : `out` cannot be written.
    """
    check_alone("the training of a cycle", "leave out torchrun")
    if ranks.world_size() > 1:
        raise CaseError("the training of a cycle takes one process: leave out mpirun")
    table, start = recipe.multigrid, time.perf_counter()
    samples = draw(table)
    trained, judged = samples[: table.geometries], samples[table.geometries :]
    with torch.enable_grad():
        loss = Convergence(LearnedCycle(table.degrees, table.damping), table.steps)
        before = judge(loss, judged)
        descend(loss, trained, table.iterations, console)
    metrics = {"untuned": before, "learned": judge(loss, judged), "seconds": round(time.perf_counter() - start, 1)}
    write_recipe(recipe, out)
    about = recipe.card.model_dump() | {"title": recipe.title, "commit": commit()[0], "metrics": metrics}
    return Trained(out, write_smoothing(out, loss.cycle.smoothing(), **about))


def draw(table: MultigridTable) -> list[Sample]:
    """Matrices of random geometries, and sources in each: the same on every machine of the same kind.

    Raises
    ------
    CaseError : there are several processes.
    """
    line = FiniteVolumeAxis(np.linspace(0.0, 1.0, table.cells + 1), NoSlip(), NoSlip())
    grid = Grid(line, line, line)
    slabs = Slabs(table.cells, table.cells, False)
    if slabs.size > 1:
        raise CaseError("[multigrid] is learned by one process: start it without mpirun")
    operators, random, found = (
        Operators(grid, slabs, torch.device("cpu"), torch.float64),
        np.random.default_rng(table.seed),
        [],
    )
    for i in range(table.geometries + table.validation):
        fluid = random_fluid(table.cells, 0 if i == 0 else int(random.integers(1, 5)), random)
        poisson = Poisson(operators, Solids(grid, fluid.numpy() == 0))
        noise = random.standard_normal((table.sources, 1, *grid.shape))
        columns = [poisson.layout.cells(poisson.source(torch.from_numpy(f))).reshape(-1) for f in noise]
        found.append((Levels.of(poisson), torch.stack(columns, 1)))
    return found


def judge(loss: Convergence, samples: list[Sample]) -> float:
    """The mean over samples."""
    with torch.no_grad():
        return float(torch.stack([loss(*sample) for sample in samples]).mean())


def descend(loss: Convergence, samples: list[Sample], iterations: int, console: Console | None) -> None:
    """Minimise over the numbers of the cycle; what stays is the best that contracts on every level."""
    cycle, best = loss.cycle, [torch.inf]
    kept = {name: value.clone() for name, value in cycle.state_dict().items()}
    numbers = [p for p in cycle.parameters() if p.numel()]
    optimiser = torch.optim.LBFGS(numbers, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        optimiser.zero_grad()
        found = torch.stack([loss(*sample) for sample in samples]).mean()
        growth = cycle.expansion()
        total = found + PENALTY * (growth - STEEPEST).relu().square().mean()
        total.backward()
        if float(found) < best[0] and float(growth.max()) < 1.0:
            best[0] = float(found)
            kept.update({name: value.clone() for name, value in cycle.state_dict().items()})
            if console:
                console.print(f"an iteration leaves exp({best[0]:.4f}) of the residual")
        return total

    optimiser.step(evaluate)
    cycle.load_state_dict(kept)

"""Learning which flows a network knows, from runs in which it was seen to work; its weights stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from torch import Tensor

from closures.coupling.assemble import companion
from closures.coupling.companion import NEAR, Companion
from closures.coupling.familiarity import features, fitted
from closures.operators import artefact
from closures.operators.artefact import CARD, WEIGHTS, read_card
from closures.registry import registry
from closures.training.study import Trained, write_recipe
from solver.case.table import Table
from solver.discretisation import fusion
from solver.errors import CaseError
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.run.build import build, source_of
from solver.run.machine import choose_fusion

OFF = "guard.familiar=1e30"


class FamiliarFlowTable(Table):
    """``[[familiarity.flows]]``: runs of one flow, with the network and without it, which make one distribution.

    Parameters
    ----------
    case : folder or file, as `solver.case.paths` finds it.
    overrides : of its keys.
    seeds : of initial noise; one run for each and each of the two closures.
    start, end, every : when the first field is looked at, the last one, and the time between two; of a corrector that
        acts at intervals a multiple of these, so that steps are as long as ever.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    seeds: tuple[int, ...] = Field(strict=False, min_length=2)
    start: float = Field(ge=0)
    end: float = Field(gt=0)
    every: float = Field(gt=0)


class FamiliarityTable(Table):
    """``[familiarity]``: which flows a network is to know.

    Parameters
    ----------
    begin : folder of the corrector or surrogate; beside the recipe, or in the working directory.
    flows : in which it was seen to work.
    """

    begin: str
    flows: tuple[FamiliarFlowTable, ...] = Field(strict=False, min_length=1)


class FamiliarityRecipe(Table):
    """Which flows a network is to know.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    familiarity: FamiliarityTable


def learn(recipe: FamiliarityRecipe, out: Path, console: Console | None = None) -> Trained:
    """Run the flows, and write the network with what they have in common into the folder `out`.

    Raises
    ------
    CaseError : a case is wrong, the network is a subgrid model, or there are several processes.
    RunFolderError : `out` cannot be written.
    """
    if ranks.world_size() > 1:
        raise CaseError("[familiarity] takes one process: leave out mpirun")
    folder = Path(recipe.familiarity.begin)
    if read_card(folder / CARD).role == "subgrid_model":
        raise CaseError(f"[familiarity] begin = '{folder}': a subgrid model sees no whole field: name a corrector")
    found: dict[str, list[Tensor]] = {}
    for number, flow in enumerate(recipe.familiarity.flows):
        runs = found.setdefault(f"{number} {flow.case}", [])
        for seed in flow.seeds:
            parts = []
            for with_network in (False, True):
                parts.append(torch.stack(list(_sampled(flow, folder, seed, with_network))))
                if console:
                    console.print(f"{flow.case}, seed {seed}, {'corrected' if with_network else 'alone'}")
            runs.append(torch.cat(parts))
    write_recipe(recipe, out)
    for name in (WEIGHTS, CARD):
        if (folder / name).resolve() != (out / name).resolve():
            shutil.copyfile(folder / name, out / name)
    fitted(found).save(out)
    return Trained(out, read_card(out / CARD))


@torch.no_grad()
def _sampled(flow: FamiliarFlowTable, folder: Path, seed: int, with_network: bool) -> Iterator[Tensor]:
    """Features of the fields of one run, with the network or with the closure of the case."""
    role = read_card(folder / CARD).role
    network = (f"closure={{name='{role}', artefact='{folder}'}}", f"closure.{OFF}") if with_network else ()
    source = source_of(Path(flow.case), (*flow.overrides, *network, f"initial.seed={seed}", "run.device=cpu"))
    simulation = build(source)
    points = int(np.prod(simulation.operators.grid.shape))
    fusion.enable(choose_fusion(source.case.run.fuse, points, None))
    probe = _probe(folder, simulation)
    for number in range(int((flow.end - flow.start) / flow.every) + 1):
        time = flow.start + number * flow.every
        while time - simulation.t > NEAR * flow.every:
            simulation.step(wait=time - simulation.t)
        whole = probe.update.update.seen(simulation.velocity)
        assert whole is not None
        yield features(whole, probe.update.update.domain).cpu()


def _probe(folder: Path, simulation: Simulation) -> Companion:
    """The network as it sees the fields of a simulation, whoever closes that."""
    found, grid = artefact.load(folder), simulation.operators.grid
    probe = companion(found.card.role, folder, found, grid, simulation.nu, {}, registry.create)
    probe.update.prepare(simulation.operators)
    return probe

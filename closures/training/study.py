"""What every training has in common: what it minimises, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import Dataset

from closures.losses.objective import Objective
from closures.operators.artefact import CARD, Card, read_card
from closures.pressure_nets.learned_multigrid_file import SmoothingCard
from closures.training.curriculum import Curriculum
from closures.training.feed import Feed
from closures.training.fit import Fit
from closures.training.processes import ProcessGroup, process_group
from closures.training.state import Progress
from solver.case.table import Table
from solver.files.folder import to_toml, write_text


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind; the folder holds the artefact, ``recipe.toml``, ``history.csv`` and the state.

    Parameters
    ----------
    folder : of all that.
    card : of the network, or of the numbers of a cycle; its metrics are the errors on what chose the weights.
    progress : of the optimiser, where it goes by steps that can be gone on with.
    """

    folder: Path
    card: Card | SmoothingCard
    progress: Progress | None = None


@dataclass(frozen=True)
class Prepared:
    """A training before its first step.

    Parameters
    ----------
    objective : its call on a batch is the loss.
    training : a set of samples, or where else they come from.
    validation : a set of samples.
    identity : what a stored state must belong to.
    save : writes the artefact with the errors that are found in the end, and returns its card.
    workers : processes that load data.
    look : what all processes do together before that, if anything.
    curriculum : windows that grow; None: samples are learned from as they are.
    """

    objective: Objective
    training: Dataset[Any] | Feed
    validation: Dataset[Any]
    identity: str
    save: Callable[[dict[str, float]], Card]
    workers: int = 0
    look: Callable[[], None] | None = None
    curriculum: Curriculum | None = None


def write_recipe(recipe: Table, out: Path) -> None:
    """Keep a recipe beside what it makes."""
    write_text(out / "recipe.toml", to_toml(recipe.model_dump(exclude_none=True)))


def descend(
    recipe: Any,
    out: Path,
    console: Console | None,
    prepare: Callable[[ProcessGroup], Prepared],
    apart: bool = False,
    flow: bool = False,
) -> Trained:
    """Train by gradients, or go on training, in the folder `out`, and write the artefact there.

    Started by ``torchrun`` it shares every batch between the processes.

    Parameters
    ----------
    recipe : with tables ``[optimiser]`` and ``[loop]``.
    out : for the artefact and the state.
    console : shows progress; None: it is silent.
    prepare : data, network and objective, on the device of each process.
    apart : other ranks of mpirun do something else meanwhile.
    flow : they share each flow.

    Raises
    ------
    RunFolderError : `out` cannot be written, or holds the state of another training.
    FeatureUnavailable : no such device.
    Diverged : the gradient is not finite.
    """
    with torch.enable_grad(), process_group(recipe.loop.device, apart, flow) as processes:
        made = prepare(processes)
        parts = made.objective, made.training, made.validation
        fit = Fit(*parts, recipe.optimiser, recipe.loop, processes, out, made.identity, made.workers, made.curriculum)
        if processes.is_root:
            write_recipe(recipe, out)
        progress, errors = fit.run(console), fit.errors()
        if made.look is not None:
            made.look()
        card = made.save(errors) if processes.is_root else None
        processes.wait()
    return Trained(out, card or read_card(out / CARD), progress)

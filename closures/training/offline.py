"""Train a state operator on stored trajectories: recipe in, artefact out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from closures import artefact
from closures.artefact import Card
from closures.data.windows import TrajectoryFile, Windows, scaling, split
from closures.operators import build
from closures.operators.predictor import Predictor
from closures.training.fit import Fit
from closures.training.objective import Rollout
from closures.training.processes import Team, team
from closures.training.recipe import Recipe, load_recipe
from closures.training.state import Progress
from solver.errors import CaseError
from solver.rundir import commit, to_toml, write_text


@dataclass(frozen=True)
class Training:
    """What a training leaves behind; the folder holds the artefact, ``recipe.toml``, ``history.csv`` and the state."""

    folder: Path
    card: Card
    progress: Progress


def train(recipe: Recipe | Path, out: Path, data: Path | None = None, console: Console | None = None) -> Training:
    """Train, or go on training, in the folder `out`, and write the artefact there.

    Started by ``torchrun`` it shares every batch between the processes. `data` replaces the file of the recipe.

    Raises
    ------
    CaseError : the recipe or the data are wrong.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    FeatureUnavailable : no such device.
    Diverged : the gradient is not finite.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    source = TrajectoryFile(data if data is not None else Path(recipe.data.file))
    with torch.enable_grad(), team(recipe.loop.device) as processes:
        fit, predictor = _prepare(recipe, source, out, processes)
        if processes.is_root:
            write_text(out / "recipe.toml", to_toml(recipe.model_dump(exclude_none=True)))
        progress = fit.run(console)
        errors = fit.errors()
        if processes.is_root:
            _write_artefact(recipe, source, out, predictor, errors)
        processes.wait()
    return Training(out, artefact.load(out, source.domain).card, progress)


def _prepare(recipe: Recipe, source: TrajectoryFile, out: Path, processes: Team) -> tuple[Fit, Predictor]:
    """Data, network and objective as the recipe says."""
    trained, held = split(source.shape[0], recipe.data.validation)
    training, validation = (Windows(source, part, recipe.loss.steps, recipe.data.stride) for part in (trained, held))
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.operator.name, **recipe.operator.arguments)
    if network.kind != "state":
        raise CaseError(
            f"[operator] '{recipe.operator.name}' models a stress: this trains operators that step a velocity"
        )
    units = scaling(source, trained, recipe.data.stride, recipe.loss.target)
    predictor = Predictor(network, units).to(processes.device)
    objective = Rollout(predictor, source.domain, recipe.loss, recipe.loop.precision)
    free = {"data": {"file", "workers"}, "loop": {"device", "checkpoint_seconds"}}  # these change no result
    text = json.dumps([recipe.model_dump(exclude=free), source.sha256], sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()
    settings = recipe.optimiser, recipe.loop, processes, out, identity, recipe.data.workers
    return Fit(objective, training, validation, *settings), predictor


def _write_artefact(
    recipe: Recipe, source: TrajectoryFile, out: Path, predictor: Predictor, errors: dict[str, float]
) -> None:
    artefact.save(
        out,
        predictor.network,
        recipe.operator.name,
        recipe.operator.arguments,
        scaling=predictor.scaling,
        step=source.step * recipe.data.stride,
        filter=str(source.attributes.get("filter", "unknown")),
        grid=source.domain.describe(),
        nu=(float(source.nu.min()), float(source.nu.max())),
        trained_on=recipe.card.trained_on,
        data_sha256=source.sha256,
        commit=commit()[0],
        metrics=errors,
        licence=recipe.card.licence,
    )

"""A state operator that learns from frames: what it minimises, and its artefact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closures.coupling.frames import Trajectory
from closures.data.scaling import fluctuation_size, scaling
from closures.data.sets import Source
from closures.data.windows import InMemory, Windows, split
from closures.losses.energy import energy_error
from closures.losses.les_residual import LesResidual
from closures.losses.objective import Objective
from closures.losses.registry import error_of
from closures.operators import artefact, build
from closures.operators.artefact import Card
from closures.operators.domain import Domain
from closures.operators.noise import draws
from closures.operators.predictor import Predictor, Scaling
from closures.operators.role import Rhythm
from closures.training import calibration
from closures.training.begin import take_weights, weights_of
from closures.training.corrections import StoredFrames, arrivals, corrections, largest_change, leg_of
from closures.training.curriculum import Curriculum
from closures.training.drawn_loss import DrawnLoss, score_of
from closures.training.identity import content_of, identity_of
from closures.training.kept import kept
from closures.training.objective import Rollout, directions
from closures.training.own_les import check_source, draw, teacher
from closures.training.path_loss import PathLoss
from closures.training.processes import ProcessGroup
from closures.training.recipe import Recipe
from closures.training.study import Prepared
from closures.training.tables import LossTable
from solver.case.case import load_case
from solver.errors import CaseError
from solver.files.folder import commit

PAIRS = "pairs.safetensors", "pairs_validation.safetensors"  # where the solver arrives, kept beside the training


def prepare(recipe: Recipe, out: Path, data: Path | None, processes: ProcessGroup) -> Prepared:
    """Data, network and objective as the recipe says; and, for a corrector, what is to be corrected.

    `data` replaces the file of the recipe.

    Raises
    ------
    CaseError : the recipe or the data are wrong.
    RunFolderError : what is kept in `out` is of another training.
    """
    stored = recipe.data.open(data) if data is not None or recipe.data.is_given else None
    source: Source = stored or draw(recipe.drawn, recipe.loop.device, out, processes)  # type: ignore[arg-type]  # one is given
    training, validation, noise, units, pairs = _samples(recipe, source, out, processes)
    predictor = predictor_of(recipe, units, processes)
    objective = objective_of(recipe, source, predictor, noise)
    identity = identity_of(recipe, source.sha256, *named(recipe))

    def finish(errors: dict[str, float]) -> Card:
        found = _calibration(recipe, source, objective, out) if isinstance(objective, DrawnLoss) else {}
        return save(recipe, source, out, predictor, pairs, errors | found)

    return Prepared(
        objective,
        training,
        validation,
        identity,
        finish,
        recipe.data.workers,
        curriculum=Curriculum(recipe.loss.stages),
    )


def _calibration(recipe: Recipe, source: Source, objective: DrawnLoss, out: Path) -> dict[str, float]:
    """Of a network that draws, on trajectories on which nothing was chosen, or else on those that chose the weights."""
    held_out = list(source.test) or split(source, recipe.data.validation)[1]
    found = calibration.judged(objective, source, held_out, recipe.data.stride)
    found.write(out / calibration.FILE)
    return found.summary()


def predictor_of(recipe: Recipe, units: Scaling, processes: ProcessGroup) -> Predictor:
    """The network with its first weights, and with `units` but where it begins with those of an artefact.

    Raises
    ------
    CaseError : it steps no velocity, or the artefact is of another network.
    """
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.operator.name, **recipe.operator.arguments)
    if network.kind != "state":
        raise CaseError(
            f"[operator] '{recipe.operator.name}' models a stress: this trains operators that step a velocity"
        )
    if (members := recipe.loss.members) and not draws(network):
        raise CaseError(f"[loss] members = {members}: '{recipe.operator.name}' draws nothing: set [operator] noise = 4")
    if draws(network) and not members:
        raise CaseError("[operator] noise: learns nothing from one answer: set [loss] members = 2, or remove it")
    if recipe.loop.begin is not None:
        card = take_weights(network, recipe.operator.name, recipe.loop.begin, "[loop]")
        own = card.scaling or units  # the weights mean something in their own
        if own.target != recipe.loss.target:
            raise CaseError(f"[loss] target: the network in [loop] begin predicts '{own.target}': write that")
        if not math.isclose(own.drift, units.drift, rel_tol=1e-6):
            frame = f"[loss] frame: the network in [loop] begin sees a field carried on by {own.drift:g}"
            raise CaseError(f"{frame}, this recipe carries it by {units.drift:g}: use the frame of its recipe")
        units = own.model_copy(update={"limits": units.limits})
    return Predictor(network, units).to(processes.device)


def _samples(
    recipe: Recipe, source: Source, out: Path, processes: ProcessGroup
) -> tuple[Windows, Windows, Tensor | None, Scaling, InMemory | None]:
    """Training and validation, windows of trajectories or pairs of frames around a correction; the noise of the first
    frames; units; the pairs to train on.
    """
    data, loss = recipe.data, recipe.loss
    parts = split(source, data.validation)
    training, validation = (Windows(source, part, loss.longest, data.stride, data.apart) for part in parts)
    noise = recipe.loss.noise * fluctuation_size(source, parts[0]) if recipe.loss.noise else None
    if recipe.correct is None:
        drift = loss.frame * source.step * data.stride
        units = scaling(source, parts[0], data.stride, loss.target, drift, loss.energy_fixer)
        return training, validation, noise, units, None

    pairs = _pairs(recipe, StoredFrames(source, data.stride, data.apart, parts[0]), out / PAIRS[0], processes)
    units = scaling(pairs, range(pairs.shape[0]), 1, "increment", loss.frame * recipe.correct.ahead, loss.energy_fixer)
    if not recipe.rolls_out_corrections:
        others = _pairs(recipe, StoredFrames(source, data.stride, data.apart, parts[1]), out / PAIRS[1], processes)
        training, validation = (Windows(p, range(p.shape[0])) for p in (pairs, others))
    return training, validation, noise, units, pairs


def _pairs(recipe: Recipe, frames: StoredFrames, file: Path, processes: ProcessGroup) -> InMemory:
    """Pairs around a correction; where the solver arrives is worked out once, and kept in `file` (collective)."""
    table = recipe.correct
    assert table is not None
    about = frames.interval, frames.apart, list(frames.trajectories)
    identity = identity_of(table, frames.source.sha256, *about, *named(recipe))
    return corrections(frames, kept(file, identity, lambda: arrivals(table, frames), processes))


def named(recipe: Recipe) -> Iterator[Any]:
    """The content of what the recipe has only the name of."""
    if recipe.loop.begin is not None:
        yield weights_of(recipe.loop.begin)
    for table in (recipe.equations, recipe.correct):
        if table is not None:
            yield content_of(load_case(Path(table.case), table.overrides)[0])


def objective_of(recipe: Recipe, source: Source, predictor: Predictor, noise: Tensor | None) -> Objective:
    """Labels as they are, labels behind the projection of a case, its equations, or both."""
    table, loss, half_precision = recipe.equations, recipe.loss, recipe.loop.precision == "bfloat16"
    error = _error(loss)
    mirrors = directions(loss.mirrors, source.domain)
    if recipe.correct is not None and recipe.rolls_out_corrections:
        partner = leg_of(recipe.correct, source.step * recipe.data.stride, recipe.loop.device)
        turns = Trajectory(predictor, partner, half_precision, recipe.correct.steps)
        if loss.members:
            return DrawnLoss(turns, loss.members, score_of(loss), noise, loss.through, mirrors)
        return PathLoss(turns, None, 0.0, 1.0, noise, loss.through, error, mirrors)
    if table is None:
        return Rollout(predictor, source.domain, loss, recipe.loop.precision, noise)
    simulation = teacher(table, recipe.loop.device)
    residual = LesResidual(simulation, table.interval, table.scheme, table.norm, table.alpha)
    path = Trajectory(predictor, simulation, half_precision)
    check_source(source, path.domain, recipe.data.stride, table)
    if loss.members:
        return DrawnLoss(path, loss.members, score_of(loss), noise, loss.through, mirrors)
    equations, data = {"projected_l2": (0.0, 1.0), "les_residual": (1.0, 0.0), "hybrid": (1.0, loss.data)}[loss.kind]
    return PathLoss(path, residual, equations, data, noise, loss.through, error, mirrors)


def _error(loss: LossTable) -> Callable[[Tensor, Tensor, Domain], Tensor]:
    """Of frames against labels, as the recipe says."""
    error = error_of(*loss.error)
    if loss.energy == 0:
        return error
    return lambda answers, labels, domain: (
        error(answers, labels, domain) + loss.energy * energy_error(answers, labels, domain)
    )


def _largest_answer(recipe: Recipe, source: Source, predictor: Predictor, pairs: InMemory | None) -> float | None:
    """For the guard: of corrections, and of what changes at rest where the units are those of a moving frame."""
    if pairs is not None:
        return largest_change(pairs.velocity, pairs.domain, predictor)
    if predictor.scaling.drift == 0:
        return None
    known = [number for number in range(source.shape[0]) if number not in source.test]
    return largest_change(StoredFrames(source, recipe.data.stride, 1, known).pairs(), source.domain, predictor)


def save(
    recipe: Recipe,
    source: Source,
    out: Path,
    predictor: Predictor,
    pairs: InMemory | None,
    errors: dict[str, float],
    stream: dict[str, float] | None = None,
) -> Card:
    """Write the artefact; `stream` describes the samples of a training that had no data set."""
    interval = source.step * recipe.data.stride
    rhythm = Rhythm(interval) if recipe.correct is None else recipe.correct.rhythm(interval)
    return artefact.save(
        out,
        predictor.network,
        recipe.operator.name,
        recipe.operator.arguments,
        scaling=predictor.scaling,
        **asdict(rhythm),
        start=source.start if rhythm.step else 0.0,
        largest_answer=_largest_answer(recipe, source, predictor, pairs),
        filter=str(source.attributes.get("filter", "unknown")),
        grid=source.domain.describe(),
        nu=(float(source.nu.min()), float(source.nu.max())),
        trained_on=recipe.card.trained_on,
        data_sha256=source.sha256,
        commit=commit()[0],
        metrics=errors,
        stream=stream or {},
        licence=recipe.card.licence,
    )

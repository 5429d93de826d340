"""Training while the solver runs: who does what, and the checks before anything is begun."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from closures.coupling.frames import Frames, Trajectory
from closures.data.scaling import fluctuation_size, scaling
from closures.data.windows import Windows
from closures.operators import build as build_operator
from closures.operators.artefact import CARD, Card, read_card
from closures.operators.domain import same
from closures.operators.predictor import Predictor, Scaling
from closures.training import offline
from closures.training.corrections import StoredFrames, arrivals, corrections, leg_of
from closures.training.curriculum import Curriculum
from closures.training.identity import content_of, identity_of
from closures.training.kept import kept
from closures.training.online.flows import HELD_OUT, Flows
from closures.training.online.lane import Carried, Lane
from closures.training.online.producers import Here, Maker, Producers, Remote, serve
from closures.training.online.stream import Plan, Stream
from closures.training.online.student import Student
from closures.training.online.table import OnlineTable
from closures.training.own_les import OwnLes, teacher
from closures.training.processes import ProcessGroup, check_alone
from closures.training.recipe import Recipe
from closures.training.study import Prepared, Trained, descend
from solver.discretisation import fusion
from solver.errors import CaseError, Diverged
from solver.flow.simulation import Simulation
from solver.parallel import memory
from solver.parallel.mailbox import Mailbox
from solver.run.machine import choose_fusion

log = logging.getLogger("solver")
FILE = "held_out.safetensors"


def learn(recipe: Recipe, out: Path, data: Path | None = None, console: Console | None = None) -> Trained:
    """Train, or go on training, in the folder `out`, on the first rank, while the others run flows; collective.

    Raises
    ------
    CaseError : the recipe or a case is wrong, or they do not belong together; there are more ranks than flows.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    Diverged : the gradient is not finite, or flow after flow was lost.
    """
    check_alone("an online training", "start its ranks with mpirun -n N solver train ...")
    if data is not None:
        raise CaseError(f"--data {data}: the samples of [online] come from running flows: leave it out")
    mailbox = Mailbox()
    experiment = Online(recipe, mailbox.size - 1)
    case = experiment.flows.source(HELD_OUT, 0).case
    fusion.enable(choose_fusion(case.run.fuse, int(np.prod(case.build_grid().shape)), None))
    if mailbox.rank > 0:
        serve(mailbox, experiment.maker())
        mailbox.close()
        return Trained(out, read_card(out / CARD))
    if mailbox.size == 1:
        log.info("[online] one rank: flows and training take turns; mpirun -n 2 lets them go on side by side")
    producers: Producers = Remote(mailbox) if mailbox.size > 1 else Here(experiment.maker())
    trained = descend(recipe, out, console, lambda group: experiment.prepare(out, producers, group), apart=True)
    producers.stop()
    mailbox.close()
    return trained


@dataclass(frozen=True)
class Online:
    """One recipe, checked, on this rank.

    Parameters
    ----------
    recipe : with a table ``[online]``.
    others : ranks that run flows and do not train; 0: this one does both.

    Raises
    ------
    CaseError : see `learn`.
    """

    recipe: Recipe
    others: int

    def __post_init__(self) -> None:
        table, loop = self.table, self.recipe.loop
        if self.others > table.flows:
            raise CaseError(
                f"[online] flows = {table.flows}: {self.others} ranks cannot share them and train: use mpirun -n "
                f"{table.flows + 1} at most, or more flows"
            )
        frames = Frames(self.first)
        needed = float(table.buffer.capacity) * (self.recipe.loss.longest + 1) * 3 * math.prod(frames.domain.shape) * 4
        memory.require(needed, f"[online.buffer] capacity = {table.buffer.capacity}", "keep fewer samples")
        least = loop.batch + (table.buffer.watermark if table.buffer.kind == "firo" else 0)
        if table.buffer.kind != "reservoir" and table.buffer.capacity < least:
            raise CaseError(
                f"[online.buffer] capacity = {table.buffer.capacity}: '{table.buffer.kind}' needs {least} for batches "
                f"of {loop.batch}: keep more"
            )
        if table.samples < loop.batch:
            raise CaseError(f"[online] samples = {table.samples}: are less than [loop] batch = {loop.batch}")
        self._check_partner(frames)

    @property
    def table(self) -> OnlineTable:
        """``[online]``."""
        assert self.recipe.online is not None
        return self.recipe.online

    @property
    def fixed(self) -> bool:
        """Whether the ratio of samples made to samples drawn is fixed: alone there is no other."""
        return self.table.deterministic or not self.others

    @cached_property
    def flows(self) -> Flows:
        """All flows of the recipe."""
        return Flows(self.table, self.recipe.loop.device)

    @cached_property
    def first(self) -> Simulation:
        """The first of the held-out flows, at its first instant."""
        return self.flows.begin(HELD_OUT, 0)

    @cached_property
    def partner(self) -> Simulation | None:
        """The flow in which the network acts, as the recipe names it; None: that of the teacher."""
        correct, equations = self.recipe.correct, self.recipe.equations
        if correct is not None:
            return leg_of(correct, self.table.interval, self.recipe.loop.device)
        return teacher(equations, self.recipe.loop.device) if equations is not None else None

    def _check_partner(self, frames: Frames) -> None:
        """Whether the network acts on the points on which the teacher labels."""
        if self.partner is None:
            return
        name = "correct" if self.recipe.correct is not None else "equations"
        other, own = Frames(self.partner), frames.operators
        if not same(other.domain.describe(), frames.domain.describe()):
            here, there = (" x ".join(map(str, domain.shape)) for domain in (frames.domain, other.domain))
            raise CaseError(
                f"[online] case = '{self.table.case}': the teacher has {here} points, the case of [{name}] {there}, or "
                "other coordinates: a label is of one grid: name cases of the same"
            )
        if other.operators.dtype != own.dtype:
            raise CaseError(
                f"[online] run.dtype of the teacher and of the case of [{name}] differ: set both in overrides"
            )
        flow = next((key for key in self.table.ranges if key.startswith("flow.")), None)
        if self.recipe.correct is not None and flow is not None:
            raise CaseError(f"[online] ranges: '{flow}': the solver of [correct] has one value of it: leave it out")

    def maker(self) -> Maker:
        """Makes samples on this rank."""
        table, loop, steps = self.table, self.recipe.loop, self.recipe.loss.longest
        plan = Plan(table, loop.batch, loop.epochs * (table.samples // loop.batch))

        def lane(number: int, carried: Carried | None) -> Lane:
            return Lane(self.flows, number, steps, carried)

        due = plan.due if self.fixed and table.on_policy else None
        return Maker(lane, (lambda units: self._student(units, plan.steps)) if table.on_policy else None, due)

    def _student(self, units: Scaling, steps: int) -> Student:
        policy, operator, correct = self.table.on_policy, self.recipe.operator, self.recipe.correct
        assert policy is not None
        predictor = Predictor(build_operator(operator.name, **operator.arguments).eval(), units)
        half = self.recipe.loop.precision == "bfloat16"
        turns = Trajectory(predictor, self.partner or self.first, half, correct.steps if correct else 0)
        predictor.to(turns.operators.device)
        return Student(turns, policy.longest, policy.rise, steps, policy.misfit)

    def prepare(self, out: Path, producers: Producers, processes: ProcessGroup) -> Prepared:
        """The stream of samples, the held-out flows, network and objective."""
        recipe, table, loss = self.recipe, self.table, self.recipe.loss
        source = self.held_out(out, processes)
        every = range(source.shape[0])
        noise = recipe.loss.noise * fluctuation_size(source, every) if recipe.loss.noise else None
        pairs = None
        if recipe.correct is not None:
            frames = StoredFrames(source, 1, 1, every)
            pairs = corrections(frames, arrivals(recipe.correct, frames))
        if recipe.correct is None or pairs is None:
            units = scaling(source, every, 1, loss.target, loss.frame * table.interval, loss.energy_fixer)
        else:
            drift = loss.frame * recipe.correct.ahead
            units = scaling(pairs, range(pairs.shape[0]), 1, "increment", drift, loss.energy_fixer)
        predictor = offline.predictor_of(recipe, units, processes)
        objective = offline.objective_of(recipe, source, predictor, noise)
        stream = Stream(table, recipe.loop, predictor, producers, self.fixed)
        identity = identity_of(recipe, source.sha256, *offline.named(recipe), *self._named())

        def save(errors: dict[str, float]) -> Card:
            return offline.save(recipe, source, out, predictor, pairs, errors, stream.described())

        return Prepared(
            objective, stream, Windows(source, every, loss.longest), identity, save, curriculum=Curriculum(loss.stages)
        )

    def held_out(self, out: Path, processes: ProcessGroup) -> OwnLes:
        """The flows that judge: those in `out`, or new ones, which are then kept there.

        Raises
        ------
        Diverged : one of them is lost.
        RunFolderError : `out` holds those of another recipe.
        """
        table, case = self.table, self.flows.source(HELD_OUT, 0).case
        about = table.model_dump(include={"ranges", "interval", "steps"})
        identity = identity_of(table.held_out, about, *self._named())
        velocity = kept(out / FILE, identity, lambda: np.stack(list(self._judges())), processes)
        nus = [self.flows.source(HELD_OUT, number).case.flow.nu for number in range(table.held_out.flows)]
        domain = Frames(self.first).domain
        return OwnLes(velocity, domain, table.interval, table.held_out.spin_up, nus, case.closure.name)

    @torch.no_grad()
    def _judges(self) -> Iterator[np.ndarray]:
        """Frames of each held-out flow, (frames, nx, ny, nz, 3), float32."""
        for number in range(self.table.held_out.flows):
            simulation = self.first if number == 0 else self.flows.begin(HELD_OUT, number)
            try:
                self.flows.spin_up(simulation, self.table.held_out.spin_up)
                frames = self.flows.window(simulation, Frames(simulation), self.table.held_out.frames - 1)
            except Diverged as problem:
                raise Diverged(f"[online.held_out] flow {number} was lost, {problem}: raise [online] steps") from None
            yield np.ascontiguousarray(frames.movedim(1, -1).to("cpu", torch.float32).numpy())

    def _named(self) -> Iterator[object]:
        case = self.flows.source(HELD_OUT, 0).case
        yield content_of(case)
        yield case.initial.model_dump(mode="json")

"""Train a closure by what its long runs look like: an ensemble of networks, each in a flow of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from closures.data.windows import FlowSet, TrajectoryFiles, has_fields
from closures.operators import artefact
from closures.operators.artefact import Card
from closures.training.begin import weights_of
from closures.training.candidate import candidate, write
from closures.training.ensemble_recipe import LEAST, EnsembleRecipe
from closures.training.ensemble_state import Ensemble, read_state, write_state
from closures.training.identity import content_of, identity_of
from closures.training.kalman import longest_step, misfits, update
from closures.training.long_run import LongRun, Settled
from closures.training.processes import check_alone
from closures.training.report import Report
from closures.training.study import Trained, write_recipe
from solver.analysis.channel import ERRORS
from solver.case.case import load_case
from solver.errors import CaseError, Diverged
from solver.grid.axis import Array
from solver.parallel import ranks
from solver.parallel.slabs import split_evenly
from solver.parallel.task_farm import farm

Member = tuple[Settled, ...]  # what one network settles to in each flow
SCALARS = ("ensemble/misfit", "ensemble/pseudo_time")  # of every member that has run, in TensorBoard


def invert(recipe: EnsembleRecipe, out: Path, data: Path | None = None, console: Console | None = None) -> Trained:
    """Train by Kalman inversion, or go on, in the folder `out`, and write the artefact; collective over MPI ranks.

    The network that is kept is the mean of the last ensemble; its errors are those of one more run from the flow of
    every member, averaged together.

    Raises
    ------
    CaseError : the recipe, the case or the data are wrong, or do not belong together.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    Diverged : fewer than four flows survived an iteration, or the mean network's did not.
    """
    check_alone("an ensemble", "start its ranks with mpirun -n N solver train ...")
    source = recipe.data.open(data)
    if not isinstance(source, TrajectoryFiles):
        raise CaseError(f"[data] name = '{recipe.data.name}': an ensemble is held against the statistics in a file")
    return Trained(out, Inversion(recipe, source, out, console).run())


class Inversion:
    """The iterations of one recipe; see `invert`."""

    def __init__(self, recipe: EnsembleRecipe, source: TrajectoryFiles, out: Path, console: Console | None) -> None:
        self.recipe, self.table, self.source, self.out = recipe, recipe.ensemble, source, out
        self.console = console
        torch.manual_seed(self.table.seed)
        self.candidate = candidate(recipe.operator, self.table.begin, self.table.closure)
        self.network = self.candidate.network.requires_grad_(False)
        self.moved = _chosen(self.network, self.table.moves)
        others = [(_set(Path(table.file)), table.overrides) for table in self.table.flows]
        self.flows = [self._flow(source, ())]
        self.flows += [self._flow(*flow, self.flows[0]) for flow in others]
        begun = [weights_of(self.table.begin)] if self.table.begin else []
        case, _ = load_case(Path(self.table.case), self.table.overrides)
        self.identity = identity_of(recipe, source.sha256, content_of(case), *begun, *(s.sha256 for s, _ in others))
        wanted = vars(self.table.tolerance)
        rows = [(key, count) for flow in self.flows for key, count in zip(ERRORS, flow.target_rows, strict=True)]
        self.tolerance = np.concatenate([np.full(count, wanted[key]) for key, count in rows])

    def _flow(self, source: FlowSet, overrides: tuple[str, ...], like: LongRun | None = None) -> LongRun:
        """Runs in one flow; raises CaseError if nothing is there to learn from."""
        seen = [number for number in range(source.shape[0]) if number not in source.test]
        if not seen:
            raise CaseError(f"{source.path}: keeps all its trajectories for tests: none is left to learn from")
        every = (*self.table.overrides, *overrides)
        return LongRun(self.candidate.closure, source, seen, self.table.case, every, like=like)

    def run(self) -> Card:
        """All iterations that are left, and the artefact (collective)."""
        table, root = self.table, ranks.is_root()
        ensemble = read_state(self.out, self.identity) or self.first()
        steps, done = (table.iterations + 1) * table.members, ensemble.iteration * table.members
        if root:
            write_recipe(self.recipe, self.out)
        with Report(self.out, steps, done, self.console, root, SCALARS) as report:
            while ensemble.iteration < table.iterations and ensemble.time < 1.0:
                ensemble = self.next(ensemble, self.runs(ensemble, report), report)
                if root:
                    write_state(self.out, self.identity, ensemble)
            mean = ensemble.parameters.mean(0)
            centre = replace(ensemble, parameters=np.tile(mean, (table.members, 1)))
            runs = self.runs(centre, report)
        if root:
            self.keep(mean, runs)
        ranks.barrier()
        return artefact.load(self.out).card

    def take(self, weights: Array) -> None:
        """Give the network these weights, in place: compiled kernels hold on to its tensors."""
        sizes = [p.numel() for p in self.moved]
        for p, values in zip(self.moved, torch.from_numpy(weights).split(sizes), strict=True):
            p.copy_(values.reshape(p.shape))

    def first(self) -> Ensemble:
        """Networks around the first guess, each in a stored flow; the same on every rank."""
        centre = parameters_to_vector(self.moved).double().numpy()
        shares = np.concatenate([np.full(p.numel(), 1 / np.sqrt(_inputs(p))) for p in self.moved])
        noise = np.random.default_rng(self.table.seed).standard_normal((self.table.members, len(centre)))
        velocities = tuple(
            tuple(c for flow in self.flows for c in flow.first(number)) for number in range(self.table.members)
        )
        return Ensemble(centre + self.table.spread * shares * (noise - noise.mean(0)), velocities)

    def runs(self, ensemble: Ensemble, report: Report) -> list[Member | None]:
        """A run of each member in every flow, shared among the ranks; what they settled to, on every rank (collective).

        Those of a group are advanced as one, see `LongRun.together`. A member is lost where one of its flows is.
        """
        found: dict[int, Member | None] = {}

        def work(numbers: range, _: object) -> list[tuple[int, Member | None]]:
            ends = []
            for k, flow in enumerate(self.flows):
                begun = [ensemble.velocities[number][3 * k : 3 * k + 3] for number in numbers]
                ends.append(flow.together(begun, self.table.settle, self.table.average, take(numbers)))
            runs = [None if any(end is None for end in every) else every for every in zip(*ends, strict=True)]
            return list(zip(numbers, runs, strict=True))

        def take(numbers: range) -> Callable[[int], None]:
            return lambda k: self.take(ensemble.parameters[numbers[k]])

        def done(results: list[tuple[int, Member | None]]) -> None:
            for number, run in results:
                found[number] = run
                report.step(ensemble.iteration * self.table.members + len(found), self.misfit(run), ensemble.time)

        farm(self.groups(), work, done)
        whole = ranks.broadcast(found)
        return [whole[number] for number in range(self.table.members)]

    def groups(self) -> list[range]:
        """The numbers of members whose flows are advanced as one: as many groups for each rank, of one size or two."""
        count, size = self.table.members, min(flow.size for flow in self.flows)
        groups = min(ranks.world_size() * -(-count // (ranks.world_size() * size)), count)
        ends = np.cumsum([0, *split_evenly(count, groups)]).tolist()
        return [range(a, b) for a, b in itertools.pairwise(ends)]

    def next(self, ensemble: Ensemble, runs: list[Member | None], report: Report) -> Ensemble:
        """The ensemble after the step that these runs allow; networks whose flow was lost start again near the others.

        Raises
        ------
        Diverged : fewer than four flows are left.
        """
        alive = [i for i, run in enumerate(runs) if run is not None]
        if len(alive) < LEAST:
            raise Diverged(f"{len(alive)} of {len(runs)} flows are left: lower [ensemble] spread, or raise members")
        outputs = np.stack([self.output(run) for run in runs if run is not None])
        target = np.zeros(outputs.shape[1])
        found = misfits(outputs, target, self.tolerance)
        step = longest_step(found, len(ERRORS) * len(self.flows), 1.0 - ensemble.time)
        moved = update(ensemble.parameters[alive], outputs, target, self.tolerance, step)
        parameters, velocities = self.replenished(ensemble.iteration, moved, runs)
        row = {"epoch": float(ensemble.iteration), "step": (ensemble.iteration + 1.0) * self.table.members}
        row |= {"time": ensemble.time + step, "misfit": float(found.mean())}
        row |= self.errors([run for run in runs if run is not None])
        history = (*ensemble.history, row | {"lost": float(len(runs) - len(alive))})
        report.epoch(int(row["step"]), list(history))
        return Ensemble(parameters, velocities, ensemble.iteration + 1, ensemble.time + step, history)

    def replenished(
        self, iteration: int, moved: Array, runs: list[Member | None]
    ) -> tuple[Array, tuple[tuple[Array, ...], ...]]:
        """All members again: lost ones drawn from the distribution of those `moved`, each in one of their flows."""
        rng, mean = np.random.default_rng([self.table.seed, iteration]), moved.mean(0)
        kept, others = iter(moved), [run for run in runs if run is not None]
        parameters, velocities = [], []
        for run in runs:
            draw = rng.standard_normal(len(moved)) / np.sqrt(len(moved) - 1)
            parameters.append(mean + draw @ (moved - mean) if run is None else next(kept))
            ends = run or others[int(rng.integers(len(others)))]
            velocities.append(tuple(c for end in ends for c in end.velocity))
        return np.stack(parameters), tuple(velocities)

    def output(self, run: Member) -> Array:
        """What a member answers: its deviations from the data in each flow, in the units of `ERRORS`."""
        pairs = zip(self.flows, run, strict=True)
        return np.concatenate([row for flow, end in pairs for row in flow.deviations(end.means)])

    def errors(self, runs: list[Member]) -> dict[str, float]:
        """Of all runs averaged together, for each flow; those of further flows by name and grid."""
        found: dict[str, float] = {}
        for number, flow in enumerate(self.flows):
            errors = flow.errors(np.mean([run[number].means for run in runs], axis=0))
            grid = "x".join(map(str, flow.frames.domain.shape))
            found |= {f"{key}_{grid}" if number else key: value for key, value in errors.items()}
        return found

    def misfit(self, run: Member | None) -> float:
        """Of one member."""
        if run is None:
            return float("nan")
        output = self.output(run)[None]
        return float(misfits(output, np.zeros(output.shape[1]), self.tolerance)[0])

    def keep(self, weights: Array, runs: list[Member | None]) -> None:
        """Write the artefact of the mean network, whose runs these are (root only).

        Raises
        ------
        Diverged : some of them were lost.
        """
        alive = [run for run in runs if run is not None]
        if len(alive) < len(runs):
            raise Diverged(f"{len(runs) - len(alive)} flows of the mean network were lost: raise [ensemble] members")
        self.take(weights)
        recipe, nu = self.recipe, self.flows[0].simulation.nu
        known = [(flow.frames, source) for flow in self.flows if isinstance(source := flow.source, TrajectoryFiles)]
        cards = [self.candidate.card(*pair) for pair in known]
        role = max(cards, key=lambda card: card["largest_answer"] or 0.0)
        grid = self.source.domain.describe() if len(self.flows) == 1 else None
        metrics = self.errors(alive)
        write(self.out, self.network, recipe.operator, recipe.card, self.source, nu, metrics, role | {"grid": grid})


def _set(path: Path) -> FlowSet:
    """With its fields, or of their statistics alone."""
    return TrajectoryFiles(path) if has_fields(path) else FlowSet(path)


def _inputs(weights: Tensor) -> int:
    """How many numbers a row of weights sums up; a bias counts like one of them."""
    return weights[0].numel() if weights.ndim > 1 else 1


def _chosen(network: nn.Module, beginnings: tuple[str, ...]) -> list[nn.Parameter]:
    """The weights whose names begin so; all for an empty tuple."""
    named = dict(network.named_parameters())
    for start in beginnings:
        if not any(name.startswith(start) for name in named):
            raise CaseError(f"[ensemble] moves = '{start}': no weight begins so; there are {', '.join(named)}")
    return [p for name, p in named.items() if not beginnings or name.startswith(beginnings)]

"""The training loop: any network, any data set, any objective; one process or several; it continues to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.data import Dataset

from closures.losses.objective import Objective
from closures.training import state
from closures.training.average import Average
from closures.training.curriculum import Curriculum
from closures.training.feed import Feed, Shuffled, loaded
from closures.training.processes import ProcessGroup
from closures.training.report import Report
from closures.training.schedule import rate, seeds
from closures.training.spectral_bound import bound_all, fold, follow
from closures.training.state import Progress
from closures.training.tables import LoopTable, OptimiserTable
from solver.errors import CaseError, Diverged

VALIDATION = 2**32 - 1  # in place of a step, for what is drawn for the validation set: the same in every epoch


class Fit:
    """Minimises an objective with AdamW and keeps the weights that did best on the validation set, or the last.

    The data set, the objective and the settings are values; `folder` receives the state, from which the next `Fit`
    with the same `identity` continues: order of samples, noise and rate are functions of the seed and the step, so the
    weights that come out are those of an uninterrupted training, bit for bit on the same machine.

    Parameters
    ----------
    objective : its call on a batch is the loss.
    training : a data set of the batches' samples, or where else they come from.
    validation : a data set.
    group : the processes; each takes its share of every batch.
    identity : what the state must belong to.
    workers : processes that load data.
    curriculum : windows that grow; None: samples are learned from as they are.

    Raises
    ------
    CaseError : batches cannot be shared, or there are too few samples.
    """

    def __init__(
        self,
        objective: Objective,
        training: Dataset[Any] | Feed,
        validation: Dataset[Any],
        optimiser: OptimiserTable,
        loop: LoopTable,
        group: ProcessGroup,
        folder: Path,
        identity: str,
        workers: int = 0,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.objective, self.validation = objective, validation
        self.feed = training if isinstance(training, Feed) else Shuffled(training, loop, group, workers)
        self.settings, self.loop, self.group, self.folder, self.workers = optimiser, loop, group, folder, workers
        if loop.batch % group.size:
            raise CaseError(f"[loop] batch = {loop.batch}: should be a multiple of the {group.size} processes")
        self.steps_per_epoch = self.feed.length // loop.batch
        if self.steps_per_epoch == 0:
            raise CaseError(f"[loop] batch = {loop.batch}: there are only {self.feed.length} training samples")
        if _length(validation) < group.size:
            raise CaseError(f"[data] {_length(validation)} validation samples for {group.size} processes: use fewer")
        self.steps = loop.epochs * self.steps_per_epoch
        self.validation_seeds = seeds(loop.seed, VALIDATION, _length(validation), 0, 1)
        self.network, self.curriculum = objective.network, curriculum or Curriculum()
        bound_all(self.network, optimiser.spectral_norm)
        self.weights = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.weights, lr=optimiser.rate, weight_decay=optimiser.weight_decay)
        self.average = Average(self.network, optimiser.average)
        self.progress, self.best = Progress(identity, epochs=loop.epochs), self.average.copy()
        if (found := state.read(folder, identity, loop.epochs, self.network, self.optimiser)) is not None:
            self.progress, parts = found
            self.best = parts["best"]
            self.average.restore(parts["average"])
            self.feed.restore(self.progress.feed, parts["feed"])
        self.saved_at = time.monotonic()

    def run(self, console: Console | None = None) -> Progress:
        """Train to the end (or until patience runs out); the network then holds the best weights.

        Raises
        ------
        Diverged : the gradient is not finite; the state of the last good moment stays.
        """
        progress, shared = self.progress, self.group.share(self.objective)  # type: ignore[arg-type]  # a module
        with Report(self.folder, self.steps, progress.step, console, self.group.is_root) as report:
            while not progress.done:
                started = time.monotonic()
                self._epoch(shared, report)
                self._judge(time.monotonic() - started)
                self._save()
                report.epoch(progress.step, progress.history)
        self.network.load_state_dict(self.best)
        fold(self.network)
        return progress

    def _epoch(self, shared: nn.Module, report: Report) -> None:
        """What is left of the present epoch."""
        progress, group, loop = self.progress, self.group, self.loop
        self.network.train()
        for batch in (_moved(batch, group.device) for batch in self.feed.batches(progress)):
            learning_rate = rate(self.settings, progress.step, self.steps, self.steps_per_epoch)
            learning_rate = self.curriculum.rate(learning_rate, progress.epoch)
            drawn = seeds(loop.seed, progress.step, loop.batch, group.rank, group.size)
            torch.manual_seed(drawn[0])  # for networks that draw, as dropout does
            windows = self.curriculum.windows(batch, drawn, progress.epoch)
            loss = self._step(shared, windows, drawn, learning_rate)
            progress.step, progress.batch = progress.step + 1, progress.batch + 1
            progress.loss_sum += loss
            report.step(progress.step, loss, learning_rate, facts=self.feed.facts())
            if time.monotonic() - self.saved_at >= loop.checkpoint_seconds:
                self._save()

    def _step(self, shared: nn.Module, batch: Any, drawn: Sequence[int], learning_rate: float) -> float:
        """One step of the optimiser; the loss, averaged over processes."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = shared(batch, drawn)
        loss.backward()
        self.group.settle(self.weights)
        norm = float(nn.utils.clip_grad_norm_(self.weights, self.settings.clip))
        if not torch.isfinite(torch.tensor(norm)):  # the same on all processes: gradients are averaged
            raise Diverged(
                f"training step {self.progress.step}: the gradient is not finite; lower [optimiser] rate "
                f"(now {learning_rate:.2g}), or use precision = 'float32'"
            )
        self.optimiser.step()
        follow(self.network)
        self.average.follow(self.progress.step)
        return float(self.group.sum(loss.detach().double())) / self.group.size

    def _judge(self, seconds: float) -> None:
        """Validate at the end of an epoch, remember the best, decide whether to go on."""
        progress = self.progress
        with self.average.in_place():
            errors = self.errors()
        progress.seconds += seconds
        row = {"epoch": progress.epoch, "step": progress.step, "loss": progress.loss_sum / max(progress.batch, 1)}
        facts = self.curriculum.facts(progress.epoch) | self.feed.facts()
        progress.history.append({**row, **errors, **facts})
        error = next(iter(errors.values()))
        for name, value in errors.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"epoch {progress.epoch}: {name} is {value} on the validation set: lower [optimiser] rate, "
                    "or look for values that are not finite in [data] file"
                )
        if (better := error < progress.best) or self.loop.keep == "last":
            self.best = self.average.copy()
        if better:
            progress.best, progress.best_epoch = error, progress.epoch
        progress.epoch, progress.batch, progress.loss_sum = progress.epoch + 1, 0, 0.0
        waited = progress.epoch - 1 - progress.best_epoch
        impatient = self.loop.patience is not None and waited >= self.loop.patience
        progress.done = impatient or progress.epoch >= self.loop.epochs

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """Errors over the validation set, whatever the number of processes (collective)."""
        self.network.eval()
        group, batch = self.group, max(self.loop.batch // self.group.size, 1)
        own = list(range(group.rank, _length(self.validation), group.size))
        order = [own[i : i + batch] for i in range(0, len(own), batch)]
        totals: dict[str, Tensor] = {}
        with parametrize.cached():
            for numbers, samples in zip(
                order, loaded(self.validation, order, self.loop.seed, self.workers), strict=True
            ):
                drawn = [self.validation_seeds[n] for n in numbers]
                for name, values in self.objective.measure(_moved(samples, group.device), drawn).items():
                    totals[name] = totals.get(name, 0.0) + values.double().sum(dim=0)
        return self.objective.conclude({n: group.sum(t) / _length(self.validation) for n, t in totals.items()})

    def _save(self) -> None:
        if self.group.is_root:
            self.progress.feed, tensors = self.feed.state()
            parts = {"best": self.best, "average": self.average.values, "feed": tensors}
            state.write(self.folder, self.progress, self.network, self.optimiser, parts)
        self.saved_at = time.monotonic()


def _moved(batch: Any, device: torch.device) -> Any:
    """A tensor, or a sequence of them, on the device."""
    return batch.to(device) if isinstance(batch, Tensor) else [_moved(part, device) for part in batch]


def _length(data: Dataset[Any]) -> int:
    return len(data)  # type: ignore[arg-type]  # those of trainings have a length

"""Where else the numbers of a training go: TensorBoard, Weights & Biases, MLflow.

None is asked for by a key: TensorBoard is written where it is installed, the others where their own environment
variables say so, ``WANDB_PROJECT`` (with ``WANDB_MODE=offline``: into the folder) and ``MLFLOW_TRACKING_URI``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger("solver")


class Logger(Protocol):
    """One place that keeps numbers by name and step."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step of the optimiser."""

    def flush(self) -> None:
        """After an epoch."""

    def close(self) -> None:
        """At the end of this process, finished or not."""


def loggers(folder: Path, step: int) -> list[Logger]:
    """Those of a training in `folder` that goes on after `step`; one that is asked for and cannot be had is a line."""
    wanted: list[tuple[str, bool, type[Any]]] = [
        ("tensorboard", True, TensorBoard),
        ("wandb", "WANDB_PROJECT" in os.environ, WeightsAndBiases),
        ("mlflow", "MLFLOW_TRACKING_URI" in os.environ, MLflow),
    ]
    found: list[Logger] = []
    for package, asked, kind in wanted:
        if not asked:
            continue
        try:
            found.append(kind(folder, step))
        except ImportError:
            log.info("no log in %s: pip install %s; history.csv holds the same numbers", kind.__name__, package)
    return found


class TensorBoard:
    """``folder/tensorboard``; forgets what came after `step`."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """One scalar each."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """To disk."""
        self.board.flush()

    def close(self) -> None:
        """To disk, and no more."""
        self.board.close()


class WeightsAndBiases:
    """A run of the project ``WANDB_PROJECT``, the same one when the training of `folder` goes on."""

    def __init__(self, folder: Path, step: int) -> None:
        import wandb

        self.run = wandb.init(dir=str(folder), name=folder.name, id=_identity(folder), resume="allow")

    def add(self, values: Mapping[str, float], step: int) -> None:
        """One row; it never goes back in steps."""
        self.run.log(dict(values), step=step)

    def flush(self) -> None:
        """It does so by itself."""

    def close(self) -> None:
        """Wait until all is sent or written."""
        self.run.finish()


class MLflow:
    """A run at ``MLFLOW_TRACKING_URI``, in the experiment ``MLFLOW_EXPERIMENT_NAME``; sent once an epoch."""

    TAG = "les_solver.training"

    def __init__(self, folder: Path, step: int) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "les-solver")
        known = self.client.get_experiment_by_name(name)
        place = known.experiment_id if known else self.client.create_experiment(name)
        same = self.client.search_runs([place], f"tags.`{self.TAG}` = '{_identity(folder)}'")
        tags = {self.TAG: _identity(folder)}
        run = same[0] if same else self.client.create_run(place, run_name=folder.name, tags=tags)
        self.run: str = run.info.run_id
        self.waiting: list[Any] = []

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Kept until the end of the epoch: every message costs a round trip."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.waiting += [Metric(name, float(value), now, step) for name, value in values.items()]

    def flush(self) -> None:
        """In as many messages as its interface asks for, of a thousand numbers each."""
        while self.waiting:
            self.client.log_batch(self.run, metrics=self.waiting[:1000])
            del self.waiting[:1000]

    def close(self) -> None:
        """What is left, and that it ended."""
        self.flush()
        self.client.set_terminated(self.run)


def _identity(folder: Path) -> str:
    """The same for every process that trains in `folder`."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]

"""``python -m tests.training.online_once OUT RECIPE_JSON LOG RANK STEP``: train online, noting each sample that comes.

The process of a rank kills itself before it makes its sample number STEP, or, if it trains, its step STEP (rank -1:
nobody does). On one rank alone it trains in turns.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from closures.training import fit
from closures.training.experiment import train
from closures.training.online.lane import Lane
from closures.training.online.stream import Stream
from closures.training.recipe import Recipe
from solver.parallel import ranks


def arm(log: Path, rank: int, step: int) -> None:
    """Note what is taken up; die at the given moment."""
    make, take, descend, made = Lane.__call__, Stream._take, fit.Fit._step, 0

    def die() -> None:
        if ranks.world_rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    def sample(self, student=None):
        nonlocal made
        made += 1
        if rank > 0 and made == step:
            die()
        return make(self, student)

    def taken(self, sample, step_now):
        take(self, sample, step_now)
        place = sample.after.place
        with log.open("a") as file:
            file.write(f"{step_now} {sample.lane} {place.count} {float(sample.frames.sum())!r}\n")

    def stepped(self, *arguments):
        if rank == 0 and self.progress.step == step:
            die()
        return descend(self, *arguments)

    Lane.__call__, Stream._take, fit.Fit._step = sample, taken, stepped


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, text, log, rank, step = sys.argv[1:]
    arm(Path(log), int(rank), int(step))
    train(Recipe.model_validate_json(text), Path(out))
    if ranks.is_root():
        print(f"on {ranks.world_size()} ranks")

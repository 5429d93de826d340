"""``python train_once.py OUT RECIPE_JSON KILL_AT``: train, killing this process at a step (0: never)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from closures.training import fit
from closures.training.experiment import train
from closures.training.recipe import Recipe

torch.set_num_threads(1)
out, text, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
plain = fit.Fit._step


def step(self, *arguments):
    if kill_at and self.progress.step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, *arguments)


fit.Fit._step = step
train(Recipe.model_validate_json(text), out)

"""What a state operator is worth over many steps: errors against a trajectory, and the profiles it settles to."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from closures.data.windows import TrajectoryFile
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.domain import Domain
from closures.training.head import Head

BOUND = 4.0  # by which the energy of fluctuations may differ from the data's
PROFILES = ("U", "u'", "v'", "w'", "-uv")


class Profiles:
    """Sums over time of what profiles are made of; x and z are homogeneous, the two halves of the channel alike."""

    def __init__(self, domain: Domain) -> None:
        self.weights = domain.y.weights
        n = domain.y.n
        self.frames, self.first, self.second = 0, torch.zeros(3, n).double(), torch.zeros(4, n).double()

    def add(self, u: Tensor) -> None:
        """A frame (3, nx, ny, nz)."""
        u = u.double()
        products = torch.cat([u * u, u[:1] * u[1:2]])
        self.frames += 1
        self.first, self.second = self.first + u.mean((1, 3)), self.second + products.mean((1, 3))

    def __call__(self) -> dict[str, Tensor]:
        """Mean, deviations and stress over the half channel, by the names of `PROFILES`."""
        mean, squares = self.first / self.frames, self.second / self.frames
        variances, stress = squares[:3] - mean**2, squares[3] - mean[0] * mean[1]
        halves = [0.5 * (f + f.flip(-1)) for f in (mean[0], *variances)] + [0.5 * (stress.flip(-1) - stress)]
        names = [halves[0], *(h.clamp_min(0).sqrt() for h in halves[1:4]), halves[4]]
        return dict(zip(PROFILES, names, strict=True))

    def errors(self, truth: Profiles) -> dict[str, float]:
        """Relative L2 of each profile, in percent."""
        own, other = self(), truth()

        def size(f: Tensor) -> Tensor:
            return (f * f * self.weights.to(f)).sum().sqrt()

        return {name: float(100 * size(own[name] - other[name]) / size(other[name])) for name in PROFILES}


def of_data(source: TrajectoryFile) -> Profiles:
    """Those of all frames of a file."""
    profiles = Profiles(source.domain)
    for trajectory in range(source.shape[0]):
        for frame in source.read(trajectory, slice(None)):
            profiles.add(torch.from_numpy(np.moveaxis(frame, -1, 0)))
    return profiles


@torch.no_grad()
def judge(head: Head, source: TrajectoryFile, trajectory: int, steps: int, settled: int) -> dict[str, Any]:
    """A rollout from every tenth frame of a trajectory for errors, and a long one from its first for profiles.

    Returns
    -------
    ``errors`` in percent, of one and of five steps and of the profiles (None where the flow did not last beyond
    `settled`); ``stays``, the steps for which the energy of fluctuations is within `BOUND`; ``milliseconds`` of
    processor time a step, the projection included.
    """
    values = torch.from_numpy(np.moveaxis(source.read(trajectory, slice(None)), -1, 1)).float()
    one, five = [], []
    for first in range(0, len(values) - 5, 10):
        answers = head.values(head.path(head.start(values[first]), 5))
        found = fluctuation_error(answers.to(values), values[first : first + 6], head.domain)
        one.append(float(found[1]))
        five.append(float(found[5]))
    truth, own, stays = of_data(source), Profiles(source.domain), 0
    wanted, u, started, step = _energy(truth), head.start(values[0]), time.process_time(), 0
    for step in range(steps):
        u = head.after(u)
        frame = head.centred(u)
        now = Profiles(source.domain)
        now.add(frame)
        if not wanted / BOUND < _energy(now) < wanted * BOUND:
            break
        stays = step + 1
        if step >= settled:
            own.add(frame)
    seconds = time.process_time() - started
    errors: dict[str, float | None] = {"one step": 100 * float(np.mean(one)), "five steps": 100 * float(np.mean(five))}
    errors |= own.errors(truth) if own.frames else dict.fromkeys(PROFILES)
    return {"errors": errors, "stays": stays, "milliseconds": 1e3 * seconds / (step + 1)}


def _energy(profiles: Profiles) -> float:
    """Mean over the channel of the squared fluctuations; not a number where they are not."""
    found = profiles()
    squares = sum((found[name] ** 2 for name in ("u'", "v'", "w'")), torch.zeros(()))
    return float((squares * profiles.weights.to(squares)).sum())

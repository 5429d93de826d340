"""Sizes of velocities in sets of trajectories, in which networks see and answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from closures.data.windows import Trajectories
from closures.operators.energy_fixer import growth
from closures.operators.predictor import Scaling, drifted
from solver.errors import CaseError

CHUNK = 32  # frames in memory while statistics are taken


def fluctuation_size(source: Trajectories, trajectories: Sequence[int]) -> Tensor:
    """Root mean square of the fluctuation of each component in each plane, (3, nx or 1, ny or 1, nz or 1).

    Planes are what the periodic directions span but for y, along which layers differ from each other; the fluctuation
    is about the mean over one in the same frame.
    """
    along = [1 + d for d in (0, 2) if source.domain.lines[d].periodic] or [1, 2, 3]
    weights = source.domain.volumes.numpy()[None, ..., None]
    weights = weights / weights.sum(axis=tuple(along), keepdims=True)
    total, count = 0.0, 0
    for trajectory in trajectories:
        for start in range(0, source.shape[1], CHUNK):
            u = source.read(trajectory, slice(start, start + CHUNK)).astype(np.float64)
            means = [(f * weights).sum(axis=tuple(along), keepdims=True) for f in (u, u**2)]
            total, count = total + (means[1] - means[0] ** 2).sum(axis=0), count + len(u)
    size = np.sqrt(np.maximum(total / max(count, 1), 0.0))
    return torch.from_numpy(np.moveaxis(size, -1, 0).astype(np.float32))


def scaling(
    source: Trajectories,
    trajectories: Sequence[int],
    stride: int,
    target: Literal["state", "increment"],
    drift: float = 0.0,
    fixer: float = 0.0,
) -> Scaling:
    """Mean and deviation of the velocity, and size of its change over `stride` frames, over volume and time.

    `drift` is that of `Scaling`. `fixer`, if not 0, sets limits to the growth of energies: the greatest of these frames
    to this power, plane by plane.

    Raises
    ------
    CaseError : the velocity is constant, or not finite.
    """
    volumes, grown = source.domain.volumes.numpy()[None, ..., None], torch.ones(source.domain.y.n, dtype=torch.float64)
    sums, count, pairs = np.zeros((3, 3)), 0, 0
    for trajectory in trajectories:
        for start in range(0, source.shape[1], CHUNK):
            u = source.read(trajectory, slice(start, start + CHUNK + stride)).astype(np.float64)
            first, later = (torch.from_numpy(f).movedim(-1, 1) for f in (u[:-stride], u[stride:]))
            first = drifted(first, source.domain, drift)
            own, change = u[:CHUNK], (later - first).movedim(1, -1).numpy()
            if fixer and len(change):
                grown = torch.maximum(grown, growth(first, later, source.domain))
            sums += [(f * volumes).sum(axis=(0, 1, 2, 3)) for f in (own, own**2, change**2)]
            count, pairs = count + len(own), pairs + len(change)
    mean = sums[0] / count
    std = np.sqrt(np.maximum(sums[1] / count - mean**2, 0.0))
    change = np.sqrt(sums[2] / max(pairs, 1))
    if not (np.isfinite(std).all() and std.max() > 0 and change.max() > 0):
        raise CaseError("[data] the velocity is constant or not finite: there is nothing to learn from it")
    floor = 1e-3  # a component that hardly moves must not have its round-off magnified
    std, change = np.maximum(std, floor * std.max()), np.maximum(change, floor * change.max())
    sizes = {name: tuple(f.tolist()) for name, f in {"mean": mean, "std": std, "change": change}.items()}
    heights = zip(source.domain.y.unit.tolist(), (grown**fixer).tolist(), strict=True) if fixer else ()
    return Scaling.model_validate({"target": target, "drift": drift, "limits": tuple(heights)} | sizes)

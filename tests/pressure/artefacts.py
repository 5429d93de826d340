"""Small artefacts for the pressure, written by tests; not a test itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from closures.operators import artefact, build
from closures.pressure_nets.learned_multigrid_file import write_smoothing
from solver.pressure.smoothing import Smoothing

ABOUT = {
    "scaling": None,
    "step": 0.0,
    "filter": "none",
    "grid": None,
    "nu": (0.0, 0.0),
    "trained_on": "a test",
    "data_sha256": None,
    "commit": None,
    "metrics": {},
    "licence": "BSD-3-Clause",
}
TUNED = Smoothing((0.73, 1.29), (0.2,), 1.4, (0.9, 0.9, 0.92, 0.95, 0.97, 0.98, 1.0))


def network(levels: int = 2, seed: int = 90_901) -> nn.Module:
    """An additive multilevel preconditioner (Bramble, Pasciak & Xu 1990) in the network's own terms, perturbed.

    A step of Jacobi on every level, four times as long on each coarser one.
    """
    torch.manual_seed(seed)
    made = build("npsdo", levels=levels)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("bias") and "weights" in name and weight.numel() > 1:
                weight[len(weight) // 2] = 0.15 if name.startswith("before.0") else 1.0
            elif name.startswith("added") and name.endswith("bias"):
                weight.fill_(4.0)
            elif name.endswith("weight"):
                weight.mul_(0.1)
    return made


def write_network(folder: Path, levels: int = 2) -> Path:
    """An artefact that is a preconditioner; returns its folder."""
    artefact.save(folder, network(levels), "npsdo", {"levels": levels}, **ABOUT)
    return folder


def write_subgrid_model(folder: Path) -> Path:
    """An artefact of another role."""
    arguments = {"width": 3, "depth": 1}
    artefact.save(folder, build("tensor_basis", **arguments), "tensor_basis", arguments, **ABOUT | {"nu": (1e-4, 1e-2)})
    return folder


def write_table(folder: Path, smoothing: tuple[Smoothing, ...] = (TUNED, TUNED)) -> Path:
    """A learned smoother of multigrid."""
    folder.mkdir(parents=True, exist_ok=True)
    write_smoothing(folder, smoothing, title="a test", trained_on="nothing", licence="BSD-3-Clause", metrics={})
    return folder

"""What a law of the wall lacks in mean velocities of direct simulations: the samples of a wall correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from closures.algebraic import wall_laws
from closures.losses.objective import LOSS, MeanOfSamples
from closures.operators.wall_correction import WallCorrection, features
from solver.analysis.duct_reference import DuctReference
from solver.errors import CaseError
from solver.files.reference_files import read_reference
from solver.flow.wall_stress import WallSample

ROOM = Path(__file__).parent / "profiles"
NEAREST, FARTHEST = 0.06, 0.3  # heights over h
LEAST_RE = 80.0  # y+ = 9: below it all laws are the viscous one
PLACES, HEIGHTS = 30, 30  # samples of a flow: along its wall, and above each of them
CORNER = 0.03  # the place nearest to the other wall, over h


def samples(names: Sequence[str], network: WallCorrection) -> Tensor:
    """Features and ``ln(tau / tau_law)`` of the flows of these tables, (samples, 4); as many of each flow.

    Raises
    ------
    CaseError : there is no such table in `ROOM`.
    """
    return torch.cat([_of_flow(name, network) for name in names])


def of_the_law(least_re_tau: float, network: WallCorrection) -> Tensor:
    """As many samples of the law itself, which lacks nothing, along single walls at Re_tau of at least that."""
    re, deep = (torch.from_numpy(np.geomspace(*ends, 150)) for ends in ((LEAST_RE, 1e5), (NEAREST / 2, FARTHEST)))
    y_plus = re / wall_laws.explicit(re, network.kappa, network.intercept)
    found = [
        torch.stack([torch.log(re), torch.full_like(re, math.log(eta)), 0 * re, 0 * re], 1)[
            y_plus >= eta * least_re_tau
        ]
        for eta in deep.tolist()
    ]
    return _thinned(torch.cat(found))


def _thinned(rows: Tensor) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, PLACES * HEIGHTS).round().long()].float()


def _of_flow(name: str, network: WallCorrection) -> Tensor:
    path = ROOM / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in ROOM.glob("*.csv")))
        raise CaseError(f"[profiles] '{name}': no table of mean velocities; there are {known}")
    rows = _duct(path) if name.startswith("duct") else _channel(path)
    found = [_sample(*row, network) for row in rows]
    every = torch.cat(found)
    return _thinned(every[every[:, 0] >= math.log(LEAST_RE)])


def _sample(u: float, height: float, nu: float, tau: float, beside: float, network: WallCorrection) -> Tensor:
    """One row of `samples`; lengths over h."""
    speed = torch.full((1,), u, dtype=torch.float64)
    seen = WallSample((speed, torch.zeros_like(speed)), height, nu, 1.0, beside)
    x = features(seen, speed)
    law = (speed / wall_laws.explicit(torch.exp(x[:, 0]), network.kappa, network.intercept)) ** 2
    return torch.cat([x, torch.log(tau / law)[:, None]], dim=1)


def _channel(path: Path) -> list[tuple[float, float, float, float, float]]:
    """U+, y / h, 1 / Re_tau, 1 and no other wall, of half a channel."""
    data = read_reference(path)
    y, u, re_tau = data["y_over_h"], data["U_plus"], float(data["y_plus"][-1] / data["y_over_h"][-1])
    heights = np.geomspace(NEAREST / 2, FARTHEST, PLACES * HEIGHTS)
    return [(float(np.interp(h, y, u)), float(h), 1.0 / re_tau, 1.0, np.inf) for h in heights]


def _duct(path: Path) -> list[tuple[float, float, float, float, float]]:
    """U / U_b, y / h, nu / (h U_b), the stress and the distance of the other wall, of a quarter of a square duct."""
    duct = DuctReference.read(path)
    rows = []
    for z in np.geomspace(CORNER, 1.0, PLACES):
        profile = np.array([np.interp(z, duct.places, line) for line in duct.velocity[0]])
        tau = duct.nu * profile[0] / duct.places[0]
        rows += [
            (float(np.interp(h, duct.places, profile)), float(h), duct.nu, float(tau), float(z))
            for h in np.geomspace(NEAREST, FARTHEST, HEIGHTS)
        ]
    return rows


class WallError(MeanOfSamples):
    """Mean square of the error of ln tau over the samples."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss of a batch, a scalar; nothing is drawn at random."""
        return self.measure(batch, seeds)[LOSS].mean()

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Squares of the errors, and of those of the law alone, (batch,)."""
        wanted = batch[:, 3]
        return {LOSS: (self.network(batch[:, :3]) - wanted).square(), "law": wanted.square()}

    def conclude(self, means: dict[str, Tensor]) -> dict[str, float]:
        """The loss; and rms relative errors of the stress, of the network and of the law."""
        loss, law = float(means[LOSS]), float(means["law"])
        return {LOSS: loss, "stress_error": loss**0.5, "stress_error_of_the_law": law**0.5}


class Rows(Dataset[Tensor]):
    """Rows of `samples` one by one."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]

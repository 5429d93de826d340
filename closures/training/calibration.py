"""Whether a network that draws is as far off as its answers are from each other: spread, coverage, energies."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from closures.data.windows import Trajectories, Windows
from closures.losses.crps import plane_crps
from closures.losses.energy import energies
from closures.losses.relative_l2 import periodic_mean
from closures.operators.domain import Domain
from closures.training.drawn_loss import DrawnLoss
from solver.files.folder import write_atomically
from solver.grid.axis import Array

DRAWS, WINDOWS = 50, 16  # answers to each of so many frames
COVERED = 0.95  # share of what comes that a central interval should hold
FILE = "calibration.csv"
COMPONENTS = "uvw"


@dataclass(frozen=True)
class Calibration:
    """Of an ensemble of answers, against what came; means over windows and, by plane, over the periodic directions.

    Parameters
    ----------
    spread, rmse : of each component and plane, (3, planes): the standard deviation of what may come as the members have
        it, ``s sqrt((m + 1) / m)`` with their own s, and the error of their mean. They are equal where members and what
        comes are of one distribution (Fortin et al. 2014, J. Hydrometeorol. 15, 1708).
    covered : share of what came in the central intervals of `COVERED`, (3, planes).
    energies : of one answer over that of what came, by wavenumber or plane, along x, y and z, (3, n) each.
    scatter : standard errors of the energies of what came, relative, as `energies`.
    crps, error : the score of the ensemble, and the mean absolute error of the mean of its members, both relative to
        the fluctuations by plane.
    """

    spread: Array
    rmse: Array
    covered: Array
    energies: list[Array]
    scatter: list[Array]
    crps: float
    error: float

    @property
    def ratio(self) -> Array:
        """Spread over error, (3, planes)."""
        return np.asarray(self.spread / self.rmse)

    def summary(self) -> dict[str, float]:
        """For the card of the network."""
        off = [np.abs(e - 1.0) for e in self.energies]
        within = [np.maximum(e - s, 0.0) for e, s in zip(off, self.scatter, strict=True)]
        return {
            "crps": self.crps,
            "mean_absolute_error": self.error,
            "spread_over_error": float(np.sqrt((self.spread**2).mean() / (self.rmse**2).mean())),
            "spread_over_error_least": float(self.ratio.min()),
            "spread_over_error_greatest": float(self.ratio.max()),
            "covered_95": float(self.covered.mean()),
            "energy_error": float(max(e.max() for e in off)),
            "energy_error_beyond_scatter": float(max(e.max() for e in within)),
        }

    def write(self, path: Path) -> None:
        """A row for each component and plane, and for each wavenumber, or plane, along x, y and z."""
        rows: list[list[object]] = []
        for c, name in enumerate(COMPONENTS):
            by_plane = zip(self.spread[c], self.rmse[c], self.covered[c], strict=True)
            rows += [[name, "planes", j, *values, "", ""] for j, values in enumerate(by_plane)]
            for along, energies_, scatter in zip("xyz", self.energies, self.scatter, strict=True):
                by_wave = zip(energies_[c], scatter[c], strict=True)
                rows += [[name, along, k, "", "", "", *values] for k, values in enumerate(by_wave)]

        def table(target: Path) -> None:
            with target.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["component", "along", "number", "spread", "rmse", "covered", "energy", "scatter"])
                writer.writerows(rows)

        write_atomically(path, table)


def interval(members: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Ends of the central interval that holds a further member with the probability `share`, of (m, ...).

    The m members cut the line into m + 1 parts that it falls into alike; between two of them ends are interpolated.
    """
    m = len(members)
    rank = max(0.5 * (1.0 - share) * (m + 1), 1.0)  # few members have no ends so far out
    k, part = int(rank), rank - int(rank)
    ordered = members.sort(dim=0).values
    lower, upper = (torch.lerp(ordered[a], ordered[b], part) for a, b in ((k - 1, k), (m - k, m - k - 1)))
    return lower, upper


def calibrated(pairs: Iterable[tuple[Tensor, Tensor]], domain: Domain) -> Calibration:
    """What pairs of members (m, 3, nx, ny, nz) and of what came (3, nx, ny, nz) say of each other."""
    sums: list[list[Tensor]] = []
    own: list[list[Tensor]] = []
    true: list[list[Tensor]] = []
    for members, target in pairs:
        m, came = len(members), target[None]
        lower, upper = interval(members, COVERED)
        inside = ((lower <= target) & (target <= upper)).to(target)
        mean = members.mean(0)
        squares = members.var(0) * (m + 1) / m, (mean - target) ** 2, inside
        rows = [periodic_mean(f[None], domain)[0].flatten(1) for f in squares]
        scores = plane_crps(members[:, None], came, domain), plane_crps(mean.expand(2, 1, *mean.shape), came, domain)
        sums.append([*rows, *scores])
        own.append([e.mean(0) for e in energies(members, domain)])
        true.append([e[0] for e in energies(came, domain)])
    variance, square, covered, crps, error = (
        torch.stack(one).mean(0).double().numpy() for one in zip(*sums, strict=True)
    )
    ratios, scatter = [], []
    for a, b in zip(zip(*own, strict=True), zip(*true, strict=True), strict=True):
        answers, came_ = torch.stack(a).double().numpy(), torch.stack(b).double().numpy()
        level = came_.mean(0)
        ratios.append(answers.mean(0) / level)
        scatter.append(came_.std(0, ddof=1) / level / len(came_) ** 0.5)
    return Calibration(np.sqrt(variance), np.sqrt(square), covered, ratios, scatter, float(crps[0]), float(error[0]))


@torch.no_grad()
def judged(objective: DrawnLoss, source: Trajectories, trajectories: Sequence[int], stride: int) -> Calibration:
    """The first answers of `objective` to frames that are spread over `trajectories`, against the later frames."""
    windows = Windows(source, trajectories, 1, stride)
    chosen = np.linspace(0, len(windows) - 1, min(WINDOWS, len(windows))).round().astype(int)

    def pairs() -> Iterable[tuple[Tensor, Tensor]]:
        for number in chosen:
            window = windows[int(number)]
            yield objective.drawn(window[0], 1, DRAWS, int(number))[:, 0].to(window), window[1]

    return calibrated(pairs(), source.domain)

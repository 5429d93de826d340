"""A pressure solver that finds out which of several solvers is fastest here, while it works."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.parallel.slabs import Slabs
from solver.pressure.bandit import TsallisInf
from solver.pressure.report import PressureSolveFailure, PressureSolver, SolveReport

log = logging.getLogger("solver")
SLOW = 4.0  # times the best mean: slower is as bad as failing
SHARE = 0.01  # of all the time spent that one arm may lose


class SelfTuning:
    """Draws an arm for every solve and learns from the wall clock; a `PressureSolver`.

    The loss is the time over `SLOW` times that of the best arm, at most 1; the first solves try every arm once. An arm
    that has lost more than `SHARE` of all the time spent, compared with the best one, sits out until it has not: so no
    arm can ruin a run, and none is given up. Where one fails, the best one solves the system again. All ranks draw the
    same arm and learn from the slowest of them. Prior art: PCGBandit (Khodak et al. 2025, arXiv 2509.08765).

    Parameters
    ----------
    arms : solvers by name; the first one is trusted until something better is known.
    slabs : the ranks.
    seed : of the draws.
    """

    name = "auto"

    def __init__(self, arms: Mapping[str, PressureSolver], slabs: Slabs, seed: int = 0) -> None:
        self.arms, self.slabs = dict(arms), slabs
        self.names = list(self.arms)
        self.bandit = TsallisInf(len(self.names), seed)
        self.seconds = np.zeros(len(self.names))
        self.tried = np.zeros(len(self.names), dtype=np.int64)
        self.failures = np.zeros(len(self.names), dtype=np.int64)

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite `out` (the first guess) by the solution (collective).

        Raises
        ------
        PressureSolveFailure : the best arm failed too.
        """
        untried = np.flatnonzero(self.tried == 0)
        drawn = int(untried[0]) if len(untried) else self.bandit.draw()
        arm = self.best if self.lost[drawn] > SHARE * self.seconds.sum() else drawn
        guess, start = out.clone(), time.perf_counter()
        try:
            report: SolveReport | None = self.arms[self.names[arm]].solve(rhs, out)
        except PressureSolveFailure as failure:
            log.warning("%s: another arm solves this system", failure)
            report = None
        seconds = float(self.slabs.max(torch.tensor(time.perf_counter() - start, dtype=torch.float64)))
        self._learn(arm, seconds, report is not None, drawn=not len(untried) and arm == drawn)
        if report is not None:
            return report
        out.copy_(guess)
        others = [i for i in np.argsort(self.mean) if i != arm] or [arm]
        return self.arms[self.names[others[0]]].solve(rhs, out)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Seconds a solve of each arm; infinite if it has not been tried or has failed more often than not."""
        good = (self.tried > 0) & (2 * self.failures < self.tried)
        return np.where(good, self.seconds / np.maximum(self.tried, 1), np.inf)

    @property
    def best(self) -> int:
        """The arm of the least mean; the first one if none is any good."""
        return int(self.mean.argmin())

    @property
    def lost(self) -> NDArray[np.float64]:
        """Seconds that each arm took beyond what the best one would have taken."""
        best = self.mean.min()
        return self.seconds - self.tried * best if np.isfinite(best) else np.zeros(len(self.names))

    def _learn(self, arm: int, seconds: float, solved: bool, drawn: bool) -> None:
        """Count a solve; the bandit hears of those that it drew."""
        self.tried[arm] += 1
        self.seconds[arm] += seconds
        self.failures[arm] += not solved
        if drawn:
            best = self.mean.min()
            self.bandit.learn(arm, min(seconds / (SLOW * best), 1.0) if solved and np.isfinite(best) else 1.0)

    def summary(self) -> dict[str, Any]:
        """Solves, mean milliseconds and failures of each arm."""
        return {
            name: {
                "solves": int(self.tried[i]),
                "milliseconds": 1e3 * self.seconds[i] / max(int(self.tried[i]), 1),
                "failures": int(self.failures[i]),
            }
            for i, name in enumerate(self.names)
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        own = {"seconds": self.seconds, "tried": self.tried, "failures": self.failures}
        names = {"names": np.array(self.names, dtype=np.bytes_)}
        return names | own | {f"bandit_{key}": value for key, value in self.bandit.state().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`: arms that are known keep what was learned, new ones are tried, others are gone."""
        names = [name.decode() for name in state.get("names", ())]
        known = [(self.names.index(name), i) for i, name in enumerate(names) if name in self.names]
        for own, i in known:
            for mine, theirs in ((self.seconds, "seconds"), (self.tried, "tried"), (self.failures, "failures")):
                mine[own] = state[theirs][i]
        self.bandit.restore({k.removeprefix("bandit_"): v for k, v in state.items() if k.startswith("bandit_")}, known)

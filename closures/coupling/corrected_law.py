"""A trained network as a wall model: a law of the wall times what the network makes of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from closures.algebraic import wall_laws
from closures.algebraic.wall_friction import CELLS, LEAST, Friction, tabulated
from closures.operators.wall_correction import WallCorrection, features
from solver.flow.wall_stress import Pair, WallSample


class CorrectedLaw(Friction):
    """The stress of the log law times ``exp(c)``, c by a `WallCorrection`: along the velocity, as that of the law is.

    At a place on a wall c depends on the velocity by ``U y / nu`` alone, so it joins the table of the law, one for each
    distance from other walls, made when such a sample is first seen: the cost is that of the law. A network with
    weights that may be trained is evaluated as it is.

    Parameters
    ----------
    name : of the artefact.
    network : with its weights.
    """

    def __init__(self, name: str, network: WallCorrection) -> None:
        super().__init__(name, lambda re: wall_laws.explicit(re, network.kappa, network.intercept))
        self.network = network
        self._made: dict[tuple[float, float, int], tuple[Tensor | float, Tensor, Tensor]] = {}

    def __call__(self, sample: WallSample, t: float, state: dict[str, Tensor]) -> tuple[Pair, dict[str, Tensor]]:
        """Stresses along both components, velocity^2, and the state unchanged."""
        u, w = sample.velocity
        if any(p.requires_grad for p in self.network.parameters()):
            first, second = self.stress(u, w, self.table, self.first, sample.height, sample.nu)
            factor = torch.exp(self.correction(sample))
            return (factor * first, factor * second), state
        return self.stress(u, w, *self._tables(sample), sample.height, sample.nu), state

    def correction(self, sample: WallSample) -> Tensor:
        """``ln(tau / tau_law)`` by the network, of the shape of the velocity."""
        u, w = sample.velocity
        least = (math.exp(LEAST) * sample.nu / sample.height) ** 2
        found: Tensor = self.network(features(sample, (u * u + w * w).clamp_min(least).sqrt()))
        return found

    def _tables(self, sample: WallSample) -> tuple[Tensor, Tensor]:
        """The table for the places of a sample, and where that of each place begins."""
        key = sample.height, sample.depth, id(sample.beside)
        if key not in self._made:
            self._made[key] = (sample.beside, *self._tabulated(sample))  # with what the key names, so that it stays
        return self._made[key][1:]

    def _tabulated(self, sample: WallSample) -> tuple[Tensor, Tensor]:
        like = sample.velocity[0]
        beside = torch.as_tensor(sample.beside, dtype=torch.float64).cpu()
        rows = beside.reshape(-1, 1)
        network = self.network.to("cpu", torch.float64)

        def gain(log_re: Tensor) -> Tensor:
            speed = torch.exp(log_re)
            seen = WallSample((speed, speed), sample.height, sample.height, sample.depth, rows)
            correction: Tensor = network(features(seen, speed))
            return self.gain(log_re) + correction

        table = tabulated(gain, torch.where(rows.isfinite(), rows, 0.0)).flatten(0, 1)
        first = CELLS * torch.arange(len(rows)).reshape(beside.shape if beside.ndim else (1,))
        return table.to(like.device, like.dtype), first.to(like.device)

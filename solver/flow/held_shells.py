"""Isotropic turbulence kept alive at its large scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.shells import shell_numbers
from solver.flow.forcing import Forcing
from solver.flow.number import Number


class HeldShells(Forcing):
    """Isotropic turbulence kept alive by holding the kinetic energy of the lowest wavenumber shells.

    Shells are those of `solver.discretisation.shells`, numbered from 1. Between rescalings it feels an acceleration
    along its own velocity, as strong as keeps its energy: of third order in time with the rest of the flow.
    """

    is_affine = False

    def __init__(self, operators: Operators, energies: tuple[float, ...]) -> None:
        self.operators, self.energies = operators, energies
        self.targets = operators.tensor(energies)
        shell = shell_numbers(operators)
        self.shells = [torch.nonzero(shell == s, as_tuple=True) for s in range(1, len(energies) + 1)]
        self.weights = [operators.mode_weight.expand(shell.shape)[index] for index in self.shells]

    def on(self, operators: Operators) -> Forcing:
        """The same energies."""
        return HeldShells(operators, self.energies)

    def speed(self, elapsed: float) -> float:
        """That of the energy of all shells."""
        return math.sqrt(2.0 * sum(self.energies))

    def correct(
        self, velocity: Components, span: Number, column: Tensor | None = None, total: Tensor | None = None
    ) -> tuple[Components, Tensor | float]:
        """Velocity with each held shell rescaled to its energy."""
        energies = 0.5 * self.operators.decomposition.sum(self._products(velocity, velocity))
        scales = torch.where(energies > 0, (self.targets / energies.clamp_min(_tiny(energies))).sqrt(), 1.0)
        for (i, j, k), scale in zip(self.shells, scales, strict=True):
            for c in velocity:
                c[:, i, j, k] *= scale
        return velocity, 0.0

    def tangent(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency without the part along the velocity of each shell that would change its energy."""
        squares, power = self._products(velocity, velocity), self._products(velocity, rate)
        if decay:
            power = power - decay * self._products(velocity, velocity, self.operators.squared_wavenumber)
        squares, power = self.operators.decomposition.sum(torch.stack([squares, power]))
        shares = power / squares.clamp_min(_tiny(squares))
        for (i, j, k), share in zip(self.shells, shares, strict=True):
            for c, r in zip(velocity, rate, strict=True):
                r[:, i, j, k] -= share * c[:, i, j, k]
        return rate

    def _products(self, a: Components, b: Components, factor: Tensor | None = None) -> Tensor:
        """This rank's part of the volume mean of ``a.b`` times `factor`, a function of the mode, for each shell."""
        found = []
        for (i, j, k), weight in zip(self.shells, self.weights, strict=True):
            weight = weight if factor is None else weight * factor[i, j, k]
            parts = [(f[:, i, j, k] * g[:, i, j, k] * weight).sum() for f, g in zip(a, b, strict=True)]
            found.append(parts[0] + parts[1] + parts[2])
        return torch.stack(found)


def _tiny(f: Tensor) -> float:
    """Smallest number by which one may divide."""
    return torch.finfo(f.dtype).tiny

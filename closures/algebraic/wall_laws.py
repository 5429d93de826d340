"""Laws of the wall: the velocity u+ at a height as a function of the Reynolds number ``Re = U y / nu = u+ y+`` there.

U, y and nu are known where a wall model acts, the friction velocity is not, so all laws are written for Re. Each is a
pure function of tensors, made of smooth operations with a fixed number of steps, and passes gradients. Beside the wall
all tend to ``u+ = y+``, far from it to ``u+ = ln(y+) / kappa + B``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

KAPPA, B = 0.41, 5.2
STEPS = 5  # of Newton's method, from an error of some per cent to round-off
BLEND, SHARPNESS = 217.8, 1.138  # s and p of Cai & Sagaut (2021)


class Law(Protocol):
    """A law of the wall."""

    def __call__(self, re: Tensor) -> Tensor:
        """u+ where ``U y / nu`` is `re` > 0, of its shape."""
        ...


def lambert_w(x: Tensor) -> Tensor:
    """The principal branch of ``W exp(W) = x`` for x > 0.

    Newton's method for ``W + ln W = ln x`` from a start within some per cent (Iacono & Boyd 2017, Adv. Comput. Math.
    43, 1403, eqs 20 and 21): each step squares the error.
    """
    logarithm = torch.log1p(x)
    w = logarithm * (1.0 - torch.log1p(logarithm) / (2.0 + logarithm))
    for _ in range(4):
        w = w / (1.0 + w) * (1.0 + torch.log(x / w))
    return w


def explicit(re: Tensor, kappa: float = KAPPA, b: float = B) -> Tensor:
    """u+ by the explicit law of Cai & Sagaut (2021, Phys. Fluids 33, 041703).

    ``u+ = f^p sqrt(Re) + (1 - f)^p W(kappa E Re) / kappa``, ``f = exp(-Re / s)``, ``E = exp(kappa B)``. The first part
    is the laminar law, the second the log law, solved by Lambert's W.

    Examples
    --------
    >>> y_plus, u_plus = 100.0, math.log(100.0) / KAPPA + B
    >>> bool(abs(explicit(torch.tensor(y_plus * u_plus)) - u_plus) < 0.01)
    True
    """
    laminar = torch.exp(-SHARPNESS / BLEND * re)
    turbulent = (-torch.expm1(-re / BLEND)) ** SHARPNESS
    return laminar * torch.sqrt(re) + turbulent * lambert_w(kappa * math.exp(kappa * b) * re) / kappa


def spalding(re: Tensor, kappa: float = KAPPA, b: float = B) -> Tensor:
    """u+ by the law of Spalding (1961, J. Appl. Mech. 28, 455), one curve from the wall to the log layer.

    ``y+ = u+ + exp(-kappa B) (exp(k) - 1 - k - k^2/2 - k^3/6)``, ``k = kappa u+``.
    """
    u, scale = explicit(re, kappa, b), math.exp(-kappa * b)
    for _ in range(STEPS):
        k = kappa * u
        exponential = torch.exp(k)
        slope = 1.0 + kappa * scale * (exponential - 1.0 - k - k**2 / 2.0)
        y = u + scale * (exponential - 1.0 - k - k**2 / 2.0 - k**3 / 6.0)
        u = u * torch.exp(-(torch.log(y * u) - torch.log(re)) / (1.0 + u * slope / y))
    return u


def inverted(profile: Callable[[Tensor], tuple[Tensor, Tensor]], re: Tensor, start: Tensor) -> Tensor:
    """u+ by a law that gives it and its slope as functions of y+; Newton's method for ln y+, in which it is straight.

    `start` is u+ to some per cent.
    """
    y = re / start
    for _ in range(STEPS):
        u, slope = profile(y)
        y = y * torch.exp(-(torch.log(u * y) - torch.log(re)) / (1.0 + y * slope / u))
    return re / y


def reichardt(re: Tensor, kappa: float = KAPPA, b: float = B) -> Tensor:
    """u+ by the law of Reichardt (1951, Z. Angew. Math. Mech. 31, 208), see `reichardt_profile`."""
    return inverted(lambda y: reichardt_profile(y, kappa, b), re, explicit(re, kappa, b))


def reichardt_profile(y: Tensor, kappa: float = KAPPA, b: float = B) -> tuple[Tensor, Tensor]:
    """``u+ = ln(1 + kappa y+) / kappa + C (1 - exp(-y+ / 11) - y+ / 11 exp(-y+ / 3))`` and du+/dy+.

    ``C = B - ln(kappa) / kappa`` gives the log law far from the wall; Reichardt's 7.8 is that of 0.4 and 5.5.
    """
    c = b - math.log(kappa) / kappa
    far, near = torch.exp(-y / 11.0), torch.exp(-y / 3.0)
    u = torch.log1p(kappa * y) / kappa - c * (torch.expm1(-y / 11.0) + y / 11.0 * near)
    return u, 1.0 / (1.0 + kappa * y) + c / 11.0 * (far - near + y / 3.0 * near)


class Equilibrium:
    """u+ by the boundary-layer equations without acceleration, ``(nu + nu_t) dU/dy = u_tau^2``.

    ``nu_t = kappa y u_tau D^2``, ``D = 1 - exp(-y+ / A+)`` (Kawai & Larsson 2012, Phys. Fluids 24, 015105, eq. 5), so
    that ``u+ = int dy+ / (1 + kappa y+ D^2)`` is a quadrature. It is taken by Gauss's rule in ``ln(1 + y+)``, from the
    wall to the nearest of a row of nodes once and for all, from there to y+ at each call. ``B`` follows from the two
    constants: 5.14 from 0.41 and 17.

    Parameters
    ----------
    kappa, a_plus : von Karman's constant and the thickness of the damped layer.
    """

    spacing, farthest = 0.125, 23.0  # of nodes in ln(1 + y+); up to y+ = 1e10

    def __init__(self, kappa: float = KAPPA, a_plus: float = 17.0) -> None:
        self.kappa, self.a_plus = kappa, a_plus
        places, weights = leggauss(6)
        self.rule = [(0.5 * (1.0 + float(x)), 0.5 * float(w)) for x, w in zip(places, weights, strict=True)]
        starts = torch.arange(0.0, self.farthest, self.spacing, dtype=torch.float64)
        parts = self._part(starts, torch.full_like(starts, self.spacing))
        self.nodes = torch.cat([parts.new_zeros(1), parts.cumsum(0)])
        y = np.expm1(self.farthest)
        self.b = float(self.nodes[-1]) - math.log(y) / kappa

    def slope(self, y: Tensor) -> Tensor:
        """du+/dy+."""
        damping = torch.expm1(-y / self.a_plus)
        return 1.0 / (1.0 + self.kappa * y * damping * damping)

    def profile(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """u+ and its slope at y+."""
        place = torch.log1p(y)
        index = (place.detach() / self.spacing).long().clamp(0, len(self.nodes) - 1)
        start = self.spacing * index
        return self._table(y)[index] + self._part(start, place - start), self.slope(y)

    def __call__(self, re: Tensor) -> Tensor:
        """u+ where ``U y / nu`` is `re`."""
        return inverted(self.profile, re, explicit(re, self.kappa, self.b))

    def _part(self, start: Tensor, length: Tensor) -> Tensor:
        """The integral over a `length` of ``ln(1 + y+)`` from `start`."""
        total = torch.zeros_like(length)
        for place, weight in self.rule:
            x = start + place * length
            total = total + weight * torch.exp(x) * self.slope(torch.expm1(x))
        return total * length

    def _table(self, like: Tensor) -> Tensor:
        """The integral up to each node, moved once to where it is asked for."""
        if self.nodes.device != like.device or self.nodes.dtype != like.dtype:
            self.nodes = self.nodes.to(like.device, like.dtype)
        return self.nodes

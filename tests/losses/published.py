"""The residual of LESnets as it was published, for comparison with `closures.losses.les_residual`.

Zhao, Li, Fan, Wang & Wang 2025, J. Comput. Phys. 537, 114125, with their released code where the paper is silent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt

SPACE = (-3, -2, -1)


class PublishedResidual:
    """``(u_n+1 - u_n-1) / 2 interval - (P[u x omega - div tau] + nu lap u)`` at interior frames of a periodic box.

    ``tau_ij = -2 (c_s delta)^2 |S| s_ij``; derivatives by FFT on the points of the data; ``u x omega`` is cut off in
    each direction above 2/3 of the highest mode, the products of tau are not. Values, not coefficients: the operator's
    trajectory need not be divergence-free, so its divergence is a second term of the loss.

    Parameters
    ----------
    shape, lengths : points and periods of the box.
    nu, c_s, delta : viscosity, Smagorinsky's constant, filter width.
    interval : time between frames.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        lengths: tuple[float, float, float],
        *,
        nu: float,
        c_s: float | Tensor,
        delta: float,
        interval: float,
    ) -> None:
        self.shape, self.nu, self.c_s, self.delta, self.interval = shape, nu, c_s, delta, interval
        numbers = [torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64) for n in shape]
        numbers[2] = numbers[2][: shape[2] // 2 + 1].abs()
        index = torch.meshgrid(*numbers, indexing="ij")
        self.kept = torch.stack([m.abs() <= 2 * (n // 2) // 3 for m, n in zip(index, shape, strict=True)]).all(0)
        unpaired = [2 * m.abs() == n for m, n in zip(index, shape, strict=True)]  # Nyquist: no derivative at the points
        k = [2.0 * math.pi / length * m for m, length in zip(index, lengths, strict=True)]
        self.wavenumber = [torch.where(odd, 0.0, f) for odd, f in zip(unpaired, k, strict=True)]
        self.square = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
        solenoidal = sum((f**2 for f in self.wavenumber), start=torch.zeros_like(self.square))
        self.inverse = torch.where(solenoidal > 0, 1.0 / torch.where(solenoidal > 0, solenoidal, 1.0), 0.0)

    def rate(self, u: Tensor) -> Tensor:
        """du/dt of (..., 3, nx, ny, nz), the same shape."""
        spectrum = self._modes(u)
        gradient = [[self._values(1j * k * c) for k in self.wavenumber] for c in spectrum.unbind(-4)]
        force = self._modes(self._rotational(u, gradient)) * self.kept - self._modes_of_stress(gradient)
        along = sum((k * f for k, f in zip(self.wavenumber, force.unbind(-4), strict=True)), start=torch.zeros(()))
        pressed = torch.stack([k * self.inverse * along for k in self.wavenumber], dim=-4)
        return self._values(force - pressed - self.nu * self.square * spectrum)

    def momentum(self, frames: Tensor) -> Tensor:
        """The residual at frames 1 .. N - 1 of (N + 1, 3, nx, ny, nz), velocity/time."""
        return (frames[2:] - frames[:-2]) / (2.0 * self.interval) - self.rate(frames[1:-1])

    def divergence(self, frames: Tensor) -> Tensor:
        """``div u`` at the same frames, (N - 1, nx, ny, nz)."""
        parts = zip(self.wavenumber, self._modes(frames[1:-1]).unbind(-4), strict=True)
        return self._values(sum((1j * k * c for k, c in parts), start=torch.zeros(())))

    def loss(self, frames: Tensor) -> Tensor:
        """Mean square of the residual plus mean square of the divergence, both with weight one."""
        return (self.momentum(frames) ** 2).mean() + (self.divergence(frames) ** 2).mean()

    @staticmethod
    def _rotational(u: Tensor, gradient: list[list[Tensor]]) -> Tensor:
        """``u x omega``: with the gradient of |u|^2/2 it makes advection."""
        a, b, c = u.unbind(-4)
        x, y, z = (gradient[k][j] - gradient[j][k] for j, k in ((1, 2), (2, 0), (0, 1)))
        return torch.stack([b * z - c * y, c * x - a * z, a * y - b * x], dim=-4)

    def _modes_of_stress(self, gradient: list[list[Tensor]]) -> Tensor:
        """``d_j tau_ij`` in Fourier space."""
        s = [[0.5 * (gradient[i][j] + gradient[j][i]) for j in range(3)] for i in range(3)]
        squares = sum((s[i][j] ** 2 for i in range(3) for j in range(3)), start=torch.zeros_like(s[0][0]))
        viscosity = (self.c_s * self.delta) ** 2 * safe_sqrt(2.0 * squares)
        rows = []
        for i in range(3):
            parts = [1j * k * self._modes(-2.0 * viscosity * s[i][j]) for j, k in enumerate(self.wavenumber)]
            rows.append(parts[0] + parts[1] + parts[2])
        return torch.stack(rows, dim=-4)

    @staticmethod
    def _modes(f: Tensor) -> Tensor:
        return torch.fft.rfftn(f, dim=SPACE)

    def _values(self, c: Tensor) -> Tensor:
        return torch.fft.irfftn(c, s=self.shape, dim=SPACE)

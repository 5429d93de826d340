"""Errors of energies, scale by scale: what is right in the mean square has less of them than the flow."""

from __future__ import annotations

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.losses.relative_l2 import AT_REST, fluctuation
from closures.operators.domain import Domain


def energy_error(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """Root mean square of relative errors of `energies` of the fluctuations, (batch,).

    The answer of smallest mean square is the mean of all that may follow, whose energy is smaller by the square of the
    error, most at the smallest scales. In a time loop that is dissipation, at every answer.
    """
    errors = []
    for own, true in zip(energies(prediction, domain), energies(target, domain), strict=True):
        floor = AT_REST * true.amax(dim=(1, 2), keepdim=True)
        errors.append((own - true) / (true + floor))
    return safe_sqrt(torch.cat(errors, dim=-1).square().mean(dim=(1, 2)))


def energies(field: Tensor, domain: Domain) -> list[Tensor]:
    """Of the fluctuations of ``(batch, channels, nx, ny, nz)``, along each direction in turn ``(batch, channels, n)``.

    By wavenumber along evenly spaced periods, below the Nyquist mode; plane by plane across other directions.
    """
    part, here, found = fluctuation(field, domain), domain.like(field), []
    for d, line in enumerate(here.lines):
        across = [k for k in (2, 3, 4) if k != 2 + d]
        modes = waves(part, d, line.n) if line.is_spectral else part
        found.append((modes.abs().square() * share_of_planes(here, d)).sum(dim=across))
    return found


def waves(field: Tensor, d: int, n: int) -> Tensor:
    """Amplitudes of waves of (..., nx, ny, nz) along direction `d`, of `n` points, below the Nyquist mode."""
    found: Tensor = torch.fft.rfft(field, dim=d - 3, norm="forward").narrow(d - 3, 0, (n + 1) // 2)
    return found


def share_of_planes(domain: Domain, d: int) -> Tensor:
    """Share of its plane across direction `d` that each point stands for, of length one along `d`."""
    return domain.volumes.narrow(d, 0, 1) / domain.lines[d].weights[0]

"""What a forcing adds to du/dt: the limit of its corrections for short steps."""

from __future__ import annotations

import torch

from solver.errors import CaseError
from solver.forcing import (
    Forcing,
    HeldShells,
    MassFlux,
    MassFluxAroundSolids,
    NoForcing,
    PressureGradient,
    bulk_velocity,
)
from solver.operators import Components

KNOWN = (NoForcing, PressureGradient, MassFlux, HeldShells)


def check_forcing(forcing: Forcing) -> None:
    """Raises CaseError for a forcing whose part in du/dt is not known here."""
    if isinstance(forcing, MassFluxAroundSolids) or not isinstance(forcing, KNOWN):
        raise CaseError(f"[flow.forcing] the LES residual does not know {type(forcing).__name__}")


def driven(forcing: Forcing, velocity: Components, rate: Components) -> Components:
    """`rate` with the forcing, for a divergence-free `velocity`.

    A constant mass flux takes the mean along x out of the rate; held shells take out of each shell the part along the
    velocity that would change its energy. Neither depends on the pressure gradient still missing from `rate`: that has
    no mean, and no work is done by it within a shell.
    """
    if isinstance(forcing, MassFlux):
        uniform = torch.zeros_like(rate[0])
        operators = forcing.operators
        operators.mean_mode(uniform).add_(bulk_velocity(operators, rate[0]))
        return rate[0] - uniform, rate[1], rate[2]
    if isinstance(forcing, HeldShells):
        return _shells_held(forcing, velocity, rate)
    return forcing.accelerate(rate)


def _shells_held(forcing: HeldShells, velocity: Components, rate: Components) -> Components:
    share = torch.zeros_like(forcing.operators.squared_wavenumber)
    for index, weight in zip(forcing.shells, forcing.weights, strict=True):
        power, energy = (
            sum(
                ((f[:, index[0], index[1], index[2]] * u[:, index[0], index[1], index[2]] * weight).sum())
                for f, u in zip(fields, velocity, strict=True)
            )
            for fields in (rate, velocity)
        )
        quotient = torch.as_tensor(power) / torch.as_tensor(energy).clamp_min(torch.finfo(share.dtype).tiny)
        share = share.index_put(index, quotient.expand(len(index[0])))
    a, b, c = (r - share * u for r, u in zip(rate, velocity, strict=True))
    return a, b, c

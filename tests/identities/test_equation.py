"""What the momentum pass saves changes nothing: against all nine fluxes of the equation, formed whole, one by one."""

from __future__ import annotations

import pytest
import torch

from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import EddyViscosity, SubgridStress
from solver.flow.momentum import Momentum, padded_term
from solver.flow.projection import Projection
from tests.grids import GRIDS, distance, operators, random_values, random_velocity

SEED, NU = 90_017, 0.03


def given(op, kind: str):
    """A subgrid term of noise, or none."""
    if kind == "none":
        return None
    fields = random_values(op, SEED + 1, 6)
    return EddyViscosity(fields[0].abs()) if kind == "viscosity" else SubgridStress(tuple(fields))


def nine_fluxes(momentum: Momentum, velocity: Velocity, term) -> tuple[torch.Tensor, ...]:
    """``-d_j F_ij + nu lap u_i`` as it is written down."""
    equation, op = momentum.equation, momentum.operators
    subgrid, spectral = padded_term(op, term), velocity.spectral_derivatives
    fluxes = {
        (i, j): op.to_coefficients(equation.flux(velocity.staggered, spectral, subgrid, i, j, momentum.strain))
        for i in range(3)
        for j in range(3)
    }
    rates = [equation.rate(f, fluxes, i) for i, f in enumerate(velocity.padded_coefficients)]
    masks = [momentum.interior[i] if i in op.volume_axes else None for i in range(3)]
    return tuple(f if mask is None else f * mask for f, mask in zip(rates, masks, strict=True))


@pytest.mark.parametrize("kind", ["none", "viscosity", "stress"])
@pytest.mark.parametrize("name", GRIDS)
def test_the_pass_is_the_equation_once_the_pressure_has_its_part(name, kind):
    op = operators(name)
    momentum, projection = Momentum(VelocityGradient(op), NU), Projection(op)
    velocity, term = Velocity(momentum.strain, random_velocity(op, SEED)), given(op, kind)
    fast, whole = momentum.tendency(velocity, term), nine_fluxes(momentum, velocity, term)
    if momentum.trace is not None:
        assert distance(fast, whole) > 1e-3  # what is left to the pressure is there
    assert distance(projection(fast).velocity, projection(whole).velocity) < 1e-12

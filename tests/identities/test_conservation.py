"""What convection conserves: kinetic energy on every grid, momentum where nothing pushes, Galilean invariance."""

from __future__ import annotations

import pytest

from tests.grids import (
    FLOWING_GRIDS,
    GRIDS,
    PERIODIC_GRIDS,
    distance,
    mean,
    norm,
    operators,
    product,
    project,
    random_components,
    random_velocity,
    shearless,
    tendency,
    uniform,
)

SEED = 314_651
DRIFT = (0.7, -1.3, 0.4)


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_convection_conserves_kinetic_energy(name):
    op = operators(name)
    u = random_velocity(op, SEED)
    rate = tendency(op, u)
    assert norm(op, rate) > 0.1 * norm(op, u)
    assert product(op, u, rate) == pytest.approx(0.0, abs=1e-14 * norm(op, u) * norm(op, rate))


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_energy_needs_a_divergence_free_field(name):
    """The identity above is not vacuous."""
    op = operators(name)
    u = random_components(op, SEED)
    rate = tendency(op, u)
    assert abs(product(op, u, rate)) > 1e-6 * norm(op, u) * norm(op, rate)


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_momentum_is_conserved_along_free_directions(name):
    """Viscosity included, wherever no wall holds the fluid; on walls the rate of the normal component is zero."""
    op = operators(name)
    rate = project(op, tendency(op, random_velocity(op, SEED), nu=0.3))
    for i, axis in enumerate(op.grid.axes):
        if axis.periodic and shearless(op.grid):
            assert mean(op, rate[i], i) == pytest.approx(0.0, abs=1e-14 * norm(op, rate))
        if not axis.periodic:
            assert float(rate[i].select(i - 3, -1).abs().max()) == 0.0


@pytest.mark.parametrize("name", PERIODIC_GRIDS)
def test_uniform_flow_stays_uniform(name):
    op = operators(name)
    assert norm(op, tendency(op, uniform(op, DRIFT), nu=0.3)) < 1e-14


@pytest.mark.parametrize("name", ["box", "box_even"])
def test_a_moving_observer_sees_the_same_flow(name):
    """``N(u + U) = N(u) - U . grad u`` after projection."""
    op = operators(name)
    u, drift = random_velocity(op, SEED), uniform(op, DRIFT)
    moving = project(op, tendency(op, tuple(f + d for f, d in zip(u, drift, strict=True)), nu=0.3))
    rest = project(op, tendency(op, u, nu=0.3))
    carried = [r - sum(s * op.derivative(f, d) for d, s in enumerate(DRIFT)) for r, f in zip(rest, u, strict=True)]
    assert distance(moving, carried) < 1e-13 * norm(op, rest)


@pytest.mark.parametrize("name", PERIODIC_GRIDS)
def test_drift_does_no_work(name):
    """On periodic cells the drift disperses waves, but neither feeds nor drains them."""
    op = operators(name)
    u, drift = random_velocity(op, SEED), uniform(op, DRIFT)
    moving = tuple(f + d for f, d in zip(u, drift, strict=True))
    rate = tendency(op, moving)
    assert product(op, moving, rate) == pytest.approx(0.0, abs=1e-14 * norm(op, moving) * norm(op, rate))


@pytest.mark.parametrize("name", GRIDS)
def test_projection_keeps_momentum(name):
    op = operators(name)
    u = random_components(op, SEED)
    for i, (before, after) in enumerate(zip(u, project(op, u), strict=True)):
        if op.grid.axes[i].periodic:
            assert mean(op, after, i) == pytest.approx(mean(op, before, i), abs=1e-14)

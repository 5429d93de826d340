"""Implicit diffusion along y: the scheme's conditions, order in time, the coupled stage, energy, float32, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.registry.wall_models import create
from solver.discretisation.gradient import VelocityGradient
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux, PressureGradient
from solver.flow.momentum import Momentum
from solver.flow.runge_kutta import RK3
from solver.flow.time_step import StepControl
from solver.flow.wall_stress import WallStress
from solver.grid.axis import FourierAxis, NoSlip
from solver.grid.grid import Grid
from tests.convergence.test_time import CHANNEL, DUCT, channel_flow, mass_flux
from tests.grids import (
    GRIDS,
    SLIP,
    impermeable,
    minus,
    norm,
    operators,
    orders,
    project,
    random_velocity,
    recorded,
    run,
    simulation,
    walls,
)

SEED = 61_513
COUETTE = Grid(FourierAxis(8, 2 * np.pi), walls(9, upper=NoSlip((0.5, 0.0, 0.3))), FourierAxis(8, np.pi))
HALF = Grid(FourierAxis(8, 2 * np.pi), walls(9, upper=SLIP), FourierAxis(8, np.pi))


def test_the_pair_meets_the_conditions_of_second_order():
    """Both parts have the stage times c: sum b = 1 and sum b c = 1/2 for each, sum b c^2 = 1/3 for the explicit one."""
    gamma, rho, beta = (np.array(f) for f in (RK3.gamma, RK3.rho, RK3.beta))
    c = np.concatenate([[0.0], np.cumsum(RK3.spans)])
    alpha = np.array(RK3.spans) - beta
    assert alpha == pytest.approx([29 / 96, -3 / 40, 1 / 6], rel=1e-14)  # Spalart, Moser & Rogers (1991)
    explicit = np.append(gamma + np.append(rho[1:], 0.0), 0.0)
    implicit = np.append(alpha, 0.0) + np.append(0.0, beta)
    for b in (explicit, implicit):
        assert (b.sum(), b @ c) == pytest.approx((1.0, 0.5), rel=1e-14)
    assert explicit @ c**2 == pytest.approx(1 / 3, rel=1e-14)
    assert implicit @ c**2 != pytest.approx(1 / 3, rel=0.01)  # so it is of second order, no more


def test_no_implicit_rate_makes_the_scheme_unstable():
    """|amplification| <= 1 within cfl = 1.7, or 2.26 of explicit diffusion, for any implicit decay."""
    stiff = -np.concatenate([[0.0], np.logspace(-3, 6, 200)])[:, None]
    for rates in (1j * np.linspace(0, 1.7, 60), -np.linspace(0, 2.26, 60)):
        u, before = np.ones((len(stiff), len(rates)), complex), 0.0
        for gamma, rho, span, beta in zip(RK3.gamma, RK3.rho, RK3.spans, RK3.beta, strict=True):
            rate = rates * u
            u = (u + (span - beta) * stiff * u + gamma * rate + rho * before) / (1 - beta * stiff)
            before = rate
        assert abs(u).max() <= 1 + 1e-14


@pytest.mark.parametrize("weight", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    "name", ["channel", "half_channel", "free_slip", "periodic", "duct", "duct_periodic", "column"]
)
def test_a_stage_solves_momentum_and_continuity_at_once(name, weight):
    """What ``(1 - b d2/dy2) du`` lacks of the prediction is a gradient, and the result is divergence-free."""
    check_stage(Flow(operators(name), 0.01, implicit=True), weight)


@pytest.mark.parametrize("grid", [COUETTE, CHANNEL.with_modelled_walls()], ids=["moving", "modelled"])
def test_a_stage_beside_other_walls(grid):
    check_stage(Flow(operators(grid), 0.01, implicit=True), 1.0)


def check_stage(flow: Flow, weight: float) -> None:
    op = flow.operators
    before, predicted = (project(op, impermeable(op, random_velocity(op, SEED + k))) for k in (0, 1))
    after, _ = flow.implicit(before, predicted, op.tensor(weight))
    missing = []
    for i, (new, old) in enumerate(zip(op.pad(after), op.pad(before), strict=True)):
        curvature = [flow.equation.curvature(f, i, 1, flow.implicit.free) for f in (new, old)]
        missing.append(after[i] - predicted[i] - weight * (curvature[0] - curvature[1]))
    largest = 1.0 + 4.0 * weight / float(op.metric[1].width.min()) ** 2
    assert norm(op, project(op, impermeable(op, missing))) < 1e-14 * largest * norm(op, predicted)
    assert norm(op, minus(after, predicted)) > 0.01 * min(weight, 1.0) * norm(op, predicted)
    assert float(op.to_physical(op.divergence(after)).abs().max()) < 1e-12


FLOWS = {
    "channel_mass_flux": (CHANNEL, mass_flux),
    "channel_pressure_gradient": (CHANNEL, lambda op: PressureGradient(op, 0.5)),
    "moving_wall": (COUETTE, None),
    "half_channel": (HALF, mass_flux),
    "duct_mass_flux": (DUCT, mass_flux),
    "modelled": (Grid(CHANNEL.x, walls(10, stretching=0.0), CHANNEL.z).with_modelled_walls(), mass_flux),
}


@pytest.mark.parametrize("name", FLOWS)
def test_second_order_in_time_to_what_explicit_diffusion_gives(name):
    """Against many explicit steps, from a flow that viscosity has made smooth at the walls."""
    grid, forcing = FLOWS[name]
    op, nu = operators(grid), 0.05
    law = create("log_law", grid=grid, nu=nu) if grid.has_modelled_walls else None

    def flow(velocity, dt, implicit):
        momentum = Momentum(VelocityGradient(op), nu, wall_stress=WallStress(op, law, 0.3, nu)) if law else None
        return simulation(op, velocity, nu, dt, forcing and forcing(op), momentum=momentum, implicit=implicit)

    smooth = run(flow(channel_flow(op), 0.02, False), 20)
    exact = run(flow(smooth, 0.4 / 48, False), 48)
    errors = [norm(op, minus(run(flow(smooth, 0.4 / steps, True), steps), exact)) for steps in (8, 16, 32)]
    assert errors[0] < 1e-2 * norm(op, minus(exact, smooth))
    assert min(orders(errors)) > 1.85


def test_friction_takes_energy_at_any_step():
    """Of a flow too slow for convection, in every step, up to a thousand times the explicit limit along y."""
    grid = Grid(FourierAxis(6, 6.0), walls(24, stretching=2.6), FourierAxis(6, 4.0))
    op, nu = operators(grid), 1.0
    slow = tuple(1e-9 * f for f in random_velocity(op, SEED))
    limits = [float(StepControl(op, 1.0, implicit=flag)(Flow(op, nu).velocity(slow), None, nu)) for flag in (0, 1)]
    assert limits[1] > 1000 * limits[0]
    for factor in (3.0, 30.0, 1000.0):
        flow = simulation(op, slow, nu, factor * limits[0], implicit=True)
        energies = [norm(op, slow)]
        for _ in range(6):
            flow.step()
            energies.append(norm(op, flow.velocity.coefficients))
        assert (np.diff(energies) < 0).all()
    explicit = simulation(op, slow, nu, 3.0 * limits[0])
    assert norm(op, run(explicit, 10)) > 10 * norm(op, slow)


def test_what_is_implicit_does_not_limit_the_step():
    """At rest the rest of the molecular diffusion does, and all of the eddy viscosity."""
    op, nu = operators("channel"), 0.1
    rest = Flow(op, nu).velocity(tuple(torch.zeros_like(f) for f in random_velocity(op, SEED)))
    explicit, implicit = (StepControl(op, 1.0, implicit=flag) for flag in (False, True))
    across = sum((2 * np.pi * op.grid.axes[d].highest_mode / op.grid.axes[d].length) ** 2 for d in (0, 2))
    along = 4.0 / float(op.grid.y.width.min()) ** 2
    assert float(implicit(rest, None, nu)) == pytest.approx(0.9 * RK3.real_limit / (nu * across), rel=1e-12)
    nu_t = EddyViscosity(torch.full(op.local_shape, 0.03, dtype=op.dtype))
    mixed = nu * across + 2 * 0.03 * (across + along)
    assert float(implicit(rest, nu_t, nu)) == pytest.approx(0.9 * RK3.real_limit / mixed, rel=1e-12)
    assert float(explicit(rest, nu_t, nu)) == pytest.approx(0.9 * RK3.real_limit / (mixed + nu * along), rel=1e-12)


def test_the_drive_holds_the_bulk_velocity_against_the_friction():
    op = operators(CHANNEL)
    flow = simulation(op, channel_flow(op), 0.05, 0.2, forcing := mass_flux(op), implicit=True)
    for _ in range(100):
        flow.step()
    u = flow.velocity.coefficients[0]
    profile = op.mean_mode(u).flatten()
    friction = 0.05 * (profile[0] + profile[-1]) / (0.5 * op.grid.y.width[0]) / op.grid.y.length
    assert float(profile @ op.tensor(op.grid.y.width)) / 2 == pytest.approx(forcing.bulk, rel=1e-13)
    assert float(flow.state.drive) == pytest.approx(float(friction), rel=1e-8)


def test_single_precision_is_double_precision_to_its_round_off():
    ends = []
    for dtype in (torch.float32, torch.float64):
        op = operators(CHANNEL, dtype)
        ends.append(run(simulation(op, channel_flow(op), 0.02, 0.05, MassFlux(op, 1.0), implicit=True), 10))
    for single, double in zip(*ends, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-5)


def test_a_step_can_be_differentiated():
    """By the size of the first velocity: autograd against central differences."""
    op = operators(CHANNEL)
    base = channel_flow(op)

    def energy(size):
        flow = simulation(op, tuple(size * f for f in base), 0.02, 0.1, PressureGradient(op, 0.5), implicit=True)
        return sum(f.square().sum() for f in recorded(flow, 2))

    with torch.enable_grad():
        size = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(energy(size), size)
    h = 1e-5
    assert float(slope) == pytest.approx(float(energy(1.3 + h) - energy(1.3 - h)) / (2 * h), rel=1e-7)


@pytest.mark.parametrize(("name", "reason"), [("cavity", "needs kind = 'fourier' in"), ("box", "needs cells along y")])
def test_grids_without_it_are_refused(name, reason):
    with pytest.raises(CaseError, match=rf"\[time\] implicit_diffusion = 'on' {reason}"):
        Flow(operators(GRIDS[name]), 0.01, implicit=True)

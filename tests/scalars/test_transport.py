"""Scalars: what the equation conserves, and that a scalar which is u in all but name stays u."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import EddyViscosity
from solver.flow.flow import Flow
from solver.flow.forcing import PressureGradient
from solver.flow.scalars import End, Scalar, Transport
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import FourierAxis, NoSlip
from solver.grid.grid import Grid
from tests.closeness import assert_round_off
from tests.grids import GRIDS, mean, operators, orders, random_scalar, random_values, random_velocity, sample, walls

SEED = 70_921
CARRYING = [name for name, grid in GRIDS.items() if grid.x.is_fourier and name != "column"]


def carried(name, scalar, nu, term=None, closure=None):
    """Operators, the scalar, its rate."""
    op = operators(name)
    f = random_scalar(op, SEED)
    velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED + 1))
    return op, f, Transport(op, scalar, nu).rate(velocity, f, term, closure)


@pytest.mark.parametrize("name", CARRYING)
def test_convection_conserves_mean_and_variance(name):
    """To round-off on any stretching, between walls of any value: nothing is convected through them."""
    op, f, rate = carried(name, Scalar("s", 1.0, ends={(1, 0): End(0.7), (1, 1): End(-0.2)}), 0.0)
    size = float(op.inner_product(rate, rate).sqrt())
    assert size > 0.1
    assert abs(mean(op, rate)) < 1e-13 * size
    assert abs(float(op.inner_product(f, rate))) < 1e-13 * size * float(op.inner_product(f, f).sqrt())


@pytest.mark.parametrize("name", ["channel", "duct", "half_channel"])
def test_what_comes_in_is_what_is_produced_and_what_the_walls_give(name):
    ends = {(1, 0): End(flux=0.4), (1, 1): End(flux=-0.1), (2, 0): End(flux=0.2)}
    given = {place: end for place, end in ends.items() if place[0] in GRIDS[name].volume_axes}
    op, _, rate = carried(name, Scalar("s", 0.5, ends=given, source=0.3), 0.01)
    expected = 0.3 + sum(end.flux / op.grid.axes[axis].length for (axis, _), end in given.items())
    assert mean(op, rate) == pytest.approx(expected, rel=1e-11)


def test_diffusion_and_eddies_take_variance():
    for nu, term in ((0.01, None), (0.0, EddyViscosity(random_values(operators("duct"), SEED + 2, 1)[0].abs()))):
        ends = {(1, 0): End(0.0), (2, 1): End(0.0)}
        op, f, rate = carried("duct", Scalar("s", 0.7, ends=ends), nu, term)
        assert float(op.inner_product(f, rate)) < -1e-3


def test_a_flux_and_a_value_at_the_ends_hold_a_straight_profile():
    """Of slope -q / kappa, at rest, on stretched cells."""
    op = operators("column")
    line, q, nu, prandtl = op.grid.y, 0.3, 0.02, 0.5
    profile = 1.5 + q * prandtl / nu * (line.faces[-1] - line.centres)
    f = op.to_coefficients(op.along(profile, 1).expand(op.local_shape).contiguous())
    rest = Velocity(VelocityGradient(op), tuple(torch.zeros_like(f) for _ in range(3)))
    transport = Transport(op, Scalar("s", prandtl, ends={(1, 0): End(flux=q), (1, 1): End(1.5)}), nu)
    assert float(transport.rate(rest, f).abs().max()) < 1e-11
    slope = transport.gradient(transport.padded(f))[1]
    assert_round_off(slope, torch.full_like(slope, -q * prandtl / nu), 10.0)


class Eddies:
    """A viscosity that varies along y and z, and a flux of scalars that is the same thing by another name."""

    name, reach = "eddies", 0

    def init(self, op):
        return {}

    def __call__(self, velocity, t, state):
        return EddyViscosity(0.003 * sum(f**2 for f in velocity.centred).sqrt()), state


class OwnFlux(Eddies):
    def scalar_flux(self, velocity, gradient, term):
        x, y, z = (-term.nu_t / 0.6 * g for g in gradient)
        return x, y, z


def test_a_closure_may_have_a_flux_of_its_own():
    """That of an eddy diffusivity, in a box, where both live at the same points."""
    op = operators("box")
    velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED + 1))
    f, scalar = random_scalar(op, SEED), Scalar("s", 1.0, 0.6)
    term, _ = Eddies()(velocity, 0.0, {})
    rates = [Transport(op, scalar, 0.0).rate(velocity, f, term, closure) for closure in (None, Eddies(), OwnFlux())]
    assert_round_off(rates[2], rates[0], 10.0)
    assert torch.equal(rates[1], rates[0])


LID = NoSlip((0.5, 0.0, 0.0))
ACROSS = {  # flows in planes across x, where u is carried as a scalar is
    "channel": (Grid(FourierAxis(1, 1.0), walls(11), FourierAxis(15, 3.0, "2/3")), {}),
    "couette": (Grid(FourierAxis(1, 1.0), walls(9, upper=LID), FourierAxis(8, 3.0)), {(1, 1): End(0.5)}),
    "duct": (Grid(FourierAxis(1, 1.0), walls(11), walls(9, 1.5)), {}),
}


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("name", ACROSS)
def test_a_scalar_that_is_u_stays_u(name, implicit):
    """Prandtl numbers 1, the values of the walls' velocities, a source like the pressure gradient: to round-off."""
    grid, moving = ACROSS[name]
    op = operators(grid)
    ends = {(axis, end): End(0.0) for axis in grid.volume_axes for end in (0, 1)} | moving
    scalar = Scalar("twin", 1.0, 1.0, ends=ends, source=0.3)
    flow = Flow(op, 0.02, Eddies(), PressureGradient(op, 0.3), implicit=implicit, scalars=[scalar])
    state = flow.start(random_velocity(op, SEED))
    state.scalars["twin"] = state.velocity.coefficients[0]
    moved = Simulation(flow, state, StepControl(op, 1.0, dt=0.02, implicit=implicit))
    for _ in range(20):
        moved.step()
    u = moved.velocity.coefficients[0]
    assert_round_off(moved.state.scalars["twin"], u, 10.0)
    assert float((u - state.velocity.coefficients[0]).abs().max()) > 0.05 * float(u.abs().max())


def test_a_wave_is_carried_and_decays_as_it_should():
    """In a box: ``exp(-kappa k^2 t) sin(k (x - U t))`` to third order in time."""
    op = operators(Grid(*(FourierAxis(8, 2 * np.pi) for _ in range(3))))
    speed, nu, prandtl = 0.9, 0.3, 2.0
    wind = sample(op, [lambda x, y, z: speed + 0 * (x + y + z)] + [lambda x, y, z: 0 * (x + y + z)] * 2)

    def wave(t):
        decay = np.exp(-5 * nu / prandtl * t)
        return sample(op, [lambda x, y, z: decay * torch.sin(x - speed * t + 2 * z) + 0 * y] * 3)[0]

    errors = []
    for steps in (4, 8, 16):
        flow = Flow(op, nu, scalars=[Scalar("s", prandtl)])
        state = flow.start(wind)
        state.scalars["s"] = wave(0.0)
        moved = Simulation(flow, state, StepControl(op, 1.0, dt=1.0 / steps))
        for _ in range(steps):
            moved.step()
        errors.append(float((moved.state.scalars["s"] - wave(1.0)).abs().max()))
    assert errors[-1] < 1e-5
    assert min(orders(errors)) > 2.9

"""The stress of a wall model is the flux through the wall, whatever gives it: identities on channels and ducts."""

from __future__ import annotations

import pytest
import torch

from closures.registry.wall_models import create
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity
from solver.flow.momentum import Momentum
from solver.flow.wall_stress import WallStress, line_at
from solver.grid.axis import FourierAxis, FreeSlip
from solver.grid.grid import Grid
from tests.closeness import assert_round_off
from tests.grids import GRIDS, SLIP, mean, operators, random_values, random_velocity, simulation, tendency, walls

SEED = 52_007
NU = 0.01
UNIFORM = {
    "channel": Grid(FourierAxis(13, 6.0), walls(10, stretching=0.0), FourierAxis(15, 3.0, "2/3")),
    "half_channel": Grid(FourierAxis(8, 6.0), walls(9, upper=SLIP, stretching=0.0), FourierAxis(7, 3.0)),
    "stretched": GRIDS["channel"],
    "duct": GRIDS["duct"],
}


class Laminar:
    """Friction of the viscous layer alone."""

    name = "laminar"

    def init(self, sample):
        return {}

    def __call__(self, sample, t, state):
        u, w = (sample.nu / sample.height * f for f in sample.velocity)
        return (u, w), state


def modelled(name, model, height, nu=NU):
    """Operators of a grid with modelled walls, and the momentum equation on it."""
    op = operators(UNIFORM[name].with_modelled_walls())
    return op, Momentum(VelocityGradient(op), nu, wall_stress=WallStress(op, model, height, nu))


def rate(momentum, velocity, term=None):
    """du/dt of a velocity, and the stress that acted."""
    field = Velocity(momentum.strain, velocity)
    stress, _ = momentum.wall_stress(field, 0.0, momentum.wall_stress.init())
    return momentum.tendency(field, term, stress), stress


@pytest.mark.parametrize("name", ["channel", "half_channel", "stretched"])
def test_the_friction_of_the_first_cell_is_that_of_a_resolved_wall(name):
    """Tau = nu U / y with U at the first centre is what the Laplacian has at a wall: the same flow without a model."""
    op, momentum = modelled(name, Laminar(), 0.5 * float(UNIFORM[name].y.width[0]))
    velocity = random_velocity(op, SEED)
    found, _ = rate(momentum, velocity)
    for f, expected in zip(found, tendency(operators(UNIFORM[name]), velocity, NU), strict=True):
        assert_round_off(f, expected, 10.0)


def test_the_friction_of_the_first_cell_of_a_duct_is_that_of_a_resolved_wall_along_x():
    """Along x, where u is at centres; the heights across y and z differ, so the walls are looked at one by one."""
    grid = GRIDS["duct"]
    velocity = random_velocity(operators(grid), SEED)
    expected = operators(grid).to_physical(tendency(operators(grid), velocity, NU)[0])
    for axis, height in ((1, 0.5 * float(grid.y.width[0])), (2, 0.5 * float(grid.z.width[0]))):
        op, momentum = modelled("duct", Laminar(), height)
        found = op.to_physical(rate(momentum, velocity)[0][0])
        inside = found.narrow(-1, 1, grid.z.n - 2) if axis == 1 else found.narrow(-2, 1, grid.y.n - 2)
        wanted = expected.narrow(-1, 1, grid.z.n - 2) if axis == 1 else expected.narrow(-2, 1, grid.y.n - 2)
        assert_round_off(inside, wanted, 10.0)


@pytest.mark.parametrize("name", UNIFORM)
def test_momentum_is_lost_to_the_walls_alone(name):
    """The volume mean of du/dt is what the walls take, stress times area; any eddy viscosity beside it."""
    op, momentum = modelled(name, create("log_law", grid=UNIFORM[name], nu=NU), 0.3)
    u, v, w = random_velocity(op, SEED)
    op.mean_mode(u).add_(1.0)
    nu_t = EddyViscosity(random_values(op, SEED + 1, 1)[0].abs())
    found, stress = rate(momentum, (u, v, w), nu_t)
    taken = 0.0
    for axis, planes in stress.planes.items():
        for tau, _ in planes.values():
            along = 3 - axis
            width = (
                op.metric[along].width / op.grid.axes[along].length if along in op.volume_axes else 1.0 / tau.shape[-1]
            )
            taken -= float((tau * width).sum()) / tau.shape[0] / op.grid.axes[axis].length
    assert taken < -1e-3
    assert mean(op, found[0]) == pytest.approx(taken, rel=1e-11)


@pytest.mark.parametrize("name", ["channel", "duct"])
def test_friction_of_noise_brakes(name):
    """Sampled at the first centre every law drains energy from what it is shown."""
    op, momentum = modelled(name, create("reichardt", grid=UNIFORM[name], nu=NU), 0.5 * float(UNIFORM[name].y.width[0]))
    field = Velocity(momentum.strain, random_velocity(op, SEED))
    sample = momentum.wall_stress.sample(field, 1)
    (first, second), _ = momentum.wall_stress.model(sample, 0.0, {})
    laminar = sample.nu / sample.height
    u, w = sample.velocity
    assert bool((first * u + second * w >= laminar * (u * u + w * w) * (1 - 1e-8)).all())
    torch.testing.assert_close(first * w, second * u, rtol=1e-12, atol=1e-14)


def test_gradients_beside_a_modelled_wall_are_taken_from_inside():
    """Of shear that does not vanish at the wall, u = 1 + 3 y: exactly 3 in the first cell, stretched or not."""
    for name in ("channel", "stretched"):
        op = operators(UNIFORM[name].with_modelled_walls())
        _, y, _ = op.coordinates()
        u = op.to_coefficients((1.0 + 3.0 * y).expand(op.local_shape).transpose(0, 1).contiguous().transpose(0, 1))
        zero = torch.zeros_like(u)
        slope = Velocity(VelocityGradient(op), (u, zero, zero)).gradient[0][1]
        assert_round_off(slope, torch.full_like(slope, 3.0), 10.0)


def test_the_height_is_reached_on_a_straight_line():
    """Of the linear profile 2 + d in the distance from either wall, at any height, between any centres."""
    line = walls(11)
    for height in (float(line.centres[0]), 0.1, 0.37, 1.0):
        for end in (0, 1):
            profile = 2.0 + (line.faces[-1] - line.centres if end else line.centres)
            found = sum(share * profile[index] for index, share in line_at(line, end, height))
            assert found == pytest.approx(2.0 + height, rel=1e-13)


def test_the_stress_does_not_forget_how_the_ends_are_ordered():
    """A flow along the upper wall alone rubs there alone, in the direction of the flow."""
    op, momentum = modelled("channel", Laminar(), 0.3)
    _, y, _ = op.coordinates()
    u = op.to_coefficients((y**2 - 0.3**2).expand(op.local_shape).transpose(0, 1).contiguous().transpose(0, 1))
    zero = torch.zeros_like(u)
    stress, _ = momentum.wall_stress(Velocity(momentum.strain, (u, zero, -2.0 * u)), 0.0, {})
    lower, upper = stress.planes[1][0], stress.planes[1][1]
    assert float(upper[0].mean()) == pytest.approx(NU / 0.3 * (1.7**2 - 0.3**2), rel=0.01)
    assert abs(float(lower[0].mean())) < 0.02 * float(upper[0].mean())
    torch.testing.assert_close(upper[1], -2.0 * upper[0], rtol=1e-12, atol=1e-14)


def test_modelled_walls_without_a_model_are_refused():
    op = operators(UNIFORM["channel"].with_modelled_walls())
    velocity = random_velocity(op, SEED)
    with pytest.raises(CaseError, match=r"\[wall_model\]"):
        tendency(op, velocity, NU)
    assert isinstance(UNIFORM["half_channel"].with_modelled_walls().y.upper, FreeSlip)


def test_a_flow_can_be_differentiated_through_its_walls():
    """A step of the flow, by the size of its first velocity: autograd against central differences."""
    op = operators(UNIFORM["channel"].with_modelled_walls())
    nu = 1e-3
    law = create("log_law", grid=op.grid, nu=nu, filter_time=1.0)
    base = random_velocity(op, SEED)

    def friction(size):
        velocity = tuple(size * f for f in base)
        momentum = Momentum(VelocityGradient(op), nu, wall_stress=WallStress(op, law, 0.3, nu))
        flow = simulation(op, velocity, nu, 0.01, momentum=momentum)
        stress = flow.flow.present_stress(flow.stepper(flow.stepper(flow.state))).planes[1][0]
        return sum(float(k + 1) * tau.square().mean() for k, tau in enumerate(stress))

    with torch.enable_grad():
        size = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(friction(size), size)
    h = 1e-6
    differences = float(friction(1.3 + h) - friction(1.3 - h)) / (2 * h)
    assert float(slope) == pytest.approx(differences, rel=1e-6)

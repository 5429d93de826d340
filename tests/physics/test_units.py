"""Physics in any units and any direction: what counts as fast or as laminar is measured by what drives the flow."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from closures.registry import registry
from solver.flow.forcing import MassFlux, PressureGradient, bulk_velocity
from solver.flow.held_shells import HeldShells
from solver.flow.initial import rest, wall_turbulence
from solver.flow.time_step import StepControl
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, Inflow, NoSlip, Outflow
from solver.grid.grid import Grid
from solver.observers.health import Health
from solver.observers.series import columns, kinetic_energy, viscous_dissipation
from tests.grids import SLIP, operators, orders, random_velocity, sample, simulation, uneven, walls
from tests.physics.shipped import advance, cube, flow

THIN = [f"grid.{axis}={{kind='fourier', n=1, length=1.0}}" for axis in "xz"]
STILL = ["initial={kind='rest'}", "closure={name='none'}"]
POINT = FourierAxis(1, 1.0)


def words(simulation, end: float) -> list[str]:
    """What the watch says at every step until t = end."""
    health, said = Health(simulation, every_steps=1, expect_turbulence=False), []
    while simulation.t < end * (1 - 1e-12) and not said:
        simulation.step(longest=end - simulation.t)
        said += [word for word in (health(simulation),) if word]
    return said


def test_a_laminar_spin_up_in_wall_units_is_healthy():
    """Gradient 1, h = 1, nu = 1/180: towards U_b = 60."""
    drive = "flow.forcing={kind='pressure_gradient', gradient=1.0}"
    channel = flow("channel180", *THIN, "grid.y.n=8", *STILL, drive, "flow.nu=0.00555")
    assert words(channel, 30.0) == []
    assert kinetic_energy(channel) > 150.0


def test_a_lid_at_a_hundred_metres_a_second_is_healthy():
    cells = [f"grid.{axis}.n=8" for axis in "xy"]
    lid = 'grid.y.upper={kind="no_slip", velocity=[100.0, 0.0, 0.0]}'
    cavity = flow("cavity", *cells, lid, "flow.nu=0.1")
    assert words(cavity, 0.1) == []
    assert kinetic_energy(cavity) > 100.0


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_blow_up_is_seen_before_it_is_infinite(scale):
    """In any unit of velocity: a step beyond the limit of stability, with which energy grows from step to step."""
    op = operators("channel")
    velocity = [scale * f for f in random_velocity(op, 46_337)]
    stable = simulation(op, tuple(velocity), 1e-4 * scale, None)
    stable.step()
    unstable = simulation(op, tuple(velocity), 1e-4 * scale, 12.0 * stable.dt)
    health = Health(unstable, every_steps=1, expect_turbulence=False)
    before = kinetic_energy(unstable)
    for _ in range(20):
        unstable.step()
        if word := health(unstable):
            break
    assert word == "diverged"
    assert 10.0 * before < kinetic_energy(unstable) < 1e15 * before


def test_what_drives_bounds_the_speed():
    """Fall from rest for as long as friction needs to balance it; walls, inflow, bulk and held shells add up."""
    half = Grid(POINT, walls(8, 2.0, upper=SLIP), POINT)
    op = operators(half)
    falling = simulation(op, rest(op), 0.1, 0.5, PressureGradient(op, -3.0))
    health = Health(falling, 1, False)
    falling.step()
    assert health.driving_speed(falling) == pytest.approx(1.5)
    falling.state = replace(falling.state, t=1e6)
    assert health.driving_speed(falling) == pytest.approx(3.0 * (4.0 / math.pi) ** 2 / 0.1)
    moving = NoSlip((3.0, 0.0, -4.0))
    op = operators(Grid(POINT, walls(8, 2.0, lower=moving), POINT))
    dragged = simulation(op, rest(op), 0.1, 0.5)
    assert Health(dragged, 1, False).driving_speed(dragged) == pytest.approx(5.0)
    assert MassFlux(op, -2.0).speed(7.0) == 2.0
    box = operators(Grid(*(FourierAxis(6, 1.0) for _ in range(3))))
    assert HeldShells(box, (0.5, 1.5)).speed(7.0) == 2.0
    open_x = FiniteVolumeAxis(np.linspace(0, 2, 7), Inflow((2.0, 0.0, 0.0), "parabolic"), Outflow())
    assert Grid(open_x, walls(8), POINT).imposed_velocities[-1][0] == pytest.approx(3.0, rel=0.07)


def test_a_lid_bounds_the_first_step():
    """From rest at small viscosity: energy as with steps of 0.02, where one step to the end gave 9 % more."""
    cells = [f"grid.{axis}.{key}" for axis in "xy" for key in ("n=16", "stretching=0.0")]
    cavity = flow("cavity", *cells, "flow.nu=1e-4")
    cavity.step()
    assert cavity.dt == pytest.approx(1.5 / 16.0)
    assert cavity.dt * cavity.control.advection_rate == pytest.approx(1.5)
    fine = flow("cavity", *cells, "flow.nu=1e-4", "time.dt=0.02")
    energies = [kinetic_energy(advance(c, 1.5)) for c in (cavity, fine)]
    assert energies[0] == pytest.approx(energies[1], rel=5e-3)


def test_a_body_force_bounds_the_first_step():
    """``g kappa dt^2 = cfl``, and no bound once the fluid is much faster than what it gains in a step."""
    op = operators("channel")
    still = simulation(op, rest(op), 0.0, None, PressureGradient(op, 7.0))
    still.step()
    kappa = 2 * np.pi * op.grid.x.highest_mode / op.grid.x.length
    assert still.dt == pytest.approx((1.0 / (7.0 * kappa)) ** 0.5)
    control = StepControl(op, 1.0)
    fast = simulation(op, random_velocity(op, 5), 0.0, None).velocity
    assert float(control(fast, None, 0.0, body_force=1e-9)) == pytest.approx(float(control(fast, None, 0.0)), rel=1e-6)


@pytest.mark.parametrize(("height", "nu", "gradient"), [(4.0, 1.0, 0.5), (4.0, 1.0, -0.5), (2.0, 1.0, 1.0)])
def test_friction_of_a_laminar_channel_of_any_height(height, nu, gradient):
    """``u_tau^2 = |g| h``, ``Re_tau = u_tau h / nu``, with one cell across."""
    op = operators(Grid(FourierAxis(4, 60.0), walls(4, height, stretching=0.0), POINT))
    channel = advance(simulation(op, rest(op), nu, None, PressureGradient(op, gradient)), 1.5 * height**2)
    series = columns(channel)
    u_tau = math.sqrt(abs(gradient) * height / 2)
    assert series["u_tau"]() == pytest.approx(u_tau, rel=1e-5)
    assert series["re_tau"]() == pytest.approx(u_tau * height / 2 / nu, rel=1e-5)
    assert series["bulk_velocity"]() * gradient > 0


def test_friction_of_an_open_channel():
    """No stress at the free surface: ``u_tau^2 = g h`` with h its height."""
    op = operators(Grid(POINT, walls(4, 1.5, upper=SLIP, stretching=0.0), POINT))
    channel = advance(simulation(op, rest(op), 0.5, None, PressureGradient(op, 1.0)), 15.0)
    assert columns(channel)["u_tau"]() == pytest.approx(math.sqrt(1.5), rel=1e-3)
    assert columns(channel)["re_tau"]() == pytest.approx(math.sqrt(1.5) * 1.5 / 0.5, rel=1e-3)


@pytest.mark.parametrize("direction", [0, 2])
def test_plane_couette_flow_dissipates_what_its_walls_give(direction):
    """Exactly ``nu (dU/dy)^2``, on stretched cells, towards x or z."""
    nu, along = 0.3, [float(d == direction) for d in range(3)]
    lower, upper = (NoSlip((s * along[0], 0.0, s * along[2])) for s in (-1.0, 1.5))
    op = operators(Grid(FourierAxis(4, 1.0), walls(9, 2.0, lower, upper), FourierAxis(4, 1.0)))
    linear = [lambda x, y, z, share=share: share * (1.25 * y - 1.0) + 0 * (x + z) for share in along]
    couette = simulation(op, sample(op, linear), nu, 0.01)
    couette.step()
    assert viscous_dissipation(couette) == pytest.approx(nu * 1.25**2, rel=1e-12)
    assert columns(couette)["u_tau"]() == pytest.approx(math.sqrt(nu * 1.25), rel=1e-12)


@pytest.mark.parametrize("lid", [0.01, 100.0])
def test_a_quiet_channel_is_reported_once(caplog, lid):
    """A flow without vortices for long, measured by its own friction velocity, is no wall turbulence."""
    scale = [f"flow.forcing.bulk_velocity={lid}", f"flow.nu={lid / 500}", "time.dt_max=1e9"]
    channel = flow("channel180", *cube(8), "initial.amplitude=0.05", *STILL[1:], *scale)
    health = Health(channel, every_steps=1, expect_turbulence=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            channel.step()
            assert health(channel) is None
        assert not caplog.records
        channel.state = replace(channel.state, t=channel.t + 1000.0 / lid)
        for _ in range(3):
            assert health(channel) is None
            channel.step()
    assert sum("u_tau^2" in record.message for record in caplog.records) == 1


def profile(grid: Grid, bulk: float = 1.0) -> np.ndarray:
    """Mean turbulent profile over the cross section (y, z) without noise."""
    op = operators(grid)
    u, _, _ = wall_turbulence(op, bulk, 1.0 / 2800, 0.0, 1)
    return op.to_physical(u)[0].numpy()


def test_a_turbulent_profile_has_the_walls_of_its_case():
    x, z = FourierAxis(4, 6.0), FourierAxis(6, 3.0)
    full, half = profile(Grid(x, walls(17), z))[:, 0], profile(Grid(x, walls(17, 1.0, upper=SLIP), z))[:, 0]
    assert full[8] == pytest.approx(1.15, rel=1e-13)  # in the middle to the last digit
    assert full == pytest.approx(full[::-1])
    assert np.all(np.diff(half) > 0)
    assert half[-1] > 1.1
    over_cells = profile(Grid(x, walls(17), uneven(6, 3.0)))
    assert np.ptp(over_cells, axis=1).max() < 1e-13
    duct = profile(Grid(x, walls(16), walls(16, stretching=2.5)))
    assert duct[8, 0] < 0.3 < 1.0 < duct[8, 8]


def test_a_flow_towards_minus_x_starts_as_the_mirror_image():
    grid = Grid(FourierAxis(4, 6.0), walls(9), FourierAxis(6, 3.0))
    assert profile(grid, -1.0) == pytest.approx(-profile(grid), rel=1e-13)
    for drive in ("kind='mass_flux', bulk_velocity=-1.0", "kind='pressure_gradient', gradient=-0.004"):
        back = flow("channel180", *cube(8), f"flow.forcing={{{drive}}}", *STILL[1:])
        back.step()
        assert float(bulk_velocity(back.operators, back.velocity.coefficients[0])) < -0.5


def test_bulk_velocity_holds_in_single_precision():
    """A laminar channel of given flux for 50 steps: no drift by summation."""
    op = operators(Grid(POINT, walls(16, stretching=0.0), POINT), torch.float32)
    channel = simulation(op, rest(op), 0.05, 0.15, MassFlux(op, 2.0 / 3.0))
    for _ in range(50):
        channel.step()
    assert float(bulk_velocity(op, channel.velocity.coefficients[0])) == pytest.approx(2.0 / 3.0, abs=2e-7)
    assert float(channel.state.drive) == pytest.approx(0.1, rel=3e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_closure_starts_from_rest(dtype):
    """No 0/0 in fluid at rest, nor where a wall has just begun to move."""
    op = operators(Grid(FourierAxis(6, 3.0), walls(6, upper=NoSlip((1.0, 0.0, 0.0))), FourierAxis(6, 3.0)), dtype)
    for name in registry.BUILT_IN:
        start = simulation(op, rest(op), 1e-3, None, closure=registry.create(name, grid=op.grid, nu=1e-3))
        for _ in range(2):
            start.step()
        assert all(bool(torch.isfinite(c).all()) for c in start.velocity.coefficients), name
        assert kinetic_energy(start) > 0.0, name


def test_averages_over_cells_weigh_them_by_their_size():
    """Bulk velocity and energy of a parabola, 2/3 and 4/15: second order on even and on stretched cells."""
    parabola = (lambda x, y, z: y * (2.0 - y) + 0 * (x + z), *[lambda x, y, z: 0 * (x + y + z)] * 2)
    for stretching in (0.0, 3.0):
        errors = []
        for n in (16, 32):
            op = operators(Grid(POINT, walls(n, stretching=stretching), POINT))
            u = sample(op, parabola)
            energy = 0.5 * float(op.inner_product(u[0], u[0], 0))
            errors.append((abs(float(bulk_velocity(op, u[0])) - 2 / 3), abs(energy - 4 / 15)))
        assert min(orders([e[0] for e in errors]) + orders([e[1] for e in errors])) > 1.85

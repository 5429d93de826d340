"""Forcings do what they promise to the mean flow and to the shells, on every grid where they make sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.discretisation.shells import shell_energies as shell_spectrum
from solver.discretisation.shells import shell_wavenumbers
from solver.flow.forcing import MassFlux, PressureGradient, bulk_velocity
from solver.flow.held_shells import HeldShells
from solver.flow.initial import isotropic, taylor_green
from solver.grid.axis import FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid
from solver.observers.spectra import ShellSpectra
from tests.grids import (
    GRIDS,
    distance,
    mean,
    minus,
    operators,
    orders,
    random_velocity,
    run,
    scalar_product,
    simulation,
    tendency,
    uniform,
)

SEED = 662_607
DRIVEN = [name for name, grid in GRIDS.items() if grid.x.periodic]
CUBE = Grid(*(FourierAxis(n, 2 * np.pi) for n in (12, 11, 10)))


@pytest.mark.parametrize("name", DRIVEN)
def test_bulk_velocity_is_the_volume_mean(name):
    op = operators(name)
    u = random_velocity(op, SEED)[0] + uniform(op, (0.9, 0.0, 0.0))[0]
    assert float(bulk_velocity(op, u)) == pytest.approx(mean(op, u, 0), rel=1e-13)


@pytest.mark.parametrize("name", DRIVEN)
def test_pressure_gradient_is_uniform(name):
    op = operators(name)
    rate = tendency(op, random_velocity(op, SEED))
    gained = minus(PressureGradient(op, 0.31).accelerate(rate), rate)
    assert distance(gained, uniform(op, (0.31, 0.0, 0.0))) < 1e-13


@pytest.mark.parametrize("name", DRIVEN)
def test_mass_flux_restores_the_bulk_velocity_and_nothing_else(name):
    op = operators(name)
    u = random_velocity(op, SEED)
    before, deficit = tuple(f.clone() for f in u), 0.9 - mean(op, u[0], 0)
    forcing = MassFlux(op, 0.9)
    gained = minus((corrected := forcing.correct(u, span=0.25))[0], before)
    assert distance(gained, uniform(op, (deficit, 0.0, 0.0))) < 1e-13
    assert forcing.drive(corrected[1], 0.25) == pytest.approx(deficit / 0.25)


def test_mass_flux_balances_the_wall_shear():
    """The reported pressure gradient is the momentum the walls take."""
    op, nu = operators("channel"), 0.05
    u = random_velocity(op, SEED)
    bulk = mean(op, u[0], 0)
    shear = -mean(op, minus(tendency(op, u, nu), tendency(op, u))[0])
    errors = []
    for dt in (4e-4, 2e-4, 1e-4):
        flow = simulation(op, u, nu, dt, MassFlux(op, bulk))
        assert mean(op, run(flow, 1)[0]) == pytest.approx(bulk, abs=1e-15)
        errors.append(abs(float(flow.state.drive) / shear - 1))
    assert orders(errors) == pytest.approx([1.0, 1.0], abs=0.1)  # the last stage looks at the end of the step


def shell_energies(op, velocity, count: int) -> list[float]:
    """Kinetic energy of the shells, by rounding the wavenumber of every mode."""
    shell = op.squared_wavenumber.sqrt().add(0.5).floor()
    return [0.5 * sum(scalar_product(op, f * (shell == s), f) for f in velocity) for s in range(1, count + 1)]


def test_held_shells_keep_their_energy_and_the_divergence():
    op = operators(CUBE)
    held = (0.21, 0.13)
    flow = simulation(op, random_velocity(op, SEED), 0.02, 2e-3, HeldShells(op, held))
    free = simulation(op, random_velocity(op, SEED), 0.02, 2e-3)
    assert shell_energies(op, run(flow, 5), 2) == pytest.approx(held, rel=1e-12)
    assert shell_energies(op, run(free, 5), 2) != pytest.approx(held, rel=1e-2)
    assert flow.max_divergence < 1e-12


def test_shells_of_a_box_longest_in_y():
    """Spectra, initial fields and held shells count alike: shells are as wide as the smallest wavenumber there is."""
    op = operators(Grid(FourierAxis(10, 2 * np.pi), FourierAxis(13, 4 * np.pi), FourierAxis(11, 3 * np.pi)))
    drawn = isotropic(op, 1.5, 2.0, None, SEED)
    k = shell_wavenumbers(op.grid)
    expected = k**4 * np.exp(-2 * (k / 2.0) ** 2)
    np.testing.assert_allclose(shell_spectrum(op, drawn), 1.5 * expected / expected.sum(), atol=1e-14)
    held = (0.03, 0.1, 0.2)
    flow = simulation(op, drawn, 0.02, 2e-3, HeldShells(op, held))
    run(flow, 3)
    hook = ShellSpectra(op, 1e-9)
    hook(flow)
    np.testing.assert_allclose(hook.spectra[0][1:4] * hook.base, held, rtol=1e-12)
    assert hook.base == pytest.approx(0.5)


def test_a_taylor_green_vortex_fits_a_box_of_unequal_sides():
    """Smooth across every period: it is one mode a direction, and free of divergence."""
    op = operators(Grid(FourierAxis(8, 6.0), FourierAxis(9, 5.0), FourierAxis(10, 13.0)))
    u, v, _ = taylor_green(op, 1.0)
    assert float(op.divergence((u, v, torch.zeros_like(u))).abs().max()) < 1e-14
    energy = float(op.inner_product(u, u))
    assert energy == pytest.approx(1 / 8)
    number = [op.wavenumber[d] * length / (2 * np.pi) for d, length in enumerate((6.0, 5.0, 13.0))]
    only = (number[0].abs() - 1).abs() + (number[1].abs() - 1).abs() + (number[2] - 2).abs() < 1e-9
    assert float(op.inner_product(u * only, u)) == pytest.approx(energy)


@pytest.mark.parametrize("name", ["box", "channel", "duct"])
def test_step_control_takes_the_tightest_limit(name):
    """Cfl / dt is the largest sum of ``|u_d| kappa_d``, kappa the highest wavenumber or 1 / cell."""
    op = operators(name)
    flow = simulation(op, random_velocity(op, SEED), 1e-9, dt=None)
    flow.step()
    assert flow.control.limit == "advection"
    flow = simulation(op, random_velocity(op, SEED), 1e-9, dt=None)
    u = [f.abs() for f in flow.velocity.staggered]
    for axis in op.volume_axes:
        u = [f.narrow(axis - 3, 1, f.shape[axis - 3] - 2) for f in u]
    rate = torch.zeros(())
    for d, line in enumerate(op.grid.axes):
        kappa = 1 / line.width if isinstance(line, FiniteVolumeAxis) else [2 * np.pi * line.highest_mode / line.length]
        rate = rate + u[d] * op.along(np.asarray(kappa), d)
    assert float(flow.control(flow.velocity, None, 1e-9)) == pytest.approx(1.0 / float(rate.max()), rel=1e-12)
    flow.control.dt_max = 1e-6
    assert float(flow.control(flow.velocity, None, 1e-9)) == 1e-6
    assert flow.control.limit == "dt_max"

"""Flows between walls: exact laminar solutions, the cavity of Ghia et al., and a channel that stays turbulent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from solver.flow.forcing import bulk_velocity
from solver.observers.health import Health
from solver.observers.series import kinetic_energy, wall_friction_velocity
from tests.grids import orders
from tests.physics.shipped import advance, cube, flow, table

SQUARE_DUCT = 0.1405770  # U_b nu / (G h^2), series solution


def test_laminar_duct_against_the_series_solution():
    """Bulk velocity from rest to steady state, second order in the cell size."""
    errors = []
    for n in (5, 10, 20):
        duct = advance(flow("duct_laminar", f"grid.y.n={n}", f"grid.z.n={n}"), 2.0)
        errors.append(abs(float(bulk_velocity(duct.operators, duct.velocity.coefficients[0])) / SQUARE_DUCT - 1))
    assert errors[-1] < 1e-2
    assert min(orders(errors)) == pytest.approx(2.0, abs=0.1)


def poiseuille(n: int) -> tuple[float, float]:
    """Relative errors of the wall stress against ``3 nu U_b / h``: from the wall gradient, and from the forcing."""
    thin = [f"grid.{axis}={{kind='fourier', n=1, length=1.0}}" for axis in "xz"]
    changes = ["grid.y.stretching=1.0", "flow.nu=0.5", "initial={kind='rest'}", "closure={name='none'}"]
    channel = flow("channel180", *thin, f"grid.y.n={n}", *changes)
    advance(channel, 1.2)
    exact = 3 * 0.5 * 1.0
    return wall_friction_velocity(channel) ** 2 / exact - 1, float(channel.state.drive) / exact - 1


def test_poiseuille_friction_at_given_mass_flux():
    """Second order on stretched cells; the forcing balances the wall stress."""
    errors = []
    for n in (6, 12, 24):
        friction, forcing = poiseuille(n)
        assert friction == pytest.approx(forcing, abs=1e-5)
        errors.append(abs(friction))
    assert errors[-1] < 5e-3
    assert min(orders(errors)) == pytest.approx(2.0, abs=0.1)


def test_cavity_against_ghia():
    """Re = 100 on 32 x 32 cells: both centre lines within 2 % of the lid velocity (Ghia, Ghia & Shin 1982)."""
    cells = [f"grid.{axis}.{key}" for axis in "xy" for key in ("n=32", "stretching=0.0")]
    cavity = advance(flow("cavity", "flow.nu=0.01", *cells), 10.0)
    grid, (u, v, _) = cavity.operators.grid, (c[0, ..., 0].numpy() for c in cavity.velocity.coefficients)
    middle = 15  # the upper face of this cell is the centre line
    assert grid.x.faces[middle + 1] == pytest.approx(0.5)
    for file, place, line, wall, name in (
        ("cavity_ghia1982_u.csv", "y", u[middle, :], 1.0, "u_Re100"),
        ("cavity_ghia1982_v.csv", "x", v[:, middle], 0.0, "v_Re100"),
    ):
        ghia = table("cavity", file)
        curve = CubicSpline([0.0, *grid.y.centres, 1.0], [0.0, *line, wall])
        assert np.abs(curve(ghia[place]) - ghia[name]).max() < 0.02


@pytest.mark.parametrize("closure", ["none", "wale"])
def test_a_coarse_channel_stays_turbulent(closure):
    """From the shipped recipe, 16^3, 30 time units; the detector of laminar flow looks every step and stays quiet."""
    channel = flow("channel180", *cube(16), f'closure={{name="{closure}"}}')
    health, op = Health(channel, every_steps=1, expect_turbulence=True), channel.operators
    while channel.t < 30.0:
        channel.step()
        assert health(channel) is None
    _, v, w = channel.velocity.coefficients
    cross = 0.5 * float(op.inner_product(v, v, 1) + op.inner_product(w, w, 2))
    assert cross > 1e-3 * kinetic_energy(channel)
    assert float(bulk_velocity(op, channel.velocity.coefficients[0])) == pytest.approx(1.0, rel=1e-12)


def test_the_detector_speaks_when_a_channel_is_laminar():
    channel = flow("channel180", *cube(8), "initial.amplitude=0.0", 'closure={name="none"}')
    channel.step()
    assert Health(channel, every_steps=1, expect_turbulence=True)(channel) == "laminar"

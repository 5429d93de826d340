"""The three ways a closure speaks agree with viscosity, and with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import STRESS_INDEX, EddyViscosity, SubgridForce, SubgridStress
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, Periodic
from solver.grid.grid import Grid
from tests.grids import (
    FLOWING_GRIDS,
    GRIDS,
    distance,
    minus,
    norm,
    operators,
    orders,
    product,
    project,
    random_components,
    random_scalar,
    random_values,
    random_velocity,
    sample,
    shearless,
    simulation,
    tendency,
    uniform,
    values,
)

SEED = 141_421
NU = 0.23
SHEARLESS = [name for name in FLOWING_GRIDS if shearless(GRIDS[name])]


def constant(op, value: float = NU) -> EddyViscosity:
    return EddyViscosity(torch.full(op.local_shape, value, dtype=op.dtype))


def stress(op, u, nu_t) -> SubgridStress:
    """``-2 nu_t s_ij`` at centres."""
    g = Velocity(VelocityGradient(op), u).gradient
    order = sorted(STRESS_INDEX, key=STRESS_INDEX.__getitem__)
    return SubgridStress(tuple(-nu_t * (g[i][j] + g[j][i]) for i, j in order))


@pytest.mark.parametrize("name", SHEARLESS)
def test_constant_eddy_viscosity_is_viscosity(name):
    """``div(2 nu s) = nu lap u`` discretely, on any stretching: differences commute and div u = 0."""
    op = operators(name)
    u = random_velocity(op, SEED)
    modelled, viscous = (project(op, f) for f in (tendency(op, u, term=constant(op)), tendency(op, u, nu=NU)))
    assert norm(op, minus(modelled, viscous)) < 1e-13 * norm(op, viscous)


@pytest.mark.parametrize("name", ["channel", "channel_even", "half_channel"])
def test_constant_eddy_viscosity_is_viscosity_away_from_walls(name):
    """nu_t vanishes on no-slip walls, so the cells that touch one are left out; the trace is left to the pressure."""
    op = operators(name)
    u = random_velocity(op, SEED)
    still = tendency(op, u)
    modelled = minus(tendency(op, u, term=constant(op)), still)
    trace = op.to_coefficients(-2 * NU * Velocity(VelocityGradient(op), u).gradient[2][2])
    difference = minus(op.subtract_gradient(modelled, trace), minus(tendency(op, u, nu=NU), still))
    away = [f[..., 1:-2, :] for f in difference]
    assert max(float(f.abs().max()) for f in away) < 1e-12 * norm(op, modelled)
    assert float(difference[0][..., 0, :].abs().max()) > 1e-3 * norm(op, modelled)


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_eddy_viscosity_drains_energy(name):
    """``-<u, div tau>`` is positive for any nu_t >= 0 that varies from cell to cell."""
    op = operators(name)
    u = random_velocity(op, SEED)
    nu_t = random_values(op, SEED + 1, 1)[0] ** 2
    drained = minus(tendency(op, u, term=EddyViscosity(nu_t)), tendency(op, u))
    assert product(op, u, drained) < -1e-2 * norm(op, u) * norm(op, drained)


@pytest.mark.parametrize("name", ["box", "box_even"])
def test_eddy_viscosity_drains_tau_s_in_a_box(name):
    """``<u, div tau> = <tau_ij s_ij>`` with -tau_ij s_ij = 2 nu_t s_ij s_ij, exactly where nu_t is resolved."""
    op = operators(name)
    u, nu_t = random_velocity(op, SEED), 1.0 + 0.1 * op.to_physical(random_scalar(op, SEED + 1))
    g = Velocity(VelocityGradient(op), u).gradient
    eps = sum(float((nu_t * 0.5 * (g[i][j] + g[j][i]) ** 2).mean()) for i in range(3) for j in range(3))
    drained = minus(tendency(op, u, term=EddyViscosity(nu_t)), tendency(op, u))
    assert -product(op, u, drained) == pytest.approx(eps, rel=1e-12)


@pytest.mark.parametrize("name", ["box", "box_even"])
def test_stress_equals_eddy_viscosity_in_a_box(name):
    op = operators(name)
    u, nu_t = random_velocity(op, SEED), random_values(op, SEED + 1, 1)[0] ** 2
    by_stress, by_viscosity = (
        tendency(op, u, term=stress(op, u, nu_t)),
        tendency(op, u, term=EddyViscosity(nu_t)),
    )
    assert distance(by_stress, by_viscosity) < 1e-13 * norm(op, by_viscosity)


def smooth_periodic(n: int, length: float) -> FiniteVolumeAxis:
    """Periodic cells of smoothly varying height."""
    xi = np.linspace(0.0, 1.0, n + 1)
    return FiniteVolumeAxis(length * (xi + 0.08 * np.sin(2 * np.pi * xi)), Periodic(), Periodic())


def test_stress_approaches_eddy_viscosity_at_second_order():
    """On cells tau is averaged from centres to edges."""
    k, errors = 2 * np.pi / 6.0, []
    for n in (24, 48, 96):
        op = operators(Grid(FourierAxis(8, 6.0), smooth_periodic(n, 6.0), FourierAxis(8, 6.0)))
        flow = (
            lambda x, y, z: torch.sin(k * y) * torch.cos(k * z),
            lambda x, y, z: torch.cos(k * x + 0.3) * torch.sin(k * z) + 0 * y,
            lambda x, y, z: torch.sin(k * x) * torch.cos(k * y + 0.4) + 0 * z,
        )
        u = project(op, sample(op, flow))
        nu_t = values(op, lambda x, y, z: 1.0 + 0.5 * torch.cos(k * (x + z)) * torch.sin(k * y))
        by_stress, by_viscosity = (
            project(op, tendency(op, u, term=term)) for term in (stress(op, u, nu_t), EddyViscosity(nu_t))
        )
        errors.append(norm(op, minus(by_stress, by_viscosity)) / norm(op, by_viscosity))
    assert orders(errors) == pytest.approx([2.0, 2.0], abs=0.1)


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_isotropic_stress_is_pressure(name):
    """``tau_ij = q delta_ij`` cannot move anything once projected."""
    op = operators(name)
    u, (q,) = random_velocity(op, SEED), random_values(op, SEED + 1, 1)
    zero = torch.zeros_like(q)
    pushed, still = (tendency(op, u, term=term) for term in (SubgridStress((q, q, q, zero, zero, zero)), None))
    assert norm(op, project(op, minus(pushed, still))) < 1e-12 * norm(op, still)


class Given:
    """A closure that always answers with the same term."""

    name, reach = "given", 0

    def __init__(self, term: SubgridStress | EddyViscosity | None) -> None:
        self.term = term

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        return self.term, state


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("name", ["box", "channel", "duct", "cavity"])
def test_isotropic_stress_lowers_the_pressure(name, steps):
    """Observers see ``p - q`` for ``tau_ij = q delta_ij``, whichever diagonal flux momentum leaves to the potential."""
    op = operators(name)
    u, q = random_velocity(op, SEED), op.to_physical(random_scalar(op, SEED + 1))
    zero = torch.zeros_like(q)
    found = []
    for term in (None, SubgridStress((q, q, q, zero, zero, zero))):
        flow = simulation(op, u, NU, 1e-3, closure=Given(term))
        for _ in range(steps):
            flow.step()
        found.append(flow.pressure())
    constant_apart = found[1] + q - found[0]
    assert float(q.std()) > 0.1
    assert float(constant_apart.std()) < 1e-11 * float(found[0].abs().max())


@pytest.mark.parametrize("name", ["box", "channel", "duct"])
def test_pressure_before_the_first_step(name):
    """It is what the equations call for: that of a step too short to change anything."""
    op = operators(name)
    u, nu_t = random_velocity(op, SEED), torch.full(op.local_shape, 0.3, dtype=op.dtype)
    before = simulation(op, u, NU, 1e-6, closure=Given(EddyViscosity(nu_t)))
    after = simulation(op, u, NU, 1e-6, closure=Given(EddyViscosity(nu_t)))
    after.step()
    p, q = before.pressure(), after.pressure()
    scale = float(p.abs().max())
    assert float((p - q).abs().max()) < 1e-3 * scale
    assert scale > 0.1


@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_force_is_an_acceleration(name):
    """A force at centres joins the rate where the components live; a uniform one arrives unchanged off the walls."""
    op = operators(name)
    u, ones = random_components(op, SEED), torch.ones(op.local_shape, dtype=op.dtype)
    speeds = (0.3, -0.8, 1.1)
    gained = minus(tendency(op, u, term=SubgridForce(tuple(s * ones for s in speeds))), tendency(op, u))
    for i, (got, sent) in enumerate(zip(gained, uniform(op, speeds), strict=True)):
        free = got.shape[i - 3] - (not op.grid.axes[i].periodic)  # all but the upper wall
        assert distance([got.narrow(i - 3, 0, free)], [sent.narrow(i - 3, 0, free)]) < 1e-13
        assert not got.narrow(i - 3, free, got.shape[i - 3] - free).any()


@pytest.mark.parametrize("kind", ["none", "eddy_viscosity", "stress"])
@pytest.mark.parametrize("name", GRIDS)
def test_slabs_and_scratch_do_not_change_the_tendency(name, kind, monkeypatch):
    op = operators(name)
    u, (nu_t,) = random_velocity(op, SEED), random_values(op, SEED + 2, 1)
    term = {"none": None, "eddy_viscosity": EddyViscosity(nu_t), "stress": stress(op, u, nu_t)}[kind]
    whole = tendency(op, u, term=term)
    monkeypatch.setattr("solver.discretisation.calculus.CACHE_BYTES", 1)
    monkeypatch.setattr("solver.discretisation.fft.SCRATCH_BYTES", 1)
    assert len(op.slabs(1)) == op.local_shape[1]
    assert norm(op, minus(tendency(op, u, term=term), whole)) < 1e-14 * norm(op, whole)

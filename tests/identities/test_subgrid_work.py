"""The work of a subgrid term is what the discrete flow loses to it: in all, plane by plane, and in hand-made fields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from solver.analysis.channel import BUDGET, ChannelProfiles
from solver.analysis.moments import INDEX
from solver.analysis.wall_flow import between
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import STRESS_INDEX, EddyViscosity, SubgridForce, SubgridStress, SubgridTerm
from solver.flow.momentum import Momentum
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.observers.statistics import Moments
from solver.observers.subgrid_work import SubgridWork
from tests.closeness import assert_round_off
from tests.grids import (
    FLOWING_GRIDS,
    GRIDS,
    norm,
    operators,
    orders,
    product,
    project,
    random_values,
    random_velocity,
    sample,
    shearless,
    simulation,
    values,
    volumes,
    walls,
)
from tests.identities.test_subgrid import Given

SEED, NU, NU_T = 271_828, 0.07, 0.31
SHEARLESS = [name for name in FLOWING_GRIDS if shearless(GRIDS[name])]


def noise(op, kind: str) -> SubgridTerm:
    """A term that varies from cell to cell."""
    if kind == "eddy_viscosity":
        return EddyViscosity(random_values(op, SEED + 1, 1)[0] ** 2)
    if kind == "stress":
        return SubgridStress(tuple(random_values(op, SEED + 1, 6)))
    return SubgridForce(tuple(random_values(op, SEED + 1, 3)))


@pytest.mark.parametrize("kind", ["eddy_viscosity", "stress", "force"])
@pytest.mark.parametrize("name", FLOWING_GRIDS)
def test_the_flow_loses_its_energy_to_viscosity_and_subgrid_work(name, kind):
    """``<u, du/dt> = -nu <grad u : grad u> - <work>`` to round-off, pressure and convection included."""
    op = operators(name)
    flow = simulation(op, random_velocity(op, SEED), NU, 1e-3, closure=Given(noise(op, kind)))
    work, _ = flow_work(flow)
    lost = float((work * volumes(op, None)).sum())
    rate = flow.flow.time_derivative(flow.velocity.coefficients)
    viscous = NU * float(
        Momentum(VelocityGradient(op), NU).equation.squared_gradient(flow.velocity.padded_coefficients)
    )
    size = norm(op, flow.velocity.coefficients) * norm(op, rate)
    assert abs(lost) > 1e-6 * size
    assert product(op, flow.velocity.coefficients, rate) == pytest.approx(-viscous - lost, abs=1e-12 * size)


def flow_work(flow) -> tuple[torch.Tensor, torch.Tensor]:
    return SubgridWork(flow.operators)(flow.velocity, flow.present_term())


@pytest.mark.parametrize("name", ["box", "box_even"])
def test_a_constant_eddy_viscosity_drains_2_nu_t_s_s_point_by_point(name):
    op = operators(name)
    velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED))
    g = velocity.gradient
    s = [[0.5 * (g[i][j] + g[j][i]) for j in range(3)] for i in range(3)]
    expected = 2 * NU_T * sum(s[i][j] ** 2 for i in range(3) for j in range(3))
    work, _ = SubgridWork(op)(velocity, EddyViscosity(torch.full(op.local_shape, NU_T, dtype=op.dtype)))
    assert_round_off(work, expected)


@pytest.mark.parametrize("name", SHEARLESS)
def test_a_constant_eddy_viscosity_drains_what_viscosity_would(name):
    """``2 nu <s : s> = nu <grad u : grad u>`` where no wall holds the fluid, on cells of any height."""
    op = operators(name)
    velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED))
    work, _ = SubgridWork(op)(velocity, EddyViscosity(torch.full(op.local_shape, NU_T, dtype=op.dtype)))
    viscous = NU_T * float(Momentum(VelocityGradient(op), NU_T).equation.squared_gradient(velocity.padded_coefficients))
    assert float((work * volumes(op, None)).sum()) == pytest.approx(viscous, rel=1e-12)


def test_nothing_works_nothing():
    op = operators("channel")
    work, flux = SubgridWork(op)(Velocity(VelocityGradient(op), random_velocity(op, SEED)), None)
    assert not work.any()
    assert not flux.any()


class Counted(Given):
    """Gives a term and counts how often it was asked; its state moves on."""

    asked = 0

    def init(self, operators):
        return {"calls": torch.zeros(1)}

    def __call__(self, velocity, t, state):
        self.asked += 1
        return self.term, {"calls": state["calls"] + 1}


def test_observers_cost_no_evaluation_of_the_closure_and_change_nothing():
    """Whoever looks at a flow between steps is given the answer that the next step asks for."""
    op = operators("channel")
    found = []
    for looks in (0, 2):
        flow = simulation(op, random_velocity(op, SEED), NU, 1e-3, closure=Counted(noise(op, "eddy_viscosity")))
        for _ in range(3):
            for _ in range(looks):
                Moments(op).sample(flow, flow.present_term())
            flow.step()
        assert flow.closure.asked == 9  # three stages a step
        assert float(flow.closure_state["calls"]) == 9
        found.append(flow.velocity.coefficients)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    flow.state = replace(flow.state, velocity=flow.flow.velocity(random_velocity(op, SEED + 5)))
    flow.present_term()
    assert flow.closure.asked == 10  # another velocity is another question


K = 2 * np.pi / 6.0
SLOPE, WAVE, EXTRA = 0.7, 1.3, -0.4  # of U; amplitudes of w and of u


def hand_made(op):
    """``u = U + EXTRA sin(Kx), w = WAVE sin(Kx)`` with ``U = SLOPE y``, and stresses of which each works in one way."""
    velocity = sample(
        op,
        (
            lambda x, y, z: SLOPE * y + EXTRA * torch.sin(K * x) + 0 * z,
            lambda x, y, z: 0 * (x + y + z),
            lambda x, y, z: WAVE * torch.sin(K * x) + 0 * (y + z),
        ),
    )
    tau = [torch.zeros(op.local_shape, dtype=op.dtype)] * 6
    tau[STRESS_INDEX[0, 0]] = values(op, lambda x, y, z: 2.0 + 0.5 * torch.cos(K * x) + 0 * (y + z))
    tau[STRESS_INDEX[0, 1]] = values(op, lambda x, y, z: -0.2 + 0.9 * torch.sin(K * x) + 0 * (y + z))
    tau[STRESS_INDEX[0, 2]] = values(op, lambda x, y, z: 0.8 * torch.cos(K * x) + 0 * (y + z))
    return velocity, SubgridStress(tuple(tau))


def test_work_and_shear_of_a_hand_made_stress():
    """``-<tau_xy> dU/dy = 0.2 SLOPE``; ``-<tau_xx' s_xx'> = -0.25 EXTRA K``; ``-2 <tau_xz' s_xz'> = -0.4 WAVE K``."""
    op = operators(Grid(FourierAxis(8, 6.0), walls(10), FourierAxis(7, 3.0)))
    velocity, term = hand_made(op)
    flow = simulation(op, velocity, NU, 1e-3)
    flow.state = replace(flow.state, velocity=flow.flow.velocity(velocity))  # as it is: not solenoidal
    moments = Moments(op).sample(flow, term).numpy()
    channel = ChannelProfiles(op.grid.y, NU, only=0)
    seen = channel.seen(moments)
    mean, fluctuation = (part[1:-1] for part in channel.subgrid_work(seen))
    assert mean == pytest.approx(0.2 * SLOPE)
    assert fluctuation == pytest.approx(-0.25 * EXTRA * K - 0.4 * WAVE * K)
    assert channel.subgrid_shear(seen) == pytest.approx(-0.2)
    assert mean + fluctuation == pytest.approx(moments[INDEX["eps_sgs"], 1:-1, 0])


@pytest.mark.parametrize("kind", ["eddy_viscosity", "stress"])
def test_mean_and_fluctuating_work_are_those_of_means_and_fluctuations(kind):
    """Against ``<tau' s'>`` edge by edge, with the mean flow along x taken out of s beforehand."""
    op = operators("channel")
    term = noise(op, kind)
    u, v, w = random_velocity(op, SEED)
    sheared = u + op.to_coefficients(values(op, lambda x, y, z: 3 * y * (2 - y) + 0 * (x + z))), v, w
    flow = simulation(op, sheared, NU, 1e-3, closure=Given(term))
    channel = ChannelProfiles(op.grid.y, NU, only=0)
    mean, fluctuation = channel.subgrid_work(channel.seen(Moments(op).sample(flow, term).numpy()))
    velocity, strain = flow.velocity, flow.flow.strain
    twice_s = strain.twice_shear(velocity.staggered, velocity.spectral_derivatives, 0, 1)
    padded = [op.pad_scalar(f, at_wall=-1.0) for f in (term.tau if kind == "stress" else [term.nu_t])]
    tau = strain.to_edges(padded[3], 0, 1) if kind == "stress" else -strain.to_edges(padded[0], 0, 1) * twice_s
    planes = (-3, -1)
    at_edges = -(tau * twice_s).mean(planes).numpy()
    of_means = -(tau.mean(planes) * twice_s.mean(planes)).numpy()
    others = flow_work(flow)[0].mean(planes).numpy() - between(at_edges)
    varying = -((tau - tau.mean(planes, keepdim=True)) * (twice_s - twice_s.mean(planes, keepdim=True))).mean(planes)
    assert mean == pytest.approx(between(of_means), rel=1e-11, abs=1e-12)
    assert fluctuation == pytest.approx(others + between(varying.numpy()), rel=1e-10, abs=1e-11)
    assert np.abs(mean).max() > 0.05 * np.abs(fluctuation).max()


def bump(y):
    """Flat at both walls."""
    return (y * (2 - y)) ** 2


def slope(y):
    """Of `bump`."""
    return 4 * y * (2 - y) * (1 - y)


def test_the_budget_of_resolved_turbulence_closes_plane_by_plane():
    """The rows of `BUDGET` add up to dk/dt as the equations have it, at second order, the subgrid row among them."""
    errors: dict[str, list[tuple[float, float]]] = {"eddy_viscosity": [], "force": []}
    for n in (24, 48, 96):
        op = operators(Grid(FourierAxis(8, 6.0), walls(n), FourierAxis(8, 6.0)))
        flow = (
            lambda x, y, z: y * (2 - y) + slope(y) * torch.sin(K * x + 0.3) * torch.cos(2 * K * z),
            lambda x, y, z: -K * bump(y) * torch.cos(K * x + 0.3) * torch.cos(2 * K * z),
            lambda x, y, z: bump(y) * torch.sin(K * x - 0.4) + 0 * z,
        )
        velocity = project(op, sample(op, flow))
        terms = {
            "eddy_viscosity": EddyViscosity(
                values(op, lambda x, y, z: 0.1 * bump(y) * (1.5 + torch.cos(K * x) * torch.sin(2 * K * z)))
            ),
            "force": SubgridForce(tuple(values(op, f) for f in reversed(flow))),
        }
        for kind, term in terms.items():
            errors[kind].append(_imbalance(op, velocity, term))
    for kind, found in errors.items():
        at_wall, inside = zip(*found, strict=True)
        assert orders(inside) == pytest.approx([2.0, 2.0], abs=0.25), (kind, found)
        assert min(orders(at_wall)) > 0.8, (kind, found)  # on stretched cells


def _imbalance(op, velocity, term) -> tuple[float, float]:
    """In the cell at the lower wall, and root mean square over the others of the half, both relative to dk/dt."""
    flow = simulation(op, velocity, NU, 1e-3, closure=Given(term))
    channel = ChannelProfiles(op.grid.y, NU, only=0)
    moments = Moments(op).sample(flow, term).numpy()
    unit = channel.friction_velocity(channel.seen(moments)) ** 4 / NU
    budget = dict(zip(BUDGET, channel.budget(moments) * unit, strict=True))
    rate = Velocity(flow.flow.strain, flow.flow.time_derivative(flow.velocity.coefficients)).centred
    u, planes = flow.velocity.centred, (-3, -1)
    growth = sum((f * r).mean(planes) for f, r in zip(u, rate, strict=True)) - u[0].mean(planes) * rate[0].mean(planes)
    expected = growth.numpy()[: len(channel.distance)]
    size = np.sqrt((expected**2).mean())
    assert np.sqrt((budget["sgs"] ** 2).mean()) > 0.1 * size
    wrong = np.abs(budget["residual"] - expected) / size
    return float(wrong[0]), float(np.sqrt((wrong[1:] ** 2).mean()))

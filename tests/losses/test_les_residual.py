"""The residual is that of the solver: zero on its trajectories, and on no others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from closures.losses.les_residual import LesResidual
from closures.losses.time_residual import stencil
from solver.errors import CaseError, SolverError
from solver.flow.forcing import bulk_velocity
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, Inflow, Outflow, stretched_faces
from solver.grid.grid import Grid
from tests.grids import minus, norm, operators, project, random_components, random_velocity, walls
from tests.losses.flows import copied, flow, grid, plus, residual_of, trajectory

STEP = 0.02
ORDER_STEP = 0.005
DIFFERENCES = ("central", "one_sided", "midpoint")
FLOWS = [
    ("box", "smagorinsky", "none"),
    ("box", "smagorinsky", "held_shells"),
    ("channel", "smagorinsky", "mass_flux"),
    ("channel", "wale", "pressure_gradient"),
    ("duct", "none", "mass_flux"),
]


@pytest.mark.parametrize("n", range(5))
@pytest.mark.parametrize("scheme", ["central", "one_sided"])
def test_differences_are_exact_for_parabolas(n, scheme):
    """At every one of five frames, hence of second order."""
    weights = stencil(n, 5, scheme)
    for power, slope in ((0, 0.0), (1, 1.0), (2, 2.0 * n)):
        assert sum(w * float(k) ** power for k, w in weights.items()) == pytest.approx(slope, abs=1e-14)


def fitted_order(kind, scheme, finer=1, **options):
    """Of the largest residual over all frames, ends included, as the solver's step is halved twice.

    `finer`: how many times smaller than the solver's the steps of the map are.
    """
    sizes, steps = [], ORDER_STEP / 2.0 ** np.arange(3)
    for dt in steps:
        frames = trajectory(flow(kind, dt, **options), 4)
        residual = residual_of(flow(kind, dt / finer, **options), scheme, every=finer)
        sizes.append(float(residual.each(frames).max()))
        assert float(residual.relative(frames)) < 1e-2
    return np.polyfit(np.log(steps), np.log(sizes), 1)[0]


@pytest.mark.parametrize(("kind", "closure", "driven"), FLOWS)
@pytest.mark.parametrize("scheme", DIFFERENCES)
def test_vanishes_at_second_order_on_the_solvers_own_trajectory(kind, closure, driven, scheme):
    assert fitted_order(kind, scheme, closure=closure, driven=driven) == pytest.approx(2.0, abs=0.04)


@pytest.mark.parametrize("kind", ["box", "channel"])
def test_map_with_finer_steps_vanishes_at_the_order_of_runge_kutta(kind):
    """The solver's steps against its own of a quarter of the length."""
    assert fitted_order(kind, "runge_kutta", finer=4) == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(("kind", "closure", "driven"), FLOWS)
def test_runge_kutta_map_leaves_round_off(kind, closure, driven):
    """Two steps between frames; the solver's own steps are repeated."""
    simulation = flow(kind, STEP, closure=closure, driven=driven)
    frames = trajectory(simulation, 3, every=2)
    assert float(residual_of(simulation, every=2).relative(frames)) < 1e-12


@pytest.mark.parametrize(("kind", "closure", "driven"), FLOWS)
def test_slope_is_solenoidal_and_keeps_what_the_forcing_holds(kind, closure, driven):
    """The bulk velocity, the energy of each held shell."""
    simulation = flow(kind, STEP, closure=closure, driven=driven)
    op, forcing, u = simulation.operators, simulation.forcing, simulation.velocity.coefficients
    slope = residual_of(simulation).rate(u)
    size = norm(op, slope)
    assert float(op.divergence(slope).abs().max()) < 1e-12 * size
    if driven == "mass_flux":
        assert abs(float(bulk_velocity(op, slope[0]))) < 1e-14 * size
    if driven == "held_shells":
        assert float(power_of_shells(forcing, u, slope).abs().max()) < 1e-14 * size


@pytest.mark.parametrize(("kind", "closure", "driven"), FLOWS)
def test_without_solids_projection_and_restraint_may_change_places(kind, closure, driven):
    """Of a field with as much divergence as rotation."""
    simulation = flow(kind, STEP, closure=closure, driven=driven)
    op, u = simulation.operators, simulation.velocity.coefficients
    rate = plus(random_velocity(op, 7_777), 1.0, gradient(op))
    first = simulation.forcing.tangent(u, simulation.flow.solenoidal(copied(rate)))
    last = simulation.flow.solenoidal(simulation.forcing.tangent(u, copied(rate)))
    assert norm(op, minus(first, last)) < 1e-14 * norm(op, rate)
    assert norm(op, minus(rate, first)) > 0.1 * norm(op, rate)


@pytest.mark.parametrize("kind", ["box", "channel"])
@pytest.mark.parametrize("scheme", ["midpoint", "runge_kutta"])
def test_sees_divergence(kind, scheme):
    """The last frame plus a gradient: as large, over the interval, as the whole residual."""
    simulation = flow(kind, STEP)
    frames, lost = trajectory(simulation, 2), gradient(simulation.operators)
    expected = norm(simulation.operators, lost) / STEP
    found = residual_of(simulation, scheme).dimensional([frames[0], plus(frames[1], 1.0, lost)])
    assert float(found) == pytest.approx(expected, rel=1e-9 if scheme == "runge_kutta" else 0.2)


def gradient(op):
    """Of a potential of noise; nothing passes through walls."""
    noise = random_components(op, 8_888)
    return minus(noise, project(op, noise))


def power_of_shells(forcing, u, rate):
    """What `rate` does to twice the energy of each shell."""
    products = [
        sum((f[:, i, j, k] * g[:, i, j, k] * weight).sum() for f, g in zip(u, rate, strict=True))
        for (i, j, k), weight in zip(forcing.shells, forcing.weights, strict=True)
    ]
    return torch.stack(products)


@pytest.mark.parametrize("kind", ["box", "channel"])
@pytest.mark.parametrize("scheme", [*DIFFERENCES, "runge_kutta"])
def test_grows_linearly_with_a_perturbation(kind, scheme):
    """Of one frame in the middle; what the trajectory itself leaves is subtracted."""
    simulation = flow(kind, STEP)
    residual, frames = residual_of(simulation, scheme), trajectory(simulation, 4)
    other, own = random_velocity(simulation.operators, 31_337), residual(frames)
    sizes = []
    for size in (1e-4, 1e-3, 1e-2):
        moved = [plus(u, size, other) if n == 1 else u for n, u in enumerate(frames)]
        change = [plus(r, -1.0, before) for r, before in zip(residual(moved), own, strict=True)]
        sizes.append(max(norm(simulation.operators, r) for r in change))
    orders = np.log10(np.array(sizes[1:]) / np.array(sizes[:-1]))
    assert orders == pytest.approx([1.0, 1.0], abs=0.02)
    assert sizes[0] > 1e-5


@pytest.mark.parametrize("kind", ["box", "channel"])
@pytest.mark.parametrize(("wrong", "least"), [({"nu": 1.1}, 1e-3), ({"c_s": 1.2}, 3e-3), ({"driven": "none"}, 1e-3)])
def test_sees_a_wrong_constant(kind, wrong, least):
    """10 % of the viscosity or 20 % of c_s: many orders above the round-off that the right ones leave."""
    if kind == "box" and "driven" in wrong:
        wrong = {"driven": "held_shells"}
    right = flow(kind, STEP)
    frames = trajectory(right, 3)
    changed = {"nu": wrong["nu"] * right.nu} if "nu" in wrong else {"driven": wrong.get("driven")}
    if "c_s" in wrong:
        changed = {"c_s": wrong["c_s"] * right.closure.c_s}
    other = residual_of(flow(kind, STEP, **changed))
    assert float(residual_of(right).relative(frames)) < 1e-12
    assert float(other.relative(frames)) > least


def test_frames_out_of_order_and_frozen_frames_are_seen():
    simulation = flow("box", STEP)
    residual, frames = residual_of(simulation), trajectory(simulation, 3)
    assert float(residual.relative([frames[0]] * 3)) == pytest.approx(1.0, abs=0.05)
    assert float(residual.relative(frames[::-1])) > 1.5


@pytest.mark.parametrize("kind", ["box", "channel"])
@pytest.mark.parametrize("scheme", ["central", "midpoint", "runge_kutta"])
def test_gradient_is_that_of_differences(kind, scheme):
    """Of the loss along a random direction of one frame, by autograd and by a difference quotient."""
    simulation = flow(kind, STEP)
    residual, frames = residual_of(simulation, scheme), trajectory(simulation, 3)
    frames[1] = plus(frames[1], 1e-2, random_velocity(simulation.operators, 5_555))
    direction = random_velocity(simulation.operators, 6_666)

    def loss(size):
        return residual.dimensional([frames[0], plus(frames[1], size, direction), frames[2]])

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(size), size)
    quotient = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert float(slope) == pytest.approx(float(quotient), rel=1e-6)


def test_norm_is_a_volume_mean():
    """The last frame a tenth of the first too large: a tenth of its rms velocity over the interval."""
    simulation = flow("channel", STEP)
    frames = trajectory(simulation, 2)
    wrong = [frames[0], plus(frames[1], 0.1, frames[0])]
    expected = 0.1 * norm(simulation.operators, frames[0]) / STEP
    assert float(residual_of(simulation).dimensional(wrong)) == pytest.approx(expected, rel=1e-10)


def test_by_plane_a_thin_cell_counts_as_much_as_any_other():
    """A quarter of du/dt too much in one plane of u: 0.25 / sqrt(3 ny) wherever it is, in the volume not alike."""
    simulation = flow("channel", STEP)
    frames = trajectory(simulation, 2)
    by_plane, by_volume = residual_of(simulation, norm="plane"), residual_of(simulation)
    rate, planes = by_plane.rate(frames[0]), simulation.operators.grid.y.points
    found = []
    for plane in (0, planes // 2):
        wrong = torch.zeros_like(rate[0])
        wrong[:, :, plane] = 0.25 * STEP * rate[0][:, :, plane]
        path = [frames[0], (frames[1][0] + wrong, *frames[1][1:])]
        assert float(by_plane.relative(path)) == pytest.approx(0.25 / (3 * planes) ** 0.5, rel=1e-6)
        found.append(float(by_volume.relative(path)))
    assert max(found) > 1.5 * min(found)
    assert float(by_plane.relative(frames)) < 1e-10
    assert float(by_plane.relative([frames[0], frames[0]])) == pytest.approx(1.0, abs=0.1)


def test_refuses_by_name():
    simulation = flow("channel", STEP)
    frames = trajectory(simulation, 3)

    def refused(match, function):
        with pytest.raises(CaseError, match=match) as caught:
            function()
        assert isinstance(caught.value, SolverError)
        assert "\n" not in str(caught.value)

    bigger = residual_of(flow("channel", STEP, n=10))
    refused(r"\[grid\] the LES residual of 10 x 10 x 10 .*was asked for coefficients of shape", lambda: bigger(frames))
    refused(r"needs 3 frames, got 2", lambda: residual_of(simulation, "central")(frames[:2]))
    refused(r"should be a multiple of \[time\] dt", lambda: LesResidual(simulation, 1.5 * STEP))
    refused(r"needs a fixed \[time\] dt", lambda: LesResidual(flow("channel", None), STEP))
    refused(r"alpha = 0: should be greater", lambda: residual_of(simulation, norm="h_minus_1", alpha=0.0))
    simulation.closure.advance = None
    refused(r"\[closure\] 'smagorinsky' acts between steps", lambda: residual_of(simulation))


def test_open_ends_and_iterative_pressure_have_no_residual():
    simulation = flow("box", STEP)
    x = FiniteVolumeAxis(stretched_faces(6, 0.0, 2.0, 0.0), Inflow((1.0, 0.0, 0.0)), Outflow())
    simulation.operators, closed = operators(Grid(x, walls(6), FourierAxis(1, 1.0))), simulation.operators
    with pytest.raises(CaseError, match=r"\[grid.x\] the LES residual has no open ends"):
        residual_of(simulation)
    simulation.operators, simulation.flow.projection = closed, SimpleNamespace(is_exact=False)
    with pytest.raises(CaseError, match=r"\[solids\] the LES residual needs the direct pressure solver"):
        residual_of(simulation)


def test_grids_of_these_tests_are_what_they_are_called():
    assert grid("box").is_box
    assert grid("channel").is_channel
    assert [axis.is_fourier for axis in grid("duct").axes] == [True, False, False]

"""Correctors and surrogates: what they leave alone, what they keep, and when they act."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from closures.coupling import Guard, GuardTable, StateCorrector, StateSurrogate
from closures.coupling.companion import OTHER
from closures.coupling.guard import COUNTS
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import Resampler, network_grid
from closures.operators.predictor import Predictor
from solver.discretisation.velocity import Velocity
from solver.flow.forcing import bulk_velocity
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.observers.series import fluctuation_energy
from tests.closures.flows import make_grid, make_operators, make_velocity, random_fields
from tests.coupling.flows import (
    DT,
    SCALING,
    RiggedState,
    box,
    channel,
    closure,
    distance,
    flow,
    write,
)
from tests.solids.flows import CLOSED, around, random_flow
from tests.solids.flows import simulation as around_bodies


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def rigged(answer, grid, **options):
    """A whole-field network that answers what it is told to."""
    guard = Guard(GuardTable(size=100.0, growth=100.0), "rigged", "the solver")
    return GuardedUpdate(Predictor(RiggedState(answer), SCALING), network_grid(grid), guard, **options)


def nothing(field):
    return torch.zeros_like(field)


def something(field):
    """A rough change of order one that is not divergence-free, has a mean, and does not vanish at walls."""
    return 1.0 + torch.sin(3.0 * field.flip(1)) + torch.roll(field, (1, 2), (2, 4))


@pytest.mark.parametrize("make", [channel, box])
@pytest.mark.parametrize("role", ["corrector", "surrogate"])
def test_a_network_that_changes_nothing_leaves_the_run_unchanged(tmp_path, make, role):
    """Even in float32: the change is what is added, and it is zero."""
    grid = make()
    arguments = {"modes": (2, 2, 2), "periodic": tuple(axis.periodic for axis in grid.axes)}
    folder = write(tmp_path, "fno", grid, scale=0.0, arguments=arguments, step=float(role == "surrogate"))
    if role == "corrector":
        plain, acted = flow(grid, None), flow(grid, closure("fno", folder, grid, base="none", every=2))
        for _ in range(6):
            plain.step()
            acted.step()
        assert acted.t == plain.t
    else:
        plain, acted = flow(grid, None), flow(grid, closure("fno", folder, grid, base="none"))
        for _ in range(3):
            acted.step()
        assert (acted.t, acted.step_count, acted.dt) == (3.0, 3, 1.0)  # a frozen field, three macro steps on
    assert acted.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert distance(acted, plain) < 1e-14


@pytest.mark.parametrize("kind", ["channel", "box", "duct", "cavity"])
def test_the_result_is_divergence_free_tight_at_walls_and_keeps_the_mass_flux(kind):
    grid = make_grid(kind)
    operators = make_operators(grid)
    simulation = flow(grid, StateCorrector("rigged", rigged(something, grid), None), operators)
    before = simulation.velocity
    simulation.state = simulation.stepper.corrected(simulation.state)
    after = simulation.velocity
    assert simulation.closure_state[COUNTS].tolist() == [0, 0, 0]
    change = torch.cat([(a - b).flatten() for a, b in zip(after.coefficients, before.coefficients, strict=True)])
    assert change.abs().max() > 1e-3
    assert simulation.max_divergence < 1e-13
    if grid.x.periodic:
        flux = [float(bulk_velocity(operators, v.coefficients[0])) for v in (before, after)]
        assert flux[1] == pytest.approx(flux[0], abs=1e-14)
    for d in set(grid.fourier_axes) - {0}:  # in every plane across the other directions
        old, new = (operators.mean_mode(v.coefficients[d]) for v in (before, after))
        torch.testing.assert_close(new, old, rtol=0, atol=1e-14)
    for axis in operators.volume_axes:
        assert after.coefficients[axis].narrow(axis - 3, -1, 1).abs().max() < 1e-14


def test_what_keeps_the_mass_flux_stays_out_of_solids():
    """The velocity on and in bodies is zero to the last bit, and the solids take no impulse for it."""
    momentum, projection = around(*CLOSED["periodic"], 0.02)
    simulation = around_bodies(momentum, projection, random_flow(projection), DT)
    before = simulation.velocity
    after = rigged(something, before.grid)(before, simulation.flow.solenoidal)
    blocked = [(1.0 - free) * f for free, f in zip(projection.walls.free, after, strict=True)]
    assert max(float(f.abs().max()) for f in blocked) == 0.0
    flux = [float(bulk_velocity(before.operators, u[0])) for u in (before.coefficients, after)]
    assert flux[1] == pytest.approx(flux[0], abs=1e-12)
    assert max(float((a - b).abs().max()) for a, b in zip(after, before.coefficients, strict=True)) > 0.1


def test_projection_and_mass_flux_may_be_left_out():
    grid = channel()
    simulation = flow(grid, None)
    velocity, op = simulation.velocity, simulation.operators

    def divergence(u):
        return float(op.to_physical(op.divergence(u)).abs().max())

    bare = rigged(something, grid, divergence_free=False, mass_flux=False)(velocity, simulation.flow.solenoidal)
    projected = rigged(something, grid, mass_flux=False)(velocity, simulation.flow.solenoidal)
    assert divergence(bare) > 1e-3
    assert divergence(projected) < 1e-13
    old = float(bulk_velocity(op, velocity.coefficients[0]))
    assert abs(float(bulk_velocity(op, projected[0])) - old) > 1e-3


@pytest.mark.parametrize("kind", ["channel", "box", "duct", "cavity"])
def test_the_network_sees_the_velocity_at_cell_centres_with_the_modes_of_the_case(kind):
    """A change that is the velocity itself doubles it where nothing is staggered, and its modes are the solver's."""
    grid = make_grid(kind)
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    resampler = Resampler(velocity.operators, network_grid(grid))
    seen = resampler.centred(velocity)
    for d, axis in grid.fourier_axes.items():
        assert seen.shape[1 + d] == axis.n
    doubled = resampler.changed(velocity.coefficients, seen)
    for d in range(3):
        if d not in grid.volume_axes:
            torch.testing.assert_close(doubled[d], 2 * velocity.coefficients[d], rtol=0, atol=1e-13)
    again = resampler.centred(Velocity(velocity.strain, doubled))
    for d in range(3):
        if d not in grid.volume_axes:
            torch.testing.assert_close(again[d], 2 * seen[d], rtol=0, atol=1e-12)


@pytest.mark.parametrize("points", [(6, None, 10), (16, None, 8)])
def test_other_points_cut_modes_off_or_add_none(points):
    """Modes that the network's grid lacks are neither seen nor changed; modes that the solver lacks are zero."""
    grid = channel()
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    resampler = Resampler(velocity.operators, network_grid(grid, points))
    seen = resampler.centred(velocity)
    assert seen.shape == (3, points[0], 9, points[2])
    kept = [min(n - 1, axis.n - 1) // 2 for n, axis in zip((points[0], points[2]), (grid.x, grid.z), strict=True)]
    change = resampler.changed(velocity.coefficients, seen)[0] - velocity.coefficients[0]
    u = velocity.coefficients[0]
    expected = torch.zeros_like(u)
    x, z = kept[0], kept[1]
    for part in (slice(0, x + 1), slice(-x, None)):
        expected[:, part, :, : z + 1] = u[:, part, :, : z + 1]
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-13)


def test_the_solver_goes_on_in_turns_with_the_surrogate(tmp_path):
    """Two macro steps of 0.05, then the solver for 0.03, from t = 0.025 on; steps make up the time between."""
    grid = channel()
    folder = write(tmp_path, "ifactformer_m", grid, step=0.05)
    options = {"macro": 2, "between": 0.03, "start": 0.025, "base": "smagorinsky"}
    simulation = flow(grid, closure("surrogate", folder, grid, **options))
    times = []
    for _ in range(14):
        simulation.step()
        times.append(round(simulation.t, 9))
    cycle = [0.075, 0.125, 0.135, 0.145, 0.155]
    later = [round(t + 0.13, 9) for t in cycle]
    assert times == [0.008333333, 0.016666667, 0.025, *cycle, *later, 0.335]
    assert simulation.control.limit == "surrogate"


def test_a_surrogate_does_not_step_beyond_the_end(tmp_path):
    grid = channel()
    simulation = flow(grid, closure("surrogate", write(tmp_path, "ifactformer_m", grid, step=0.05), grid))
    simulation.step(longest=0.02)
    assert simulation.t == DT
    simulation.step(longest=0.04)
    assert simulation.t == 2 * DT


def test_refused_macro_steps_are_done_by_the_solver():
    grid = channel()
    guard = Guard(GuardTable(patience=1000), "rigged", "the solver")
    field = GuardedUpdate(Predictor(RiggedState(lambda f: f * torch.nan), SCALING), network_grid(grid), guard)
    acted, plain = flow(grid, StateSurrogate("rigged", field, None, span=0.025)), flow(grid, None)
    for _ in range(6):
        acted.step()
    assert acted.t == pytest.approx(0.05)
    assert acted.closure_state[COUNTS].tolist() == [2, 2, 0]
    for _ in range(6):
        plain.step(longest=0.025 / 3)  # DT = 0.01 asks for three
    assert distance(acted, plain) < 1e-13


@pytest.mark.parametrize(("options", "expected"), [({"every": 3}, [3, 6, 9]), ({"interval": 0.025}, [3, 6, 9])])
def test_corrections_come_every_n_steps_or_at_multiples_of_an_interval(tmp_path, options, expected):
    grid, seen = channel(), []
    field = rigged(nothing, grid)
    corrector = StateCorrector("rigged", field, None, **options)
    simulation = flow(grid, corrector)
    for step in range(1, 11):
        calls = field.update.predictor.network.calls
        simulation.step()
        seen += [step] * (field.update.predictor.network.calls - calls)
    assert seen == expected
    assert simulation.t == pytest.approx(0.1 if "every" in options else 3 * 0.025 + 0.025 / 3)


@pytest.mark.parametrize(("times", "times_said"), [(1, 0), (3, 1), (0, 0)])
@pytest.mark.parametrize("role", ["corrector", "surrogate"])
def test_solver_steps_unlike_those_of_the_training_are_named_once(caplog, role, times, times_said):
    """Macro steps are not the solver's: the surrogate's are five times as long."""
    grid = channel()
    field, options = rigged(nothing, grid), {"solver_step": times * DT}
    if role == "corrector":
        model = StateCorrector("rigged", field, None, every=2, **options)
    else:
        model = StateSurrogate("rigged", field, None, span=5 * DT, between=3 * DT, **options)
    simulation = flow(grid, model)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(4 * OTHER):
            simulation.step()
    assert caplog.text.count("trained beside solver steps of 0.03, here they are 0.01") == times_said
    assert caplog.text.count("trained beside") == times_said


def test_one_corrector_in_many_runs_knows_nothing_of_the_runs_before(caplog):
    """A closure is a value: the way back from the end of one run to the start of the next is no step."""
    grid = channel()
    model = StateCorrector("rigged", rigged(nothing, grid), None, every=2, solver_step=DT)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(2 * OTHER):
            flow(grid, model).step()
    assert caplog.text == ""


@pytest.mark.parametrize("options", [{"every": 2}, {"interval": 0.025}])
def test_a_restarted_run_is_corrected_at_the_same_instants(tmp_path, options):
    grid = channel()
    folder = write(tmp_path, "ifactformer_m", grid)

    def start():
        model = closure("corrector", folder, grid, base="dynamic_smagorinsky", base_options={"every": 2}, **options)
        return flow(grid, model)

    straight, second = start(), start()
    for _ in range(4):
        straight.step()
    memory = {name: value.clone() for name, value in straight.closure_state.items()}
    velocity = second.flow.velocity(straight.velocity.coefficients)
    second.state = replace(straight.state, velocity=velocity, closure=memory)
    for _ in range(5):
        straight.step()
        second.step()
    assert straight.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert distance(straight, second) == 0.0
    assert straight.t == second.t


def test_observers_find_the_pressure_of_the_surrogate_s_velocity(tmp_path):
    """A frozen field keeps the pressure that its own tendency calls for."""
    grid = box()
    arguments = {"modes": (2, 2, 2), "periodic": (True, True, True)}
    folder = write(tmp_path, "fno", grid, scale=0.0, arguments=arguments, step=1.0)
    acted, plain = flow(grid, closure("surrogate", folder, grid, base="none")), flow(grid, None, dt=1e-6)
    acted.step()
    plain.step()
    p, found = (f.flow.pressure_coefficients(f.state) for f in (plain, acted))
    torch.testing.assert_close(found, p, rtol=0, atol=1e-5 * float(p.abs().max()))


def test_fluctuation_energy_is_that_of_what_is_not_the_mean():
    grid = Grid(*(FourierAxis(8, 6.0) for _ in range(3)))
    op = make_operators(grid)
    u = make_velocity(op, random_fields(grid)).coefficients
    total = sum(0.5 * float(op.inner_product(c, c)) for c in u)
    mean = sum(0.5 * float(op.mean_mode(c).pow(2).sum()) for c in u)
    assert float(fluctuation_energy(op, u)) == pytest.approx(total - mean, rel=1e-12)
    assert mean > 0

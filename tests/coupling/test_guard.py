"""Networks that are deliberately bad: refused, counted, said once, replaced, and in the end stopped or switched off."""

from __future__ import annotations

import logging
import time
from itertools import pairwise

import pytest
import torch

from closures.coupling import GuardedModel, GuardTable, NetworkRefused, StateCorrector, SubgridModel
from closures.coupling.guard import COUNTS, Guard
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import network_grid
from closures.operators.predictor import Predictor
from closures.registry import registry
from solver.errors import Diverged
from solver.flow.closure import EddyViscosity, SubgridStress
from tests.coupling.flows import NU, SCALING, Rigged, RiggedState, box, channel, distance, flow, smagorinsky_like


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def stress(value):
    return lambda gradient, cells: torch.full_like(gradient[:, :2].flatten(1, 2), value)


def out_of_memory(gradient, cells):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


def late(gradient, cells):
    time.sleep(0.02)
    return smagorinsky_like(1.0)(gradient, cells)


BAD = {
    "nan": (stress(float("nan")), "its answer is not finite"),
    "infinite": (stress(float("inf")), "its answer is not finite"),
    "huge": (stress(1e3), "its answer is too large"),
    "sign-flipped": (smagorinsky_like(-1.0), "it feeds energy to the flow"),
    "shape": (lambda gradient, cells: gradient[:, :, 0], "its answer has the wrong shape"),
    "failure": (out_of_memory, "it failed: OutOfMemoryError: CUDA out of memory."),
    "late": (late, "its answer came late"),
}


def guarded(answer, grid, fallback="smagorinsky", **settings):
    model = SubgridModel(Rigged(answer), grid=grid, nu=NU, name="rigged", precision="float64")
    reserve = registry.create(fallback, grid=grid, nu=NU)
    return GuardedModel(model, reserve, GuardTable(**settings), None)


@pytest.mark.parametrize("kind", BAD)
def test_bad_networks_are_replaced_by_the_algebraic_closure_and_counted(kind, caplog):
    answer, reason = BAD[kind]
    grid = channel()
    settings = {"patience": 1000} | ({"timeout": 0.01} if kind == "late" else {})
    bad, plain = (
        flow(grid, guarded(answer, grid, **settings)),
        flow(grid, registry.create("smagorinsky", grid=grid, nu=NU)),
    )
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(3):
            bad.step()
            plain.step()
    assert distance(bad, plain) == 0.0
    assert bad.closure_state[COUNTS].tolist() == [9, 9, 0]  # three stages a step
    said = [record.getMessage() for record in caplog.records if "overruled" in record.getMessage()]
    assert len(said) == 1
    assert f"'rigged' was overruled, {reason}" in said[0]
    assert "'smagorinsky' acts instead" in said[0]


def test_every_run_says_what_was_refused(caplog):
    """One model in two runs: the log of the second does not rely on that of the first."""
    grid = channel()
    model = guarded(stress(float("nan")), grid, patience=1000)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(2):
            simulation = flow(grid, model)
            simulation.step()
            simulation.step()
    assert caplog.text.count("was overruled, its answer is not finite") == 2


ANTI = 4.0


def energies(grid, model, steps):
    """Kinetic energy after each step of a decaying box."""
    simulation, found = flow(grid, model, dt=0.05), []
    for _ in range(steps):
        simulation.step()
        c = simulation.velocity.coefficients
        found.append(sum(float(simulation.operators.inner_product(f, f)) for f in c))
    return found


def test_what_the_guard_is_for():
    """Anti-diffusion: without the guard energy grows until there is none to speak of, with it the flow decays."""
    grid = box()
    model = SubgridModel(Rigged(smagorinsky_like(-ANTI)), grid=grid, nu=NU, precision="float64")
    bare = energies(grid, model, 15)
    assert bare[-1] > 1.5 * bare[0]
    with pytest.raises(Diverged, match="not finite"):
        energies(grid, model, 400)
    held = energies(grid, guarded(smagorinsky_like(-ANTI), grid, patience=1000), 15)
    assert all(after < before for before, after in pairwise(held))


def test_a_good_network_is_left_alone():
    grid = channel()
    model = guarded(smagorinsky_like(1.0), grid)
    simulation, bare = flow(grid, model), flow(grid, model.model)
    for _ in range(3):
        simulation.step()
        bare.step()
    assert distance(simulation, bare) == 0.0
    assert simulation.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert isinstance(simulation.present_term(), SubgridStress)


def test_the_count_in_a_row_starts_anew_after_a_good_answer():
    grid = channel()
    answers = iter([float("nan"), float("nan"), 0.0, float("nan")])
    model = guarded(lambda g, cells: torch.full_like(g[:, :2].flatten(1, 2), next(answers)), grid, patience=3)
    simulation = flow(grid, model)
    state, seen = simulation.closure_state, []
    for _ in range(4):
        _, state = model(simulation.velocity, 0.0, state)
        seen.append(state[COUNTS].tolist())
    assert seen == [[1, 1, 0], [2, 2, 0], [2, 0, 0], [3, 1, 0]]


@pytest.mark.parametrize("fallback", ["smagorinsky", "dynamic_smagorinsky", "none"])
def test_after_enough_refusals_the_network_is_switched_off(fallback):
    grid = channel()
    model = guarded(stress(float("nan")), grid, fallback, patience=4, then="disable")
    simulation, plain = flow(grid, model), flow(grid, registry.create(fallback, grid=grid, nu=NU))
    for _ in range(3):
        simulation.step()
        plain.step()
    assert simulation.closure_state[COUNTS].tolist() == [4, 4, 1]
    assert model.model.network.calls == 4
    assert distance(simulation, plain) == 0.0


def test_or_the_run_stops_and_says_why():
    grid = channel()
    simulation = flow(grid, guarded(stress(float("nan")), grid, patience=4))
    simulation.step()
    before = simulation.velocity.coefficients
    with pytest.raises(
        NetworkRefused, match=r"'rigged' was overruled 4 times in a row.*not finite.*then = 'disable'"
    ) as caught:
        simulation.step()
    assert caught.value.exit_code == 3
    assert simulation.step_count == 1
    assert all(torch.equal(a, b) for a, b in zip(before, simulation.velocity.coefficients, strict=True))


def test_observers_do_not_count():
    grid = channel()
    simulation = flow(grid, guarded(stress(float("nan")), grid))
    assert isinstance(simulation.present_term(), EddyViscosity)
    assert simulation.closure_state[COUNTS].tolist() == [0, 0, 0]


def test_injection_and_size_may_be_allowed():
    grid = channel()
    for settings in ({"injection": 0.1}, {"injection": 1.0, "size": 1.0}):
        model = guarded(smagorinsky_like(-1.0), grid, **settings)
        simulation = flow(grid, model)
        assert isinstance(simulation.present_term(), SubgridStress)
    narrow = flow(grid, guarded(smagorinsky_like(1.0), grid, size=1e-3))
    assert isinstance(narrow.present_term(), EddyViscosity)


WRONG = {
    "nan": (lambda f: f * float("nan"), "its answer is not finite"),
    "huge": (lambda f: 1e3 + 0 * f, "its answer is too large"),
    "shape": (lambda f: f[:, :2], "it failed: RuntimeError"),
    "growth": (
        lambda f: 2.0 * (f - f.mean(dim=(2, 4), keepdim=True)),
        "it feeds energy to the flow",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_bad_corrections_are_left_out(kind, caplog):
    answer, reason = WRONG[kind]
    grid = channel()
    units = SCALING if kind != "growth" else SCALING.model_copy(update={"change": SCALING.std})
    table = GuardTable(patience=1000, size=100.0 if kind == "growth" else None)
    field = GuardedUpdate(
        Predictor(RiggedState(answer), units), network_grid(grid), Guard(table, "rigged", "no correction")
    )
    simulation, plain = flow(grid, StateCorrector("rigged", field, None)), flow(grid, None)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(3):
            simulation.step()
            plain.step()
    assert field.update.predictor.network.calls == 3
    assert distance(simulation, plain) == 0.0
    assert simulation.closure_state[COUNTS].tolist() == [3, 3, 0]
    assert [reason in record.getMessage() for record in caplog.records] == [True]

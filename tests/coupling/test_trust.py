"""How far a surrogate is from the solver's equations: identities, what the guard does with it, where it is written."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from closures.coupling.familiarity import features, fitted
from closures.coupling.guard import COUNTS, NetworkRefused
from closures.coupling.resample import Resampler, network_grid
from closures.losses.les_residual import LesResidual
from closures.operators.domain import Domain
from solver.errors import CaseError
from solver.flow.forcing import MassFlux
from solver.flow.simulation import Simulation
from solver.observers.series import TimeSeries, columns, momentum_imbalance, wall_friction_velocity
from solver.run.stability import in_words, stability
from tests.coupling.flows import DT, channel, closure, distance, in_turns, write
from tests.coupling.flows import flow as small_flow
from tests.grids import minus, norm, random_velocity
from tests.losses.flows import copied, flow, plus
from tests.runs import ended, mpirun
from tests.solids import flows as solids

SPAN = 0.02
FLOWS = [
    ("box", "smagorinsky", "none"),
    ("box", "none", "held_shells"),
    ("channel", "smagorinsky", "mass_flux"),
    ("channel", "wale", "pressure_gradient"),
    ("duct", "none", "mass_flux"),
]
every_flow = pytest.mark.parametrize(("kind", "model", "driven"), FLOWS)


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def plain_flow(kind, span, model="smagorinsky", driven=None, nu=None) -> Simulation:
    """A flow whose steps are half a span; around a post at constant mass flux for ``post``."""
    if kind != "post":
        return flow(kind, span / 2, closure=model, driven=driven, nu=nu)
    momentum, projection = solids.around(*solids.CLOSED["plane"], 0.05)
    forcing = MassFlux(momentum.operators, 0.5, projection.response())
    calm = solids.simulation(momentum, projection, solids.random_flow(projection), 2e-3, forcing)
    for _ in range(20):
        calm.step()
    return solids.simulation(momentum, projection, calm.velocity.coefficients, span / 2, forcing)


def solved(simulation):
    """The answer is what another simulation, which is at the same place, comes to in a span of two steps."""

    def answer(velocity):
        simulation.step()
        simulation.step()
        return copied(simulation.velocity.coefficients)

    return answer


def trust(plain, answer, span=SPAN):
    """Of one macro step."""
    acted = in_turns(plain, span, answer)
    acted.step()
    assert acted.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert acted.t == span
    return acted.residual_trust


@pytest.mark.parametrize(("kind", "model", "driven"), [*FLOWS, ("post", "none", "mass_flux")])
def test_vanishes_at_second_order_where_the_answer_is_the_solver_s(kind, model, driven):
    spans = (0.25 if kind != "post" else 0.05) * SPAN / 2.0 ** np.arange(3)
    values = []
    for span in spans:
        plain = plain_flow(kind, span, model, driven)
        values.append(trust(plain, solved(plain_flow(kind, span, model, driven)), span))
    assert values[0] < 1e-2
    assert np.polyfit(np.log(spans), np.log(values), 1)[0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("kind", "model", "driven"), [*FLOWS, ("post", "none", "mass_flux")])
def test_a_frozen_answer_scores_one(kind, model, driven):
    assert trust(plain_flow(kind, SPAN, model, driven), copied) == pytest.approx(1.0, rel=1e-9)


@every_flow
def test_it_is_the_midpoint_residual_of_the_losses(kind, model, driven):
    """For an answer that is not a solution."""
    plain = plain_flow(kind, SPAN, model, driven)
    other = random_velocity(plain.operators, 31_337)
    before = copied(plain.velocity.coefficients)
    after = plus(before, 1e-2, other)
    residual = LesResidual(plain, SPAN, "midpoint")
    assert trust(plain, lambda u: after) == pytest.approx(float(residual.relative([before, after])), rel=1e-12)


def distance_of(a, b):
    """Largest difference of two fields."""
    return max(float((f - g).abs().max()) for f, g in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", ["box", "channel"])
def test_grows_linearly_with_a_perturbation_of_the_answer(kind):
    """Of size a by ``a |d| / span`` over ``|du/dt|``, as long as the span is short."""
    span, values, sizes = 1e-3, [], (1e-3, 2e-3, 4e-3)
    for size in sizes:
        plain, exact = plain_flow(kind, span), solved(plain_flow(kind, span))
        op = plain.operators
        other = random_velocity(op, 31_337)
        values.append(trust(plain, lambda u, s=size, e=exact, d=other: plus(e(u), s, d), span))
    slope = norm(op, LesResidual(plain, span, "midpoint").rate(plain.velocity.coefficients))
    assert np.array(values) / sizes == pytest.approx(norm(op, other) / span / slope, rel=0.03)


@pytest.mark.parametrize("kind", ["box", "channel"])
def test_sees_a_wrong_viscosity(kind):
    """A tenth too much: in the limit of short spans the norm of the difference of the two slopes."""
    span = 1e-3
    plain = plain_flow(kind, span)
    wrong = plain_flow(kind, span, nu=1.1 * plain.nu)
    u = plain.velocity.coefficients
    wrong.state = replace(wrong.state, velocity=wrong.flow.velocity(u))
    own, other = (LesResidual(s, span, "midpoint").rate(u) for s in (plain, wrong))
    expected = norm(plain.operators, minus(other, own)) / norm(plain.operators, own)
    right = trust(plain, solved(plain_flow(kind, span)), span)
    assert trust(plain, solved(wrong), span) == pytest.approx(expected, rel=0.02)
    assert right < 0.05 * expected


def test_the_guard_refuses_and_the_solver_does_the_span(caplog):
    """A frozen answer scores one: two are allowed, half is not."""
    allowed = in_turns(plain_flow("channel", SPAN), SPAN, copied, residual=2.0)
    plain = plain_flow("channel", SPAN)
    held = in_turns(plain, SPAN, copied, residual=0.5, patience=1000)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(2):
            allowed.step()
        for _ in range(4):
            held.step()
            plain.step()
            assert np.isnan(held.residual_trust)
    assert distance_of(allowed.velocity.coefficients, plain_flow("channel", SPAN).velocity.coefficients) < 1e-15
    assert allowed.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert allowed.t == held.t == pytest.approx(2 * SPAN)
    assert distance(held, plain) < 1e-13
    assert held.closure_state[COUNTS].tolist() == [2, 2, 0]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "departs from the equations: residual 1 of du/dt, at most 0.5; the solver acts instead" in said[0]


def test_too_many_refusals_end_the_run():
    acted = in_turns(plain_flow("channel", SPAN), SPAN, copied, residual=0.5, patience=2)
    acted.step(longest=SPAN)
    acted.step(longest=SPAN / 2)
    with pytest.raises(NetworkRefused, match="departs from the equations"):
        acted.step()


def test_a_case_sets_the_bound_for_surrogates_alone(tmp_path):
    """A network with random weights: what it scores is written, and above the bound it is refused."""
    grid, guard = channel(), {"patience": 100}
    folder = write(tmp_path / "s", "ifactformer_m", grid, step=0.05)
    free = small_flow(grid, closure("surrogate", folder, grid, guard=guard))
    free.step()
    value = free.residual_trust
    assert free.t == 0.05
    assert 0 < value < float("inf")
    for factor, refusals in ((0.99, 1), (1.01, 0)):
        bound = guard | {"residual": factor * value}
        held = small_flow(grid, closure("surrogate", folder, grid, guard=bound))
        held.step()
        assert held.closure_state[COUNTS].tolist() == [refusals, refusals, 0]
        assert held.t == (DT if refusals else 0.05)
    corrector = write(tmp_path / "c", "ifactformer_m", grid)
    with pytest.raises(CaseError, match=r"\[closure.guard\] residual is for surrogates, .* is a corrector"):
        closure("corrector", corrector, grid, guard={"residual": 2.0})


def test_the_time_series_has_a_column_for_surrogates_alone(tmp_path):
    """Not a number where the solver acted: here two steps after each macro step."""
    plain = plain_flow("channel", SPAN)
    acted = in_turns(plain, SPAN, lambda u: plus(u, 0.1, random_velocity(plain.operators, 31_337)), between=SPAN)
    expected = [np.nan]
    for simulation, name in ((plain, "plain"), (acted, "acted")):
        (tmp_path / name).mkdir()
        series = TimeSeries(simulation, tmp_path / name, 1)
        for _ in range(4):
            simulation.step()
            series(simulation)
            if simulation is acted:
                expected.append(acted.residual_trust)
    tables = [np.genfromtxt(tmp_path / n / "timeseries.csv", delimiter=",", names=True) for n in ("plain", "acted")]
    assert "residual_trust" not in tables[0].dtype.names
    np.testing.assert_allclose(tables[1]["residual_trust"], expected, rtol=1e-10)
    assert np.isfinite(expected).tolist() == [False, True, False, False, True]


def test_the_summary_says_how_a_flow_has_held(tmp_path):
    """Means over the first and the last fifth of the macro steps, whatever lies in between them."""
    rows = [[n, 0.1 if n % 3 == 0 else np.nan, 1.0 + n, 2.0] for n in range(60)]
    lines = ["step,residual_trust,fluctuation_energy,other", *(",".join(f"{x:g}" for x in row) for row in rows)]
    (tmp_path / "timeseries.csv").write_text("\n".join(lines) + "\n")
    found = stability(tmp_path / "timeseries.csv")
    assert found["fluctuation_energy"] == pytest.approx({"first": 5.5, "last": 53.5, "largest": 58.0})
    assert set(found) == {"fluctuation_energy", "residual_trust"}
    assert "energy of fluctuations 5.5 -> 53.5 (at most 58)" in in_words(found)
    (tmp_path / "timeseries.csv").write_text("\n".join(lines[:4]) + "\n")
    assert stability(tmp_path / "timeseries.csv") == {}
    assert in_words({}) == ""


def test_the_imbalance_of_momentum_is_what_an_answer_adds_to_the_mean_flow():
    """The solver's answer, faster by what a force along x adds: that force over the friction; alone it has none."""
    found, force, span = [], 0.7, 0.25 * SPAN
    for added in (0.0, force):
        plain = plain_flow("channel", span)
        simulation = in_turns(plain, span, pushed(plain.operators, solved(plain), added * span))
        assert np.isnan(momentum_imbalance(simulation))
        simulation.step()
        half = simulation.operators.grid.reach_of_walls(1)
        found.append(momentum_imbalance(simulation) * wall_friction_velocity(simulation) ** 2 / half)
    assert found[0] < 0.01 * force
    assert found[1] == pytest.approx(force, rel=0.02)


def pushed(operators, answer, speed):
    """That answer with everything along x faster by `speed`."""

    def faster(velocity):
        u, v, w = answer(velocity)
        u = u.clone()
        operators.mean_mode(u)[:1] += speed
        return u, v, w

    return faster


def test_a_network_that_knows_its_flows_says_how_far_they_are(tmp_path):
    """A column of the series, the same as the guard looks at, and none where that is not known."""
    grid = channel()
    folder = write(tmp_path / "s", "differential", grid, step=0.05)
    plain = small_flow(grid, closure("surrogate", folder, grid))
    assert "familiarity" not in columns(plain)
    domain = Domain.of(network_grid(grid))
    seen = Resampler(plain.operators, network_grid(grid)).centred(plain.velocity)
    known = features(seen, domain)
    samples = known + 0.1 * torch.randn((3, 12, len(known)), generator=torch.Generator().manual_seed(551_902)).double()
    fitted({"own": list(samples)}).save(folder)
    told = small_flow(grid, closure("surrogate", folder, grid))
    value = columns(told)["familiarity"]()
    assert value == pytest.approx(float(fitted({"own": list(samples)}).distance(seen, domain)), rel=1e-3)
    assert 0 < value < 1
    held = small_flow(grid, closure("surrogate", folder, grid, guard={"familiar": 0.99 * value}))
    held.step()
    assert held.closure_state[COUNTS].tolist()[0] == 1


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is missing")
def test_ranks_agree(tmp_path):
    """Frozen, perturbed, refused."""
    script, runs = Path(__file__).with_name("run_trust.py"), {}
    for ranks in (1, 2):
        done = ended(mpirun(ranks, script, tmp_path / f"{ranks}.npz"))
        assert done.code == 0, done.out + done.err
        runs[ranks] = np.load(tmp_path / f"{ranks}.npz")
    for kind in ("box", "channel", "duct"):
        one = runs[1][kind]
        assert one[0] == pytest.approx(1.0, rel=1e-9)
        assert 0.0 < one[1] < 5.0
        assert abs(one[1] - 1.0) > 1e-3
        assert np.isnan(one[2])
        assert one[3:].tolist() == [1, 1, 0]
        np.testing.assert_allclose(runs[2][kind], one, rtol=1e-10)
    one, two = (runs[ranks]["channel/momentum"] for ranks in (1, 2))
    assert one[1] > 0.0
    assert np.isnan(one[2])
    np.testing.assert_allclose(two, one, rtol=1e-10)

"""The contract of a closure, for every closure of the registry on every kind of grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from closures.algebraic.cutoff import coarse_points
from closures.registry import contract, registry
from solver.discretisation import fusion
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity
from tests import runs
from tests.closures.flows import (
    KINDS,
    NU,
    VARIANTS,
    answer,
    assert_same,
    assert_slope,
    drain,
    exchange,
    exchange_answer,
    fields_for,
    make_grid,
    make_operators,
    make_velocity,
    moved,
    reflect,
    uniform,
)

REFUSED = {("dynamic_smagorinsky", "cavity"), ("two_part", "cavity"), ("easm", "cavity")}
CASES = [
    pytest.param(name, options, kind, id="-".join([name, *options.values(), kind]))
    for name, options in VARIANTS
    for kind in KINDS
    if (name, kind) not in REFUSED
]
every_case = pytest.mark.parametrize(("name", "options", "kind"), CASES)


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def build(name, options, grid, nu=NU):
    return registry.create(name, grid=grid, nu=nu, options=options)


def first(name, options, kind, fields, wall_velocity=(0.0, 0.0, 0.0), nu=NU):
    """The first answer to a velocity: (1, nx, ny, nz) of a viscosity, (6, nx, ny, nz) of a stress."""
    grid = make_grid(kind, wall_velocity)
    return answer(build(name, options, grid, nu), make_velocity(make_operators(grid), fields)).numpy()


@every_case
def test_shape_place_and_sign(name, options, kind):
    grid = make_grid(kind)
    closure, velocity = build(name, options, grid), make_velocity(make_operators(grid), fields_for(name, grid))
    term, _ = closure(velocity, 0.0, closure.init(velocity.operators))
    fields = [term.nu_t] if isinstance(term, EddyViscosity) else list(term.tau)
    assert all(f.shape == grid.shape and f.dtype == torch.float64 for f in fields)
    assert all(float(f.abs().max()) > 0.0 for f in fields)
    eps_sgs = drain(term, velocity)
    if isinstance(term, EddyViscosity):
        assert float(term.nu_t.min()) >= 0.0
        assert float(eps_sgs.min()) >= 0.0
    assert float((eps_sgs * torch.from_numpy(grid.cell_volume)).sum()) > 0.0


@every_case
def test_zero_at_rest_and_in_uniform_flow(name, options, kind):
    still = [np.zeros(make_grid(kind).shape)] * 3
    assert np.all(first(name, options, kind, still) == 0.0)
    assert np.abs(first(name, options, kind, moved(still, uniform(kind)), uniform(kind))).max() < 1e-12


@every_case
def test_galilean_invariance(name, options, kind):
    fields = fields_for(name, make_grid(kind))
    expected = first(name, options, kind, fields)
    assert_same(expected, first(name, options, kind, moved(fields, uniform(kind)), uniform(kind)), 1e-10)


@every_case
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reflection(name, options, kind, axis):
    grid = make_grid(kind)
    fields = fields_for(name, grid)
    expected = contract.reflect_answer(first(name, options, kind, fields), axis, grid.axes[axis])
    assert_same(expected, first(name, options, kind, reflect(fields, axis, grid.axes[axis])), 1e-10)


def shift_of(name, options, axis):
    """Points by which a closure may be shifted: the averaged dynamic model lives on coarse ones."""
    if not axis.is_fourier:
        return 0
    dynamic = "dynamic_smagorinsky" in (name, options.get("model")) and options.get("averaging") != "local"
    averaged = dynamic or name == "easm"
    return axis.points // coarse_points(axis) if averaged else 3


@every_case
def test_shift_along_fourier_directions(name, options, kind):
    grid = make_grid(kind)
    fields = fields_for(name, grid)
    steps = tuple(shift_of(name, options, axis) for axis in grid.axes)
    expected = np.roll(first(name, options, kind, fields), steps, (1, 2, 3))
    assert_same(expected, first(name, options, kind, [np.roll(f, steps, (0, 1, 2)) for f in fields]), 1e-10)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize(("name", "options", "kind"), [case for case in CASES if case.values[2] in ("box", "cavity")])
def test_exchange_of_axes_and_quarter_turn(name, options, kind, a, b):
    line = make_grid(kind).x
    fields = fields_for(name, make_grid(kind))
    exchanged = exchange_answer(first(name, options, kind, fields), a, b)
    assert_same(exchanged, first(name, options, kind, exchange(fields, a, b)), 1e-10)
    turned = reflect(exchange(fields, a, b), a, line)
    assert_same(contract.reflect_answer(exchanged, a, line), first(name, options, kind, turned), 1e-10)


@every_case
def test_scales_with_the_velocity(name, options, kind):
    fields = fields_for(name, make_grid(kind))
    expected = first(name, options, kind, fields)
    power = 1 if len(expected) == 1 else 2
    found = first(name, options, kind, [2.5 * f for f in fields], nu=2.5 * NU)
    assert_same(2.5**power * expected, found, 1e-11)


@every_case
def test_deterministic_and_leaves_its_arguments_alone(name, options, kind):
    grid = make_grid(kind)
    velocity = make_velocity(make_operators(grid), fields_for(name, grid))
    closure = build(name, options, grid)
    state = closure.init(velocity.operators)
    held = [c.clone() for c in (*velocity.coefficients, *velocity.staggered, *state.values())]
    once, twice = (torch.from_numpy(contract.values(closure(velocity, 0.0, state)[0], velocity)) for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(once, answer(build(name, options, grid), velocity))
    for before, after in zip(held, (*velocity.coefficients, *velocity.staggered, *state.values()), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind", ["channel", "box", "duct"])
@pytest.mark.parametrize(("name", "options"), [*VARIANTS, ("dynamic_smagorinsky", {"every": 2})])
def test_restart_equals_straight_run(name, options, kind):
    grid = make_grid(kind)
    operators = make_operators(grid)
    flows = [make_velocity(operators, fields_for(name, grid, seed)) for seed in (11, 12, 13, 14)]
    closure = build(name, options, grid)
    state, straight = closure.init(operators), []
    for i, flow in enumerate(flows):
        term, state = closure(flow, 0.01 * i, state)
        straight.append(contract.values(term, flow))
    state, restarted = closure.init(operators), []
    for i, flow in enumerate(flows):
        term, state = build(name, options, grid)(flow, 0.01 * i, {key: value.clone() for key, value in state.items()})
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        restarted.append(contract.values(term, flow))
    assert all(np.array_equal(a, b) for a, b in zip(straight, restarted, strict=True))


@every_case
def test_gradient_matches_differences(name, options, kind):
    grid = make_grid(kind)
    base = make_velocity(make_operators(grid), fields_for(name, grid))
    direction = make_velocity(base.operators, fields_for(name, grid, seed=19)).coefficients
    closure = build(name, options, grid)
    weight = torch.from_numpy(np.random.default_rng(23).standard_normal((6, *grid.shape)))

    def functional(step):
        c = tuple(u + step * d for u, d in zip(base.coefficients, direction, strict=True))
        found = answer(closure, Velocity(base.strain, c))
        return (found * weight[: len(found)]).sum()

    assert_slope(functional, 2e-5)


@every_case
@pytest.mark.parametrize("flow", ["rest", "shear"])
def test_gradient_is_finite_where_the_model_vanishes(name, options, kind, flow):
    grid = make_grid(kind)
    shear = np.zeros(grid.shape)
    if flow == "shear":
        shear += (np.sin(2 * np.pi * grid.y.centres / grid.y.length))[None, :, None]
    velocity = make_velocity(make_operators(grid), [shear * (kind != "cavity"), 0 * shear, 0 * shear])
    closure = build(name, options, grid)
    with torch.enable_grad():
        c = tuple(u.clone().requires_grad_() for u in velocity.coefficients)
        slopes = torch.autograd.grad(answer(closure, Velocity(velocity.strain, c)).sum(), c)
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


@pytest.mark.parametrize(
    ("name", "options", "kind"), [case for case in CASES if case.values[2] == "channel" or case.values[0] == "wale"]
)
def test_the_contract_as_anyone_may_ask_for_it(name, options, kind):
    """`closures.registry.contract`, which is for closures of other packages, finds what the tests above find."""
    subject = contract.Subject(lambda grid: build(name, options, grid), make_grid(kind), 1e-10)
    found = contract.examine(subject)
    assert {"repeats", "restarts", "rests", "galilean", "shift", "reflection"} == set(found)
    assert set(found.values()) == {"kept"}


class Wrong:
    """An eddy viscosity that keeps nothing of what it declares."""

    name, reach = "wrong", 0
    symmetries = frozenset({"galilean", "shift", "reflection"})

    def __init__(self):
        self.calls = 0

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        self.calls += 1
        x, y, z = velocity.operators.coordinates()
        return EddyViscosity((velocity.centred[0] + 1.0) ** 2 * (1.0 + x + y + z) * self.calls), state


def test_what_does_not_keep_the_contract_is_found():
    found = contract.examine(contract.Subject(lambda grid: Wrong(), make_grid("channel")))
    assert found["repeats"] == "two calls with equal arguments give different answers"
    assert found["rests"].endswith("in a fluid at rest, expected 0")
    for clause in ("restarts", "galilean", "shift"):
        assert found[clause].startswith("the answer differs by"), clause
    assert "kept" not in found.values()


@runs.needs_mpirun
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_same_on_any_number_of_ranks(ranks):
    done = runs.ended(runs.mpirun(ranks, Path(__file__).with_name("check_ranks.py")))
    assert done.code == 0, done.out + done.err
    assert f"ranks {ranks} compared {len(CASES)}" in done.out


@pytest.mark.slow
@pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")
@pytest.mark.parametrize("name", ["wale", "dynamic_smagorinsky", "two_part"])
@pytest.mark.parametrize("kind", ["channel", "box"])
def test_compiled_kernels_agree_with_plain_ones(name, kind):
    fields = fields_for(name, make_grid(kind))
    plain = first(name, {}, kind, fields)
    torch._dynamo.reset()
    fusion.enable()
    try:
        compiled = first(name, {}, kind, fields)
    finally:
        fusion.enable(False)
    assert_same(plain, compiled, 1e-12)


def test_dynamic_model_refuses_a_flow_without_fourier_directions():
    with pytest.raises(CaseError, match="use 'wale'"):
        build("dynamic_smagorinsky", {}, make_grid("cavity"))

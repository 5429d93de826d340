"""The contract of a closure for learned subgrid models, on the grids and with the fields of the algebraic ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.coupling import GuardedModel, GuardTable
from closures.coupling.split_model import subgrid_model
from closures.coupling.strength import StrengthCheck
from closures.operators import artefact
from closures.operators.artefact import CARD, read_card
from closures.operators.shipped import shipped
from solver.discretisation import fusion
from solver.discretisation.velocity import Velocity
from solver.flow.closure import STRESS_INDEX, EddyViscosity
from tests.closures.flows import (
    NU,
    assert_same,
    assert_slope,
    exchange,
    make_grid,
    make_operators,
    make_velocity,
    moved,
    random_fields,
    reflect,
    reflect_scalar,
    uniform,
)
from tests.coupling.flows import small

NETWORKS = ["tensor_basis", "cnn", "split_stress"]
CASES = [
    pytest.param(name, form, kind, id=f"{name}-{form}-{kind}")
    for name, form, kinds in (
        ("tensor_basis", "stress", ["channel", "box", "duct", "cavity"]),
        ("tensor_basis", "eddy_viscosity", ["channel", "box"]),
        ("cnn", "stress", ["channel", "box", "cavity"]),
        ("cnn", "eddy_viscosity", ["channel"]),
        ("split_stress", "stress", ["channel", "box", "duct"]),
    )
    for kind in kinds
]
SHIPPED = [name for name, folder in shipped().items() if read_card(folder / CARD).role == "subgrid_model"]
CASES += [pytest.param(name, "stress", kind, id=f"{name}-{kind}") for name in SHIPPED for kind in ("channel", "box")]
EVEN = ("tensor_basis", "split_stress")
every_case = pytest.mark.parametrize(("name", "form", "kind"), CASES)


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def build(name, form, grid, nu=NU):
    network = artefact.load(shipped()[name]).network if name in SHIPPED else small(name, scale=0.4)
    return subgrid_model(network, grid=grid, nu=nu, name=name, form=form, precision="float64")


def answer(closure, velocity):
    """The six stresses, or the eddy viscosity, as one array (fields, nx, ny, nz)."""
    term, _ = closure(velocity, 0.0, closure.init(velocity.operators))
    return torch.stack([term.nu_t] if isinstance(term, EddyViscosity) else list(term.tau)).numpy()


def answer_to(name, form, kind, fields, wall_velocity=(0.0, 0.0, 0.0), nu=NU):
    grid = make_grid(kind, wall_velocity)
    return answer(build(name, form, grid, nu), make_velocity(make_operators(grid), fields))


def tensor_of(fields, rule):
    """Stresses whose components are moved among each other: `rule(i, j)` gives the new place and the sign."""
    result = [np.zeros_like(f) for f in fields]
    for (i, j), index in STRESS_INDEX.items():
        place, sign = rule(i, j)
        result[STRESS_INDEX[tuple(sorted(place))]] = sign * fields[index]
    return np.stack(result)


def mirrored(fields, axis, line):
    """The answer seen in a mirror normal to `axis`."""
    seen = [reflect_scalar(f, axis, line) for f in fields]
    if len(seen) == 1:
        return np.stack(seen)
    return tensor_of(seen, lambda i, j: ((i, j), -1.0 if (i == axis) != (j == axis) else 1.0))


def exchanged(fields, a, b):
    """The answer with two axes exchanged."""
    swap = {a: b, b: a}
    seen = [f.swapaxes(a, b) for f in fields]
    if len(seen) == 1:
        return np.stack(seen)
    return tensor_of(seen, lambda i, j: ((swap.get(i, i), swap.get(j, j)), 1.0))


@every_case
def test_zero_at_rest_and_in_uniform_flow(name, form, kind):
    still = [np.zeros(make_grid(kind).shape)] * 3
    assert np.all(answer_to(name, form, kind, still) == 0.0)
    carried = answer_to(name, form, kind, moved(still, uniform(kind)), uniform(kind))
    assert np.abs(carried).max() < 1e-12


@every_case
def test_galilean_invariance(name, form, kind):
    fields = random_fields(make_grid(kind))
    assert_same(
        answer_to(name, form, kind, fields), answer_to(name, form, kind, moved(fields, uniform(kind)), uniform(kind))
    )


@every_case
def test_shift_along_fourier_directions(name, form, kind):
    grid = make_grid(kind)
    fields = random_fields(grid)
    steps = tuple(3 if axis.is_fourier else 0 for axis in grid.axes)
    expected = np.roll(answer_to(name, form, kind, fields), steps, (1, 2, 3))
    assert_same(expected, answer_to(name, form, kind, [np.roll(f, steps, (0, 1, 2)) for f in fields]))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("name", "form", "kind"), [case for case in CASES if case.values[0] in EVEN])
def test_reflection(name, form, kind, axis):
    grid = make_grid(kind)
    assert "reflection" in build(name, form, grid).symmetries
    fields = random_fields(grid)
    expected = mirrored(answer_to(name, form, kind, fields), axis, grid.axes[axis])
    assert_same(expected, answer_to(name, form, kind, reflect(fields, axis, grid.axes[axis])))


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 2)])
@pytest.mark.parametrize(
    ("name", "form", "kind"), [case for case in CASES if case.values[0] in EVEN and case.values[2] in ("box", "cavity")]
)
def test_exchange_of_axes_and_quarter_turn(name, form, kind, a, b):
    line, fields = make_grid(kind).x, random_fields(make_grid(kind))
    swapped = exchanged(answer_to(name, form, kind, fields), a, b)
    assert_same(swapped, answer_to(name, form, kind, exchange(fields, a, b)))
    turned = reflect(exchange(fields, a, b), a, line)
    assert_same(mirrored(swapped, a, line), answer_to(name, form, kind, turned))


@every_case
def test_scales_with_the_velocity(name, form, kind):
    fields = random_fields(make_grid(kind))
    power = 2 if form == "stress" else 1
    expected = 2.5**power * answer_to(name, form, kind, fields)
    assert_same(expected, answer_to(name, form, kind, [2.5 * f for f in fields], nu=2.5 * NU))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_eddy_viscosity_drains_what_of_the_stress_drains_along_the_strain(name):
    fields = random_fields(make_grid("channel"))
    tau, nu_t = answer_to(name, "stress", "channel", fields), answer_to(name, "eddy_viscosity", "channel", fields)[0]
    g = make_velocity(make_operators(make_grid("channel")), fields).gradient
    s = {(i, j): 0.5 * (g[i][j] + g[j][i]).numpy() for i in range(3) for j in range(3)}
    pairs = [(i, j) for i in range(3) for j in range(3)]
    drained = -sum(tau[STRESS_INDEX[min(i, j), max(i, j)]] * s[i, j] for i, j in pairs)
    square = sum(s[i, j] ** 2 for i, j in pairs)
    np.testing.assert_allclose(2 * nu_t * square, np.maximum(drained, 0.0), atol=1e-10 * np.abs(drained).max())
    assert nu_t.min() == 0.0 or name != "cnn"


@every_case
def test_deterministic_and_leaves_its_arguments_alone(name, form, kind):
    grid = make_grid(kind)
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    closure = build(name, form, grid)
    parts = (*velocity.coefficients, *velocity.staggered, *(f for row in velocity.gradient for f in row))
    held = [c.clone() for c in parts]
    first, second = answer(closure, velocity), answer(closure, velocity)
    assert np.array_equal(first, second)
    assert np.array_equal(first, answer(build(name, form, grid), velocity))
    assert all(torch.equal(before, after) for before, after in zip(held, parts, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_single_precision_is_double_precision_to_its_round_off(name):
    grid = make_grid("channel")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    double = answer(build(name, "stress", grid), velocity)
    single = answer(subgrid_model(small(name, scale=0.4), grid=grid, nu=NU), velocity)
    assert single.dtype == np.float64
    assert 0 < np.abs(single - double).max() < 1e-5 * np.abs(double).max()


@pytest.mark.slow
@pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")
def test_a_compiled_network_agrees_with_the_plain_one():
    grid = make_grid("channel")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    closure, meter = build("tensor_basis", "stress", grid), StrengthCheck()
    term, _ = closure(velocity, 0.0, {})
    plain, seen = answer(closure, velocity), meter(term, velocity).numpy()
    torch._dynamo.reset()
    fusion.enable()
    try:
        compiled, measured = answer(closure, velocity), meter(term, velocity).numpy()
    finally:
        fusion.enable(False)
    assert all(any(name.startswith("_fused") for name in vars(part)) for part in (closure, meter))
    assert_same(plain, compiled, 1e-12)
    np.testing.assert_allclose(measured, seen, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")
def test_a_compiled_network_has_the_weights_of_the_moment():
    """A training by ensembles changes them in place between runs of one closure, also where the kernel was found."""
    grid = make_grid("channel")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    for _ in range(2):  # the second kernel comes from the compiler's cache
        closure = build("tensor_basis", "stress", grid)
        fusion.enable()
        try:
            before = answer(closure, velocity)
            for weight in closure.network.parameters():
                weight.mul_(1.5)
            after = answer(closure, velocity)
        finally:
            fusion.enable(False)
        assert np.abs(after - before).max() > 1e-2 * np.abs(before).max()
        assert_same(answer(closure, velocity), after, 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_restart_equals_straight_run_under_guard(name):
    grid = make_grid("channel")
    operators = make_operators(grid)
    flows = [make_velocity(operators, random_fields(grid, seed)) for seed in (11, 12, 13, 14)]

    def guarded():
        from closures.registry.registry import create

        reserve = create("dynamic_smagorinsky", grid=grid, nu=NU, options={"every": 2})
        return GuardedModel(build(name, "stress", grid), reserve, GuardTable(size=1e-6), None)  # always overruled

    closure = guarded()
    state, straight = closure.init(operators), []
    for flow in flows:
        term, state = closure(flow, 0.0, state)
        straight.append(term.nu_t)
    state, restarted = closure.init(operators), []
    for flow in flows:
        term, state = guarded()(flow, 0.0, {key: value.clone() for key, value in state.items()})
        restarted.append(term.nu_t)
    assert all(torch.equal(a, b) for a, b in zip(straight, restarted, strict=True))
    assert state["guard"].tolist() == [4, 4, 0]


@every_case
def test_gradient_matches_differences(name, form, kind):
    grid = make_grid(kind)
    base = make_velocity(make_operators(grid), random_fields(grid))
    direction = make_velocity(base.operators, random_fields(grid, seed=19)).coefficients
    closure = build(name, form, grid)
    weight = torch.from_numpy(np.random.default_rng(23).standard_normal(grid.shape))

    def functional(step):
        c = tuple(u + step * d for u, d in zip(base.coefficients, direction, strict=True))
        term, _ = closure(Velocity(base.strain, c), 0.0, {})
        fields = [term.nu_t] if form == "eddy_viscosity" else term.tau
        return sum(((n + 1) * f * weight).sum() for n, f in enumerate(fields))

    assert_slope(functional, 1e-4)


@every_case
def test_gradient_is_finite_at_rest(name, form, kind):
    velocity = make_velocity(make_operators(make_grid(kind)), [np.zeros(make_grid(kind).shape)] * 3)
    closure = build(name, form, make_grid(kind))
    with torch.enable_grad():
        c = tuple(u.clone().requires_grad_() for u in velocity.coefficients)
        term, _ = closure(Velocity(velocity.strain, c), 0.0, {})
        total = sum(f.sum() for f in ([term.nu_t] if form == "eddy_viscosity" else term.tau))
        slopes = torch.autograd.grad(total, c)
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)

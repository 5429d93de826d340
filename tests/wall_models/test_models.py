"""The contract of a wall model, clause by clause, and what stands around one: memory, guard, registry, cases."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from closures.algebraic.wall_friction import LAWS
from closures.algebraic.wall_laws import KAPPA
from closures.coupling.filtered_wall_model import Filtered
from closures.coupling.guarded_wall_model import GuardedWallModel
from closures.registry.guest_checks import ClosureError
from closures.registry.wall_models import create
from solver.case.case import parse_case
from solver.case.plugins import Origin, Registry
from solver.errors import CaseError
from solver.flow.wall_stress import WallSample
from tests.grids import GRIDS
from tests.runs import CASE

HEIGHT, NU = 0.1, 1e-4
GRID = GRIDS["channel"]


def noise(scale=1.0, count=40):
    u, w = scale * torch.randn(2, 2, 5, 1, count, dtype=torch.float64, generator=torch.Generator().manual_seed(4_411))
    return u, w


def ask(model, u, w, height=HEIGHT, nu=NU, t=0.0):
    sample = WallSample((u, w), height, nu)
    return model(sample, t, model.init(sample))[0]


@pytest.fixture(params=LAWS)
def law(request):
    return create(request.param, grid=GRID, nu=NU)


def test_rest_has_no_friction_and_a_slope(law):
    """At rest the stress is zero and its derivative is the laminar one, nu / y."""
    u = torch.zeros(1, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        tau, _ = ask(law, u, torch.zeros_like(u))
        (slope,) = torch.autograd.grad(tau.sum(), u)
    assert float(tau.detach().abs().max()) == 0.0
    torch.testing.assert_close(slope, torch.full_like(slope, NU / HEIGHT), rtol=1e-5, atol=0)


def test_friction_is_along_the_flow_and_turns_with_it(law):
    u, w = noise()
    tau = ask(law, u, w)
    c, s = math.cos(0.7), math.sin(0.7)
    turned = ask(law, c * u - s * w, s * u + c * w)
    torch.testing.assert_close(turned[0], c * tau[0] - s * tau[1], rtol=1e-9, atol=1e-15)
    mirrored = ask(law, -u, -w)
    torch.testing.assert_close(mirrored[0], -tau[0], rtol=0, atol=0)
    assert bool((tau[0] * u + tau[1] * w > 0).all())


def test_units_do_not_matter(law):
    """Length and velocity in other units: tau is a velocity squared, and depends on Re alone beside that."""
    u, w = noise()
    tau = ask(law, u, w)
    other = ask(law, 3.0 * u, 3.0 * w, height=0.7 * HEIGHT, nu=2.1 * NU)
    torch.testing.assert_close(other[0], 9.0 * tau[0], rtol=1e-8, atol=1e-14)


def test_the_table_is_the_law(law):
    """``tau = (U / u+)^2``, by the law itself; from laminar to high Reynolds numbers, within 1e-8."""
    u = torch.logspace(-7, 9, 500, dtype=torch.float64) * NU / HEIGHT
    expected = (u / LAWS[law.name]().law()(u * HEIGHT / NU)) ** 2
    torch.testing.assert_close(ask(law, u, 0 * u)[0], expected, rtol=1e-8, atol=0)


def test_single_precision(law):
    u, w = noise()
    tau = ask(law, u, w)
    found = ask(create(law.name, grid=GRID, nu=NU), u.float(), w.float())
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), tau[0], rtol=2e-5, atol=1e-8)


class Constant:
    """Friction of one size, whatever the flow."""

    name = "constant"

    def init(self, sample):
        return {"calls": torch.zeros(())}

    def __call__(self, sample, t, state):
        self.seen = sample.velocity[0]
        return (torch.full_like(self.seen, 0.04), torch.zeros_like(self.seen)), {"calls": state["calls"] + 1}


def test_the_filter_is_an_exponential_in_time():
    """A step of u from 1 to 2 is followed with T = theta y / (kappa u_tau), in one span or in three; the first is taken
    as it is.
    """
    one, two = torch.ones(2, 3, 1, 4, dtype=torch.float64), torch.full((2, 3, 1, 4), 2.0, dtype=torch.float64)
    T = 1.7 * HEIGHT / (KAPPA * 0.2)
    for times in ((0.5,), (0.1, 0.35, 0.5)):
        inner = Constant()
        model = Filtered(inner, 1.7)
        state = model.init(WallSample((one, one), HEIGHT, NU))
        _, state = model(WallSample((one, one), HEIGHT, NU), 3.0, state)
        assert float((inner.seen - 1.0).abs().max()) == 0.0
        for t in times:
            _, state = model(WallSample((two, one), HEIGHT, NU), 3.0 + t, state)
        expected = torch.full_like(one, 2.0 - math.exp(-0.5 / T))
        torch.testing.assert_close(inner.seen, expected, rtol=1e-12, atol=0)
        assert int(state["calls"]) == 1 + len(times)


class Broken:
    """Three answers of which the log law is one."""

    name = "broken"

    def __init__(self):
        self.law = create("log_law", grid=GRID, nu=NU)

    def init(self, sample):
        return self.law.init(sample)

    def __call__(self, sample, t, state):
        (first, second), state = self.law(sample, t, state)
        first, second = 1.5 * first, 1.5 * second
        first[0, 0] = math.nan
        second[1, 1] *= 1e9
        return (first, second), state


def test_the_guard_replaces_what_cannot_be_used_and_counts_it():
    u, w = noise()
    law, reserve = create("log_law", grid=GRID, nu=NU), create("log_law", grid=GRID, nu=NU)
    model, sample = GuardedWallModel(Broken(), reserve), WallSample((u, w), HEIGHT, NU)
    (first, second), state = model(sample, 0.0, model.init(sample))
    plain = ask(law, u, w)
    refused = torch.zeros_like(u, dtype=torch.bool)
    refused[0, 0] = refused[1, 1] = True
    factor = torch.where(refused, 1.0, 1.5)
    torch.testing.assert_close(first, factor * plain[0], rtol=1e-13, atol=0)
    torch.testing.assert_close(second, factor * plain[1], rtol=1e-13, atol=0)
    assert (float(state["overruled"].sum()), float(state["asked"].sum())) == (80.0, 400.0)


# -- registry and cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("loglaw", {}, "did you mean 'log_law'"),
        ("log_law", {"kapa": 0.4}, "did you mean 'kappa'"),
        ("spalding", {"kappa": -1.0}, "kappa"),
        ("equilibrium_ode", {"B": 5.2}, "unknown key 'B'"),
    ],
)
def test_what_the_registry_does_not_know(name, options, line):
    with pytest.raises(CaseError, match=line):
        create(name, grid=GRID, nu=NU, options=options)


def guest(*, grid, nu, strength: float = 2.0):
    """A wall model of another package."""
    del nu
    assert grid is GRID

    class Own:
        name = "own"

        def init(self, sample):
            return {}

        def __call__(self, sample, t, state):
            u, w = sample.velocity
            return (strength * u, w.clone() if strength > 0 else None), state

    return Own()


def test_a_model_of_another_package_is_guarded(monkeypatch):
    monkeypatch.setattr(Registry, "foreign", lambda self: ["own"])
    monkeypatch.setattr(Registry, "load", lambda self, name: guest)
    monkeypatch.setattr(Registry, "origin", lambda self, name: Origin("own", "tests.walls:guest", "own", "1"))
    model = create("own", grid=GRID, nu=NU, options={"strength": 1e-3})
    assert isinstance(model, GuardedWallModel)
    u = torch.ones(2, 3, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(ask(model, u, 0 * u)[0], 1e-3 * u)
    with pytest.raises(ClosureError, match=r"\[wall_model\] 'own'.*two stresses"):
        ask(create("own", grid=GRID, nu=NU, options={"strength": -1.0}), u, u)


def parsed(**changes):
    """The tiny channel with a wall model and other keys, ``table__key = value``."""
    import tomllib

    data = tomllib.loads(CASE)
    data["wall_model"] = {"name": "log_law", "height": 0.4}
    for place, value in changes.items():
        *tables, key = place.split("__")
        table = data
        for name in tables:
            table = table[name]
        table[key] = value
    return parse_case(data, "case.toml")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"grid__y__lower": "free_slip", "grid__y__upper": "free_slip"}, "needs a no-slip wall"),
        ({"grid__y__lower": "periodic", "grid__y__upper": "periodic"}, "needs a no-slip wall"),
        ({"grid__y__upper": {"kind": "no_slip", "velocity": [1.0, 0.0, 0.0]}}, r"\[grid.y\] upper moves"),
        ({"wall_model__height": 1.2}, r"height = 1.2 is beyond the middle"),
        ({"wall_model__height": 0.01}, r"height = 0.01 is below the first centre of \[grid.y\]"),
        ({"pressure": {"solver": "multigrid"}}, r"channels and ducts alone|needs cells"),
        ({"wall_model__filter": -1.0}, r"\[wall_model\] filter"),
    ],
)
def test_where_there_is_no_wall_to_model(changes, line):
    with pytest.raises(CaseError, match=rf"case.toml: .*{line}") as problem:
        parsed(**changes)
    assert "\n" not in str(problem.value)


def test_a_height_below_the_log_layer_is_said_once(caplog):
    from solver.observers.health import Health
    from solver.run.build import Source, build

    case = parsed()
    flow = build(Source(case, None, "tiny"))  # Re = 1000: y+ of the height is about 20
    health = Health(flow, 1, expect_turbulence=False)
    with caplog.at_level(logging.WARNING, logger="solver"):
        for _ in range(3):
            flow.step()
            health(flow)
    said = [r.message for r in caplog.records if "[wall_model] height is at y+" in r.message]
    assert len(said) == 1

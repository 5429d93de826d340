"""Compiled kernels give the numbers of plain torch, and are compiled anew where the arguments would mislead them."""

from __future__ import annotations

import os

import pytest
import torch
from torch._subclasses import FakeTensor

from closures.registry.registry import create
from solver.discretisation import fusion
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import FeatureUnavailable
from solver.flow.closure import EddyViscosity
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.pressure import stencil
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.run import machine
from tests.grids import minus, norm, operators, random_velocity, run, simulation, tendency, walls

SEED = 662_607
NU = 1e-3


@pytest.fixture
def fused():
    if not fusion.compiler_available():
        pytest.skip("no C++ compiler")
    yield lambda flag: fusion.enable(flag)
    fusion.enable(False)


def channel(stretching: float) -> Grid:
    return Grid(FourierAxis(8, 6.0), walls(9, stretching=stretching), FourierAxis(6, 3.0))


def test_a_step_is_the_same_compiled(fused, monkeypatch):
    """With slabs of two sizes, and a state that the closure carries."""
    op = operators(channel(1.7))
    monkeypatch.setattr("solver.discretisation.calculus.CACHE_BYTES", 5 * 9 * 8 * op.local_shape[0] * op.local_shape[2])
    assert len({size for _, size in op.slabs(9)}) == 2
    results = []
    for flag in (False, True):
        fused(flag)
        closure = create("dynamic_smagorinsky", grid=op.grid, nu=NU, options={})
        results.append(run(simulation(op, random_velocity(op, SEED), NU, 2e-3, closure=closure), 3))
    assert norm(op, minus(*results)) < 1e-12 * norm(op, results[0])


def test_one_model_serves_two_grids_compiled(fused):
    """The grids differ in their metric alone, which the second call has to see."""
    model = create("wale", grid=channel(1.7), nu=NU, options={})
    grids = [operators(channel(stretching)) for stretching in (1.7, 0.0)]
    found = {}
    for flag in (False, True):
        fused(flag)
        for k, op in enumerate(grids):
            velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED))
            found[flag, k] = model(velocity, 0.0, model.init(op))[0].nu_t
    for k in range(2):
        torch.testing.assert_close(found[True, k], found[False, k], rtol=1e-11, atol=0)
    assert not torch.allclose(found[True, 0], found[True, 1])


def test_slabs_are_of_one_size_where_a_few_more_can_be(monkeypatch):
    """So that each kernel is compiled once: 36 planes, at most five at a time, are nine slabs of four; 34 are not."""
    for ny, sizes in ((36, {4}), (34, {4, 5})):
        op = operators(Grid(FourierAxis(8, 6.0), walls(ny), FourierAxis(6, 3.0)))
        plane = op.local_shape[0] * op.local_shape[2] * op.dtype.itemsize
        monkeypatch.setattr("solver.discretisation.calculus.CACHE_BYTES", 5 * 9 * plane)
        with torch.no_grad():
            found = op.slabs(9)
        assert {size for _, size in found} == sizes
        assert [first for first, _ in found] == [sum(size for _, size in found[:k]) for k in range(len(found))]
        assert sum(size for _, size in found) == ny


class Shifted:
    """A marked method that reads a tensor of its owner and notes what it is called with."""

    def __init__(self):
        self.shift, self.seen = torch.tensor([1.0, 2.0, 4.0]), []

    @fusion.fused
    def add(self, f):
        self.seen.append(type(f))
        return 2.0 * f + self.shift.square()


def test_compiling_holds_no_values_of_a_flow(fused):
    """A trace keeps all that it meets, so it meets tensors without values; those of the owner keep theirs."""
    fused(True)
    shifted = Shifted()
    found = shifted.add(torch.ones(5, 3))
    assert shifted.seen
    assert all(issubclass(kind, FakeTensor) for kind in shifted.seen)
    torch.testing.assert_close(found, torch.tensor([3.0, 6.0, 18.0]).expand(5, 3), rtol=1e-6, atol=0)


def test_a_recorded_gradient_is_never_compiled(fused):
    op = operators(channel(1.7))
    fused(True)
    u = random_velocity(op, SEED)
    plain = tendency(op, u, term=EddyViscosity(torch.ones(op.local_shape, dtype=op.dtype)))
    with torch.enable_grad():
        nu_t = torch.ones(op.local_shape, dtype=op.dtype, requires_grad=True)
        rate = tendency(op, u, term=EddyViscosity(nu_t))
        (slope,) = torch.autograd.grad(sum((f**2).sum() for f in rate), nu_t)
    assert norm(op, minus(tuple(f.detach() for f in rate), plain)) < 1e-12 * norm(op, plain)
    assert float(slope.abs().max()) > 0.0


def test_signatures_tell_apart_what_compiled_code_relies_on():
    f, g = torch.zeros(4, 6), torch.zeros(4, 6)
    alike = [(f, g), (g, f)]
    different = [
        (f, g[:, :3]),
        (f, g.T.contiguous().T),
        (f, g.double()),
        (f, None),
        ([f], g),
        (f, 1.0),
        (f, 2.0),
    ]
    found = [fusion.structure(args, []) for args in [alike[0], *different]]
    assert fusion.structure(alike[0], []) == fusion.structure(alike[1], [])
    assert len(set(found)) == len(found)
    op = operators("channel")
    strain = VelocityGradient(op)
    assert fusion.structure(strain.planes(0, 3), []) == fusion.structure(strain.planes(1, 3), [])
    assert fusion.structure(strain, []) != fusion.structure(VelocityGradient(op), [])


def test_sweeps_are_compiled_where_fusion_is_decided_after_the_solver_was_built(monkeypatch):
    """As in a run, which knows its number of steps only then; small levels stay as they are."""
    compiled = []

    class Noted:
        def __init__(self, function, owner, args, tensors):
            compiled.append(function.__name__)
            self.function, self.owner, self.args = function, owner, args

        def __call__(self, tensors):
            return self.function(self.owner, *fusion.rebuilt(self.args, iter(tensors)))

    monkeypatch.setattr(fusion, "Kernel", Noted)
    monkeypatch.setattr(stencil, "WORTH_COMPILING", 400)
    op = operators(Grid(walls(8, 1.0), walls(12), walls(6, 1.5)))
    solver, rhs = MultigridPressure(Poisson(op), 1e-8), op.divergence(random_velocity(op, SEED))
    plain = torch.zeros_like(rhs)
    assert solver.solve(rhs, plain).converged
    assert not compiled
    monkeypatch.setattr(fusion.compiling, "enabled", True)
    fused = torch.zeros_like(rhs)
    assert solver.solve(rhs, fused).converged
    assert {"apply", "relax", "relax_on"} <= set(compiled)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-6 * float(plain.abs().max()))


def test_kernels_are_compiled_where_it_pays(monkeypatch, caplog):
    """By the steps that are to come, and never where nothing can compile for the device."""
    caplog.set_level("INFO", "solver")
    monkeypatch.setattr(fusion.shutil, "which", lambda name: name)
    monkeypatch.setattr(fusion.importlib.util, "find_spec", lambda name: None)
    points = 36 * 32 * 24
    assert machine.choose_fusion("auto", points, 30_000)
    assert machine.choose_fusion("auto", points, None)
    assert machine.choose_fusion("on", points, 2)
    assert all("compiling kernels, about 40 s, once" in line for line in caplog.messages)
    caplog.clear()
    assert not machine.choose_fusion("auto", points, 191)
    assert not machine.choose_fusion("auto", 512, None)
    assert not machine.choose_fusion("off", points, None)
    assert not caplog.messages
    assert not machine.choose_fusion("auto", points, None, "cuda")
    assert "no Triton for this GPU" in caplog.text
    with pytest.raises(FeatureUnavailable, match=r"\[run\] fuse = 'on', but there is no Triton"):
        machine.choose_fusion("on", points, None, "cuda")


def test_a_compiler_that_gives_up_costs_a_line(fused, monkeypatch, caplog):
    """A missing header, a full disk: the numbers are those of plain torch, and nothing else is tried."""

    def refused(*_):
        raise RuntimeError("\nC++ compile error\nfatal error: Python.h: No such file")

    op = operators(channel(1.7))
    plain = run(simulation(op, random_velocity(op, SEED), NU, 2e-3), 1)
    monkeypatch.setattr("torch._inductor.compile", refused)
    fused(True)
    found = run(simulation(op, random_velocity(op, SEED), NU, 2e-3), 1)
    assert norm(op, minus(found, plain)) < 1e-14 * norm(op, plain)
    assert not fusion.is_enabled()
    (line,) = [m for m in caplog.messages if "plain torch" in m]
    assert line.endswith("is not compiled: C++ compile error")


def test_first_calls_that_are_gathered_are_plain_and_compile_later(fused):
    """What a step needs is what it would have compiled, and nothing that lies within a kernel."""

    def step():
        closure = create("dynamic_smagorinsky", grid=op.grid, nu=NU, options={})
        flow = simulation(op, random_velocity(op, SEED), NU, 2e-3, closure=closure)
        return flow, lambda: run(flow, 1)

    op = operators(channel(1.7))
    plain = step()[1]()
    fused(True)
    before = fusion.compiling.seconds
    with fusion.gathering() as calls:
        flow, advance = step()
        found = advance()
    assert norm(op, minus(found, plain)) == 0.0
    assert fusion.compiling.seconds == before
    assert all(t.device.type == "meta" for call in calls for t in tensors_in(call.args))
    for call in calls:
        call.compile()
    seconds = fusion.compiling.seconds
    compiled = run(flow, 1)
    assert fusion.compiling.seconds == seconds > before  # nothing was left to compile
    assert len({(id(call.owner), call.name, call.key) for call in calls}) == len(calls)
    fusion.enable(False)
    assert norm(op, minus(compiled, run(step()[0], 2))) < 1e-12 * norm(op, plain)


def tensors_in(args):
    tensors: list[torch.Tensor] = []
    fusion.structure(args, tensors)
    return tensors


@pytest.mark.parametrize(("answer", "trusted"), [(0, "1"), (1, None)])
def test_vectors_are_tried_only_where_the_compiler_may_not_know_them(tmp_path, monkeypatch, answer, trusted):
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\nexit {answer}\n")
    compiler.chmod(0o755)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv(machine.VECTORS_OK, "")
    monkeypatch.delenv(machine.VECTORS_OK)
    machine.trust_compiler.__wrapped__()
    assert os.environ.get(machine.VECTORS_OK) == trusted


def test_a_method_that_fails_fails_compiled(fused, monkeypatch):
    class Wrong:
        @fusion.fused
        def product(self, a, b):
            return a @ b

    fused(True)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Wrong().product(torch.zeros(2, 3), torch.zeros(2, 3))

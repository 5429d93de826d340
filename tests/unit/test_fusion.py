"""Compiled kernels give the numbers of plain torch, and are compiled anew where the arguments would mislead them."""

from __future__ import annotations

import pytest
import torch

from closures.registry import create
from solver import fusion
from solver.axis import FourierAxis
from solver.closure import EddyViscosity
from solver.grid import Grid
from solver.strain import Strain
from solver.velocity import Velocity
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
    monkeypatch.setattr("solver.operators.CACHE_BYTES", 5 * 9 * 8 * op.local_shape[0] * op.local_shape[2])
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
            velocity = Velocity(Strain(op), random_velocity(op, SEED))
            found[flag, k] = model(velocity, 0.0, model.init(op))[0].nu_t
    for k in range(2):
        torch.testing.assert_close(found[True, k], found[False, k], rtol=1e-11, atol=0)
    assert not torch.allclose(found[True, 0], found[True, 1])


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
        (f, f),
        (f, g[:, :3]),
        (f, g.T.contiguous().T),
        (f, g.double()),
        (f, None),
        ([f], g),
        (f, 1.0),
        (f, 2.0),
    ]
    signatures = [fusion.signature(args, {}) for args in [alike[0], *different]]
    assert fusion.signature(alike[0], {}) == fusion.signature(alike[1], {})
    assert len(set(signatures)) == len(signatures)
    op = operators("channel")
    strain = Strain(op)
    assert fusion.signature(strain, {}) == fusion.signature(strain.planes(1, 3), {})
    assert fusion.signature(strain, {}) != fusion.signature(Strain(op), {})

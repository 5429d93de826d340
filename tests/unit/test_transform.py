"""Transforms: exact for what is resolved, silent about what is not, the same by either engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.discretisation.fft import BY_TORCH, DuccEngine, choose_engine
from solver.discretisation.fft_torch import PlanesEngine
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.run.build import build, source_of
from tests.grids import GRIDS, distance, operators, random_scalar, random_values, scalar_product, values
from tests.runs import ROOT

SEED = 577_201
FOURIER_GRIDS = [name for name, grid in GRIDS.items() if grid.x.is_fourier and grid.x.points > 1]


def wave(grid: Grid, modes: Sequence[int], phase: float = 0.7):
    """``cos`` of the phase of integer modes along the Fourier axes, smooth along the others."""
    k = [2 * np.pi * m / axis.length for m, axis in zip(modes, grid.axes, strict=True)]
    return lambda x, y, z: torch.cos(k[0] * x + k[1] * y + k[2] * z + phase)


def highest(grid: Grid) -> tuple[int, int, int]:
    """Highest retained mode of every axis, 0 along finite-volume ones."""
    x, y, z = (axis.highest_mode if axis.is_fourier else 0 for axis in grid.axes)
    return x, y, z


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", GRIDS)
def test_round_trip_of_resolved_fields(name, dtype):
    op = operators(name, dtype)
    c = random_scalar(op, SEED)
    f = op.to_physical(c)
    again = op.to_coefficients(f)
    assert f.shape == op.local_shape
    assert (c.dtype, f.dtype) == (dtype, dtype)
    assert distance([again, op.to_physical(again)], [c, f]) < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", GRIDS)
def test_cell_grids_are_left_untouched(name):
    op = operators(name)
    (f,) = random_values(op, SEED, 1)
    untouched = distance([op.to_physical(op.to_coefficients(f))], [f]) < 1e-13
    assert untouched == (highest(op.grid) == (0, 0, 0))


@pytest.mark.parametrize("name", GRIDS)
def test_mode_zero_is_the_mean(name):
    op = operators(name)
    (f,) = random_values(op, SEED, 1)
    mean = op.mean_mode(op.to_coefficients(f))[0]
    axes = [axis for axis in range(3) if op.grid.axes[axis].is_fourier]
    expected = f.mean(axes, keepdim=True) if axes else f
    assert distance([mean], [expected]) < 1e-14


@pytest.mark.parametrize("name", GRIDS)
def test_parseval(name):
    op = operators(name)
    a, b = random_scalar(op, SEED), random_scalar(op, SEED + 1)
    assert float(op.inner_product(a, b)) == pytest.approx(scalar_product(op, a, b), rel=1e-12, abs=1e-15)


def there_and_back(op: Operators, f: torch.Tensor) -> list[torch.Tensor]:
    """Coefficients, and from them values and slopes along the Fourier axes."""
    c = op.to_coefficients(f)
    back, slopes = op.with_derivatives(c, list(op.grid.fourier_axes))
    return [c, back, *slopes.values()]


@pytest.mark.gradients
def test_which_engine_acts():
    f = torch.ones(1)
    tracked = f.clone().requires_grad_()
    assert choose_engine([f]) is DuccEngine
    assert choose_engine([f, tracked]) is BY_TORCH["lines"]
    assert choose_engine([f.to("meta")]) is BY_TORCH["planes"]
    for wanted in ("lines", "planes"):
        assert choose_engine([f], wanted) is choose_engine([tracked], wanted) is BY_TORCH[wanted]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("engine", BY_TORCH)
@pytest.mark.parametrize("name", GRIDS)
def test_engines_agree(name, engine, dtype):
    op = operators(name, dtype)
    (f,) = random_values(op, SEED, 1)
    expected, found = there_and_back(op, f), there_and_back(operators(name, dtype, engine=engine), f)
    assert [g.dtype for g in found] == [dtype] * len(expected)
    for a, b in zip(found, expected, strict=True):
        assert distance([a], [b]) < 30 * torch.finfo(dtype).eps * max(float(b.abs().max()), 1.0)


@pytest.mark.gradients
@pytest.mark.parametrize("name", GRIDS)
def test_engines_have_one_gradient(name):
    """That of a quadratic form of all that they give."""
    gradients = []
    for engine in BY_TORCH:
        op = operators(name, engine=engine)
        f = random_values(op, SEED, 1)[0].requires_grad_()
        sum((g**2).sum() for g in there_and_back(op, f)).backward()
        gradients.append(f.grad)
    assert float(gradients[0].abs().max()) > 0.1
    assert distance(gradients[:1], gradients[1:]) < 1e-13 * float(gradients[0].abs().max())


@pytest.mark.slow
@pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")
def test_planes_that_are_compiled():
    c = random_scalar(operators("channel"), SEED).transpose(1, 2).contiguous()
    engine, (nx, _, nz) = PlanesEngine(), GRIDS["channel"].shape
    expected = engine.plane_fields(c, nx, nz)[0]
    fusion.enable()
    try:
        with torch.no_grad():
            found = engine.plane_fields(c, nx, nz)[0]
            again = engine.plane_modes(found, ((c.shape[2] - 1) // 2, c.shape[3] - 1), c)
        assert fusion.is_enabled()  # it was not refused
    finally:
        fusion.enable(False)
    assert distance([found, again], [expected, c]) < 1e-14


def test_a_leaf_that_requires_grad_is_transformed_under_no_grad():
    op = operators("channel")
    (f,) = random_values(op, SEED, 1)
    assert distance([op.to_coefficients(f.clone().requires_grad_())], [op.to_coefficients(f)]) < 1e-14


@pytest.mark.parametrize("name", FOURIER_GRIDS)
def test_unresolved_modes_are_discarded(name):
    op = operators(name)
    for axis, line in enumerate(op.grid.axes):
        for beyond in range(line.highest_mode + 1, line.points // 2 + 1) if line.is_fourier else ():
            modes = [beyond if d == axis else 0 for d in range(3)]
            assert float(op.to_coefficients(values(op, wave(op.grid, modes))).abs().max()) < 1e-14


@pytest.mark.parametrize("name", FOURIER_GRIDS)
def test_products_leave_no_alias(name):
    """Cos a cos b = (cos(a - b) + cos(a + b)) / 2: the sum is beyond the cut, the difference alone remains."""
    op = operators(name)
    top = highest(op.grid)
    next_to_top = [max(m - 1, 0) for m in top]
    a, b = (op.to_physical(op.to_coefficients(values(op, wave(op.grid, m)))) for m in (top, next_to_top))
    apart = [m - n for m, n in zip(top, next_to_top, strict=True)]
    exact = op.to_coefficients(0.5 * values(op, wave(op.grid, apart, phase=0.0)))
    assert distance([op.to_coefficients(a * b)], [exact]) < 1e-14


@pytest.mark.parametrize("name", FOURIER_GRIDS)
def test_derivatives_of_resolved_modes_are_exact(name):
    op = operators(name)
    top = highest(op.grid)
    f = op.to_coefficients(values(op, wave(op.grid, top)))
    for axis, line in enumerate(op.grid.axes):
        if line.is_fourier:
            k = 2 * np.pi * top[axis] / line.length
            exact = k * values(op, wave(op.grid, top, phase=0.7 + np.pi / 2))
            assert distance([op.to_physical(op.derivative(f, axis))], [exact]) < 1e-13 * k


def test_a_prime_axis_by_brute_force():
    """Coefficients against the sum that defines them, on a grid no FFT likes."""
    op = operators(Grid(FourierAxis(7, 2.0, "2/3"), FourierAxis(13, 3.0, "2/3"), FourierAxis(11, 4.0, "2/3")))
    (f,) = random_values(op, SEED, 1)
    lines = [axis.centres for axis in op.grid.axes]
    waves = [axis.wavenumbers(half=d == 2) for d, axis in enumerate(op.grid.axes)]
    kernels = [np.exp(-1j * np.outer(k, x)) / len(x) for k, x in zip(waves, lines, strict=True)]
    exact = np.einsum("ai,bj,ck,ijk->abc", *kernels, f.numpy())
    assert distance([op.to_coefficients(f)], [torch.from_numpy(np.stack([exact.real, exact.imag]))]) < 1e-15


def test_the_case_chooses():
    """And a step is the same."""
    small = ("grid.x.n=8", "grid.y.n=9", "grid.z.n=8", "run.fuse=off")
    found = []
    for engine in ("auto", "planes"):
        flow = build(source_of(ROOT / "cases/channel180", (*small, f"run.transforms={engine}"), "wale"))
        assert flow.operators.transform.engine == engine
        flow.step()
        found.append(flow.velocity.coefficients)
    assert distance(*found) < 1e-13

"""H^-1 against single modes, whose norm is known, the solver's Laplacian, and its definition as a dual."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.losses.negative_norm import NegativeNorm
from solver.discretisation.gradient import VelocityGradient
from solver.flow.momentum import Momentum
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.grids import GRIDS, norm, operators, orders, random_components, sample, walls
from tests.losses.flows import LENGTH, flow, plus, residual_of, trajectory

CLOSED = [name for name in GRIDS if name != "column"]


@pytest.mark.parametrize("alpha", [0.03, 1.0, 40.0])
@pytest.mark.parametrize("modes", [(1, 0, 0), (0, 2, 1), (3, 1, 2)])
def test_single_mode_of_a_box(alpha, modes):
    """``a cos(k . x)``: half a^2 over ``alpha + k^2``."""
    op = operators(Grid(*(FourierAxis(9, length) for length in (6.0, 5.0, 4.0))))
    k = [2 * np.pi * m / length for m, length in zip(modes, (6.0, 5.0, 4.0), strict=True)]
    wave = lambda x, y, z: 0.7 * torch.cos(k[0] * x + k[1] * y + k[2] * z + 0.4)  # noqa: E731
    zero = lambda x, y, z: 0.0 * (x + y + z)  # noqa: E731
    square = float(NegativeNorm(op, alpha).square(sample(op, (zero, wave, zero))))
    assert square == pytest.approx(0.5 * 0.7**2 / (alpha + sum(f**2 for f in k)), rel=1e-12)


@pytest.mark.parametrize("component", [0, 1, 2])
def test_single_mode_between_walls(component):
    """``sin(pi y / 2)`` on 0 < y < 2: exact with the eigenvalue of differences, second order with the true one."""
    k, errors = np.pi / 2, []
    for n in (8, 16, 32):
        op = operators(Grid(FourierAxis(5, 6.0), walls(n, stretching=0.0), FourierAxis(5, 3.0)))
        zero = lambda x, y, z: 0.0 * (x + y + z)  # noqa: E731
        functions = [zero] * 3
        functions[component] = lambda x, y, z: torch.sin(k * y) + 0.0 * (x + z)
        square = float(NegativeNorm(op, 0.5).square(sample(op, functions)))
        h = 2.0 / n
        assert square == pytest.approx(0.5 / (0.5 + (2 / h * np.sin(0.5 * k * h)) ** 2), rel=1e-12)
        errors.append(abs(square - 0.5 / (0.5 + k**2)))
    assert orders(errors) == pytest.approx([2.0, 2.0], abs=0.05)


@pytest.mark.parametrize("name", CLOSED)
def test_solves_with_the_laplacian_of_the_solver(name):
    """``(alpha - lap)`` of what `solve` returns is what it was given, on every kind of grid."""
    op = operators(name)
    momentum, field = Momentum(VelocityGradient(op), 1.0), random_components(op, 8_128)
    negative = NegativeNorm(op, 0.3)
    solved = tuple(negative.solve(f, i) for i, f in enumerate(field))
    padded = op.pad(solved)
    for i, f in enumerate(field):
        mask = momentum.interior[i] if i in op.volume_axes else None
        laplacian = momentum.equation.laplacian(padded[i], i)
        back = 0.3 * solved[i] - (laplacian if mask is None else laplacian * mask)
        assert float((back - f).abs().max()) < 1e-11 * float(f.abs().max())


@pytest.mark.parametrize("name", ["box", "channel", "duct"])
def test_is_the_largest_work_on_velocities_of_unit_gradient(name):
    """``<r, v> <= |r| |v|_1``, with equality for the solution of ``(alpha - lap) v = r`` and for no other."""
    op = operators(name)
    negative, r = NegativeNorm(op, 0.3), random_components(op, 496)
    best = tuple(negative.solve(f, i) for i, f in enumerate(r))
    size = float(negative.square(r)) ** 0.5

    def work(v):
        return sum(float(op.inner_product(f, g, i)) for i, (f, g) in enumerate(zip(r, v, strict=True)))

    def strength(v):
        """``|v|_1``, by the Laplacian of the solver."""
        momentum, padded = Momentum(VelocityGradient(op), 1.0), op.pad(v)
        parts = [0.3 * f - momentum.equation.laplacian(padded[i], i) for i, f in enumerate(v)]
        return sum(float(op.inner_product(f, g, i)) for i, (f, g) in enumerate(zip(v, parts, strict=True))) ** 0.5

    assert work(best) / strength(best) == pytest.approx(size, rel=1e-10)
    for seed in (10, 11):
        other = plus(best, 0.5, tuple(0.1 * f for f in random_components(op, seed)))
        assert work(other) / strength(other) < size * (1 - 1e-6)


def test_weight_is_the_whole_symbol_and_not_its_root():
    """From mode 1 to mode 3 the squared norm falls by 9, where the released weight gives 3."""
    op = operators(Grid(*(FourierAxis(9, LENGTH) for _ in range(3))))
    zero = lambda x, y, z: 0.0 * (x + y + z)  # noqa: E731

    def square(m):
        wave = lambda x, y, z: torch.cos(m * x) + 0.0 * (y + z)  # noqa: E731
        return float(NegativeNorm(op, 1e-9).square(sample(op, (zero, zero, wave))))

    assert square(1) / square(3) == pytest.approx(9.0, rel=1e-6)


@pytest.mark.parametrize("kind", ["box", "channel"])
def test_of_a_trajectory_asks_less_of_small_scales(kind):
    """Zero on the solver's own trajectory, linear in a perturbation, smaller than L2 where alpha is one."""
    simulation = flow(kind, 0.02)
    frames = trajectory(simulation, 3)
    negative, plain = (residual_of(simulation, norm=name) for name in ("h_minus_1", "l2"))
    other = random_components(simulation.operators, 77)
    other = simulation.flow.solenoidal(other)
    assert float(negative.relative(frames)) < 1e-12
    small, large = (
        [float(r.dimensional([*frames[:2], plus(frames[2], size, other)])) for r in (negative, plain)]
        for size in (1e-3, 1e-2)
    )
    assert large[0] / small[0] == pytest.approx(10.0, rel=1e-6)
    assert large[0] < 0.6 * large[1]
    assert large[1] == pytest.approx(1e-2 * norm(simulation.operators, other) / 0.02 / 2**0.5, rel=1e-6)

"""The differentiable V-cycle against the solver's, the guarantee of definiteness, and what learning is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from closures.operators.shipped import PRETRAINED
from closures.pressure_nets.learned_multigrid import Convergence, LearnedCycle, Levels
from closures.pressure_nets.learned_multigrid_file import SMOOTHING, read_smoothing
from closures.training.experiment import load_experiment, train
from solver.errors import CaseError
from solver.grid.grid import Grid
from solver.pressure.multigrid import Multigrid, MultigridPressure, open_faces
from solver.pressure.smoothing import Smoothing
from tests import runs
from tests.pressure.artefacts import TUNED
from tests.pressure.problems import BALL, PROBLEMS, Problem, cells, cube, noise

RECIPE = """\
title = "tiny"
[multigrid]
degrees = [1]
cells = 8
geometries = 2
sources = 2
validation = 1
steps = 3
iterations = 6
[card]
trained_on = "two cubes"
"""
SIZES = {
    "ball": Problem(cube(16), [BALL]),
    "flat": Problem(Grid(cells(24), cells(20), cells(16)), [BALL]),
    "two_levels": Problem(cube(24), [BALL]),
    "odd": Problem(Grid(cells(13), cells(17), cells(11)), [BALL]),
}


def perturbed(degrees: tuple[int, ...], damped: bool) -> LearnedCycle:
    """Numbers that are all different, and still make a cycle that is positive definite."""
    cycle = LearnedCycle(degrees, damped)
    torch.manual_seed(31_337)
    with torch.no_grad():
        for number in cycle.parameters():
            number.add_(0.05 * torch.randn_like(number))
    return cycle


def source(poisson) -> torch.Tensor:
    return poisson.source(noise(poisson))


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("degrees", [(1,), (2, 3), (3, 2, 1)])
@pytest.mark.parametrize("name", SIZES)
def test_the_differentiable_cycle_is_the_solvers(name, degrees, damped):
    with torch.no_grad():
        poisson, cycle = SIZES[name].poisson(), perturbed(degrees, damped)
        rhs, layout = source(poisson), poisson.layout
        wanted = layout.cells(Multigrid(poisson, torch.float64, smoothing=cycle.smoothing())(rhs)).reshape(-1)
        found = cycle(Levels.of(poisson), layout.cells(rhs).reshape(-1, 1))[:, 0]
        assert float((found - wanted).abs().max()) < 1e-13 * float(wanted.abs().max())


def test_the_loss_is_the_residual_of_the_solver():
    """Steps of conjugate gradients, in double precision."""
    with torch.no_grad():
        poisson, cycle = SIZES["ball"].poisson(), perturbed((2, 2), True)
        rhs = noise(poisson)
        b = poisson.layout.cells(poisson.source(rhs)).reshape(-1, 1)
        loss = float(Convergence(cycle, 3)(Levels.of(poisson), b))
        preconditioner = Multigrid(poisson, torch.float64, smoothing=cycle.smoothing())
        solver = MultigridPressure(poisson, float(np.exp(3 * loss)) * 1.0001, preconditioner=preconditioner)
        report = solver.solve(rhs, torch.zeros_like(rhs))
        assert report.iterations == 3
        assert report.residual == pytest.approx(np.exp(3 * loss), rel=1e-6)


def test_gradients_are_those_of_finite_differences():
    poisson = SIZES["ball"].poisson()
    levels, b = Levels.of(poisson), poisson.layout.cells(source(poisson)).reshape(-1, 1)
    cycle = perturbed((2, 1), True)
    loss = Convergence(cycle, 2)
    loss(levels, b).backward()
    for number in cycle.parameters():
        if not number.numel():
            continue
        slope, step = float(number.grad[-1]), 1e-5
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                number[-1] += sign * step
                values.append(float(loss(levels, b)))
                number[-1] -= sign * step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ["ball", "one_periodic", "parts", "seam", "prime"])
def test_a_tuned_cycle_is_symmetric_and_positive(name):
    """Whatever the numbers, if the smoother contracts: also far from Chebyshev's."""
    with torch.no_grad():
        poisson = PROBLEMS[name].poisson()
        odd = Smoothing((0.4, 1.7), (0.05,), 3.0, (1.0, 0.3, 0.5, 0.2, 0.7, 0.4, 0.6))
        assert odd.growth < 1
        for smoothing in ([TUNED, odd], [odd], [Smoothing((0.99,), (), 0.2)]):
            cycle, layout = Multigrid(poisson, torch.float64, smoothing=smoothing), poisson.layout
            vectors = [poisson.source(noise(poisson, seed)) for seed in range(3, 9)]
            images = [cycle(v).clone() for v in vectors]
            product = torch.tensor([[torch.dot(layout.core(a), layout.core(b)) for b in images] for a in vectors])
            assert float((product - product.T).abs().max()) < 1e-13 * float(product.abs().max())
            assert torch.linalg.eigvalsh(product).min() > 0


def test_growth_is_the_greatest_value_of_the_polynomial():
    """Against the iteration on numbers; one that grows, or does not fall at zero, is refused."""
    t = np.linspace(0.0, 2.0, 4001)
    for s in (TUNED, *map(Smoothing.chebyshev, range(1, 7)), Smoothing((0.4, 1.7, 0.9), (0.05, 0.8))):
        before = x = np.ones_like(t)
        for weight, momentum in zip(s.weights, (0.0, *s.momenta), strict=True):
            x, before = x + momentum * (x - before) - weight * t * x, x
        assert s.polynomial(t) == pytest.approx(x, abs=1e-12)
        interior = np.abs(x)[np.argmax(np.diff(np.abs(x)) > 0) :].max() if (np.diff(np.abs(x)) > 0).any() else 0.0
        assert s.growth == pytest.approx(max(interior, abs(x[-1])), abs=1e-5)
    with pytest.raises(CaseError, match=r"enlarges some error 1\.2 times"):
        Smoothing((1.1,))
    for wrong in ({"weights": (0.5, 0.5)}, {"weights": (0.5,), "coarse": 0.0}, {"weights": (0.5,), "damping": (1.0,)},
                  {"weights": (float("nan"),)}):  # fmt: skip
        with pytest.raises(CaseError, match=r"\[pressure\] smoother"):
            Smoothing(**wrong)


def test_open_faces_are_counted():
    poisson = SIZES["ball"].poisson()
    fluid = np.pad(poisson.solids.fluid, 1)
    inner = (slice(1, -1),) * 3
    count = sum(np.roll(fluid, s, d)[inner] for d in range(3) for s in (1, -1)) * poisson.solids.fluid
    from tests.pressure.test_multigrid import system_of

    found = poisson.layout.cells(open_faces(system_of(poisson))).transpose(0, 1)
    assert np.array_equal(found.numpy(), count)


def test_learning_makes_a_cycle_faster_and_writes_it(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    done = runs.solver("train", tmp_path / "tiny.toml", "--out", tmp_path / "net")
    assert done.code == 0, done.err
    found = read_smoothing(tmp_path / "net")
    assert len(found) == 1
    assert found[0].damping is None
    assert "learned" in done.out
    card = train(tmp_path / "tiny.toml", tmp_path / "again").card
    assert card.metrics["learned"] < card.metrics["untuned"] - 0.1
    assert card.smoothing() == found


@pytest.mark.parametrize(("old", "new", "words"), [("cells = 8", "cells = 4", "cells"), ("[1]", "[9]", "degrees")])
def test_wrong_recipes_are_refused(tmp_path, old, new, words):
    (tmp_path / "bad.toml").write_text(RECIPE.replace(old, new))
    with pytest.raises(CaseError, match=words):
        train(tmp_path / "bad.toml", tmp_path / "net")


@pytest.mark.parametrize("name", ["cube", "ball"])
def test_the_shipped_numbers_save_iterations(name):
    """On a grid of 48^3 they were not learned on, alone and around a body."""
    with torch.no_grad():
        poisson = Problem(cube(48), [BALL] if name == "ball" else []).poisson()
        rhs, counts = noise(poisson), []
        for smoothing in ((), read_smoothing(PRETRAINED / "multigrid")):
            solver = MultigridPressure(poisson, 1e-10, preconditioner=Multigrid(poisson, smoothing=smoothing))
            counts.append(solver.solve(rhs, torch.zeros_like(rhs)).iterations)
        assert counts[1] < counts[0]


def test_the_shipped_recipe_is_the_one_that_made_them():
    shipped = PRETRAINED / "multigrid"
    assert (shipped / SMOOTHING).is_file()
    assert load_experiment(Path("multigrid")) == load_experiment(shipped / "recipe.toml")

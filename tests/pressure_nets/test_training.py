"""From a recipe to a network that halves residuals: bodies, training, artefact, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from closures.operators import artefact
from closures.pressure_nets.bodies import basis, random_fluid, white
from closures.pressure_nets.directions import ConjugateDirections, NetworkDirection
from closures.pressure_nets.objective import laplacian
from closures.training.experiment import train
from solver.errors import CaseError
from tests import runs
from tests.pressure.problems import BALL, Problem, cube, exact_solution, noise

RECIPE = """\
title = "tiny"
[matrices]
cells = 8
geometries = 2
vectors = 40
group = 8
samples = 20
validation = 2
[operator]
name = "npsdo"
levels = 2
[optimiser]
rate = 5e-3
[loop]
epochs = 4
batch = 1
device = "cpu"
[card]
trained_on = "two cubes"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(RECIPE)
    done = runs.solver("train", folder / "tiny.toml", "--out", folder / "net", "--quiet")
    assert done.code == 0, done.err
    return folder / "net"


def test_training_lowers_what_a_direction_leaves(trained):
    history = np.genfromtxt(trained / "history.csv", delimiter=",", names=True)
    assert history["residual_left"][-1] < 0.97 * history["residual_left"][0]
    card = json.loads((trained / "card.json").read_text())
    assert (card["inputs"], card["architecture"]) == ("residual", "npsdo")
    assert card["metrics"]["residual_left"] == pytest.approx(history["residual_left"].min(), rel=1e-6)


def test_the_artefact_solves_a_pressure_problem_it_never_saw(trained):
    found = artefact.load(trained)
    assert found.card.role == "preconditioner"
    problem = Problem(cube(16), [BALL])
    poisson = problem.poisson()
    rhs = noise(poisson)
    solver = ConjugateDirections(poisson, NetworkDirection(poisson, found.network), 1e-9)
    phi = torch.zeros_like(rhs)
    assert solver.solve(rhs, phi).converged
    exact = exact_solution(problem, rhs.numpy())
    assert abs(phi.numpy() - exact).max() < 1e-7 * abs(exact).max()


def test_bodies_leave_fluid_and_null_vectors_are_left_out():
    random = np.random.default_rng(3)
    fluid = random_fluid(8, 3, random)
    assert 0 < float(fluid.sum()) < 8**3
    found = basis(fluid, 60, seed=1)
    v = found.vectors.double().T.reshape(-1, 1, 8, 8, 8)
    mask = fluid.double()[None, None]
    assert float((v * (1 - mask)).abs().max()) < 1e-6
    rayleigh = (v * laplacian(v, mask)).sum((1, 2, 3, 4)) / v.square().sum((1, 2, 3, 4))
    assert float(rayleigh.min()) > 1e-4
    assert bool((rayleigh.diff() > -1e-6).all())


def test_white_noise_can_be_balanced_in_every_part():
    fluid = torch.ones(8, 8, 8)
    fluid[3] = 0.0  # two rooms
    fluid[0, 0, 0] = 0.0
    noise = white(fluid).residuals(300, torch.Generator().manual_seed(2), 0.0)
    assert torch.allclose(noise.square().sum((1, 2, 3)), torch.ones(300))
    assert float((noise * (1 - fluid)).abs().max()) == 0.0
    for room in (noise[:, :3], noise[:, 4:]):
        assert float(room.sum((1, 2, 3)).abs().max()) < 1e-5
    variance = noise.square().mean(0)[fluid > 0] * float(fluid.sum())
    assert float(variance.mean()) == pytest.approx(1.0, rel=1e-3)
    assert float(variance.std()) < 0.15  # sqrt(2 / 300) = 0.08: as even as so many draws allow


def test_training_improves_on_the_classical_start(tmp_path):
    left = []
    for rate, epochs in ((1e-9, 1), (1e-3, 3)):  # the first stays where it starts
        recipe = RECIPE.replace("rate = 5e-3", f"rate = {rate}").replace("epochs = 4", f"epochs = {epochs}")
        recipe = recipe.replace("cells = 8", "cells = 16").replace("geometries = 2", "geometries = 6")
        recipe = recipe.replace("vectors = 40\n", "")
        recipe = recipe.replace("group = 8", 'group = 2\nsource = "noise"\nstart = "classical"\ndirections = 3')
        (tmp_path / "start.toml").write_text(recipe)
        left.append(train(tmp_path / "start.toml", tmp_path / f"net{rate}").card.metrics["residual_left"])
    assert left[1] < 0.95 * left[0] < 0.5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "npsdo"\nlevels = 2', 'name = "cnn"', "knows no matrices"),
        ("cells = 8", "cells = 10", "multiple of 4"),
        ("cells = 8", 'cells = 8\nstart = "classical"', "16 or more"),
        ("vectors = 40", "vector = 40", "vectors"),
        ("samples = 20", "samples = 0", "samples"),
        ("group = 8", 'group = 8\nsource = "noise"', "vectors: does nothing with source = 'noise'"),
        ("batch = 1", 'batch = 1\nprecision = "bfloat16"', r"\[loop\] unknown key 'precision'"),
    ],
)
def test_wrong_recipes_are_refused_by_name(tmp_path, old, new, words):
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(CaseError, match=words):
        train(path, tmp_path / "net")
    assert not (tmp_path / "net").exists()

"""The learned correction of the law of the wall: what it may not change, where it ends, and what it was taught."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from closures.coupling.corrected_law import CorrectedLaw
from closures.operators import artefact, build
from closures.operators.shipped import shipped, wall_models
from closures.operators.wall_correction import FADE
from closures.registry.wall_models import create
from closures.training.experiment import load_experiment, train
from closures.training.wall_profiles import ROOM, WallError, samples
from solver.discretisation import fusion
from solver.errors import CaseError
from solver.flow.wall_stress import WallSample, WallStress
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.grids import GRIDS, SLIP, operators, walls

RECIPE = Path("wall/corner_law")
HEIGHT, NU = 0.1, 2e-4
FOLDER = wall_models()["corner_law"]


def corner(scale=1.0, nz=12):
    """A sample of noise about a flow, in a corner."""
    noise = torch.randn(2, 2, 5, 1, nz, dtype=torch.float64, generator=torch.Generator().manual_seed(730_112))
    beside = torch.linspace(0.03, 1.0, nz, dtype=torch.float64)[None, None, None]
    return WallSample((scale * (0.6 + 0.2 * noise[0]), scale * 0.2 * noise[1]), HEIGHT, NU, 1.0, beside)


def ask(model, sample):
    return model(sample, 0.0, model.init(sample))[0]


@pytest.fixture
def model():
    return CorrectedLaw("corner_law", artefact.load(FOLDER).network)


@pytest.fixture
def law():
    return create("log_law", grid=GRIDS["channel"], nu=NU)


def test_it_changes_the_size_of_the_stress_of_the_law_alone(model, law):
    """Along the velocity, turned and mirrored with it, within the bound of the network; and it does change it."""
    sample = corner()
    u, w = sample.velocity
    tau, plain = ask(model, sample), ask(law, sample)
    factor = tau[0] / plain[0]
    torch.testing.assert_close(tau[1], factor * plain[1], rtol=1e-9, atol=1e-15)
    assert float(factor.log().abs().max()) <= model.network.bound
    assert float(factor.min()) < 0.9
    c, s = math.cos(0.7), math.sin(0.7)
    turned = ask(model, replace(sample, velocity=(c * u - s * w, s * u + c * w)))
    torch.testing.assert_close(turned[0], c * tau[0] - s * tau[1], rtol=1e-8, atol=1e-14)
    assert float((ask(model, replace(sample, velocity=(-u, -w)))[0] + tau[0]).abs().max()) == 0.0


def test_units_do_not_matter(model):
    sample = corner()
    u, w = sample.velocity
    other = WallSample((3.0 * u, 3.0 * w), 0.7 * HEIGHT, 2.1 * NU, 0.7, 0.7 * sample.beside)
    torch.testing.assert_close(ask(model, other)[0], 9.0 * ask(model, sample)[0], rtol=1e-6, atol=1e-13)


def test_rest_has_no_friction_and_the_laminar_slope(model):
    sample = corner()
    u = torch.zeros_like(sample.velocity[0], requires_grad=True)
    with torch.enable_grad():
        tau, _ = ask(model, replace(sample, velocity=(u, torch.zeros_like(u))))
        (slope,) = torch.autograd.grad(tau.sum(), u)
    assert float(tau.detach().abs().max()) == 0.0
    torch.testing.assert_close(slope, torch.full_like(slope, NU / HEIGHT), rtol=1e-5, atol=0)


@pytest.mark.slow
def test_it_is_compiled_as_the_laws_are(law, model):
    """Whatever numbers a kernel is traced with."""
    sample = corner()
    plain = [ask(m, sample)[0] for m in (law, model)]
    fusion.enable()
    try:
        with torch.no_grad():
            found = [ask(m, sample)[0] for m in (law, model)]
        assert fusion.is_enabled()
    finally:
        fusion.enable(False)
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    "change",
    [
        {"nu": 1e-6},  # high Reynolds numbers
        {"nu": 0.05},  # the viscous layer
        {"depth": math.inf, "beside": math.inf},  # nothing is known of the flow
        {"depth": 0.95 * HEIGHT / math.exp(-1.204 + FADE)},  # the height is far from the wall
        {"depth": 100.0},  # or deep within the layer
    ],
)
def test_far_from_its_data_it_is_the_law(model, law, change):
    sample = replace(corner(), **change)
    for found, expected in zip(ask(model, sample), ask(law, sample), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_table_is_the_network(model, law):
    """Which is evaluated as it is while its weights may be trained; and these then have gradients."""
    sample = corner()
    quick = ask(model, sample)
    slow = CorrectedLaw("corner_law", artefact.load(FOLDER).network)
    slow.network.requires_grad_()
    found = ask(slow, sample)
    torch.testing.assert_close(found[0].detach(), quick[0], rtol=1e-6, atol=0)
    exact = ask(law, sample)[0] * torch.exp(slow.correction(sample))
    torch.testing.assert_close(found[0], exact, rtol=1e-9, atol=0)
    with torch.enable_grad():
        ask(slow, sample)[0].sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in slow.network.parameters())


def test_gradients_are_those_of_differences(model):
    sample = corner()

    def total(size):
        tau = ask(model, replace(sample, velocity=tuple(size * f for f in sample.velocity)))
        return tau[0].square().sum() + 2.0 * tau[1].sum()

    with torch.enable_grad():
        size = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(total(size), size)
    h = 1e-5
    assert float(slope) == pytest.approx(float(total(1.1 + h) - total(1.1 - h)) / (2 * h), rel=1e-7)


def test_single_precision(model):
    sample = corner()
    tau = ask(model, sample)[0]
    single = replace(sample, velocity=tuple(f.float() for f in sample.velocity), beside=sample.beside.float())
    found = ask(CorrectedLaw("corner_law", artefact.load(FOLDER).network), single)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), tau, rtol=1e-4, atol=1e-8)


GEOMETRY = {
    "channel": (GRIDS["channel"], 0.5, {1: None}),
    "half_channel": (Grid(FourierAxis(8, 6.0), walls(9, upper=SLIP), FourierAxis(7, 3.0)), 1.0, {1: None}),
    "duct": (GRIDS["duct"], 0.5, {1: 2, 2: 1}),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_model_is_told_where_other_walls_are(name, law):
    grid, share, expected = GEOMETRY[name]
    op = operators(grid.with_modelled_walls())
    stress = WallStress(op, law, 0.5, NU)
    rest = torch.zeros(())
    for axis, along in expected.items():
        sample = stress.shown((rest, rest), axis)
        assert sample.depth == pytest.approx(share * grid.axes[axis].length)
        if along is None:
            assert sample.beside == math.inf
            continue
        line = grid.axes[along]
        centres = line.centres - line.faces[0]
        nearest = np.minimum(centres, line.length - centres)
        assert sample.beside.shape == ((1, 1, 1, line.n) if along == 2 else (1, 1, line.n, 1))
        np.testing.assert_allclose(sample.beside.flatten().numpy(), nearest, rtol=1e-12)


# -- training ----------------------------------------------------------------------------------------------------------


def test_what_is_shipped_is_what_its_recipe_makes():
    """Card and recipe agree, the error is that of the card, a quarter of the law's; of Re_tau above 1000 nothing is
    there to be read.
    """
    recipe, found = load_experiment(RECIPE), artefact.load(FOLDER)
    assert found.card.trained_on == recipe.card.trained_on
    assert found.card.arguments["width"] == recipe.operator.arguments["width"]
    rows = samples(recipe.profiles.validation, found.network)
    error = WallError(found.network)
    measured = error.conclude({key: value.mean() for key, value in error.measure(rows, ()).items()})
    assert measured["stress_error"] == pytest.approx(found.card.metrics["stress_error"], rel=1e-3)
    assert measured["stress_error"] < 0.3 * measured["stress_error_of_the_law"]
    assert sorted(p.stem for p in ROOM.glob("*.csv")) == ["channel1000", "channel180", "channel550", "duct180"]


def test_it_is_trained_by_a_recipe(tmp_path):
    """Two epochs: the loss falls, the artefact acts by the name of its architecture."""
    made = train(RECIPE, tmp_path, overrides=("loop.epochs=2",))
    losses = [row["loss"] for row in made.progress.history]
    assert losses[1] < losses[0]
    own = create("wall_correction", grid=GRIDS["channel"], nu=NU, options={"artefact": str(tmp_path)})
    shipped = create("corner_law", grid=GRIDS["channel"], nu=NU)
    sample = corner()
    assert float((ask(own, sample)[0] / ask(shipped, sample)[0] - 1.0).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("profiles.training=['channel550']",), "'channel550' is learned from as well"),
        (("profiles.training=['channel5200']",), r"\[profiles\] 'channel5200': no table of mean velocities; there are"),
        (("operator={name='fno'}",), r"\[operator\] 'fno' is no wall model"),
    ],
)
def test_recipes_that_cannot_be(overrides, line, tmp_path):
    with pytest.raises(CaseError, match=line) as problem:
        train(RECIPE, tmp_path, overrides=overrides)
    assert "\n" not in str(problem.value)


def test_a_network_of_another_role_is_no_wall_model(tmp_path):
    with pytest.raises(CaseError, match=r"\[wall_model\] artefact = .*holds a subgrid model .*no wall model"):
        create("wall_correction", grid=GRIDS["channel"], nu=NU, options={"artefact": str(shipped()["tbnn"])})
    with pytest.raises(CaseError, match="needs artefact = 'FOLDER'"):
        create("wall_correction", grid=GRIDS["channel"], nu=NU)
    with pytest.raises(CaseError, match="unknown option 'kappa' of 'corner_law'"):
        create("corner_law", grid=GRIDS["channel"], nu=NU, options={"kappa": 0.4})
    assert build("wall_correction").kind == "wall"

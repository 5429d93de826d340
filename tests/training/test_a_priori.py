"""Training on filtered stresses: against what the direct simulation counted itself, and twins, on several grids."""

from __future__ import annotations

import csv
import shutil

import h5py
import numpy as np
import pytest
import torch

from closures.data.exchange import EXCHANGE, TWICE
from closures.data.folder import files_of
from closures.data.generate import generate_flow
from closures.data.grids import load_flow_recipes
from closures.data.layout import MOMENTS
from closures.data.opened import opened
from closures.data.windows import TrajectoryFiles
from closures.operators import build
from closures.operators.artefact import load
from closures.operators.stress import PAIRS
from closures.training.a_priori import APriori, OnGrid, Weights
from closures.training.a_priori_recipe import APrioriRecipe
from closures.training.experiment import train
from closures.training.stress_frames import StressFrames
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.files.folder import to_toml, write_text
from tests.data.flows import CHANNEL, GRIDS, listing, write_recipe
from tests.operators.fields import randomise

BOTH = GRIDS.replace("{ n = [4, 5, 6] }", "{ n = [4, 5, 6], store = { stress = true, planes = true } }")
NAMES = ("6x6x8", "4x5x6")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a tiny channel filtered to three grids, and its case."""
    folder = tmp_path_factory.mktemp("a_priori")
    recipe = write_recipe(folder, listing(CHANNEL, BOTH))
    with torch.no_grad():
        generate_flow(recipe, folder / "set", quiet=True)
    case = load_flow_recipes(recipe)["cut"].case(0).model_dump(mode="json", exclude_none=True)
    (folder / "case").mkdir()
    write_text(folder / "case/case.toml", to_toml(case))
    return folder


def on_grid(made, name, network):
    file = TrajectoryFiles(made / "set" / name)
    return OnGrid(str(made / "case"), (), file.domain, file.path, network), file


def recipe_of(made, **changes):
    tables = {
        "title": "a test",
        "operator": {"name": "split_stress", "width": 4, "mean_width": 4},
        "a_priori": {
            "case": str(made / "case"),
            "folder": str(made / "set"),
            "grids": NAMES,
            "profiles": ["cut"],
            "frames": 2,
            "validation": 0.5,
        },
        "optimiser": {"rate": 0.02, "schedule": "constant"},
        "loop": {"epochs": 12, "batch": 1, "device": "cpu"},
        "card": {"trained_on": "a tiny channel"},
    }
    return APrioriRecipe.model_validate(
        {k: v | changes.get(k, {}) if isinstance(v, dict) else v for k, v in tables.items()}
    )


@pytest.mark.parametrize("name", NAMES)
def test_true_drains_are_those_that_the_direct_simulation_counted(made, name):
    """From stored fields in single precision, against the moments that its filter took of modes in double."""
    grid, file = on_grid(made, name, build("split_stress"))
    frames = StressFrames([(file, [1])], 5)
    assert len(frames) == 1
    _, true = grid.moments(frames[0])
    with opened(file.path) as data:
        exchange, moments = data["statistics/exchange"][1], data["statistics/moments"][1]
    of = {row: exchange[:, EXCHANGE.index(row)] for row in EXCHANGE}
    tau = {row: moments[:, MOMENTS.index(row)] for row in MOMENTS}
    for c, component in enumerate(("xx", "yy", "zz", "xy", "xz", "yz")):
        mean = tau[f"tau_{component}"]
        drain = -TWICE[c] * (of[f"tau_{component}_s_{component}"] - mean * of[f"s_{component}"]).mean(0)
        scale = np.abs(true[6:12].numpy()).max()
        np.testing.assert_allclose(true[6 + c].numpy(), drain, atol=2e-5 * scale)
        np.testing.assert_allclose(true[c].numpy(), mean.mean(0), atol=2e-5 * np.abs(mean).max())


def test_a_model_that_answers_nothing_misses_all_of_it(made):
    """Every square is then that of the truth over its scale."""
    network = build("split_stress", c_w=0.0)
    with torch.no_grad():
        network.log_lengths.fill_(-30.0)
    grid, file = on_grid(made, NAMES[0], network)
    with torch.no_grad():
        errors = APriori([grid], network, Weights()).measure(StressFrames([(file, [0])], 2)[0][None], [0])
    assert float(errors["mean"]) == pytest.approx(1.0, rel=1e-6)
    assert 0.5 < float(errors["stress"]) < 1.0
    assert float(errors["profile"]) == 0.0


def test_the_slope_of_the_loss(made):
    network = randomise(build("split_stress", width=3, mean_width=3), 5, scale=0.2)
    grid, file = on_grid(made, NAMES[1], network)
    cut, _ = on_grid(made, NAMES[0], network)
    grid.model.precision = cut.model.precision = "float64"
    objective = APriori([grid], network, Weights(), [(cut, made / "set/cut")])
    batch = StressFrames([(file, [0])], 2)[1][None]
    objective(batch, [0]).backward()
    weight = network.ratios[-1].bias
    slope, h = float(weight.grad[0]), 1e-5
    with torch.no_grad():
        values = []
        for side in (1, -1):
            weight[0] += side * h
            values.append(float(objective(batch, [0])))
            weight[0] -= side * h
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)
    assert all(bool(p.grad.abs().max() > 0) for p in network.parameters())


def taught(made, folder, teacher):
    """The set with the stresses of a network in place of its own."""
    shutil.copytree(made / "set", folder)
    for name in NAMES:
        grid, file = on_grid(made, name, teacher)
        resampler, operators = grid.frames.resampler, grid.simulation.operators
        stress = np.zeros((*file.shape[:-1], 3, 3), np.float32)
        for trajectory, frame in np.ndindex(*file.shape[:2]):
            u = torch.from_numpy(file.read(trajectory, slice(frame, frame + 1))[0]).movedim(-1, 0)
            velocity = Velocity(grid.simulation.flow.strain, grid.frames.start(u))
            tau = grid.model.evaluate(grid.model.features(velocity), operators).tau
            for (i, j), f in zip(PAIRS, tau, strict=True):
                cut = resampler._resized(operators.to_coefficients(f), inwards=True)
                stress[trajectory, frame, ..., i, j] = stress[trajectory, frame, ..., j, i] = (
                    resampler.transform.to_physical(cut)
                )
        files = [path for paths in files_of(folder / name).values() for path in paths]
        for path, rows in zip(files, stress, strict=True):
            with h5py.File(path, "r+") as data:
                data["t2_fields/subgrid_stress"][0] = rows
    return folder


def test_it_learns_the_stresses_of_another_network_on_two_grids_at_once(made, tmp_path):
    with torch.no_grad():
        teacher = randomise(build("split_stress", width=3, mean_width=3), 11, scale=0.6)
        teacher.log_lengths[:] += 0.4
        folder = taught(made, tmp_path / "set", teacher)
    card = train(recipe_of(made, a_priori={"folder": str(folder), "profiles": []}), tmp_path / "out").card
    with (tmp_path / "out/history.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert card.role == "subgrid_model"
    assert card.grid is None  # of several
    assert set(card.metrics) == {"validation_loss", "stress", "drain", "mean", "profile"}
    assert load(tmp_path / "out").network.splits


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"loop": {"batch": 2}}, "one sample of one grid"),
        ({"operator": {"name": "tensor_basis", "width": 4}}, "networks with a mean part"),
        ({"operator": {"name": "fno"}}, "steps a velocity"),
        ({"a_priori": {"grids": ["cut"]}}, "cut: not a set of trajectories"),
        ({"a_priori": {"profiles": ["none"]}}, "none: no such data set"),
        ({"a_priori": {"case": "channel180"}}, "has other lengths, walls or cells"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(made, tmp_path, changes, word):
    def tried():
        recipe = recipe_of(made, **{key: value for key, value in changes.items() if key != "operator"})
        train(
            APrioriRecipe.model_validate(recipe.model_dump(exclude_none=True) | changes_of_operator), tmp_path / "out"
        )

    changes_of_operator = {key: value for key, value in changes.items() if key == "operator"}
    with pytest.raises((CaseError, ValueError), match=word):
        tried()

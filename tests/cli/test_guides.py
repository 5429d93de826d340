"""The guides to operators, losses, data sets and metrics, followed to the end in a user's own package."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from closures.compare.references import resolve
from closures.compare.report import markdown, record_of
from closures.compare.runs import group, read
from closures.compare.verdicts import compare_members
from closures.data.sets import open_set
from closures.data.windows import TrajectoryFiles, split
from closures.losses.registry import error_of
from closures.losses.relative_l2 import relative_l2
from closures.operators import Domain, artefact
from closures.registry import wall_models
from closures.registry.listing import describe_wall_models
from solver import simulation
from solver.files.folder import to_toml
from solver.flow.wall_stress import WallSample
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip
from solver.grid.grid import Grid
from tests import runs
from tests.cli.guides import GUIDES, install, module, recipe
from tests.compare.ensembles import write_run
from tests.coupling.flows import channel, closure, flow
from tests.training.trajectories import FACES, LX, LZ, NX, NZ, write_file

PAGES = {page.stem: page for page in GUIDES}
SMALL = {"epochs": 2, "batch": 2, "device": "cpu"}


@pytest.fixture(autouse=True)
def package(monkeypatch, tmp_path):
    """The package is installed, as far as we can tell."""
    install(monkeypatch, tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "my_closures"]:
        del sys.modules[name]


def trained(page, folder, **changes):
    """The artefact that `solver train` makes of the guide's recipe, its sizes and times made small."""
    data = recipe(PAGES[page])
    for table, values in ({"loop": SMALL} | changes).items():
        data[table] = data.get(table, {}) | values
    (folder / "own.toml").write_text(to_toml(data))
    done = runs.solver("train", folder / "own.toml", "--out", folder / "net", "--quiet")
    assert (done.code, done.err) == (0, "")
    return folder / "net"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guides_are_short(page):
    assert len([line for line in module(page).splitlines() if line.strip()]) <= 40


def test_an_operator_is_trained_saved_loaded_and_run(tmp_path):
    file = write_file(tmp_path / "waves.h5")
    folder = trained("add_an_operator", tmp_path, data={"file": str(file), "validation": 0.3})
    found = artefact.load(folder)
    assert (found.card.architecture, found.card.arguments, found.card.package) == (
        "local_net",
        {"width": 12},
        "my_closures.nets",
    )
    domain = TrajectoryFiles(file).domain
    u = torch.randn(1, 3, *domain.shape)
    moved = found.network(u.roll((1, 2), (2, 4)), domain).roll((-1, -2), (2, 4))
    torch.testing.assert_close(found.network(u, domain), moved)  # as it declares
    grid = Grid(FourierAxis(NX, LX), FiniteVolumeAxis(FACES, NoSlip(), NoSlip()), FourierAxis(NZ, LZ))
    with torch.no_grad():
        acted = flow(grid, closure("local_net", folder, grid, base="none", start=0.0), dt=found.card.step)
        acted.step()
    assert acted.closure_state["guard"].tolist() == [0, 0, 0]
    assert float(acted.operators.divergence(acted.velocity.coefficients).abs().max()) < 1e-10


def test_a_loss_is_what_a_training_takes(tmp_path):
    """Its option arrives; it weighs walls as the formula says; the card has its value for the weights that are kept."""
    file = write_file(tmp_path / "waves.h5")
    operator = {"width": 4, "modes": [2, 3, 2], "layers": 2, "hidden": 6}
    folder = trained("add_a_loss", tmp_path, data={"file": str(file), "validation": 0.3}, operator=operator)
    history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    assert np.nanmin(history["validation_loss"]) == pytest.approx(artefact.load(folder).card.metrics["validation_loss"])
    domain = Domain.of(channel())
    u, wrong = torch.rand(2, 1, 3, *domain.shape, dtype=torch.float64)
    inner = wrong.clone()
    inner[:, :, :, [0, -1]] = u[:, :, :, [0, -1]]  # right beside the walls, wrong elsewhere
    deep, shallow = (error_of("near_walls", {"depth": depth}) for depth in (1e6, 0.02))
    torch.testing.assert_close(deep(wrong, u, domain), relative_l2(wrong, u, domain))
    assert float(shallow(inner, u, domain)) < 0.1 * float(shallow(wrong, u, domain))


def test_a_data_set_is_trained_on_and_its_network_runs(tmp_path):
    """The flow that is kept for tests is in neither part; the checksum is that of the content."""
    folder = trained("add_a_dataset", tmp_path, data={"options": {"flows": 5, "frames": 4, "nu": 0.1}})
    card = artefact.load(folder).card
    assert (card.nu, card.step, len(card.grid["x"]["points"])) == ((0.1, 0.1), 0.1, 8)
    source = open_set("vortices", None, {"flows": 5, "frames": 4, "nu": 0.1})
    assert card.data_sha256 == source.sha256
    assert source.sha256 != open_set("vortices", None, {"flows": 5, "frames": 4, "nu": 0.2}).sha256
    training, validation = split(source, 0.2)
    assert sorted([*training, *validation]) == [0, 1, 2, 3]
    again = runs.solver("train", tmp_path / "own.toml", "--out", folder, "--quiet")
    assert (again.code, again.err) == (0, "")


def test_a_metric_finds_what_it_measures(tmp_path):
    """Errors of U that grow towards the centre are found there; the table has its label."""
    folders = [write_run(tmp_path / name, name, 5, bias) for name, bias in (("none", {}), ("wale", {"u_mean": 0.1}))]
    found = [read(folder) for folder in folders]
    comparison = compare_members(group(found), resolve("MKM180", found))
    (column,) = (i for i, metric in enumerate(comparison.metrics) if metric.name == "centreline")
    plain, biased = (float(judged.errors.value[column]) for judged in comparison.members)
    case = found[0].case.build_grid()
    y = np.minimum(case.y.centres, 2 - case.y.centres)
    u = comparison.target.at().profile("u_mean", y)
    expected = (1 + 0.1 * y.max()) * (u * case.y.width).sum() / ((1 + 0.1 * y) * u * case.y.width).sum() - 1
    assert plain < 0.2 * expected
    assert biased == pytest.approx(expected, abs=0.2 * expected)
    assert comparison.members[1].words[column] == "worse"
    assert "U_c [%]" in markdown(record_of(comparison, "solver compare"))


def test_a_wall_model_acts(tmp_path):
    """Its law in closed form, its memory, its options; under guard, in a channel that it brakes."""
    grid, u = channel(), torch.linspace(0.2, 3.0, 24, dtype=torch.float64).reshape(2, 3, 1, 4)
    model = wall_models.create("power_law", grid=grid, nu=1e-4)
    sample = WallSample((u, -0.5 * u), 0.1, 1e-4)
    (first, second), state = model(sample, 1.0, model.init(sample))
    u_tau = ((first * first + second * second) ** 0.25).flatten()
    u_plus = (u * 1.25**0.5).flatten() / u_tau
    torch.testing.assert_close(u_plus, 8.3 * (0.1 * u_tau / 1e-4) ** (1 / 7), rtol=1e-9, atol=0)
    torch.testing.assert_close(second, -0.5 * first)
    assert float(state["overruled"].sum()) == 0.0
    slow = wall_models.create("power_law", grid=grid, nu=1e-4, options={"span": 2.0})
    _, state = slow(sample, 1.0, slow.init(sample))
    _, state = slow(WallSample((0 * u, 0 * u), 0.1, 1e-4), 2.0, state)
    torch.testing.assert_close(state["u"], u * np.exp(-0.5))
    walls = ("grid.x.n=8", "grid.y.n=12", "grid.z.n=8", "grid.y.stretching=0.0", "wall_model.height=0.2")
    running = simulation("channel180", *walls, "wall_model.name=power_law", "run.device=cpu", "closure={name='none'}")
    running.step()
    assert 1e-3 < float(running.present_stress().planes[1][0][0].mean()) < 1e-2
    assert describe_wall_models()["power_law"].summary.startswith("tau = a^-2/(1+b)")

"""A subgrid model trained through the solver: recipe and file in, artefact out, used in a run."""

from __future__ import annotations

import json

import pytest
import torch

from closures.coupling.strength import stress_size
from closures.data.windows import TrajectoryFiles, Windows
from closures.operators import artefact
from closures.operators.shipped import PRETRAINED
from closures.registry import registry
from closures.training.begin import weights_of
from closures.training.experiment import train
from closures.training.identity import content_of
from closures.training.stress_network import first_guess
from closures.training.through_solver import SolverRecipe, in_flow
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.files.folder import to_toml, write_text
from solver.run import build
from tests.coupling.flows import write
from tests.runs import solver
from tests.training.trajectories import les_file

STEP = 0.05
FIXED = f"time.dt={STEP}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The case and the file; three initial fields."""
    return les_file(tmp_path_factory.mktemp("through"), (1, 2, 3), frames=3, step=STEP)


def recipe(made, **table):
    case, file = made
    return SolverRecipe.model_validate(
        {
            "title": "a test",
            "data": {"file": str(file)},
            "operator": {"name": "tensor_basis", "width": 2, "depth": 1, "tensors": 1, "c_s": 0.1},
            "solver": {"case": str(case), "frames": 2, "loss": "statistics"} | table,
            "optimiser": {"rate": 1.0, "schedule": "constant", "warm_up": 0.0},
            "loop": {"epochs": 4, "batch": 1, "device": "cpu"},
            "card": {"trained_on": "a smaller LES"},
        }
    )


def test_the_error_falls_and_the_artefact_runs(made, tmp_path):
    source = TrajectoryFiles(made[1])
    described = recipe(made)
    untrained = in_flow(described, first_guess(described.operator, None, "[solver]"), source)
    with torch.no_grad():
        measured = untrained.measure(Windows(source, [2], 2)[0][None], [0])
        before = untrained.conclude({name: values.mean(dim=0) for name, values in measured.items()})["validation_loss"]
    card = train(recipe(made), tmp_path / "out").card
    history = [line.split(",") for line in (tmp_path / "out/history.csv").read_text().splitlines()]
    errors = [float(row[history[0].index("validation_loss")]) for row in history[1:]]
    assert min(errors) < 0.5 * before
    assert card.role == "subgrid_model"
    assert card.metrics["validation_loss"] == pytest.approx(min(errors), rel=1e-6)
    assert card.grid == untrained.domain.describe()
    case, folder = load_case(made[0], (f"closure={{name='tensor_basis', artefact='{tmp_path / 'out'}'}}", FIXED))
    with torch.no_grad():
        simulation = build.build(build.Source(case, folder, "case"))
        for _ in range(2):
            simulation.step()
        assert simulation.closure_state["guard"].tolist() == [0, 0, 0]
        assert 0.2 < stress_size(simulation.present_term(), simulation.velocity) / card.largest_answer < 3.0
        assert simulation.closure.size == pytest.approx(3.0 * card.largest_answer)


def test_a_training_goes_on_where_it_stopped(made, tmp_path):
    """From the command line; no epoch is run twice: the second call finds it done and writes the same weights."""
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    write_text(file, to_toml(recipe(made, frames=1).model_dump(exclude_none=True)))
    first = solver("train", file, "--out", out, "--quiet")
    assert (first.code, first.err) == (0, "")
    digest = artefact.load(out).card.weights_sha256
    (out / artefact.WEIGHTS).unlink()
    assert train(file, out).card.weights_sha256 == digest
    case = made[0] / "case.toml"
    text = case.read_text()
    case.write_text(text.replace("nu = 0.002", "nu = 0.003"))
    try:
        with pytest.raises(RunFolderError, match="belongs to another recipe, data file or version"):
            train(file, out)
    finally:
        case.write_text(text)


def test_the_identity_of_a_training_is_all_that_it_depends_on(made):
    """Not when the case ends or what it is called; what its solver and its network are."""
    first = content_of(load_case(made[0])[0])
    how = (
        "run.device=cpu",
        "run.threads=1",
        "run.graph=off",
        "run.transforms=planes",
        "run.exchange=mpi",
        "run.fuse=off",
    )
    for idle in ("time.end=7", "title=other", "output.every_steps=5", *how):
        assert content_of(load_case(made[0], (idle,))[0]) == first
    for telling in ("flow.nu=0.003", "flow.forcing.bulk_velocity=0.5", "time.dt=0.1", "grid.y.n=10"):
        assert content_of(load_case(made[0], (telling,))[0]) != first
    network = f"closure={{name='corrector', artefact='{PRETRAINED / 'differential_corrector'}'}}"
    assert content_of(load_case(made[0], (network,))[0])["artefact"] == weights_of(
        str(PRETRAINED / "differential_corrector")
    )


def test_a_pressure_solver_without_a_gradient_is_refused(made):
    overrides = ["grid.x={kind='finite_volume', n=8, end=1, lower='periodic', upper='periodic'}"]
    overrides += ["grid.z={kind='finite_volume', n=8, end=1, lower='periodic', upper='periodic'}"]
    overrides += ["pressure.solver=multigrid", "initial={kind='rest'}", "flow.forcing={kind='none'}"]
    described = recipe(made, overrides=overrides)
    with pytest.raises(CaseError, match=r"\[solids\] an iterative pressure solver passes no gradient"):
        in_flow(described, first_guess(described.operator, None, "[solver]"), TrajectoryFiles(made[1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ["grid.x.n=10"]}, "its modes and cells are 10 x 9 x 8 points, the data have others"),
        ({"steps": 0}, "steps"),
        ({"begin": "ELSEWHERE"}, "holds 'cnn'"),
        ({"begin": "WIDER"}, "its arguments are not those of [operator]"),
    ],
)
def test_what_does_not_fit_is_refused(made, tmp_path, changes, message):
    if "begin" in changes:
        name = {"ELSEWHERE": "cnn", "WIDER": "tensor_basis"}[changes["begin"]]
        changes = {"begin": str(write(tmp_path / "begin", name))}
    with pytest.raises((CaseError, ValueError)) as caught:
        train(recipe(made, **changes), tmp_path / "out")
    assert message in str(caught.value)


def test_an_operator_on_the_velocity_is_refused(made, tmp_path):
    data = json.loads(recipe(made).model_dump_json()) | {"operator": {"name": "fno"}}
    data["solver"]["overrides"] = tuple(data["solver"]["overrides"])
    with pytest.raises(CaseError, match="'fno' steps a velocity: the solver trains models of the stress"):
        train(SolverRecipe.model_validate(data), tmp_path)
    assert "tensor_basis" not in registry.names()

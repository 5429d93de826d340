"""Training through a solver whose flow several ranks share: the weights are those of one."""

from __future__ import annotations

import pytest
import torch

from closures.operators import artefact
from closures.training.processes import process_group
from closures.training.stress_network import first_guess
from closures.training.through_solver import SolverRecipe
from solver.errors import CaseError
from solver.files.folder import to_toml, write_text
from tests.runs import ended, mpirun, needs_mpirun
from tests.training.trajectories import les_file

STEP = 0.05
RANKS = (1, 2)


def recipe(case, file, **table):
    return SolverRecipe.model_validate(
        {
            "title": "a test",
            "data": {"file": str(file)},
            "operator": {"name": "cnn", "width": 3, "depth": 2},
            "solver": {"case": str(case), "frames": 2, "split": "flow", "precision": "float64"} | table,
            "optimiser": {"rate": 1e-2, "schedule": "constant", "warm_up": 0.0},
            "loop": {"epochs": 2, "batch": 2, "device": "cpu"},
            "card": {"trained_on": "a smaller LES"},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training, by the number of ranks."""
    folder, found = tmp_path_factory.mktemp("split"), {}
    case, file = les_file(folder, (1, 2, 3), frames=3, step=STEP)
    text = to_toml(recipe(case, file).model_dump(exclude_none=True))
    assert 'split = "flow"' in text
    write_text(folder / "recipe.toml", text)
    for ranks in RANKS:
        found[ranks] = folder / f"on_{ranks}"
        done = ended(mpirun(ranks, "-m", "solver", "train", folder / "recipe.toml", "--out", found[ranks], "--quiet"))
        assert (done.code, done.err) == (0, "")
    return found


def history(folder):
    return [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]


@needs_mpirun
@pytest.mark.parametrize("ranks", RANKS[1:])
def test_the_weights_are_those_of_one_rank(trained, ranks):
    alone, shared = (artefact.load(trained[n]).network.state_dict() for n in (1, ranks))
    torch.manual_seed(recipe("", "").loop.seed)
    begun = first_guess(recipe("", "").operator, None, "[solver]").state_dict()
    for name, weight in alone.items():
        size = float(weight.abs().max())
        assert float((weight - begun[name]).abs().max()) > 1e-3 * size
        torch.testing.assert_close(shared[name], weight, rtol=0, atol=1e-10 * size)


@needs_mpirun
@pytest.mark.parametrize("ranks", RANKS[1:])
def test_errors_and_card_are_those_of_one_rank(trained, ranks):
    first, *rows = history(trained[1])
    errors = first.index("validation_loss")
    assert len(rows) == 2
    for row, own in zip(rows, history(trained[ranks])[1:], strict=True):
        assert float(own[errors]) == pytest.approx(float(row[errors]), rel=1e-10)
    alone, shared = (artefact.load(trained[n]).card for n in (1, ranks))
    assert shared.largest_answer == pytest.approx(alone.largest_answer, rel=1e-10)
    assert shared.largest_answer > 0


def test_torchrun_shares_no_flow(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(CaseError, match=r"\[solver\] split = 'flow': a flow is not shared .* torchrun: start its ranks"),
        process_group("cpu", flow=True),
    ):
        pass

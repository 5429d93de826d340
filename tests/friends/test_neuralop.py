"""Models of ``neuraloperator``: trained by `solver train`, loaded without a pickle, the same in the loop."""

from __future__ import annotations

import pytest
import torch

from closures.operators import artefact, build
from closures.training.experiment import train
from closures.training.tables import OperatorTable
from tests.coupling.flows import channel, closure, flow, write
from tests.training.trajectories import small_recipe, write_file

pytest.importorskip("neuralop", reason="pip install neuraloperator")

SIZES = {"n_modes": [4, 3, 4], "hidden_channels": 6, "in_channels": 3, "out_channels": 3, "n_layers": 2}
MODELS = {"FNO": {}, "TFNO": {"factorization": "Tucker", "rank": 0.3}}


def options(name: str) -> dict:
    """As the table ``[operator]`` has them."""
    return {"of": f"neuralop.models:{name}", "arguments": SIZES | MODELS[name]}


@pytest.mark.parametrize("name", MODELS)
def test_its_weights_are_real_here_and_complex_there(name, tmp_path):
    """Answers are those of the model itself, in single and after a change of precision, also once loaded."""
    torch.manual_seed(771)
    ours = build("module", **options(name))
    home = ours._network[0]
    assert any(w.is_complex() for w in home.parameters())
    assert not any(w.is_complex() for w in ours.parameters())
    u = torch.randn(1, 3, 10, 9, 8)
    ours(u, None).square().sum().backward()
    assert all(bool(w.grad.abs().sum() > 0) for w in ours.parameters())
    with torch.no_grad():
        exact = home(u)
        torch.testing.assert_close(ours(u, None), exact)
        grid = channel()
        for weight in ours.parameters():
            weight *= 0.1
        folder = write(tmp_path, "module", grid, network=ours, arguments=options(name))
        loaded = artefact.load(folder)
        torch.testing.assert_close(loaded.network(u, None), ours(u, None))
        assert loaded.card.package.startswith("neuraloperator ")
        torch.testing.assert_close(
            ours.double()(u.double(), None).float(), loaded.network(u, None), rtol=1e-3, atol=1e-5
        )
        acted = flow(grid, closure("module", folder, grid, base="none", every=1))
        acted.step()
    assert acted.closure_state["guard"].tolist() == [0, 0, 0]


def test_it_is_trained(tmp_path):
    """By a recipe that names it; the loss falls."""
    recipe = small_recipe(write_file(tmp_path / "waves.h5"), loop={"epochs": 4})
    recipe = recipe.model_copy(update={"operator": OperatorTable(name="module", **options("FNO"))})
    found = train(recipe, tmp_path / "net")
    losses = [row["loss"] for row in found.progress.history]
    assert losses[-1] < losses[0]
    assert artefact.load(tmp_path / "net").card.arguments["of"] == "neuralop.models:FNO"

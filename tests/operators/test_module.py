"""A module that knows nothing of domains, as an operator: its own answers, its own weights, installed code alone."""

from __future__ import annotations

import pytest
import torch

from closures.operators import artefact, build
from closures.operators.artefact import ArtefactError
from solver.errors import CaseError
from tests.coupling.flows import channel, closure, flow, write

CONVOLUTION = {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": 1, "padding_mode": "circular"}
OPTIONS = {"of": "torch.nn:Conv3d", "arguments": CONVOLUTION}


def test_published_weights_answer_as_they_do_at_home(tmp_path):
    """Taken by their own names, saved, loaded: the same numbers as without us; and it acts in a flow."""
    torch.manual_seed(40117)
    home = torch.nn.Conv3d(**CONVOLUTION)
    ours = build("module", **OPTIONS).take(home.state_dict())
    u = torch.randn(2, 3, 10, 9, 8)
    torch.testing.assert_close(ours(u, None), home(u))
    assert (ours.kind, ours.grid_free) == ("state", False)
    grid = channel()
    folder = write(tmp_path / "net", "module", grid, network=ours, arguments=OPTIONS)
    loaded = artefact.load(folder)
    assert loaded.card.package == f"torch {torch.__version__}"
    torch.testing.assert_close(loaded.network(u, None), home(u))
    with torch.no_grad():
        acted = flow(grid, closure("module", folder, grid, base="none", every=1))
        acted.step()
    assert acted.closure_state["guard"].tolist() == [0, 0, 0]
    (folder / "card.json").write_text((folder / "card.json").read_text().replace("torch.nn:Conv3d", "os:system"))
    with pytest.raises(CaseError, match="no installed package has 'os'"):
        artefact.load(folder)


def test_weights_of_another_network_are_refused(tmp_path):
    ours = build("module", **OPTIONS)
    with pytest.raises(CaseError, match=r"weights of another network: .*bias"):
        ours.take({"weight": torch.zeros(3, 3, 3, 3, 3)})
    folder = write(tmp_path / "net", "module", channel(), network=ours, arguments=OPTIONS)
    text = (folder / "card.json").read_text()
    (folder / "card.json").write_text(text.replace('"kernel_size": 3', '"kernel_size": 5'))
    with pytest.raises(ArtefactError, match="has shape"):
        artefact.load(folder)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"of": "os:system"}, "no installed package has 'os'"),
        ({"of": "tests.runs:Ended"}, "no installed package has 'tests'"),
        ({"of": "torch.nn.Conv3d"}, "name it as 'package.module:Class'"),
        ({"of": "torch.nn:functional"}, "no class derived from torch.nn.Module"),
        ({"of": "torch.nn:Conv4d"}, "cannot be imported: AttributeError"),
        ({"of": "torch.nn:Conv3d", "arguments": {"width": 3}}, "cannot be made: TypeError.*width"),
        ({"of": "torch.nn:BatchNorm3d", "arguments": {"num_features": 3}}, "'num_batches_tracked' holds torch.int64"),
    ],
)
def test_what_is_no_module_is_refused(options, problem):
    with pytest.raises(CaseError, match=problem):
        build("module", **options)


def test_an_answer_of_another_shape_is_refused():
    ours = build("module", of="torch.nn:Conv3d", arguments=CONVOLUTION | {"out_channels": 2})
    with pytest.raises(CaseError, match=r"answers \(1, 2, 4, 4, 4\) to \(1, 3, 4, 4, 4\): it should be the same"):
        ours(torch.zeros(1, 3, 4, 4, 4), None)

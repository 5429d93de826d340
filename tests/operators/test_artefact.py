"""Artefacts: what is written is read back, and everything that is not one is refused by name."""

from __future__ import annotations

import json
import logging
import os
import pickle
import stat
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from closures.operators import Domain, artefact, build
from closures.operators.artefact import CARD, WEIGHTS, ArtefactError
from closures.operators.predictor import Scaling
from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.closeness import assert_round_off
from tests.operators.fields import SMALL, channel_domain, randomise, smooth

SCALING = Scaling(target="increment", mean=(0.6, 0.0, 0.0), std=(0.2, 0.03, 0.05), change=(0.1, 0.02, 0.03))
HERE = (8, 6, 6)


def write(folder, name="fno", domain=None, **changes):
    """A small network on disk."""
    arguments = SMALL.get(name, {}) | changes
    network = randomise(build(name, **arguments), 17)
    artefact.save(
        folder,
        network,
        name,
        arguments,
        scaling=SCALING if network.kind == "state" else None,
        step=0.25,
        filter="box",
        grid=(domain or channel_domain(*HERE)).describe(),
        nu=(1e-4, 2e-4),
        trained_on="a test",
        data_sha256=None,
        commit=None,
        metrics={"relative_l2": 0.5},
        licence="BSD-3-Clause",
    )
    return network


def edit_card(folder, **changes):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


def replace_weights(folder, weights):
    """Other weights, with the checksum to match."""
    save_file(weights, folder / WEIGHTS)
    edit_card(folder, weights_sha256=artefact.digest(folder / WEIGHTS))


def refused(folder, match, domain=None, error=ArtefactError):
    with pytest.raises(error, match=match) as caught:
        artefact.load(folder, domain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*SMALL, "tensor_basis", "cnn"])
def test_round_trip(tmp_path, name):
    network = write(tmp_path, name)
    loaded = artefact.load(tmp_path, channel_domain(*HERE))
    assert type(loaded.network) is type(network)
    for (key, a), (other, b) in zip(network.state_dict().items(), loaded.network.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(a, b)
    assert not any(w.requires_grad for w in loaded.network.parameters())
    assert loaded.card.parameters == sum(w.numel() for w in network.parameters())
    assert loaded.card.metrics == {"relative_l2": 0.5}
    assert sorted(p.name for p in tmp_path.iterdir()) == [CARD, WEIGHTS]


def test_a_loaded_network_predicts_what_the_saved_one_does(tmp_path):
    network, domain = write(tmp_path, "ifactformer_m"), channel_domain(*HERE, torch.float32)
    u = smooth(domain)
    change = torch.tensor(SCALING.change).reshape(1, 3, 1, 1, 1)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1, 1) for v in (SCALING.mean, SCALING.std))
    expected = u + change * network((u - mean) / std, domain)
    assert_round_off(artefact.load(tmp_path, domain).predictor()(u, domain), expected)  # its batch lies otherwise


def test_colleagues_may_read_what_the_group_may_read(tmp_path):
    """Whoever writes weights makes them private, whatever the umask; the card beside them is not."""
    mask = os.umask(0o027)
    try:
        write(tmp_path)
    finally:
        os.umask(mask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (CARD, WEIGHTS)] == [0o640, 0o640]


def test_a_stress_model_steps_nothing(tmp_path):
    write(tmp_path, "tensor_basis")
    with pytest.raises(ArtefactError, match="'tensor_basis' models a stress"):
        artefact.load(tmp_path).predictor()


def test_missing_files(tmp_path):
    refused(tmp_path / "nowhere", r"nowhere/card.json: no such file: a trained network is a folder with card.json and")
    write(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    refused(tmp_path, r"weights.safetensors: no such file beside card.json")


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_weights(tmp_path, kept):
    write(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:kept])
    refused(tmp_path, "weights.safetensors: truncated, damaged or not a safetensors file")


class Bomb:
    """Unpickling this leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_is_named_and_never_opened(tmp_path, how):
    network, mark = write(tmp_path), tmp_path / "opened"
    content = {**network.state_dict(), "bomb": Bomb(mark)}
    if how == "torch":
        torch.save(content, tmp_path / WEIGHTS)
    else:
        (tmp_path / WEIGHTS).write_bytes(pickle.dumps(content))
    refused(tmp_path, "weights.safetensors: a pickle, which could run code when opened")
    assert not mark.exists()


def test_a_header_that_promises_too_much(tmp_path):
    """Lengths and offsets beyond the file are damage, not a reason to allocate."""
    write(tmp_path)
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    refused(tmp_path, "truncated, damaged")
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + header)
    refused(tmp_path, "truncated, damaged")


def test_foreign_weights(tmp_path):
    write(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    first = min(weights)
    replace_weights(tmp_path, {key: w for key, w in weights.items() if key != first})
    refused(tmp_path, f"lacks tensor '{first}': weights of another network")
    replace_weights(tmp_path, weights | {"extra": torch.zeros(1)})
    refused(tmp_path, "has the unknown tensor 'extra'")
    replace_weights(tmp_path, weights | {first: weights[first][..., :-1].contiguous()})
    refused(tmp_path, rf"'{first}' has shape .* the card's network")
    replace_weights(tmp_path, weights | {first: weights[first].to(torch.int32)})
    refused(tmp_path, f"'{first}' holds torch.int32")
    replace_weights(tmp_path, weights | {first: weights[first] * torch.nan})
    refused(tmp_path, f"weight '{first}' is not finite")


def test_exchanged_weights(tmp_path):
    """Right names and shapes, but not those of the card."""
    write(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    save_file({key: w + 1e-3 for key, w in weights.items()}, tmp_path / WEIGHTS)
    refused(tmp_path, "not the weights its card describes")


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = build("fno", **SMALL["fno"])
    with torch.no_grad():
        network.local[0].bias[0] = torch.inf
    with pytest.raises(ArtefactError, match=r"weight 'local.0.bias' is not finite"):
        artefact.save(tmp_path, network, "fno", SMALL["fno"])
    assert not list(tmp_path.iterdir())


def test_cards_that_are_wrong(tmp_path):
    write(tmp_path)
    good = (tmp_path / CARD).read_text()
    edit_card(tmp_path, format=2)
    refused(tmp_path, "card.json: format 2, this version reads 1")
    (tmp_path / CARD).write_text(good[:-30])
    refused(tmp_path, "card.json: cannot be read")
    (tmp_path / CARD).write_text("[]")
    refused(tmp_path, "card.json: format None")
    (tmp_path / CARD).write_text(good)
    edit_card(tmp_path, surprise=1)
    refused(tmp_path, "unknown key 'surprise'")
    (tmp_path / CARD).write_text(good)
    edit_card(tmp_path, architecture="fnoo")
    refused(tmp_path, "unknown name 'fnoo'; did you mean 'fno'", error=CaseError)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channels": 4}, "channels = 4: a velocity has 3"),
        ({"width": 5}, "has shape .* the card's network"),
        ({"layers": 3}, "lacks tensor 'kernels.2.weight'"),
        ({"width": 4096, "modes": [4096, 4096, 4096]}, "cannot be built|the card's network"),
    ],
)
def test_arguments_that_do_not_fit_the_weights(tmp_path, changes, match):
    write(tmp_path)
    edit_card(tmp_path, arguments=SMALL["fno"] | changes)
    refused(tmp_path, match)


def test_another_grid_is_adapted_by_name_or_refused(tmp_path, caplog):
    finer = channel_domain(12, 9, 8)
    write(tmp_path / "free", "ifactformer_m")
    with caplog.at_level(logging.WARNING, logger="solver"):
        artefact.load(tmp_path / "free", channel_domain(*HERE, torch.float32))
        assert not caplog.records
        artefact.load(tmp_path / "free", finer)
    assert "trained on 8 x 6 x 6 points, adapted to this grid of 12 x 9 x 8" in caplog.text
    write(tmp_path / "bound", "ifactformer_m", variant="published")
    artefact.load(tmp_path / "bound", channel_domain(*HERE))
    refused(tmp_path / "bound", "bound to its grid of 8 x 6 x 6 points, this case has 12 x 9 x 8", finer)
    box = Domain.of(Grid(*(FourierAxis(6, 1.0, "2/3") for _ in range(3))))
    refused(tmp_path / "free", r"trained where x, y, z are periodic = \(True, False, True\)", box)


def test_the_same_points_with_other_stretching_are_another_grid(tmp_path):
    domain = channel_domain(*HERE)
    write(tmp_path, "ifactformer_o", variant="published")
    line = domain.y
    other = Domain(domain.x, type(line)(line.points + 0.01, line.weights, line.length, False), domain.z)
    refused(tmp_path, "is bound to its grid", other)

"""Trained networks for other programs: what is written answers as the network does, and says what it is."""

from __future__ import annotations

import json
import re

import pytest
import torch

from closures.coupling import exported
from closures.operators import artefact
from tests import runs
from tests.cli.test_bad_input import refused
from tests.coupling.flows import NU, channel, small, write

GRID = channel()


def answers(folder, name):
    """A network on `GRID`, a random field, and its answer to that."""
    module = exported.on_grid(artefact.load(folder), GRID, NU, folder)
    field = torch.randn(module.entering.shape, generator=torch.Generator().manual_seed(402917))
    with torch.no_grad():
        return module, field, module(field)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensor_basis", "fno"])
def test_a_program_of_torch_is_the_network(name, tmp_path):
    """To the bit: they are the same operations. Whether its numbers are complex is known."""
    folder, out = write(tmp_path / "net", name, GRID), tmp_path / "new" / "net.pt2"
    exported.export(folder, GRID, NU, out)
    module, field, exact = answers(folder, name)
    about = {f"{exported.PREFIX}{key}": "" for key in ("inputs", "outputs", "card")}
    program = torch.export.load(out, extra_files=about)
    assert torch.equal(program.module()(field), exact)
    (entering,), (leaving,) = (json.loads(about[f"{exported.PREFIX}{key}"]) for key in ("inputs", "outputs"))
    assert (entering["name"], entering["shape"]) == (module.entering.name, list(field.shape))
    assert (leaving["name"], leaving["shape"]) == (module.leaving.name, list(exact.shape))
    assert json.loads(about["les_solver.card"])["architecture"] == name
    assert exported.is_complex(program) == (name == "fno")


def test_refused(tmp_path):
    """In one line that says why, and what can be done."""

    def say(folder, name, *words, grid=GRID):
        with pytest.raises(artefact.ArtefactError, match=".*".join(map(re.escape, words))):
            exported.export(folder, grid, NU, tmp_path / name)

    split = write(tmp_path / "split", "split_stress", GRID)
    say(split, "net.onnx", "split_stress", "mean flow along walls", "tensor_basis and cnn")
    say(split, "net.vtu", "--out", ".onnx or .pt2")
    (tmp_path / "old.pt2").touch()
    say(split, "old.pt2", "exists", "--overwrite")
    blind = small("tensor_basis")
    blind.forward = lambda gradient, cells: gradient[:, 0] * float(gradient.sum())
    seen = exported.on_grid(artefact.load(write(tmp_path / "tb", "tensor_basis", GRID)), GRID, NU, tmp_path)
    seen.network = blind
    with pytest.raises(artefact.ArtefactError, match=r"cannot follow 'blind'.*it can follow differential"):
        exported.traced(seen, "blind", tmp_path)


def test_words_of_the_command(tmp_path):
    (tmp_path / "case.toml").write_text(runs.CASE)
    out = tmp_path / "net.pt2"
    refused(runs.solver("export", "tbnn", "--out", out), "add --case")
    refused(runs.solver("export", tmp_path, "--case", tmp_path, "--out", out), "is for networks")
    assert not out.exists()

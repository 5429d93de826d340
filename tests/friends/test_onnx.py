"""Trained networks as ONNX: the answers of onnxruntime are those of torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from closures.coupling import exported
from closures.operators import artefact, build
from tests import runs
from tests.coupling.flows import NU, channel, write
from tests.coupling.test_exported import answers
from tests.operators.fields import randomise

onnxruntime, *_ = (
    pytest.importorskip(package, reason=f"pip install {package}") for package in ("onnxruntime", "onnx", "onnxscript")
)
GRID = channel()
ARGUMENTS = {
    "differential": {"width": 5, "layers": 1, "gate": "tanh"},
    "ifactformer_o": {"width": 6, "heads": 2, "multiplier": 2, "iterations": 1, "modes": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", exported.REAL)
def test_onnx_answers_as_torch_does(name, tmp_path):
    torch.manual_seed(250417)
    arguments = ARGUMENTS.get(name, {})
    network = randomise(build(name, **arguments), 21, scale=0.1) if arguments else None
    folder, out = write(tmp_path / "net", name, GRID, network=network, arguments=arguments), tmp_path / "net.onnx"
    exported.export(folder, GRID, NU, out)
    module, field, exact = answers(folder, name)
    session = onnxruntime.InferenceSession(out)
    (found,) = session.run([module.leaving.name], {module.entering.name: field.numpy()})
    largest = float(exact.abs().max())
    assert largest > 0
    np.testing.assert_allclose(found, exact.numpy(), rtol=0, atol=1e-5 * largest)
    about = session.get_modelmeta().custom_metadata_map
    (entering,) = json.loads(about["les_solver.inputs"])
    assert session.get_inputs()[0].shape == entering["shape"] == list(field.shape)
    assert json.loads(about["les_solver.card"])["architecture"] == name


@pytest.mark.slow
def test_complex_numbers_are_refused(tmp_path):
    folder = write(tmp_path / "net", "fno", GRID)
    with pytest.raises(artefact.ArtefactError, match=r"complex Fourier coefficients.*\.pt2.*differential"):
        exported.export(folder, GRID, NU, tmp_path / "net.onnx")


@pytest.mark.slow
def test_the_command(tmp_path):
    (tmp_path / "case.toml").write_text(runs.CASE)
    out = tmp_path / "net.onnx"
    done = runs.solver("export", "tbnn", "--case", tmp_path, "--out", out)
    assert (done.code, done.out.strip()) == (0, str(out)), done.err
    assert [port.name for port in onnxruntime.InferenceSession(out).get_inputs()] == ["velocity_gradient"]

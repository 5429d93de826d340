"""What a command that needs little does not load: start-up time, without a clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HELP = """
import contextlib, io
from solver.cli.commands import build
with contextlib.redirect_stdout(io.StringIO()):
    build()(args=["--help"], prog_name="solver", standalone_mode=False)
"""
CHANNEL = """
from solver import simulation
simulation("channel180_coarse", closure="dynamic_smagorinsky").step()
"""
# what a run of a plain channel with an algebraic closure has no use for
FEATURES = [
    *("matplotlib", "pyvista", "meshio", "jinja2", "tensorboard", "petsc4py"),
    *("scipy.stats", "scipy.optimize", "scipy.fft", "scipy.ndimage", "scipy.integrate", "scipy.spatial"),
    *("torch._inductor", "torch._dynamo", "sympy", "triton"),
    *("closures.training", "closures.data", "closures.compare", "closures.losses", "closures.linear_families"),
    *("closures.pressure_nets", "solver.figures"),
]
LIBRARIES = ["torch", "numpy", "scipy", "h5py", "mpi4py", "pydantic", "safetensors"]


@pytest.mark.parametrize(
    ("code", "heavy"), [(HELP, FEATURES + LIBRARIES), (CHANNEL, FEATURES)], ids=["help", "channel"]
)
def test_what_is_not_asked_for_is_not_loaded(code, heavy):
    """Import it in the function that needs it, and say there that it is dear."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(told.stdout))
    assert "solver" in loaded
    assert sorted(loaded & set(heavy)) == []

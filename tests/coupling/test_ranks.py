"""One learned run on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from closures.operators import build
from tests import runs
from tests.coupling.flows import SMALL, box, channel, write

STEPS = 20


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name, c_s in (("tensor_basis", 0.1), ("overruled", 0.9)):
        arguments = SMALL["tensor_basis"] | {"c_s": c_s}
        write(folder / name, "tensor_basis", network=build("tensor_basis", **arguments), arguments=arguments)
    for name in ("cnn", "cnn_box"):
        write(folder / name, "cnn", scale=0.1)
    write(folder / "corrector", "ifactformer_m", channel(), arguments={"variant": "published"})  # asked on one rank
    write(folder / "corrector_slabs", "differential", channel())
    periodic = {"modes": (2, 2, 2), "periodic": (True, True, True)}
    write(folder / "corrector_box", "fno", box(), arguments=periodic)
    write(folder / "surrogate", "ifactformer_m", channel(), step=0.02)  # fewer modes than its case
    return folder


@runs.needs_mpirun
def test_ranks_agree_to_single_precision(networks, tmp_path):
    """Also where the network is overruled and switched off, and across a change of resolution."""
    script, found = Path(__file__).with_name("run_ranks.py"), {}
    for ranks in (1, 2):
        done = runs.ended(runs.mpirun(ranks, script, networks, STEPS, tmp_path / f"{ranks}.npz"))
        assert done.code == 0, done.out + done.err
        found[ranks] = np.load(tmp_path / f"{ranks}.npz")
    assert len(found[1].files) == 8 * 4 + 4
    for name in found[1].files:
        one, two = found[1][name], found[2][name]
        if name.endswith("asked"):
            assert two.tolist() == [True, not name.startswith("corrector/")], name
            continue
        if name.endswith("counts"):
            assert one.tolist() == two.tolist() == ([3, 3, 1] if name.startswith("overruled") else [0, 0, 0]), name
        else:
            np.testing.assert_allclose(two, one, rtol=0, atol=1e-6 * np.abs(one).max(), err_msg=name)

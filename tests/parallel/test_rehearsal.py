"""Ranks share the work of the compiler, and what they compute is what they computed without it."""

from __future__ import annotations

import numpy as np
import pytest

from solver.discretisation import fusion
from tests.runs import needs_mpirun, on_ranks

pytestmark = [needs_mpirun, pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")]


def test_two_ranks_find_each_others_kernels_and_have_all_before_the_first_step(tmp_path):
    found = on_ranks((2,), "tests.parallel.run_rehearsal", tmp_path)[2]
    missed, hit = found["counted"].T
    assert (missed + hit > 4).all()
    assert (hit >= 2).all()  # those of another rank; some differ from rank to rank
    assert found["early"] == found["left"] == 0.0
    plain, compiled = (np.stack([found[str(k)] for k in range(first, first + 3)]) for first in (0, 3))
    assert np.abs(compiled - plain).max() < 1e-12 * np.abs(plain).max()

"""Ranks whose fields are on a GPU, through an MPI that does not reach it: the same flow, and what staging costs."""

from __future__ import annotations

from tests import runs
from tests.gpu.run_ranks import FLOWS

EXCHANGES = {"channel": 13, "box": 7}  # a step, as tests/parallel/test_calls.py has them but for the loop's question


@runs.needs_mpirun
def test_two_ranks_stage_their_fields_through_the_host(tmp_path):
    """An exchange is a read and a wait, and a copy back; the step reads its length besides."""
    found = runs.on_ranks((2,), "tests.gpu.run_ranks", tmp_path)[2]
    for flow in FLOWS:
        *asked, far = found[flow]
        assert far <= 5e-15
        assert asked == [EXCHANGES[flow], EXCHANGES[flow] + 1, EXCHANGES[flow]]

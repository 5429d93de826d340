"""`kill -9` at random moments, also inside writes: nothing is lost beyond the last checkpoint, nothing half-written."""

from __future__ import annotations

import shutil

import pytest

from tests import kill_runs


@pytest.mark.slow
@pytest.mark.parametrize("seed", [40_765, 40_806, 40_767, 40_768, 40_869])  # one of each kind; the dear ones once
def test_killed_commands_come_to_their_end(tmp_path, seed):
    kind = seed % len(kill_runs.KINDS)
    if kill_runs.KINDS[kind].ranks > 1 and shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed")
    expected = kill_runs.unharmed(kind, tmp_path / "whole")
    assert expected
    assert kill_runs.attempt(seed, tmp_path / "killed", expected)

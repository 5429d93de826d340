"""One, two and three ranks give the same flow, whatever the grid, bodies, drive and model."""

from __future__ import annotations

import json

from tests import runs

pytestmark = runs.needs_mpirun
EXAMPLES = 20


def test_flows_that_nobody_chose(tmp_path):
    done = runs.ended(runs.mpirun(3, "-m", "tests.properties.run_ranks", tmp_path / "found.json", EXAMPLES))
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "found.json").read_text())
    assert not result["found"], "\n".join(result["found"])
    assert all(compared >= EXAMPLES // 4 for compared in result["compared"].values())  # others: too few planes

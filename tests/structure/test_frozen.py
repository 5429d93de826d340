"""Closures that are judged at other Reynolds numbers were committed before the first of those runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.structure.sources import ROOT

RESULTS = sorted(
    path for path in (ROOT / "docs/results/grids").glob("*.json") if not path.stem.startswith("180_")
)  # networks were taught at Re_tau = 180
SHIPPED = "closures/pretrained/{label}/card.json"


def git(*words: str) -> str:
    """What git says; empty where it does not know."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_networks_were_frozen_before_they_were_judged_elsewhere(path: Path):
    record = json.loads(path.read_text())
    rows = [row for row in record["rows"] if row.get("weights")]
    assert rows, f"{path.name}: no network with its weights' checksum: judge the report again"
    for row in rows:
        card = SHIPPED.format(label=row["label"])
        assert json.loads((ROOT / card).read_text())["weights_sha256"] == row["weights"]
        for commit in row["commits"]:
            if not git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
                pytest.skip(f"commit {commit} is not in this copy of the history")
            assert json.loads(git("show", f"{commit}:{card}"))["weights_sha256"] == row["weights"]

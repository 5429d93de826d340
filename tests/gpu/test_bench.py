"""``bench/gpu.py`` in its shortest form, on the pretend device."""

from __future__ import annotations

import torch

from solver.flow import graph
from solver.parallel import ranks
from solver.run import speed
from tests.bench_pages import load
from tests.gpu.pretend import NAME, Recorder, pretended


def test_every_section_works(monkeypatch):
    monkeypatch.setitem(graph.RECORDERS, NAME, Recorder)
    with pretended() as device:
        for module in (speed, ranks):
            monkeypatch.setattr(
                module, "choose_device", lambda wanted: torch.device("cpu") if wanted == "cpu" else device
            )
        found = load("gpu").measure(device, short=True)
    assert not [name for name, section in found.items() if "failed" in section], found
    assert found["same_as_cpu"]["same"]
    assert {"none", "tbnn"} == found["closures"].keys()
    assert 0.1 < found["closures"]["tbnn"]["share"] < 1.0
    assert found["closures"]["none"]["share"] == 0.0
    assert found["times"][0]["ns/pt/stage"] > 0
    assert found["layouts"]["stage, planes"] > 0
    assert found["graph"].keys() == {
        f"8x8x8 {closure} {engine}"
        for closure in ("none", "wale", "dynamic_smagorinsky")
        for engine in ("lines", "planes")
    }
    assert all(row["finite"] and row["graph ms"] > 0 for row in found["graph"].values())
    assert "graph ms" in found["closures"]["none"]
    assert "graph ms" not in found["closures"]["tbnn"]

"""Flows of every kind, with every closure, small: shipped cases on coarse grids."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from solver.case.case import load_case
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.run.build import Source, build

CASES = Path(__file__).parents[2] / "cases"
SMALL_CHANNEL = ("grid.x.n=8", "grid.y.n=9", "grid.z.n=8", "statistics.every_steps=2", "output.every_steps=3")
SMALL_BOX = ("grid.x.n=8", "grid.y.n=6", "grid.z.n=8")
LOCAL = ("closure.name=dynamic_smagorinsky", "closure.averaging=local")
CUBES = (
    "grid.x.n=8",
    "grid.y.n=8",
    "grid.z.n=8",
    "pressure.tolerance=1e-3",
    'solids.shapes=[{kind = "box", lower = [1.0, 0.0, 2.0], upper = [3.0, 1.0, 4.0]}]',
)
CYLINDER = (
    "grid.x.n=24",
    "grid.y.n=16",
    "pressure.tolerance=1e-3",
    'solids.shapes=[{kind = "cylinder", centre = [0.0, 0.0, 0.0], radius = 3.0}]',
)
WALLS = (*SMALL_CHANNEL, "grid.y.n=10", "wall_model.height=0.3", "wall_model.filter=1.0", "closure.every=6")
COARSE = ("grid.x.n=8", "grid.y.n=12", "grid.z.n=8")  # of the channel on which networks were trained


def closure(name: str) -> tuple[str, ...]:
    """The override that names a closure."""
    return (f"closure.name={name}",)


CORRECTED = ("closure.every=1", "closure.guard.familiar=1e30")  # these flows are none that it knows

# case, overrides, steps
FLOWS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "channel": ("channel180", (*SMALL_CHANNEL, *closure("none")), 2),
    "channel, smagorinsky": ("channel180", (*SMALL_CHANNEL, *closure("smagorinsky")), 1),
    "channel, dynamic": ("channel180", (*SMALL_CHANNEL, *closure("dynamic_smagorinsky"), "closure.every=2"), 1),
    "channel, wale": ("channel180", (*SMALL_CHANNEL, *closure("wale")), 1),
    "channel, vreman": ("channel180", (*SMALL_CHANNEL, *closure("vreman")), 1),
    "channel, sigma": ("channel180", (*SMALL_CHANNEL, *closure("sigma")), 1),
    "channel, wall model": ("channel1000", WALLS, 2),
    "channel, tbnn": ("channel180_coarse", (*COARSE, *closure("tbnn")), 1),
    "channel, corrector": ("channel180_coarse", (*COARSE, *closure("differential_corrector"), *CORRECTED), 1),
    "channel, attention": ("channel180_coarse", (*COARSE, *closure("ifactformer_m_corrector"), "closure.every=1"), 1),
    "channel, surrogate": ("channel180_coarse", (*COARSE, *closure("differential_surrogate"), "closure.start=0.0"), 1),
    "box": ("hit_decay", (*SMALL_BOX, *closure("none")), 2),
    "box, held shells, dynamic": ("hit_forced", (*SMALL_BOX, *closure("dynamic_smagorinsky"), "closure.every=2"), 1),
    "box, dynamic, local": ("hit_decay", (*SMALL_BOX, *LOCAL), 1),
    "mixing layer": ("mixing_layer", ("grid.x.n=8", "grid.y.n=16", "grid.z.n=6", *closure("wale")), 1),
    "duct": ("duct", ("grid.x.n=8", "grid.y.n=9", "grid.z.n=7", *closure("vreman")), 1),
    "cavity": ("cavity", ("grid.x.n=9", "grid.y.n=8", *closure("sigma")), 1),
    "cubes": ("cube_array", CUBES, 1),
    "cylinder": ("cylinder", CYLINDER, 1),
}


def on(name: str, device: torch.device) -> Simulation:
    """A flow on a device."""
    case, overrides, _ = FLOWS[name]
    found, folder = load_case(CASES / case, (*overrides, "run.fuse=off"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "choose_device", lambda wanted: device)
        return build(Source(found, folder, name))

"""A tiny filtered channel and a tiny filtered box; not a test itself, but what `test_filtered_dns.py` launches."""

from __future__ import annotations

import sys
from pathlib import Path

from closures.data.flow_farm import generate_flow
from solver.machine import prepare_process

CHANNEL = """\
title = "Tiny channel"
seed = 350_377
trajectories = 3
test = 1
[grid.x]
kind = "fourier"
n = 10
length = "4 pi"
[grid.y]
kind = "finite_volume"
n = 12
end = 2.0
stretching = 1.5
[grid.z]
kind = "fourier"
n = 12
length = "2 pi"
[coarse.x]
kind = "fourier"
n = 6
length = "4 pi"
[coarse.y]
kind = "finite_volume"
n = 6
end = 2.0
stretching = 1.5
[coarse.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.002
[flow.forcing]
kind = "mass_flux"
bulk_velocity = 1.0
[initial]
kind = "wall_turbulence"
[filter]
horizontal = "box"
width = 0.7
[sampling]
spin_up = 0.5
interval = 0.25
snapshots = 5
[store]
staggered = true
stress = true
[run]
device = "cpu"
fuse = "off"
"""
BOX = """\
title = "Tiny box"
seed = 350_381
trajectories = 2
[grid.x]
kind = "fourier"
n = 12
length = "2 pi"
[grid.y]
kind = "fourier"
n = 12
length = "2 pi"
[grid.z]
kind = "fourier"
n = 12
length = "2 pi"
[coarse.x]
kind = "fourier"
n = 8
length = "2 pi"
[coarse.y]
kind = "fourier"
n = 8
length = "2 pi"
[coarse.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.02
[initial]
kind = "isotropic"
amplitude = 1.5
[sampling]
spin_up = 0.0
interval = 0.1
snapshots = 4
[run]
device = "cpu"
fuse = "off"
"""


def write_recipe(folder: Path, text: str = CHANNEL, name: str = "tiny") -> Path:
    """A recipe file."""
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


if __name__ == "__main__":
    prepare_process()
    generate_flow(Path(sys.argv[1]), Path(sys.argv[2]), quiet=True)

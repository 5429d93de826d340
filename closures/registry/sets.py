"""Data sets by name: files of trajectories, and what other packages declare.

Another package adds one with::

    [project.entry-points."solver.datasets"]
    mine = "my_package.data:Mine"

where ``Mine(**options)`` has what `closures.data.sets.Source` asks for; ``[data] name = "mine"`` of a training recipe
names it, ``options`` beside it are its arguments, checked against their annotations.
"""

from __future__ import annotations

from solver.case.plugins import Registry

FILE = "file"
DATA_SETS = Registry("solver.datasets", "[data]", {FILE: "closures.data.windows:TrajectoryFiles"})

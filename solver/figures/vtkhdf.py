"""Snapshots as VTKHDF, one file for a whole run: cells once, fields at every time.

The format is that of VTK File Formats, chapter "VTKHDF file format", version 2.0, unstructured grids with steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
HEXAHEDRON = 12  # VTK's number of the type
STILL = ("PartOffsets", "PointOffsets"), ("CellOffsets", "ConnectivityIdOffsets")  # of a mesh that does not move


def fill(
    file: h5py.File,
    points: Array,
    cells: Array,
    fixed: Mapping[str, Array],
    instants: Iterable[tuple[float, Mapping[str, Array]]],
) -> None:
    """Write hexahedra and what is on them; a field that an instant lacks is nan there.

    Parameters
    ----------
    points : corners, (n, 3).
    cells : numbers of the corners of each cell, (m, 8).
    fixed : what does not change in time, (m,) each.
    instants : time, and fields by name, (m,) or (m, 3) each.
    """
    root = file.create_group("VTKHDF")
    root.attrs["Version"] = np.array([2, 0])
    root.attrs["Type"] = np.bytes_("UnstructuredGrid")
    root["Points"], root["Connectivity"] = points, cells.reshape(-1)
    root["Offsets"] = np.arange(0, cells.size + 1, 8)
    root["Types"] = np.full(len(cells), HEXAHEDRON, np.uint8)
    for name, number in (("Points", len(points)), ("Cells", len(cells)), ("ConnectivityIds", cells.size)):
        root[f"NumberOf{name}"] = np.array([number])
    data = root.create_group("CellData")
    times: list[float] = []
    for time, fields in instants:
        end = len(cells) * (len(times) + 1)
        for name, field in fields.items():
            if name not in data:
                kept = (None, *field.shape[1:])
                data.create_dataset(name, (0, *field.shape[1:]), field.dtype, maxshape=kept, fillvalue=np.nan)
            data[name].resize(end, axis=0)
            data[name][end - len(cells) :] = field
        times.append(time)
    for values in data.values():  # an instant at the end may lack a field too
        values.resize(len(cells) * len(times), axis=0)
    _tell_steps(root, len(cells), times)
    for name, field in fixed.items():
        data[name], root[f"Steps/CellDataOffsets/{name}"] = field, np.zeros(len(times), int)


def _tell_steps(root: h5py.Group, cells: int, times: list[float]) -> None:
    """Where the reader finds each instant: the same cells, and fields one behind the other."""
    steps, count = root.create_group("Steps"), len(times)
    steps.attrs["NSteps"] = count
    steps["Values"], steps["NumberOfParts"] = np.array(times), np.ones(count, int)
    for names, shape in zip(STILL, ((count,), (count, 1)), strict=True):
        for name in names:
            steps[name] = np.zeros(shape, int)
    for name in root["CellData"]:
        steps[f"CellDataOffsets/{name}"] = cells * np.arange(count)

"""A field of a checkpoint on the grid of a simulation: the same, or interpolated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from solver.axis import FiniteVolumeAxis, FreeSlip, Inflow, Outflow
from solver.errors import RunFolderError
from solver.hooks.saved import Saved
from solver.operators import Components, Operators

Array = np.ndarray


def same_grid(saved: Saved, operators: Operators) -> bool:
    """Whether the checkpoint's points and modes are those of the operators."""
    grid = operators.grid
    if saved.arrays["velocity/u"].shape != (operators.transform.parts, *grid.coefficient_shape):
        return False
    pairs = [(saved.arrays[f"grid/{name}"], axis) for name, axis in zip("xyz", grid.axes, strict=True)]
    return kinds(saved) == [axis.is_fourier for axis in grid.axes] and all(_same_line(*pair) for pair in pairs)


def _same_line(centres: Array, axis: Any) -> bool:
    wanted = axis.centres
    return len(centres) == len(wanted) and np.allclose(centres, wanted, rtol=0, atol=1e-9 * axis.length)


def kinds(saved: Saved) -> list[bool]:
    """Which directions of the checkpoint are Fourier."""
    grid = json.loads(saved.attributes["case"])["grid"]
    return [grid[name]["kind"] == "fourier" for name in "xyz"]


def velocity_of(saved: Saved, operators: Operators) -> Components:
    """This rank's velocity coefficients, interpolated if the checkpoint is of another grid.

    Fourier directions keep the modes both grids have; finite-volume directions are interpolated linearly.

    Raises
    ------
    RunFolderError : a direction is Fourier in one and finite-volume in the other, or its ends differ.
    """
    if kinds(saved) != [axis.is_fourier for axis in operators.grid.axes]:
        raise RunFolderError(
            "the checkpoint is of another kind of grid (a direction is Fourier in one and finite-volume in the "
            "other): it cannot be interpolated; start from one with the same kinds of axes"
        )
    fields = [
        operators.scatter(_regrid(saved, operators, c, saved.arrays[f"velocity/{n}"])) for c, n in enumerate("uvw")
    ]
    return fields[0], fields[1], fields[2]


def _regrid(saved: Saved, operators: Operators, component: int, field: Array) -> Array:
    grid = operators.grid
    half = 2 if grid.z.is_fourier and grid.x.is_fourier else 0
    for axis, line in enumerate(grid.axes):
        wanted = grid.coefficient_shape[axis]
        if isinstance(line, FiniteVolumeAxis):
            old = saved.arrays[f"grid/{'xyz'[axis]}"]
            if not _same_line(old, line):
                field = _interpolate(field, axis + 1, old, line, staggered=axis == component)
        elif wanted != field.shape[axis + 1]:
            field = _resize_modes(field, axis + 1, wanted, full=axis != half)
    return field


def _resize_modes(field: Array, axis: int, wanted: int, full: bool) -> Array:
    field = np.moveaxis(field, axis, -1)
    resized = np.zeros((*field.shape[:-1], wanted), field.dtype)
    kept = min(wanted, field.shape[-1])
    if full:  # 0, 1, ..., then the negative ones
        negative = (kept - 1) // 2
        resized[..., : negative + 1] = field[..., : negative + 1]
        if negative:
            resized[..., -negative:] = field[..., -negative:]
    else:
        resized[..., :kept] = field[..., :kept]
    return np.moveaxis(resized, -1, axis)


def _interpolate(field: Array, axis: int, centres: Array, line: FiniteVolumeAxis, staggered: bool) -> Array:
    """Linear interpolation along a finite-volume axis; `staggered` values live on the upper faces."""
    faces = _faces(centres, line)
    field = np.moveaxis(field, axis, -1)
    source = faces[1:] if staggered else centres
    if line.periodic:
        source = np.concatenate([[source[-1] - line.length], source, [source[0] + line.length]])
        field = np.concatenate([field[..., -1:], field, field[..., :1]], -1)
    elif staggered:  # no flow through walls
        first = field[..., :1] if isinstance(line.lower, Inflow) else 0 * field[..., :1]
        source, field = faces, np.concatenate([first, field], -1)
    else:
        ends = [
            f if isinstance(b, FreeSlip | Inflow | Outflow) else 0 * f
            for b, f in ((line.lower, field[..., :1]), (line.upper, field[..., -1:]))
        ]
        source = np.concatenate([faces[:1], source, faces[-1:]])
        field = np.concatenate([ends[0], field, ends[1]], -1)
    target = line.faces[1:] if staggered else line.centres
    place = np.clip(np.searchsorted(source, target) - 1, 0, len(source) - 2)
    share = (target - source[place]) / (source[place + 1] - source[place])
    return np.moveaxis((1 - share) * field[..., place] + share * field[..., place + 1], -1, axis)


def _faces(centres: Array, line: FiniteVolumeAxis) -> Array:
    """Faces of the cells with these centres, from the lower end on.

    Raises
    ------
    RunFolderError : they do not fill the axis.
    """
    faces = [float(line.faces[0])]
    for centre in centres:
        faces.append(2 * float(centre) - faces[-1])
    if np.any(np.diff(faces) <= 0) or abs(faces[-1] - line.faces[-1]) > 1e-6 * line.length:
        raise RunFolderError(
            f"the checkpoint is of another domain: an axis ends at {line.faces[-1]:g} here and at {faces[-1]:g} there; "
            "start from one with the same [grid] ends"
        )
    return np.array(faces)

"""A field of a checkpoint on the grid of a simulation: the same, or interpolated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.errors import RunFolderError
from solver.files.checkpoint_file import Saved
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, Inflow, NoSlip
from solver.grid.grid import Grid

Array = np.ndarray


def same_grid(saved: Saved, operators: Operators) -> bool:
    """Whether the checkpoint's points and modes are those of the operators."""
    grid = operators.grid
    if saved.arrays["velocity/u"].shape != (operators.transform.parts, *grid.coefficient_shape):
        return False
    pairs = [(np.asarray(saved.arrays[f"grid/{name}"]), axis) for name, axis in zip("xyz", grid.axes, strict=True)]
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

    Fourier directions keep the modes both grids have; finite-volume directions are interpolated linearly, between
    what the new boundaries impose.

    Raises
    ------
    RunFolderError : a direction is Fourier in one and finite-volume in the other, or its ends or period differ.
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


CENTRED = 3  # in place of a component: what lives at cell centres


def scalar_of(saved: Saved, operators: Operators, name: str) -> Tensor | None:
    """This rank's coefficients of a scalar, interpolated as the velocity is; None if the checkpoint has none so called.

    Beyond the last centres of another grid it is as it is there.
    """
    stored = saved.arrays.get(f"scalars/{name}")
    return None if stored is None else operators.scatter(_regrid(saved, operators, CENTRED, stored))


def _regrid(saved: Saved, operators: Operators, component: int, field: Array) -> Array:
    grid = operators.grid
    half = 2 if grid.z.is_fourier and grid.x.is_fourier else 0
    for axis in (2, 1, 0):  # an inflow has a profile along y
        line, wanted = grid.axes[axis], grid.coefficient_shape[axis]
        old = np.asarray(saved.arrays[f"grid/{'xyz'[axis]}"])
        if isinstance(line, FiniteVolumeAxis):
            if not _same_line(old, line):
                field = _interpolate(np.asarray(field), grid, axis, old, component)
            continue
        _check_period(old, line, "xyz"[axis])
        if wanted != field.shape[axis + 1]:
            field = _resize_modes(np.asarray(field), axis + 1, wanted, full=axis != half)
    return field


def _check_period(points: Array, line: FourierAxis, name: str) -> None:
    """One point has no period: what is uniform fits any."""
    period = len(points) * float(points[1] - points[0]) if len(points) > 1 else line.length
    if abs(period - line.length) > 1e-9 * line.length:
        raise RunFolderError(
            f"the checkpoint is of another domain: its period along {name} is {period:g}, here it is {line.length:g}; "
            f"set [grid.{name}] length = {period:g}"
        )


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


def _interpolate(field: Array, grid: Grid, axis: int, centres: Array, component: int) -> Array:
    """Linear interpolation along a finite-volume axis; a staggered component lives on the upper faces."""
    line, staggered = grid.volume_axes[axis], axis == component
    faces = _faces(centres, line)
    source = faces[1:] if staggered else centres
    first, last = (np.take(field, [i], axis + 1) for i in (0, -1))
    if line.periodic:
        source = np.concatenate([[source[-1] - line.length], source, [source[0] + line.length]])
        parts = [last, field, first]
    elif staggered:
        source, parts = faces, [_at_end(grid, axis, 0, component, first), field]
    else:
        source = np.concatenate([faces[:1], source, faces[-1:]])
        parts = [_at_end(grid, axis, 0, component, first), field, _at_end(grid, axis, 1, component, last)]
    field = np.moveaxis(np.concatenate(parts, axis + 1), axis + 1, -1)
    target = line.faces[1:] if staggered else line.centres
    place = np.clip(np.searchsorted(source, target) - 1, 0, len(source) - 2)
    share = (target - source[place]) / (source[place + 1] - source[place])
    return np.moveaxis((1 - share) * field[..., place] + share * field[..., place + 1], -1, axis + 1)


def _at_end(grid: Grid, axis: int, end: int, component: int, near: Array) -> Array:
    """A component on the lower (0) or upper (1) end face of an axis, given its values next to it."""
    line = grid.volume_axes[axis]
    boundary = (line.lower, line.upper)[end]
    if component == CENTRED:
        return near
    if isinstance(boundary, NoSlip | Inflow):
        given: Array | float = boundary.velocity[component]
        if isinstance(boundary, Inflow) and component == 0:
            given = given * boundary.factor(grid.volume_axes[1].faces)[:, None]
        value = np.zeros_like(near)
        mean = [slice(0, 1) if d in grid.fourier_axes else slice(None) for d in range(3)]
        value[0, mean[0], mean[1], mean[2]] = given
        return value
    return 0 * near if axis == component else near  # nothing passes through a slip wall


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

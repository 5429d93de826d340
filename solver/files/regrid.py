"""A field of a checkpoint on the grid of a simulation: the same, or interpolated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import y_slowest
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
    fields = [_regrid(saved, operators, c, saved.arrays[f"velocity/{n}"]) for c, n in enumerate("uvw")]
    return fields[0], fields[1], fields[2]


def interpolated(velocity: Sequence[Array], grid: Grid, operators: Operators) -> Components:
    """Coefficients of a velocity on `grid`, whole, as `velocity_of` has them from a checkpoint.

    Raises
    ------
    RunFolderError : see `velocity_of`.
    """
    lines = dict(zip("xyz", grid.axes, strict=True))
    kind = {name: {"kind": "fourier" if line.is_fourier else "finite_volume"} for name, line in lines.items()}
    arrays = {f"grid/{name}": line.centres for name, line in lines.items()}
    arrays |= {f"velocity/{name}": field for name, field in zip("uvw", velocity, strict=True)}
    return velocity_of(Saved(arrays, {"case": json.dumps({"grid": kind})}), operators)


CENTRED = 3  # in place of a component: what lives at cell centres


def scalar_of(saved: Saved, operators: Operators, name: str) -> Tensor | None:
    """This rank's coefficients of a scalar, interpolated as the velocity is; None if the checkpoint has none so called.

    Beyond the last centres of another grid it is as it is there.
    """
    stored = saved.arrays.get(f"scalars/{name}")
    return None if stored is None else _regrid(saved, operators, CENTRED, stored)


def _regrid(saved: Saved, operators: Operators, component: int, stored: Array) -> Tensor:
    """This rank's part: first along the axis that ranks share, for which no more is read than the part needs."""
    slabs, shared = operators.decomposition, 0 if operators.grid.y.is_fourier else 1
    here, field = slabs.planes if shared else slabs.modes, stored
    for axis in (shared, *(other for other in (2, 1, 0) if other != shared)):  # an inflow has a profile along y
        field = _along(saved, operators, axis, component, field, here if axis == shared else slice(None))
    return y_slowest(operators.tensor(np.asarray(field)))


def _along(saved: Saved, operators: Operators, axis: int, component: int, field: Array, part: slice) -> Array:
    """A part of what `field` is on the new axis."""
    grid, old = operators.grid, np.asarray(saved.arrays[f"grid/{'xyz'[axis]}"])
    line, wanted = grid.axes[axis], grid.coefficient_shape[axis]
    half = 2 if grid.z.is_fourier and grid.x.is_fourier else 0
    if isinstance(line, FiniteVolumeAxis):
        if not _same_line(old, line):
            return _interpolate(field, operators, axis, old, component, part)
    else:
        _check_period(old, line, "xyz"[axis])
        if wanted != field.shape[axis + 1]:
            return _resize_modes(field, axis + 1, wanted, axis != half, part)
    return np.asarray(field[(*[slice(None)] * (axis + 1), part)])


def _check_period(points: Array, line: FourierAxis, name: str) -> None:
    """One point has no period: what is uniform fits any."""
    period = len(points) * float(points[1] - points[0]) if len(points) > 1 else line.length
    if abs(period - line.length) > 1e-9 * line.length:
        raise RunFolderError(
            f"the checkpoint is of another domain: its period along {name} is {period:g}, here it is {line.length:g}; "
            f"set [grid.{name}] length = {period:g}"
        )


def _resize_modes(field: Array, axis: int, wanted: int, full: bool, part: slice) -> Array:
    """A part of so many modes, 0, 1, ... and, of a full spectrum, then the negative ones."""
    n, lead = field.shape[axis], [slice(None)] * axis
    kept, (begin, end, _) = min(wanted, n), part.indices(wanted)
    resized = np.zeros((*field.shape[:axis], end - begin, *field.shape[axis + 1 :]), field.dtype)
    stop = min(end, (kept - 1) // 2 + 1 if full else kept)
    if stop > begin:
        resized[(*lead, slice(0, stop - begin))] = field[(*lead, slice(begin, stop))]
    start = max(begin, wanted - (kept - 1) // 2 if full else wanted)
    if start < end:
        resized[(*lead, slice(start - begin, None))] = field[(*lead, slice(start + n - wanted, end + n - wanted))]
    return resized


def _interpolate(field: Array, operators: Operators, axis: int, centres: Array, component: int, part: slice) -> Array:
    """Part of the linear interpolation along a finite-volume axis; a staggered component lives on the upper faces."""
    line, staggered, n = operators.grid.volume_axes[axis], axis == component, field.shape[axis + 1]
    faces, lead = _faces(centres, line), [slice(None)] * (axis + 1)
    source = faces[1:] if staggered else centres
    if line.periodic:
        source = np.concatenate([[source[-1] - line.length], source, [source[0] + line.length]])
    else:
        source = faces if staggered else np.concatenate([faces[:1], source, faces[-1:]])
    target = (line.faces[1:] if staggered else line.centres)[part]
    place = np.clip(np.searchsorted(source, target) - 1, 0, len(source) - 2)
    share = (target - source[place]) / (source[place + 1] - source[place])
    first, last = int(place.min()), int(place.max()) + 1  # of the source, whose entry 0 is the lower end
    rows = np.asarray(field[(*lead, slice(max(first - 1, 0), min(last, n)))])
    parts = [rows]
    if first == 0:
        near, across = rows[(*lead, slice(0, 1))], slice(n - 1, n)
        parts.insert(0, field[(*lead, across)] if line.periodic else _at_end(operators, axis, 0, component, near))
    if last > n:
        near, across = rows[(*lead, slice(-1, None))], slice(0, 1)
        parts.append(field[(*lead, across)] if line.periodic else _at_end(operators, axis, 1, component, near))
    found, place = np.moveaxis(np.concatenate(parts, axis + 1), axis + 1, -1), place - first
    return np.moveaxis((1 - share) * found[..., place] + share * found[..., place + 1], -1, axis + 1)


def _at_end(operators: Operators, axis: int, end: int, component: int, near: Array) -> Array:
    """A component on the lower (0) or upper (1) end face of an axis, given its values next to it."""
    grid = operators.grid
    line = grid.volume_axes[axis]
    boundary = (line.lower, line.upper)[end]
    if component == CENTRED:
        return near
    if isinstance(boundary, NoSlip | Inflow):
        given: Array | float = boundary.velocity[component]
        if isinstance(boundary, Inflow) and component == 0:
            profile = boundary.factor(grid.volume_axes[1].faces)
            given = given * profile[operators.decomposition.planes, None]
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

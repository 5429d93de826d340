"""A grid is three axes; it knows shapes, coordinates, cell sizes and which directions are homogeneous."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from solver.errors import CaseError
from solver.grid.axis import Array, Axis, FiniteVolumeAxis, FourierAxis, Inflow, NoSlip


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes x (streamwise), y (wall-normal), z (spanwise); arrays are indexed ``[i, j, k] = [x, y, z]``."""

    x: Axis
    y: Axis
    z: Axis

    def __post_init__(self) -> None:
        kinds = [axis.is_fourier for axis in self.axes]
        if kinds[1] and not (kinds[0] and kinds[2]):
            raise CaseError(
                "[grid] y can be Fourier only where x and z are: make these 'fourier' too, or y 'finite_volume'"
            )
        if kinds == [False, False, True] and self.z.points > 1:
            raise CaseError(
                "[grid] z can be a Fourier axis only where x is one (or z has a single point): swap x and z"
            )
        for name, axis in (("y", self.y), ("z", self.z)):
            if axis.is_open:
                raise CaseError(f"[grid.{name}] 'inflow' and 'outflow' belong at the ends of x: turn the flow")

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """The three axes in order x, y, z."""
        return self.x, self.y, self.z

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Global number of points per direction."""
        return self.x.points, self.y.points, self.z.points

    @property
    def n(self) -> tuple[int, int, int]:
        """What a case calls its grid: modes along Fourier axes, whose products need more points, and cells."""
        return self.x.n, self.y.n, self.z.n

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(np.prod([axis.length for axis in self.axes]))

    @property
    def delta(self) -> Array:
        """Filter width ``(dx dy dz)^(1/3)`` from the resolved spacings, broadcastable to `shape`."""
        dx, dy, dz = (np.broadcast_to(axis.resolution, axis.points) for axis in self.axes)
        delta: Array = np.cbrt(dx[:, None, None] * dy[None, :, None] * dz[None, None, :])
        return delta[:1] if self.x.uniform else delta

    @property
    def cell_volume(self) -> Array:
        """Volume belonging to each point, shape `shape`."""
        dx, dy, dz = (axis.width for axis in self.axes)
        return dx[:, None, None] * dy[None, :, None] * dz[None, None, :]

    def in_words(self) -> str:
        """Both sizes, where they differ."""
        named, points = (" x ".join(map(str, size)) for size in (self.n, self.shape))
        return points if named == points else f"{named} (products on {points} points)"

    @property
    def is_channel(self) -> bool:
        """Fourier in x and z between two walls at rest in y."""
        y = self.y
        if not isinstance(y, FiniteVolumeAxis) or not (self.x.is_fourier and self.z.is_fourier):
            return False
        return y.lower == NoSlip() and y.upper == NoSlip()

    @cached_property
    def walls(self) -> dict[int, tuple[NoSlip | None, NoSlip | None]]:
        """The no-slip walls at the lower and upper end of each direction that has any; None where the end is none."""
        found: dict[int, tuple[NoSlip | None, NoSlip | None]] = {}
        for d, axis in self.volume_axes.items():
            lower, upper = (end if isinstance(end, NoSlip) else None for end in (axis.lower, axis.upper))
            if lower or upper:
                found[d] = lower, upper
        return found

    def with_modelled_walls(self) -> Grid:
        """The same grid with the friction of all its no-slip walls modelled."""

        def modelled(axis: Axis) -> Axis:
            if not isinstance(axis, FiniteVolumeAxis):
                return axis
            ends = (replace(e, modelled=True) if isinstance(e, NoSlip) else e for e in (axis.lower, axis.upper))
            return FiniteVolumeAxis(axis.faces, *ends)

        return Grid(modelled(self.x), modelled(self.y), modelled(self.z))

    @cached_property
    def has_modelled_walls(self) -> bool:
        """Whether the friction of any wall is modelled."""
        return any(wall is not None and wall.modelled for pair in self.walls.values() for wall in pair)

    def reach_of_walls(self, axis: int) -> float:
        """How far the fluid is from a wall at most: half the distance of two walls, all of it where one end slips."""
        return self.axes[axis].length * (0.5 if all(self.walls[axis]) else 1.0)

    @cached_property
    def imposed_velocities(self) -> tuple[tuple[float, float, float], ...]:
        """Velocities (u, v, w) of walls and inflows, of the latter the fastest."""
        found = [wall.velocity for pair in self.walls.values() for wall in pair if wall]
        entrance = self.x.lower if isinstance(self.x, FiniteVolumeAxis) else None
        if isinstance(entrance, Inflow) and isinstance(self.y, FiniteVolumeAxis):
            u, v, w = entrance.velocity
            found.append((u * float(entrance.factor(self.y.faces).max()), v, w))
        return tuple(found)

    @property
    def is_box(self) -> bool:
        """Fourier in all three directions."""
        return self.y.is_fourier

    @property
    def is_open(self) -> bool:
        """Fluid enters and leaves through the ends of x."""
        return self.x.is_open

    @cached_property
    def fourier_axes(self) -> dict[int, FourierAxis]:
        """The Fourier axes by direction."""
        return {d: axis for d, axis in enumerate(self.axes) if isinstance(axis, FourierAxis)}

    @cached_property
    def volume_axes(self) -> dict[int, FiniteVolumeAxis]:
        """The finite-volume axes by direction."""
        return {d: axis for d, axis in enumerate(self.axes) if isinstance(axis, FiniteVolumeAxis)}

    @cached_property
    def half_axis(self) -> int:
        """The Fourier direction whose spectrum is stored as a half: z where x and z are both Fourier, else x."""
        return 2 if self.x.is_fourier and self.z.is_fourier else 0

    @cached_property
    def wavenumbers(self) -> dict[int, Array]:
        """Wavenumbers along the Fourier directions of a global coefficient field."""
        return {d: axis.wavenumbers(half=d == self.half_axis) for d, axis in self.fourier_axes.items()}

    @cached_property
    def coefficient_shape(self) -> tuple[int, int, int]:
        """Global shape of a coefficient field, without the leading parts."""
        modes = {d: len(k) for d, k in self.wavenumbers.items()}
        nx, ny, nz = (modes.get(d, axis.points) for d, axis in enumerate(self.axes))
        return nx, ny, nz

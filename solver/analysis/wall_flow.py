"""A flow along one or two walls as a discretised line: distances, means folded onto it, derivatives along it.

Each wall sees the flow in its own frame (`solver.analysis.wall_view`), walls that see the same are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.moments import INDEX
from solver.analysis.wall_view import FAR, FLUXES, mirrored, seen_from, wall_at
from solver.grid.axis import FiniteVolumeAxis

OUTER_LAYER = 0.1  # of h: below it the cells of a wall-modelled flow are too few for its eddies


@dataclass(frozen=True)
class WallFlow:
    """Wall units, folding and derivatives of means ``(len(NAMES), ny, 1)`` of a flow along one or two walls.

    Parameters
    ----------
    y : wall-normal axis.
    nu : kinematic viscosity.
    only : the end (0 lower, 1 upper) of the one wall that is meant; by default all walls, averaged, but the lower one
        alone where the cells are not the mirror image of each other.
    """

    y: FiniteVolumeAxis
    nu: float
    only: int | None = None

    @cached_property
    def walls(self) -> tuple[int, ...]:
        """The ends from which the flow is seen."""
        if self.only is not None:
            return (self.only,)
        found = tuple(end for end in (0, 1) if wall_at(self.y, end) is not None)
        return found if mirrored(self.y) else found[:1]

    @cached_property
    def half_height(self) -> float:
        """H."""
        both = all(wall_at(self.y, end) is not None for end in (0, 1))
        return (0.5 if both else 1.0) * self.y.length

    @cached_property
    def _faces(self) -> Array:
        """Wall distance of all faces."""
        faces = self.y.faces
        distance: Array = faces[-1] - faces[::-1] if self.walls == (1,) else faces - faces[0]
        return distance

    @cached_property
    def heights(self) -> Array:
        """Wall distance of all cell centres."""
        return 0.5 * (self._faces[1:] + self._faces[:-1])

    @cached_property
    def distance(self) -> Array:
        """Wall distance of the cell centres up to h."""
        return self.heights[self.heights <= self.half_height * (1 + 1e-9)]

    @cached_property
    def weights(self) -> Array:
        """Heights of these cells within h (half of the centre cell where n is odd)."""
        return np.diff(np.minimum(self._faces, self.half_height))[: len(self.distance)]

    @cached_property
    def is_modelled(self) -> bool:
        """Whether the friction of a wall is that of a model."""
        return any(wall is not None and wall.modelled for wall in (wall_at(self.y, end) for end in self.walls))

    @cached_property
    def judged(self) -> Array:
        """`weights` of the cells that are held against a reference: from `OUTER_LAYER` on where a wall is modelled."""
        outer = self.distance >= OUTER_LAYER * self.half_height * (1 - 1e-9)
        return np.where(outer | (not self.is_modelled), self.weights, 0.0)

    def seen(self, means: Array) -> dict[str, Array]:
        """Moments over the whole height as the walls see them, their average."""
        views = [seen_from(self.y, end, means) for end in self.walls]
        return {name: sum((view[name] for view in views[1:]), start=f) / len(views) for name, f in views[0].items()}

    def fold(self, means: Array) -> dict[str, Array]:
        """The same moments up to h."""
        seen = self.seen(means)
        return {name: seen[name][: len(self.distance)] for name in INDEX if name not in FLUXES}

    def planes(self, f: Array) -> Array:
        """An average ``(..., ny)`` that no reflection changes, such as a spectrum, over the wall distance `heights`."""
        mean: Array = np.mean([f[..., ::-1] if end else f for end in self.walls], axis=0)
        return mean

    def friction_velocity(self, m: dict[str, Array]) -> float:
        """``sqrt(nu |dU/dy|)`` at the wall, as the discretisation sees it, or of the stress of a wall model."""
        return float(np.sqrt(abs(self.nu * m["u"][0] / self.distance[0] - m["wall_flux_xy"][0])))

    def _unit(self, m: dict[str, Array]) -> float:
        """The velocity of wall units, NaN where nothing rubs on the wall."""
        return self.friction_velocity(m) or np.nan

    def bulk(self, m: dict[str, Array]) -> float:
        """Mean velocity up to h."""
        return float((m["u"] * self.weights).sum()) / self.half_height

    def shear(self, m: dict[str, Array]) -> Array:
        """dU/dy at the centres of what `seen` gave, as the accumulated gradients have it: the mean of both faces."""
        return between(self._slopes(m))

    def _slopes(self, m: dict[str, Array]) -> Array:
        """dU/dy at all faces."""
        return self._gradient(m["u"], m[FAR])

    def _gradient(self, f: Array, opposite: Array) -> Array:
        """df/dy at all faces: f vanishes at the wall and is `opposite` at the other end, free where that is NaN."""
        y = self.heights
        end = 0.0 if np.isnan(opposite) else (opposite - f[-1]) / (self._faces[-1] - y[-1])
        return np.concatenate([[f[0] / y[0]], np.diff(f) / np.diff(y), [end]])

    def _at_faces(self, flux: Array) -> Array:
        """A flux through the faces above the cells at all faces; there is none through the wall."""
        return np.concatenate([[0.0], flux])

    def _curvature(self, energy: Array) -> Array:
        """Second derivative of an energy, whose slope ``u du/dy`` vanishes at both ends, walls or free slip."""
        slope = np.concatenate([[0.0], np.diff(energy) / np.diff(self.heights), [0.0]])
        return np.diff(slope) / np.diff(self._faces)

    def _divergence(self, flux: Array) -> Array:
        """d/dy of a flux that is given at centres and vanishes at both ends."""
        return np.diff(np.concatenate([[0.0], 0.5 * (flux[1:] + flux[:-1]), [0.0]])) / np.diff(self._faces)


def between(faces: Array) -> Array:
    """Values at all faces, at the centres between them."""
    return 0.5 * (faces[1:] + faces[:-1])

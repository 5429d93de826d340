"""Velocity gradients on a staggered or spectral grid: where they arise naturally, and at cell centres."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import DIM, Metric, above, below, difference, inner, mean

Derivatives = dict[tuple[int, int], Tensor]


@dataclass(frozen=True)
class WallFactors:
    """What solids do to differences of the velocity, per (i, j): one rank's part, or some of its planes.

    Parameters
    ----------
    slope : what the difference of u_i along a finite-volume j is multiplied by; padded like u_i, n + 1 faces along j.
    wet : 1 where the edge of the flux F_ij touches no solid.
    fluid : 1 in fluid cells, (nx, local ny, nz).
    """

    slope: dict[tuple[int, int], Tensor]
    wet: dict[tuple[int, int], Tensor]
    fluid: Tensor

    def planes(self, first: int, size: int, ny: int) -> WallFactors:
        """Those of `size` of the `ny` y planes, from `first` on."""

        def cut(f: Tensor) -> Tensor:
            return f.narrow(DIM[1], first, size + f.shape[DIM[1]] - ny)

        slope, wet = ({key: cut(f) for key, f in factors.items()} for factors in (self.slope, self.wet))
        return WallFactors(slope, wet, cut(self.fluid))


class VelocityGradient:
    """Velocity gradients ``d_j u_i`` of one grid.

    Derivatives along Fourier axes are taken in coefficient space and transformed; those along finite-volume axes are
    differences of the staggered fields. ``d_z w`` follows from continuity where z is a Fourier axis. Where solids
    stand, differences see the wall where it is, and what is inside is zero.

    Parameters
    ----------
    operators : the discrete calculus.
    walls : factors on differences and masks, if there are solids.
    """

    def __init__(self, operators: Operators, walls: WallFactors | None = None) -> None:
        self.operators, self.metric, self.walls = operators, operators.metric, walls
        self.signature = object()  # shared by all `planes`: code compiled for one serves the others
        self.volume_axes = operators.volume_axes
        self.continuity = 2 not in self.volume_axes
        axes = [j for j in range(3) if j not in self.volume_axes]
        self.fourier_axes = axes, axes, [j for j in axes if j != 2]  # along which each component is differentiated

    def tensors(self) -> list[Any]:
        """What kernels that get this as an argument read: the metric and the factors of walls."""
        metric = {axis: [m.width, m.padded_width, m.spacing, m.weight_below] for axis, m in self.metric.items()}
        return [metric, None if self.walls is None else [self.walls.slope, self.walls.wet, self.walls.fluid]]

    def with_tensors(self, tensors: list[Any]) -> VelocityGradient:
        """The same with others in their place."""
        part, (metric, walls) = copy(self), tensors
        part.metric = {axis: Metric(*lines) for axis, lines in metric.items()}
        part.walls = None if walls is None else WallFactors(*walls)
        return part

    def planes(self, first: int, size: int) -> VelocityGradient:
        """The same for a few of this rank's y planes; fields are then narrowed by the caller."""
        part = copy(self)
        if 1 in self.metric:
            part.metric = self.metric | {1: self.metric[1].narrow(1, first, size)}
        if self.walls is not None:
            part.walls = self.walls.planes(first, size, self.operators.local_shape[1])
        return part

    def spectral(self, padded: Components) -> tuple[Components, Derivatives]:
        """The components on physical points and their derivatives along Fourier axes j, padded alike; key (i, j)."""
        (u, du), (v, dv), (w, dw) = self.operators.all_with_derivatives(padded, self.fourier_axes)
        return (u, v, w), {(i, j): slope for i, slopes in enumerate((du, dv, dw)) for j, slope in slopes.items()}

    def _derivative(self, velocity: Components, spectral: Derivatives, i: int, j: int) -> Tensor:
        """``d_j u_i`` where it arises: faces 0 .. n along a finite-volume j, padded like u_i otherwise."""
        if j not in self.volume_axes:
            return spectral[i, j]
        g = difference(velocity[i], j) / self.metric[j].spacing
        return g if self.walls is None else g * self.walls.slope[i, j]

    def twice_shear(self, velocity: Components, spectral: Derivatives, i: int, j: int) -> Tensor:
        """``d_j u_i + d_i u_j`` (i != j) on all edges of cells: faces 0 .. n along i and j where these have cells."""
        parts = []
        for first, second in ((i, j), (j, i)):
            g = self._derivative(velocity, spectral, first, second)
            parts.append(self.operators.inner(below(g, first) if first in self.volume_axes else g, i, j))
        return parts[0] + parts[1]

    def to_edges(self, f: Tensor, i: int, j: int) -> Tensor:
        """A padded centred field on the edges of `twice_shear`: the mean over the cells around."""
        for axis in self.volume_axes:
            f = mean(f, axis) if axis in (i, j) else inner(f, axis)
        return f

    def normal(self, velocity: Components, spectral: Derivatives, i: int, along: int) -> Tensor:
        """``d_i u_i`` at centres 1 .. n+1 along `along` (if finite-volume), 1 .. n elsewhere."""
        if i == 2 and self.continuity:
            return -(self.normal(velocity, spectral, 0, along) + self.normal(velocity, spectral, 1, along))
        if i in self.volume_axes:
            g = difference(velocity[i], i) / above(self.metric[i].padded_width, i)
            if along != i:
                g = below(g, i)
        else:
            g = spectral[i, i]
        return self.operators.at_centres(g, along, i)

    @fused
    def centred(self, velocity: Components, spectral: Derivatives) -> tuple[Tensor, ...]:
        """The nine ``d_j u_i`` at cell centres, row by row, without ghosts."""
        nine = [
            self.normal(velocity, spectral, i, along=-1) if i == j else self._centred(velocity, spectral, i, j)
            for i in range(3)
            for j in range(3)
        ]
        return tuple(nine)

    def _centred(self, velocity: Components, spectral: Derivatives, i: int, j: int) -> Tensor:
        g = self._derivative(velocity, spectral, i, j)
        if j in self.volume_axes:
            g = mean(g, j)
        if i in self.volume_axes:
            g = mean(below(g, i), i)
        g = self.operators.inner(g, i, j)
        return g if self.walls is None else g * self.walls.fluid

    def of_flux(self, f: Tensor, i: int, j: int) -> Tensor:
        """Of what lives on all edges of cells that on those of the flux F_ij, the upper ones along i; 0 in solids."""
        f = above(f, i) if i in self.volume_axes else f
        return f if self.walls is None else f * self.walls.wet[i, j]

    def to_centre(self, f: Tensor, component: int) -> Tensor:
        """A padded component at cell centres, without ghosts."""
        f = self.operators.inner(f, component)
        return mean(below(f, component), component) if component in self.volume_axes else f

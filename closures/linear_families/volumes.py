"""Conservative finite volumes for ``-div(K grad u) + c u = f`` on a uniform box, some cells possibly cut out.

Unknowns sit at cell centres. The flux through a face is ``-K_f (u_right - u_left) / h`` with the harmonic mean K_f of
its two cells, at a boundary ``-2 K (u - g) / h``: second order for smooth K, and what leaves a cell enters its
neighbour exactly. Eymard, Gallouet & Herbin (2000), "Finite volume methods", Handbook of Numerical Analysis VII.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

Side = Literal["value", "flux"]
Face = tuple[int, int]  # axis, and 0 for its lower or 1 for its upper end
BoundaryData = Mapping[Face, np.ndarray | float]


class Volumes:
    """Cells of a box and the sparsity of the operator on them, which all coefficients share.

    Parameters
    ----------
    shape : cells along each axis.
    lengths : of the box.
    sides : what is prescribed at the lower and upper end of each axis: the value, or the inward flux.
    solid : cells to leave out; their faces are insulated.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        lengths: tuple[float, ...],
        sides: tuple[tuple[Side, Side], ...],
        solid: np.ndarray | None = None,
    ) -> None:
        self.shape, self.lengths, self.sides = shape, lengths, sides
        self.spacing = tuple(length / n for length, n in zip(lengths, shape, strict=True))
        self.active = np.ones(shape, bool) if solid is None else ~solid
        self.size = int(self.active.sum())
        self.cell_volume = float(np.prod(self.spacing))
        self._present, self._columns, self._row_ends = self._sparsity()

    @property
    def ndim(self) -> int:
        """Number of directions."""
        return len(self.shape)

    def centres(self) -> list[np.ndarray]:
        """Coordinates of the cell centres, one open array an axis, from the lower corner."""
        lines = [(np.arange(n) + 0.5) * h for n, h in zip(self.shape, self.spacing, strict=True)]
        return list(np.meshgrid(*lines, indexing="ij", sparse=True))

    def along(self, axis: int, where: slice | int) -> tuple[slice | int, ...]:
        """An index that takes `where` along one axis and everything along the others."""
        return (slice(None),) * axis + (where,) + (slice(None),) * (self.ndim - 1 - axis)

    def _sparsity(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which entries of the full stencil exist, their columns, and the row ends of the CSR matrix.

        Entries are ordered by column: lower neighbours from the slowest axis, the diagonal, upper neighbours.
        """
        d = self.ndim
        number = np.full(self.shape, -1, np.int32)
        number[self.active] = np.arange(self.size, dtype=np.int32)
        neighbour = np.full((*self.shape, 2 * d + 1), -1, np.int32)
        neighbour[..., d] = number
        for axis in range(d):
            lower, upper = self.along(axis, slice(None, -1)), self.along(axis, slice(1, None))
            neighbour[(*upper, axis)] = number[lower]
            neighbour[(*lower, 2 * d - axis)] = number[upper]
        present = (neighbour >= 0) & self.active[..., None]
        row_ends = np.concatenate([[0], np.cumsum(present.sum(-1)[self.active])]).astype(np.int32)
        return present, neighbour[present], row_ends

    def transmissibility(self, k: np.ndarray, axis: int) -> np.ndarray:
        """``K_f / h^2`` of the inner faces normal to `axis`, zero where a solid cell is involved."""
        left, right = k[self.along(axis, slice(None, -1))], k[self.along(axis, slice(1, None))]
        both = self.active[self.along(axis, slice(None, -1))] & self.active[self.along(axis, slice(1, None))]
        return np.where(both, 2 * left * right / (left + right), 0.0) / self.spacing[axis] ** 2

    def _edge(self, k: np.ndarray, face: Face) -> np.ndarray:
        """``2 K / h^2`` of the cells at a side with a prescribed value."""
        axis, end = face
        cells = self.along(axis, -end)
        return np.where(self.active[cells], 2 * k[cells], 0.0) / self.spacing[axis] ** 2

    def matrix(self, k: np.ndarray, reaction: np.ndarray | float = 0.0) -> csr_array:
        """The operator per unit volume, symmetric, ``(size, size)``.

        Parameters
        ----------
        k : coefficient K, ``(*shape)``, positive.
        reaction : c, a number or ``(*shape)``; negative for Helmholtz.
        """
        d = self.ndim
        values = np.zeros((*self.shape, 2 * d + 1))
        diagonal = values[..., d]
        diagonal += reaction
        for axis in range(d):
            lower, upper = self.along(axis, slice(None, -1)), self.along(axis, slice(1, None))
            t = self.transmissibility(k, axis)
            values[(*upper, axis)] = -t
            values[(*lower, 2 * d - axis)] = -t
            diagonal[lower] += t
            diagonal[upper] += t
            for end in (0, 1):
                if self.sides[axis][end] == "value":
                    diagonal[self.along(axis, -end)] += self._edge(k, (axis, end))
        entries = values[self._present]
        return csr_array((entries, self._columns, self._row_ends), shape=(self.size, self.size))

    def right_hand_side(self, k: np.ndarray, source: np.ndarray | float, boundary: BoundaryData) -> np.ndarray:
        """Source and boundary data per unit volume, ``(size,)``.

        `boundary` maps a face to its value, or to the flux ``K du/dn`` into the domain; what is missing is zero.
        """
        total = np.zeros(self.shape) + source
        for (axis, end), data in boundary.items():
            cells = self.along(axis, -end)
            prescribed = self.sides[axis][end] == "value"
            total[cells] += data * (self._edge(k, (axis, end)) if prescribed else 1 / self.spacing[axis])
        return total[self.active]

    def field(self, unknowns: np.ndarray) -> np.ndarray:
        """Unknowns as a field ``(*shape)``, zero in solid cells."""
        full = np.zeros(self.shape)
        full[self.active] = unknowns
        return full

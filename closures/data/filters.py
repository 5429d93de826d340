"""From the velocity on a fine grid to the velocity on a coarse one: what a large-eddy simulation ought to compute.

Along Fourier axes a filter is a transfer function on the modes that the coarse grid keeps: 1 for the sharp cutoff,
``sin(k D/2) / (k D/2)`` for a box of width D (Pope 2000, Turbulent Flows, table 13.2). Across walls, where cells are
finite volumes, there are three:

- ``face``: u and w are averaged over the fine cells in a coarse one, v is taken where the coarse faces are. What flows
  through a coarse face is then the sum of what flows through the fine ones, so the coarse divergence is the mean of the
  fine one and stays zero (Agdestein & Sanderse 2025, J. Comput. Phys. 522, 113577: filter what has been discretised).
- ``volume``: v too is averaged, over the volume about its face; the divergence is no longer zero.
- ``sample``: values where the coarse grid has its own, interpolated linearly; nothing at all on the same y axis.

Coarse faces need not be fine ones: within a fine cell u and w are constant and v is linear, as its divergence says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from closures.data.columns import Vertical, centre_matrix, face_matrix
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fft import choose_engine
from solver.discretisation.staggered import y_slowest
from solver.errors import CaseError
from solver.grid.axis import Array, FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid
from solver.parallel import ranks
from solver.parallel.slabs import Slabs
from solver.pressure.direct import apply_matrix

Horizontal = Literal["sharp", "box"]


@dataclass(frozen=True)
class Kernel:
    """What passes a filter.

    Parameters
    ----------
    horizontal : transfer function along Fourier axes.
    width : of the box, in spacings ``length / n`` of the coarse grid.
    vertical : how cells are joined along a finite-volume y.
    """

    horizontal: Horizontal = "sharp"
    width: float = 1.0
    vertical: Vertical = "face"

    @property
    def solenoidal(self) -> bool:
        """Whether the divergence stays zero between walls (in a box it always does)."""
        return self.vertical == "face"

    def transfer(self, coarse: FourierAxis, k: Array) -> Array:
        """Factor of the modes with wavenumbers `k`."""
        if self.horizontal == "sharp":
            return np.ones_like(k)
        return np.sinc(k * self.width * coarse.length / coarse.n / (2 * np.pi))


class GridFilter:
    """A filter from the grid of a simulation to a coarse one.

    The fine field is shared among the ranks as ever; the coarse one, small by intention, is whole on every rank.

    Parameters
    ----------
    fine : operators of the simulation.
    coarse : the grid to filter to: the same box, axes of the same kinds, no more modes.
    kernel : what passes.

    Raises
    ------
    CaseError : grids between which there is no filter.
    """

    def __init__(self, fine: Operators, coarse: Grid, kernel: Kernel) -> None:
        check(fine.grid, coarse, kernel)
        whole = Slabs(coarse.shape[1], coarse.coefficient_shape[0], coarse.y.periodic, ranks.alone())
        self.fine, self.kernel = fine, kernel
        self.coarse = Operators(coarse, whole, fine.device, fine.dtype)
        self._centre: Tensor | None = None
        self._face: Tensor | None = None
        if isinstance(fine.grid.y, FiniteVolumeAxis):
            pair = fine.grid.y, cast(FiniteVolumeAxis, coarse.y)
            self._centre = self._columns(centre_matrix(*pair, kernel.vertical))
            self._face = self._columns(face_matrix(*pair, kernel.vertical))
        self._kept = {d: self._mode_index(d) for d in fine.grid.fourier_axes}
        self._factor = self._transfer()

    def velocity(self, velocity: Components) -> Components:
        """Filtered coefficients of all three components, each where it lives on the coarse grid."""
        u, v, w = self._filtered(list(velocity), [self._centre, self._face, self._centre])
        return u, v, w

    def centred(self, fields: list[Tensor]) -> list[Tensor]:
        """Filtered coefficient fields that live at cell centres."""
        return self._filtered(fields, [self._centre] * len(fields))

    def _filtered(self, fields: list[Tensor], matrices: list[Tensor | None]) -> list[Tensor]:
        shares = [self._share(f, matrix) for f, matrix in zip(fields, matrices, strict=True)]
        whole = self.fine.decomposition.sum(torch.stack(shares))
        return [y_slowest(f) for f in whole]

    def _share(self, f: Tensor, matrix: Tensor | None) -> Tensor:
        """This rank's part of a sum over ranks: of its planes, or in a box of its modes."""
        for d, (source, _) in self._kept.items():
            f = f.index_select(d - 3, source)
        if matrix is not None:
            return apply_matrix(matrix, f, 1) * self._factor
        share = f.new_zeros((f.shape[0], *self.coarse.grid.coefficient_shape))
        share[:, self._kept[0][1]] = f
        return share * self._factor

    def _columns(self, matrix: Array) -> Tensor:
        """The part of a matrix along y that acts on this rank's planes."""
        return self.fine.tensor(matrix[:, self.fine.decomposition.planes])

    def _mode_index(self, d: int) -> tuple[Tensor, Tensor]:
        """Where this rank has the modes that are kept, and where they belong in the coarse field."""
        axis = cast(FourierAxis, self.coarse.grid.axes[d])
        count, highest = len(self.fine.grid.wavenumbers[d]), axis.highest_mode
        half = d == self.fine.grid.half_axis
        modes = np.arange(highest + 1) if half else np.r_[0 : highest + 1, -highest:0]
        source, target = modes % count, np.arange(len(modes))
        if d == 0 and self.fine.grid.is_box:
            own = self.fine.decomposition.modes
            mine = (source >= own.start) & (source < own.stop)
            source, target = source[mine] - own.start, target[mine]
        return torch.from_numpy(source).to(self.fine.device), torch.from_numpy(target).to(self.fine.device)

    def _transfer(self) -> Tensor:
        factor = self.coarse.tensor(np.ones((1, 1, 1)))
        for d, axis in self.coarse.grid.fourier_axes.items():
            k = self.coarse.grid.wavenumbers[d]
            factor = factor * self.coarse.along(self.kernel.transfer(axis, k), d)
        return factor


def check(fine: Grid, coarse: Grid, kernel: Kernel) -> None:
    """Whether there is a filter between two grids.

    Raises
    ------
    CaseError : naming the direction and what should be changed.
    """
    for name, f, c in zip("xyz", fine.axes, coarse.axes, strict=True):
        where = f"[coarse.{name}]"
        if f.is_fourier != c.is_fourier or abs(f.length - c.length) > 1e-9 * f.length:
            raise CaseError(f"{where} should be of the same kind and length as [grid.{name}]")
        if isinstance(f, FourierAxis):
            if cast(FourierAxis, c).highest_mode > f.highest_mode:
                raise CaseError(f"{where} n = {c.n} keeps more modes than [grid.{name}]: lower it")
        elif name != "y" or f.periodic or not isinstance(c, FiniteVolumeAxis) or c.periodic:
            raise CaseError(f"{where} filters know Fourier axes, and finite volumes between walls in y alone")
        elif not np.allclose([f.faces[0], f.faces[-1]], [c.faces[0], c.faces[-1]], rtol=0, atol=1e-9 * f.length):
            raise CaseError(f"{where} should have the ends of [grid.{name}]")
        elif c.n > f.n or (kernel.vertical == "sample" and not _within(f.centres, c.centres)):
            raise CaseError(f"{where} is finer than [grid.{name}] somewhere: lower n, or use the same stretching")


def _within(fine: Array, coarse: Array) -> bool:
    slack = 1e-9 * (fine[-1] - fine[0])
    return bool(coarse[0] >= fine[0] - slack and coarse[-1] <= fine[-1] + slack)


def on_points(operators: Operators, coefficients: Tensor) -> Tensor:
    """A coefficient field on the n points of each Fourier axis, not on the more that products need: (nx, ny, nz).

    Operators of a single rank. The Nyquist mode of an even n is never there, so nothing is lost.
    """
    grid, engine = operators.grid, choose_engine([coefficients])
    x, z = cast(FourierAxis, grid.x), cast(FourierAxis, grid.z)
    modes = coefficients.transpose(1, 2)
    if isinstance(grid.y, FourierAxis):
        modes = engine.column_values(modes, grid.y.n)
    return engine.plane_fields(modes, x.n, z.n)[0].transpose(0, 1)

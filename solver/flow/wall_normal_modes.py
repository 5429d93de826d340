"""Fields along y in the eigenvectors of the pressure's operator, and implicit diffusion along y in them.

The operator ``L`` has zero slope at both ends. Where a field is given at an end, as the velocity is at a wall, its
second difference has one entry more: ``-stiffness f`` in the cell beside it. So what implicit diffusion makes of a
field follows from L, which is diagonal here, and two numbers a column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.pressure.direct import apply_matrix

Ends = tuple[bool, bool]


class Damping(NamedTuple):
    """What a stage of weight ``b = nu beta dt`` does.

    Parameters
    ----------
    b : the weight.
    decay : ``1 / (1 - b lambda)`` of the modes, (1, n, 1).
    slip, held : at the ends (2, 2): what a field would be there without the entries of the ends, from what it is with
        them; and the inverse.
    """

    b: Tensor
    decay: Tensor
    slip: Tensor
    held: Tensor


class WallNormalModes:
    """The modes along a finite-volume y of one grid.

    Parameters
    ----------
    operators : the discrete calculus.
    held : whether a field is given at the lower and at the upper end.
    """

    def __init__(self, operators: Operators, held: Ends) -> None:
        self.operators, self.slabs = operators, operators.decomposition
        line = operators.grid.volume_axes[1]
        values, q = line.laplacian
        root = np.sqrt(line.width)
        self.values = operators.along(np.where(values > -1e-12 * np.abs(values).max(), 0.0, values), 1)
        self.forward, self.backward = operators.tensor(q.T * root), operators.tensor(q / root[:, None])
        beside = [0, line.n - 1]
        stiffness = np.array(held) * 2.0 / (line.width[beside] * line.spacing[[0, -1]])
        self.feed = operators.tensor((q.T * root)[:, beside] * stiffness)
        self.read = operators.tensor((q / root[:, None])[beside])
        self.one = operators.tensor(np.eye(2))

    def modes(self, f: Tensor) -> Tensor:
        """Coefficients by mode of y, of this rank's modes of x, from this rank's planes (collective)."""
        return apply_matrix(self.forward, self.slabs.to_modes(f), 1)

    def planes(self, a: Tensor) -> Tensor:
        """The inverse of `modes` (collective)."""
        return self.slabs.to_planes(apply_matrix(self.backward, a, 1))

    def beside(self, a: Tensor) -> Tensor:
        """What a field by modes is in the first and the last cell: two entries along y."""
        return apply_matrix(self.read, a, 1)

    def fed(self, ends: Tensor) -> Tensor:
        """The entries of the ends, ``stiffness f`` in the cells beside them, by modes."""
        return apply_matrix(self.feed, ends, 1)

    def damping(self, b: Tensor) -> Damping:
        """Of a stage with that weight."""
        decay = 1.0 / (1.0 - b * self.values)
        slip = self.one + b * (self.read * decay.flatten()) @ self.feed
        (p, q), (r, s) = slip.unbind()[0].unbind(), slip.unbind()[1].unbind()  # by hand: inv waits for a device
        return Damping(b, decay, slip, torch.stack([s, -q, -r, p]).view(2, 2) / (p * s - q * r))

    def at_ends(self, damping: Damping, ends: Tensor) -> Tensor:
        """Values beside the ends with their entries, from those without."""
        return apply_matrix(damping.held, ends, 1)

    def solve(self, f: Tensor, b: Tensor) -> Tensor:
        """``(1 - b d2/dy2)^-1 f`` of a field that is zero where it is held, without slope elsewhere (collective)."""
        damping, a = self.damping(b), self.modes(f)
        ends = self.at_ends(damping, self.beside(damping.decay * a))
        return f + self.planes(damping.decay * b * (self.values * a - self.fed(ends)))

    def column(self, damping: Damping) -> Tensor:
        """What is left of a uniform 1 where it acts against the ends, (1, local ny, 1)."""
        ends = damping.held.sum(1)
        whole = 1.0 - damping.b * self.backward @ (damping.decay.flatten() * (self.feed @ ends))
        return whole[self.slabs.planes][None, :, None]

"""The constant-coefficient operator on a uniform box, inverted by fast sine and cosine transforms.

Cell-centred second differences with a prescribed value or flux half a cell from the outermost centres are
diagonalised by the transforms of types II and IV: Schumann & Sweet (1988), J. Comput. Phys. 75, 123. With the
scaling of Concus & Golub (1973), SIAM J. Numer. Anal. 10, 1103, it preconditions smoothly varying coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.fft

from closures.linear_families.sequences.system import Apply


class _Kind(NamedTuple):
    """The transform that fits a pair of ends, and its first half wavenumber."""

    forward: Callable[..., np.ndarray]
    backward: Callable[..., np.ndarray]
    type: int
    first: float


KINDS = {
    ("value", "value"): _Kind(scipy.fft.dst, scipy.fft.idst, 2, 1.0),
    ("flux", "flux"): _Kind(scipy.fft.dct, scipy.fft.idct, 2, 0.0),
    ("value", "flux"): _Kind(scipy.fft.dst, scipy.fft.idst, 4, 0.5),
    ("flux", "value"): _Kind(scipy.fft.dct, scipy.fft.idct, 4, 0.5),
}


class FastBox:
    """``(-lap + shift)^-1`` on a box.

    Parameters
    ----------
    shape, spacing : cells and cell sizes along each axis.
    sides : "value" or "flux" at the lower and upper end of each axis.
    """

    def __init__(self, shape: tuple[int, ...], spacing: tuple[float, ...], sides: tuple[tuple[str, str], ...]) -> None:
        self.shape = shape
        self.kinds = [KINDS[pair] for pair in sides]
        symbol = np.zeros(shape)
        for axis, (n, h, kind) in enumerate(zip(shape, spacing, self.kinds, strict=True)):
            line = (2 / h * np.sin(0.5 * np.pi * (np.arange(n) + kind.first) / n)) ** 2
            symbol += line.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        self.symbol = symbol

    def inverse(self, shift: float = 0.0, weight: np.ndarray | None = None) -> Apply:
        """Applies ``s^-1 (-lap + shift)^-1 s^-1`` with ``s = sqrt(weight)``.

        Eigenvalues nearer to zero than 1e-8 of the largest are taken as that small: the operator may be singular.
        """
        shifted = self.symbol + shift
        floor = 1e-8 * float(np.abs(shifted).max())
        shifted = np.where(np.abs(shifted) < floor, np.where(shifted < 0, -floor, floor), shifted)
        factor = 1 / shifted
        scale = None if weight is None else (1 / np.sqrt(weight)).ravel()

        def apply(r: np.ndarray) -> np.ndarray:
            f = (r if scale is None else r * scale).reshape(self.shape)
            for axis, kind in enumerate(self.kinds):
                f = kind.forward(f, type=kind.type, axis=axis, norm="ortho")
            f *= factor
            for axis, kind in enumerate(self.kinds):
                f = kind.backward(f, type=kind.type, axis=axis, norm="ortho", overwrite_x=True)
            z = f.ravel()
            return z if scale is None else z * scale

        return apply

"""First guesses from solutions of the systems before: the combination of them with the least residual.

Fischer (1998), Comput. Methods Appl. Mech. Eng. 163, 193, for one matrix; for a family whose solutions depend smoothly
on a few parameters it is the reduced-basis method (Quarteroni, Manzoni & Negri 2016, "Reduced Basis Methods for
Partial Differential Equations"), whose error falls exponentially with the number of solutions. Here the residual is
measured, and a Krylov or direct method removes what is left of it, so the tolerance holds whatever the guess is worth.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.sparse import csr_array

from closures.linear_families.sequences.system import System

DEPENDENT = 1e-13  # singular values below this part of the largest are round-off


class Solutions:
    """The last `size` solutions of a sequence of systems.

    Systems that share a matrix object share the images ``A X`` and their factors; for another matrix a guess costs as
    many products as there are solutions, and a QR factorisation.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.x: list[np.ndarray] = []
        self.images: list[np.ndarray] = []
        self.matrix: csr_array | None = None
        self._factors: tuple[np.ndarray, np.ndarray] | None = None

    def guess(self, system: System) -> tuple[np.ndarray, int]:
        """``X y`` with the y that minimises ``|b - A X y|``, and the products with the matrix it took."""
        if not self.x:
            return np.zeros_like(system.rhs), 0
        products = 0
        if system.matrix is not self.matrix:
            self.matrix, self._factors = system.matrix, None
            self.images = [system.matrix @ x for x in self.x]
            products = len(self.x)
        if self._factors is None:
            self._factors = scipy.linalg.qr(np.stack(self.images, axis=1), mode="economic", check_finite=False)
        q, r = self._factors
        y = scipy.linalg.lstsq(r, q.T @ system.rhs, cond=DEPENDENT, check_finite=False)[0]
        return sum((c * x for c, x in zip(y, self.x, strict=True)), np.zeros_like(system.rhs)), products

    def keep(self, system: System, x: np.ndarray) -> None:
        """Add the solution of the system that was guessed last; the oldest one makes room."""
        if len(self.x) == self.size:
            del self.x[0]
            del self.images[0]
        self.x.append(x)
        self.images.append(system.matrix @ x)
        self.matrix, self._factors = system.matrix, None

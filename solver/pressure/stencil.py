"""The seven-point operator on flat vectors: symmetric, positive semi-definite, and cheap to sweep.

``(A x)_i = d_i x_i - sum over faces of c_face x_neighbour``. Because vectors vanish in solids and beyond walls, a
coupling may be one number even where some faces are closed: the diagonal alone knows which.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from solver.discretisation import fusion
from solver.discretisation.fusion import fused
from solver.pressure.layout import Layout

WORTH_COMPILING = 100_000  # entries; below, the overhead of a call is what costs
PIECE = 131_072  # entries that a sweep takes at a time on a CPU, so that temporaries stay in cache


class Stencil:
    """A seven-point operator of one rank on flat vectors.

    Parameters
    ----------
    layout : where cells lie in memory.
    coupling : per active axis, flat coefficients of the upper face of each cell (ghosts below included), or
        one number where all open faces have the same.
    diagonal : flat; zero in solids and ghosts.
    damping : flat, between 0 and 1: what a Jacobi step is multiplied by in each cell; None for nothing.
    """

    def __init__(
        self,
        layout: Layout,
        coupling: Mapping[int, Tensor | float],
        diagonal: Tensor,
        damping: Tensor | None = None,
    ) -> None:
        self.layout, self.coupling, self.diagonal, self.damping = layout, dict(coupling), diagonal, damping
        self.fluid = diagonal > 0
        self.inverse = torch.where(self.fluid, 1.0 / torch.where(self.fluid, diagonal, 1.0), 0.0)

    @property
    def pieces(self) -> list[slice]:
        """What a sweep takes one after the other."""
        return self._cut(self.layout.margin, self.layout.size - self.layout.margin)

    def _cut(self, first: int, last: int) -> list[slice]:
        """Ranges of the entries that have neighbours, swept one after the other."""
        step = PIECE if self.layout.device.type == "cpu" else last - first
        return [slice(start, min(start + step, last)) for start in range(first, last, step)]

    def neighbours(self, x: Tensor, piece: slice) -> Tensor:
        """``sum c x_neighbour`` on a piece; `x` with ghosts filled."""
        total = None
        for axis, c in self.coupling.items():
            stride = self.layout.stride[axis]
            below = slice(piece.start - stride, piece.stop - stride)
            above = slice(piece.start + stride, piece.stop + stride)
            term = (x[above] + x[below]) * c if isinstance(c, float) else c[piece] * x[above] + c[below] * x[below]
            total = term if total is None else total + term
        assert total is not None
        return total

    def jacobi(self, x: Tensor, rhs: Tensor, piece: slice) -> Tensor:
        """``D^-1 (rhs - A x)`` on a piece, zero in solids."""
        return self.inverse[piece] * (rhs[piece] + self.neighbours(x, piece)) - x[piece]

    def step(self, x: Tensor, rhs: Tensor, piece: slice) -> Tensor:
        """`jacobi`, damped."""
        step = self.jacobi(x, rhs, piece)
        return step if self.damping is None else self.damping[piece] * step

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """Write ``A x`` to `out` and return ``x . A x`` of this rank; `x` with ghosts filled."""
        product = torch.zeros((), dtype=x.dtype, device=x.device)
        for piece in self.pieces:
            middle = x[piece]
            inside = self.diagonal[piece] * middle - self.neighbours(x, piece)
            result = torch.where(self.fluid[piece], inside, 0.0)
            out[piece].copy_(result)
            product = product + torch.dot(middle, result)
        return product

    def residual(self, x: Tensor, rhs: Tensor, out: Tensor) -> None:
        """``rhs - A x``, zero in solids."""
        for piece in self.pieces:
            out[piece].copy_(self.diagonal[piece] * self.jacobi(x, rhs, piece))

    def relax(self, rhs: Tensor, out: Tensor, weight: Tensor) -> None:
        """A Jacobi step of `weight` from zero."""
        for piece in self.pieces:
            step = self.inverse[piece] * rhs[piece]
            out[piece].copy_(weight * (step if self.damping is None else self.damping[piece] * step))

    def relax_more(self, x: Tensor, rhs: Tensor, out: Tensor, growth: Tensor, weight: Tensor) -> None:
        """A Jacobi step of `weight` from `x`, added to `growth` times `x`."""
        for piece in self.pieces:
            out[piece].copy_(growth * x[piece] + weight * self.step(x, rhs, piece))

    def relax_on(self, x: Tensor, rhs: Tensor, previous: Tensor, momentum: Tensor, weight: Tensor) -> None:
        """A Jacobi step of `weight` from `x`, plus `momentum` times the last step; replaces the previous iterate."""
        for piece in self.pieces:
            old, middle = previous[piece], x[piece]
            old.copy_(middle + momentum * (middle - old) + weight * self.step(x, rhs, piece))


class FusedStencil(Stencil):
    """The same, each sweep one compiled kernel wherever fusion is enabled; worth it for large layouts."""

    def _cut(self, first: int, last: int) -> list[slice]:
        return [slice(first, last)] if fusion.is_enabled() else super()._cut(first, last)

    apply = fused(Stencil.apply)
    residual = fused(Stencil.residual)
    relax = fused(Stencil.relax)
    relax_more = fused(Stencil.relax_more)
    relax_on = fused(Stencil.relax_on)


def make_stencil(
    layout: Layout, coupling: Mapping[int, Tensor | float], diagonal: Tensor, damping: Tensor | None = None
) -> Stencil:
    """A stencil; a large one is fused as soon as fusion is enabled, which a run decides once it knows its length."""
    kind = FusedStencil if layout.size > WORTH_COMPILING else Stencil
    return kind(layout, coupling, diagonal, damping)

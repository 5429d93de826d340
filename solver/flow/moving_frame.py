"""Advection stepped in a frame that moves along x; all that is stored and shown belongs to the frame at rest.

Where the mean flow is fast, most of what advection does to an eddy is to carry it along. For an observer who moves with
c the rate of change is ``F(u) + c du/dx``; after a time s the field is moved back, ``u(x - c s)``, exactly, by
modes. Translations commute with everything that does not depend on x, so the order of the scheme stays. Steps are
limited by ``|u - c|`` in place of ``|u|``, and damp what moves with that.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.discretisation.fusion import fused
from solver.errors import CaseError

Fields = TypeVar("Fields", bound=tuple[Tensor, ...])


class MovingFrame:
    """A frame with a constant velocity along x.

    Parameters
    ----------
    operators : the discrete calculus.
    speed : velocity of the frame.

    Raises
    ------
    CaseError : x is no Fourier axis.
    """

    def __init__(self, operators: Operators, speed: float) -> None:
        self.operators, self.speed = operators, speed
        if not operators.grid.x.is_fourier:
            raise CaseError("[time] frame: only fields with kind = 'fourier' in [grid.x] can be moved along it: set 0")

    @fused
    def seen(self, rate: Fields, u: Fields) -> Fields:
        """Rates of change of coefficient fields `u` in this frame, from those at rest."""
        return type(u)(r + self.speed * self.operators.derivative(f, 0) for r, f in zip(rate, u, strict=True))

    @fused
    def back(self, u: Fields, span: Tensor) -> Fields:
        """Coefficients at rest after a time `span`, from what this frame, then at the same place, has made of them."""
        return type(u)(self.operators.translated(f, self.speed * span) for f in u)

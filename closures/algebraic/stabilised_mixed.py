"""A similarity stress that does no work, beside a model that drains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from closures.algebraic.base import SYMMETRIES, unfused_gradient
from closures.algebraic.box import BoxFilter, sides_of_test_filter
from closures.algebraic.invariants import Six, contraction, safe_ratio, symmetric
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import Create, EddyViscosity, State, SubgridStress
from solver.grid.grid import Grid


class StabilisedMixed:
    """Stabilised mixed model (Abe 2013): the anisotropy of what the test filter takes out, made free of work.

    ``tau_ij = -2 nu_t s_ij + c [R_ij - s_ij (R:S) / (S:S)]``, ``R_ij = hat(u''_i u''_j)``, ``u'' = u - hat(u)``, with
    the trace of R, after Abe (2013, Int. J. Heat Fluid Flow 39, 42) and Inagaki & Abe (2017, Int. J. Heat Fluid Flow
    64, 137); the energy of the subgrid scales, there an equation of its own, is here c times that of the finest
    resolved ones. The filter is that of the local dynamic model, see `box`: where there are Fourier directions it acts
    along these alone, and a mean that varies across them has no such stress.

    Parameters
    ----------
    c : energy of the subgrid scales over that of u''; Kolmogorov's spectrum has 3.7 to 7, see docs/decisions/0029.
    create : makes the model by its name.
    model, model_options : a registered eddy viscosity, and its options.
    """

    name = "stabilised_mixed"

    def __init__(
        self,
        *,
        grid: Grid,
        nu: float,
        create: Create,
        c: Annotated[float, Field(ge=0)] = 4.0,
        model: str = "wale",
        model_options: dict[str, Any] | None = None,
    ) -> None:
        self.c, self.called = c, model
        self.model = create(model, grid=grid, nu=nu, options=model_options)
        self.box = BoxFilter(sides_of_test_filter(grid))
        reach = getattr(self.model, "reach", 0)
        self.reach: int | Literal["global"] = "global" if reach == "global" else max(int(reach), self.box.reach)
        self.graph_cycle = 1 if self.model is None else getattr(self.model, "graph_cycle", 0)
        self.slabs = tuple(getattr(self.model, "slabs", ()))
        self.symmetries = SYMMETRIES & frozenset(getattr(self.model, "symmetries", ()))

    def init(self, operators: Operators) -> State:
        """The state of the model."""
        return self.model.init(operators) if self.model else {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridStress, State]:
        """``tau_ij`` at cell centres, velocity^2, trace included, and the next state.

        Raises
        ------
        CaseError : the model gives no viscosity.
        """
        term, state = self.model(velocity, t, state) if self.model else (None, state)
        if not isinstance(term, EddyViscosity):
            raise CaseError(f"[closure] model = '{self.called}' of 'stabilised_mixed' should give an eddy viscosity")
        u = list(velocity.centred)
        similar = self.box(self.finest(u, self.box(u, velocity.operators)), velocity.operators)
        spectral = velocity.spectral_derivatives
        return SubgridStress(self.stress(velocity.staggered, spectral, term.nu_t, similar, velocity.strain)), state

    @fused
    def finest(self, u: list[Tensor], smooth: list[Tensor]) -> list[Tensor]:
        """The six products ``u''_i u''_j``."""
        a, b, c = (f - g for f, g in zip(u, smooth, strict=True))
        return [a * a, b * b, c * c, a * b, a * c, b * c]

    @fused
    def stress(
        self,
        staggered: Components,
        spectral: Derivatives,
        nu_t: Tensor,
        similar: list[Tensor],
        strain: VelocityGradient,
    ) -> Six:
        """Both parts."""
        s = symmetric(unfused_gradient(strain, staggered, spectral))
        r = (similar[0], similar[1], similar[2], similar[3], similar[4], similar[5])
        free = workless(r, s)
        xx, yy, zz, xy, xz, yz = (self.c * f - 2.0 * nu_t * g for f, g in zip(free, s, strict=True))
        return xx, yy, zz, xy, xz, yz


def workless(r: Six, s: Six) -> Six:
    """``R_ij - s_ij (R:S) / (S:S)``: what of a tensor does no work against a strain without trace."""
    share = safe_ratio(contraction(r, s), contraction(s, s))
    xx, yy, zz, xy, xz, yz = (f - share * g for f, g in zip(r, s, strict=True))
    return xx, yy, zz, xy, xz, yz

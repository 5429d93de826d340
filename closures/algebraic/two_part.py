"""Two parts of the subgrid stress: that of the mean flow along walls, and what drains the fluctuations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import SYMMETRIES, unfused_gradient
from closures.algebraic.geometry import walls
from closures.algebraic.invariants import Six, symmetric
from closures.algebraic.mean_flow import Fluctuations, check_walls, mean_staggered
from closures.algebraic.mixing_length import MixingLength
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import (
    Corrector,
    Create,
    EddyViscosity,
    State,
    SubgridForce,
    SubgridStress,
    SubgridTerm,
    Surrogate,
)
from solver.grid.grid import Grid


class TwoPart:
    """Two-part model: the stress of the mean flow by a mixing length, any other model on the fluctuations alone.

    ``tau_ij = -2 l_m^2 |<S>| <s_ij> + tau_ij(u - <u>)``, after Schumann (1975, J. Comput. Phys. 18, 376), Moin & Kim
    (1982, J. Fluid Mech. 118, 341) and Sullivan, McWilliams & Moeng (1994, Boundary-Layer Meteorol. 71, 247); the
    length is ours, see `mixing_length.mixing_length` and docs/decisions/0029. < > is the mean over the Fourier
    directions: planes of a channel, lines along x of a duct. Without walls there is no mean part, and the model sees
    the whole flow.

    Parameters
    ----------
    create : makes the model by its name.
    model, model_options : a registered closure that gives a viscosity or a stress, or "none", and its options.
    a, b, exponent : of the mixing length, fitted to filtered direct simulation at Re_tau = 180.

    Raises
    ------
    CaseError : the model acts between steps.
    """

    name = "two_part"

    def __init__(
        self,
        *,
        grid: Grid,
        nu: float,
        create: Create,
        model: str = "wale",
        model_options: dict[str, Any] | None = None,
        a: Annotated[float, Field(ge=0)] = 0.58,
        b: Annotated[float, Field(gt=0)] = 0.217,
        exponent: Annotated[float, Field(ge=0)] = 0.42,
    ) -> None:
        self.bounded = bool(walls(grid))
        if self.bounded:
            check_walls(self.name, grid, nu)
        self.called, self.model = model, create(model, grid=grid, nu=nu, options=model_options)
        if isinstance(self.model, Corrector | Surrogate):
            raise CaseError(f"[closure] model = '{model}' acts between steps: name one that gives a stress")
        self.reach: int | Literal["global"] = getattr(self.model, "reach", 0)
        self.batches = self.model is None or getattr(self.model, "batches", False)
        self.graph_cycle = 1 if self.model is None else getattr(self.model, "graph_cycle", 0)
        self.slabs = tuple(getattr(self.model, "slabs", ()))
        kept = SYMMETRIES if self.model is None else frozenset(getattr(self.model, "symmetries", ()))
        self.symmetries = kept - {"rotation"} if self.bounded else kept
        self.mixing = MixingLength(grid, nu, a, b, exponent) if self.bounded else None

    def init(self, operators: Operators) -> State:
        """The state of the model."""
        return self.model.init(operators) if self.model else {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """``tau_ij`` at cell centres, velocity^2, and the next state; without walls what the model gives.

        Raises
        ------
        CaseError : the model gives a force.
        """
        if self.mixing is None:
            return self.model(velocity, t, state) if self.model else (None, state)
        fluctuations = Fluctuations(velocity, mean_staggered(velocity))
        of_mean = list(self.mixing(velocity, fluctuations))
        term, state = self.model(fluctuations, t, state) if self.model else (None, state)
        if isinstance(term, SubgridForce):
            raise CaseError(f"[closure] model = '{self.called}' gives a force: name one that gives a stress")
        if isinstance(term, EddyViscosity):
            spectral = fluctuations.spectral_derivatives
            tau = self.drained(fluctuations.staggered, spectral, term.nu_t, of_mean, velocity.strain)
        else:
            own = term.tau if term else [torch.zeros_like(velocity.centred[0])] * 6
            tau = self.added(list(own), of_mean)
        return SubgridStress(tau), state

    @fused
    def drained(
        self,
        staggered: Components,
        spectral: Derivatives,
        nu_t: Tensor,
        of_mean: list[Tensor],
        strain: VelocityGradient,
    ) -> Six:
        """The stress of the mean and ``-2 nu_t s'_ij``."""
        xx, yy, zz, xy, xz, yz = symmetric(unfused_gradient(strain, staggered, spectral))
        twice = -2.0 * nu_t
        a, b, c, d, e, f = of_mean
        return a + twice * xx, b + twice * yy, c + twice * zz, d + twice * xy, e + twice * xz, f + twice * yz

    @fused
    def added(self, own: list[Tensor], of_mean: list[Tensor]) -> Six:
        """The stress of the mean and that of the fluctuations."""
        a, b, c, d, e, f = (x + y for x, y in zip(own, of_mean, strict=True))
        return a, b, c, d, e, f

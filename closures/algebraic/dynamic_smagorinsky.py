"""The dynamic Smagorinsky model: the flow chooses the coefficient, by Germano's identity."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import SYMMETRIES
from closures.algebraic.box import BoxFilter, sides_of_test_filter
from closures.algebraic.cutoff import CutoffFilter, averages, width_ratio
from closures.algebraic.geometry import PerGrid, filter_width
from closures.algebraic.germano import Resolved, contractions, products
from closures.algebraic.invariants import safe_ratio
from closures.algebraic.resolved import ResolvedScales
from solver.discretisation.calculus import Operators
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import DIM
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity, State
from solver.grid.grid import Grid

FILTERED_FIELDS = 18


class DynamicSmagorinsky:
    """Dynamic Smagorinsky (Germano et al. 1991, Lilly 1992): no constant to choose, right order at walls.

    ``nu_t = max(C, 0) |S|`` with ``C = c_s^2 delta^2 = -<L_ij M_ij> / (2 <M_ij M_ij>)``, see `germano`. The test
    filter acts along the m Fourier directions and is sharp, as the grid filter is there: it keeps half of the modes;
    ``alpha`` is the ratio of the two widths within the filtered directions, about 2. A box filter instead
    overestimates nu_t in the buffer layer several times. Germano's identity is formed on every second point or so, so
    the model commutes with shifts by those. A grid of cells has no direction to average over: there only "local"
    works, with filters along the periodic directions of equal cells, because one across stretched cells does not
    commute with differentiation. In solids the velocity is zero, and the filters see it continued like that.

    Parameters
    ----------
    averaging : "homogeneous": < > over all Fourier directions (channel: planes; box: everything; duct: lines in x);
        "local": < > is the test filter itself, then a positive one: the moving average over three points, which is
        the box filter of width 2 delta because products live on 3/2 as many points as modes; along cells, whose width
        is delta, that box by Simpson's rule, (1, 4, 1) / 6 (Lund 1997, Annu. Res. Briefs CTR, 83, on discrete widths).
    c_s_max : bound, ``nu_t <= (c_s_max delta)^2 |S|``: in uniform flow C is a quotient of round-off errors.
    every : calls from one evaluation of C to the next where it is averaged; 9 is every third Runge-Kutta step.

    Raises
    ------
    CaseError : the grid has no direction to filter or to average along; `every` without averages.
    """

    name = "dynamic_smagorinsky"
    symmetries = SYMMETRIES
    batches = True

    def __init__(
        self,
        *,
        grid: Grid,
        nu: float,
        averaging: Literal["homogeneous", "local"] = "homogeneous",
        c_s_max: Annotated[float, Field(gt=0)] = 0.3,
        every: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        self.filtered = tuple(d for d, axis in grid.fourier_axes.items() if axis.highest_mode > 0)
        self.cells = tuple(d for d, axis in grid.volume_axes.items() if axis.periodic and axis.uniform)
        if not self.filtered and not (self.cells and averaging == "local"):
            remedy = "averaging = 'local', or " if self.cells else ""
            raise CaseError(
                "[closure] 'dynamic_smagorinsky' filters and averages along Fourier directions and this grid has "
                f"none: use {remedy}'wale', 'vreman' or 'sigma'"
            )
        if averaging == "local" and every is not None:
            raise CaseError("[closure] 'every' keeps a profile of the coefficient: use averaging = 'homogeneous'")
        sharp = averaging == "homogeneous"
        self.filtered = self.filtered or self.cells
        ratios = [width_ratio(grid.fourier_axes[d]) if sharp else 2.0 for d in self.filtered]
        self.alpha = math.prod(ratios) ** (1 / len(ratios))
        self.box = BoxFilter(sides_of_test_filter(grid))
        self.reach: int | Literal["global"] = 0 if sharp else self.box.reach
        self.resolved = ResolvedScales()
        self.averaging, self.c_s_max, self.every = averaging, c_s_max, every or 9
        self.graph_cycle = self.every if sharp else 1
        self.squared_delta = PerGrid(self._squared_delta)
        self.cutoff = PerGrid(lambda operators: CutoffFilter(operators, self.filtered))

    def init(self, operators: Operators) -> State:
        """``c_s2``, the last coefficient over the inhomogeneous directions of the whole grid, and the calls so far."""
        if self.averaging == "local":
            return {}
        shape = [1 if d in self.filtered else n for d, n in enumerate(operators.grid.shape)]
        return {"c_s2": operators.tensor(0.0).repeat(shape), "calls": torch.zeros((), dtype=torch.int64)}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[EddyViscosity, State]:
        """``nu_t`` at cell centres, length^2/time, and the state with the coefficient used."""
        operators = velocity.operators
        resolved = self.resolved(velocity)
        squared_delta = self.squared_delta(operators)
        if self.averaging == "local":
            numerator, denominator = self.local_averages(resolved, operators)
            coefficient = self.coefficient(numerator, denominator, squared_delta)
            return EddyViscosity(self.eddy_viscosity(coefficient, resolved[1])), state
        calls = int(state["calls"])
        if calls % self.every:
            slab = operators.decomposition.planes if state["c_s2"].shape[-2] > 1 else slice(None)
            coefficient = state["c_s2"][..., slab, :] * squared_delta
            c_s2 = state["c_s2"]
        else:
            numerator, denominator = self.homogeneous_averages(resolved, operators)
            coefficient = self.coefficient(numerator, denominator, squared_delta)
            c_s2 = self._everywhere(coefficient / squared_delta, operators)
        next_state = {"c_s2": c_s2, "calls": torch.tensor(calls + 1)}
        return EddyViscosity(self.eddy_viscosity(coefficient, resolved[1])), next_state

    @fused
    def eddy_viscosity(self, coefficient: Tensor, norm: Tensor) -> Tensor:
        """``C |S|``."""
        return coefficient * norm

    @fused
    def coefficient(self, numerator: Tensor, denominator: Tensor, squared_delta: Tensor) -> Tensor:
        """``C`` from the two averages, between 0 and ``(c_s_max delta)^2``."""
        coefficient = safe_ratio((-0.5 * numerator).clamp_min(0.0), denominator)
        return torch.minimum(coefficient, self.c_s_max**2 * squared_delta)

    def _squared_delta(self, operators: Operators) -> Tensor:
        """``delta^2`` with one entry along filtered directions, where it is constant."""
        squared = filter_width(operators) ** 2
        for d in self.filtered:
            squared = squared.narrow(DIM[d], 0, 1)
        return squared

    # -- averages over homogeneous directions ------------------------------------------------------------------------

    def homogeneous_averages(self, resolved: Resolved, operators: Operators) -> list[Tensor]:
        """``<L_ij M_ij>`` and ``<M_ij M_ij>``."""
        fields = [*resolved[0], resolved[1], *resolved[2]]
        return averages(self.cutoff(operators), operators, fields, FILTERED_FIELDS, self.products, self.means)

    @fused
    def products(self, fields: list[Tensor]) -> Tensor:
        """`germano.products` as one kernel and one tensor (18, nx, planes, nz), y slowest in each field."""
        resolved = fields[:5], fields[5], fields[6:]
        return torch.stack([f.transpose(-3, -2) for f in products(resolved)]).transpose(-3, -2)

    @fused
    def means(self, filtered: Tensor) -> list[Tensor]:
        """Means of both contractions over the filtered directions."""
        along = [DIM[d] for d in self.filtered]
        return [f.mean(along, keepdim=True) for f in contractions(filtered.unbind(0), self.alpha)]

    def _everywhere(self, c_s2: Tensor, operators: Operators) -> Tensor:
        """The coefficient of every rank, on every rank: a checkpoint may be read by any number of them."""
        if 1 in self.filtered or operators.decomposition.size == 1:
            return c_s2
        whole = c_s2.new_zeros((*c_s2.shape[:-2], operators.grid.shape[1], c_s2.shape[-1]))
        whole[..., operators.decomposition.planes, :] = c_s2
        return operators.decomposition.sum(whole)

    # -- averages by the test filter: also the readable twin of the sums above ---------------------------------------

    def local_averages(self, resolved: Resolved, operators: Operators) -> tuple[Tensor, Tensor]:
        """Test-filtered ``L_ij M_ij`` and ``M_ij M_ij`` at every point."""
        both = contractions(self.box(products(resolved), operators), self.alpha)
        numerator, denominator = self.box(list(both), operators)
        return numerator, denominator

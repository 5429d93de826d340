"""A network that needs the whole field: gathered to the rank that owns it, evaluated there, scattered back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid
from closures.coupling.border import Border, Precision, Wanted
from closures.coupling.guard import MARGIN, Guard, Overruled
from closures.coupling.resample import Resampler
from closures.operators.domain import Domain
from closures.operators.predictor import Predictor
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.errors import SolverError
from solver.flow.forcing import bulk_velocity, passes
from solver.grid.grid import Grid

Project = Callable[[Components], Components]  # the solver's own projection
Misfit = Callable[[Components], float]  # of an answer to the solver's equations
LARGEST_CHANGE = 5.0  # rms of a change in units of the card, where the card has no record of its own


@dataclass(frozen=True)
class Place:
    """Where a network acts: the border, the way to its points and the network, which only the owner has."""

    border: Border
    resampler: Resampler
    predictor: Predictor | None


class WholeField:
    """The change that an operator makes to a velocity, under guard.

    Rank 0 owns the network and is the only one to hold the weights; the others send their planes and receive their
    part of the answer.

    Parameters
    ----------
    predictor : the network with its units.
    grid : the operator's points, `closures.coupling.resample.network_grid`.
    guard : what it may do.
    largest : greatest change in the training data, rms in units of the card; None if unknown.
    divergence_free : project the result with the solver's own projection.
    mass_flux : keep the bulk velocity along x, and the mean velocity along other Fourier axes.
    """

    def __init__(
        self,
        predictor: Predictor,
        grid: Grid,
        guard: Guard,
        *,
        largest: float | None = None,
        divergence_free: bool = True,
        mass_flux: bool = True,
        device: Wanted = "solver",
        precision: Precision = "float32",
    ) -> None:
        self.predictor: Predictor | None = predictor
        self.grid, self.guard = grid, guard
        self.divergence_free, self.mass_flux = divergence_free, mass_flux
        self.device, self.precision = device, precision
        self.size = guard.settings.size or (MARGIN * largest if largest else LARGEST_CHANGE)
        self.domain = Domain.of(grid)
        self.place = PerGrid(self._place)

    def _place(self, operators: Operators) -> Place:
        border = Border(operators, self.device, self.precision)
        if not operators.decomposition.is_root:
            self.predictor = None
        if self.predictor is not None:
            border.settle(self.predictor.eval())
        return Place(border, Resampler(operators, self.grid), self.predictor)

    def __call__(self, velocity: Velocity, project: Project) -> Components:
        """The velocity with the network's change (collective).

        Raises
        ------
        Overruled : on every rank, with the reason.
        """
        operators = velocity.operators
        place = self.place(operators)
        change = self._change(place, velocity)
        result = place.resampler.changed(velocity.coefficients, change)
        if self.divergence_free:
            result = project(result)
        if self.mass_flux:
            result = with_flux_of(operators, result, velocity.coefficients, project)
        self._check_energy(operators, velocity.coefficients, result)
        return result

    def _change(self, place: Place, velocity: Velocity) -> Tensor:
        """This rank's part of the answer minus the question."""
        slabs, border = place.resampler.decomposition, place.border
        u = place.resampler.centred(velocity)
        with border.timers("closure copy"):
            whole = u if slabs.size == 1 else slabs.gather_planes(u.to(border.dtype))
        answer, reason = self._answer(place, whole)
        reason = slabs.broadcast(reason)
        if reason is not None:
            raise Overruled(reason)
        with border.timers("closure copy"):
            return slabs.scatter_planes(answer).to(border.home, border.home_dtype)

    def _answer(self, place: Place, whole: Tensor | None) -> tuple[Tensor | None, str | None]:
        """On the owner: the change of the whole field, or why there is none."""
        if whole is None or place.predictor is None:
            return None, None
        started = time.perf_counter()
        try:
            u = place.border.inward(whole)
            with place.border.network():
                change = self._evaluated(place.predictor, u)
            self.guard.check_time(started, place.border.device)
            return change, None
        except Overruled as problem:
            return None, str(problem)
        except SolverError:  # a mistake in the case, not an answer
            raise
        except Exception as error:  # a network fails as it likes; the flow goes on
            return None, f"it failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"

    def _evaluated(self, predictor: Predictor, u: Tensor) -> Tensor:
        answer = predictor(u[None], self.domain)[0]
        if answer.shape != u.shape:
            raise Overruled(f"its answer has the wrong shape: {tuple(answer.shape)}, expected {tuple(u.shape)}")
        change = answer - u
        units = predictor.units(u)[2][0]
        volumes = self.domain.like(u).volumes
        size = float((((change / units) ** 2).mean(0) * volumes).sum().sqrt())
        if not size < float("inf"):
            raise Overruled("its answer is not finite")
        if size > self.size:
            raise Overruled(f"its answer is too large: {size:.3g}, at most {self.size:.3g}")
        return change

    def _check_energy(self, operators: Operators, before: Components, after: Components) -> None:
        """Whether the energy of the fluctuations is finite and has not grown by more than the guard allows."""
        energy = torch.stack([fluctuation_energy(operators, u) for u in (before, after)])
        old, new = energy.tolist()
        if not new < float("inf"):
            raise Overruled("its answer is not finite: after the projection")
        limit = self.guard.settings.growth
        if new > limit * old:
            raise Overruled(f"it feeds energy to the flow: {new / max(old, 1e-300):.3g} times, at most {limit:g}")


def fluctuation_energy(operators: Operators, velocity: Components) -> Tensor:
    """Volume mean of half the square of the velocity, without the mean over Fourier directions if there are any."""
    total = operators.tensor(0.0)
    for i, c in enumerate(velocity):
        if operators.grid.fourier_axes:
            c = c.clone()
            operators.mean_mode(c).zero_()
        total = total + 0.5 * operators.inner_product(c, c, i)
    return total


def with_flux_of(operators: Operators, velocity: Components, old: Components, project: Project) -> Components:
    """`velocity` with the bulk velocity of `old` along x, if that is a period, and its mean along other Fourier axes.

    That of a flow which looks the same in a mirror is zero; nothing but friction would bring back what a network adds
    to it, answer by answer. Along cells of x, between which solids may stand, what is added is a multiple of the flow
    that `project` makes of a uniform one: it stays out of the solids.
    """
    result = list(velocity)
    for d, line in enumerate(operators.grid.axes):
        if line.is_fourier:
            kept = operators.mean_mode if d else partial(bulk_velocity, operators)
            change = torch.zeros_like(result[d])
            operators.mean_mode(change).add_(kept(old[d]) - kept(result[d]))
            result[d] = result[d] + change
        elif d == 0 and line.periodic:
            uniform = [torch.zeros_like(f) for f in velocity]
            operators.mean_mode(uniform[0]).add_(1.0)
            flow = project((uniform[0], uniform[1], uniform[2]))
            if passes(operators, flow):
                missing = bulk_velocity(operators, old[0]) - bulk_velocity(operators, result[0])
                share = missing / bulk_velocity(operators, flow[0])
                result = [f + share * g for f, g in zip(result, flow, strict=True)]
    return result[0], result[1], result[2]

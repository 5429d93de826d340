"""The one way in which an operator changes a velocity, ``u <- P(u + change(u))``, in training and in runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid
from closures.coupling.guard import Overruled
from closures.coupling.resample import Resampler
from closures.coupling.sharing import Sharing, shared
from closures.coupling.transfer import DeviceTransfer, Precision, Wanted
from closures.operators.domain import Domain
from closures.operators.energy_fixer import fixed
from closures.operators.predictor import Predictor
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.flow.forcing import bulk_velocity, passes
from solver.grid.grid import Grid

Project = Callable[[Components], Components]  # the solver's own projection


@dataclass(frozen=True)
class _Parts:
    """What acts on one grid: the way to the network's points and device, who asks the network, and it, if this rank."""

    transfer: DeviceTransfer
    resampler: Resampler
    sharing: Sharing
    predictor: Predictor | None


class Update:
    """``u <- P(u + change(u))`` with the solver's projection P; differentiable, the same in training and in runs.

    Hard-encoded: the component through a wall, zero; the others at walls, by the ghosts of the scheme; the divergence,
    by the projection; what `with_flux_of` keeps, whatever drives the flow: momentum is the solver's affair. What lies
    beyond the modes of the network's points stays as it was. Under a guard it is `closures.coupling.guarded_update`.

    A network that says by ``reach`` how many planes it reads is evaluated by every rank on its own planes. Of any other
    rank 0 is the owner, the only one to hold the weights; the others send their planes and receive their part of the
    change. Gradients pass on one rank, and by slabs where ranks record them (`solver.parallel.communicator`).

    Parameters
    ----------
    predictor : the network with its units: of one frame from another, at cell centres.
    grid : the operator's points, `closures.coupling.resample.network_grid`.
    divergence_free : project the result with the solver's own projection.
    mass_flux : keep the bulk velocity along x, and the mean velocity along other Fourier axes.
    device : where the network is evaluated.
    precision : of its weights; None leaves them as they are.
    half_precision : it is evaluated in bfloat16; the velocity never is.
    """

    def __init__(
        self,
        predictor: Predictor,
        grid: Grid,
        *,
        divergence_free: bool = True,
        mass_flux: bool = True,
        device: Wanted = "solver",
        precision: Precision | None = "float32",
        half_precision: bool = False,
    ) -> None:
        self.predictor: Predictor | None = predictor
        self.reach: int | Literal["global"] = getattr(predictor.network, "reach", "global")
        self.grid, self.domain = grid, Domain.of(grid)
        self.divergence_free, self.mass_flux = divergence_free, mass_flux
        self.limits = predictor.scaling.limits
        self.device, self.precision, self.half_precision = device, precision, half_precision
        self._parts = PerGrid(self._prepared)

    def _prepared(self, operators: Operators) -> _Parts:
        transfer, resampler = DeviceTransfer(operators, self.device, self.precision), Resampler(operators, self.grid)
        sharing = shared(resampler.decomposition, self.domain, self.reach)
        if not sharing.acts and self.reach == "global":
            self.predictor = None
        acting = self.predictor if sharing.acts else None
        if acting is not None:
            transfer.settle(acting)
        return _Parts(transfer, resampler, sharing, acting)

    def prepare(self, operators: Operators) -> None:
        """Bring the weights to where they are needed."""
        self._parts(operators)

    def sharing(self, operators: Operators) -> Sharing:
        """Who evaluates it there."""
        return self._parts(operators).sharing

    def __call__(self, velocity: Velocity, project: Project, seeds: Sequence[int] = ()) -> Components:
        """The velocity with the network's change (collective); `seeds`: see `evaluated`."""
        seen = self.seen(velocity)
        change = None if seen is None else self.evaluated(velocity.operators, seen, seeds)
        return self.limited(velocity, seen, self.changed(velocity, change, project), project)

    def seen(self, velocity: Velocity) -> Tensor | None:
        """The velocity at the network's points, (3, nx, ny, nz), where that is evaluated; None elsewhere (collective).

        On the owner all of it, by slabs this rank's planes.
        """
        parts = self._parts(velocity.operators)
        u = parts.resampler.centred(velocity)
        with parts.transfer.timers("closure copy"):
            return parts.sharing.inward(u, parts.transfer.dtype_of(self.predictor))

    def evaluated(self, operators: Operators, seen: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """The change that the network makes to a velocity that is `seen`, where and in what it is evaluated.

        Of a network that draws it is the mean of the answers with these `seeds`; without any nothing is drawn.

        Raises
        ------
        Overruled : the answer has another shape.
        """
        parts = self._parts(operators)
        assert parts.predictor is not None
        sharing, u = parts.sharing, parts.transfer.inward(seen, parts.predictor)
        with parts.transfer.network(), torch.autocast(u.device.type, torch.bfloat16, enabled=self.half_precision):
            around = sharing.surrounded(u)
            answer: Tensor = self._answer(parts.predictor, around, sharing.asked, seeds)
            if answer.shape != around.shape:
                expected = tuple(around.shape)
                raise Overruled(f"its answer has the wrong shape: {tuple(answer.shape)}, expected {expected}")
            return sharing.inner(answer) - u

    @staticmethod
    def _answer(predictor: Predictor, u: Tensor, domain: Domain, seeds: Sequence[int]) -> Tensor:
        if len(seeds) < 2:
            answer: Tensor = predictor(u[None], domain, seeds)[0]
            return answer
        return torch.stack([predictor(u[None], domain, (seed,))[0] for seed in seeds]).mean(0)

    def changed(self, velocity: Velocity, change: Tensor | None, project: Project) -> Components:
        """The velocity with a change that is where the network is evaluated, None elsewhere (collective)."""
        operators = velocity.operators
        parts = self._parts(operators)
        with parts.transfer.timers("closure copy"):
            own = parts.sharing.outward(change).to(operators.device, operators.dtype)
        result = parts.resampler.changed(velocity.coefficients, own)
        if self.divergence_free:
            result = project(result)
        return with_flux_of(operators, result, velocity.coefficients, project) if self.mass_flux else result

    def limited(self, velocity: Velocity, seen: Tensor | None, result: Components, project: Project) -> Components:
        """`result` with the energy of each plane where the card lets it be (collective).

        Planes are rescaled behind the projection, which takes energy out of them, and projected again: that takes
        little where little was to be put right. `seen` is what the network saw of `velocity`.
        """
        if not self.limits:
            return result
        made = Velocity(velocity.strain, result)
        after, change = self.seen(made), None
        if after is not None:
            assert seen is not None
            change = fixed(seen[None], after[None], self.sharing(velocity.operators).own, self.limits)[0] - after
        return self.changed(made, change, project)


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

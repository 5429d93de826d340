"""A stress network as a subgrid model: a stress, or an eddy viscosity, at every stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from closures.algebraic.geometry import PerGrid, axis_widths, extended, filter_width, wall_distance, walls
from closures.coupling.guard import Overruled
from closures.coupling.transfer import DeviceTransfer, Precision, Wanted
from closures.coupling.zero_order_hold import ZeroOrderHold
from closures.operators.stress import Cells, dissipation, symmetric
from solver.discretisation.calculus import Operators
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import y_slowest
from solver.discretisation.velocity import Velocity
from solver.flow.closure import EddyViscosity, State, SubgridStress, SubgridTerm
from solver.grid.grid import Grid


@dataclass(frozen=True)
class SlabGeometry:
    """What a network needs to act on one rank's slab."""

    transfer: DeviceTransfer
    cells: Cells


@dataclass(frozen=True)
class HaloFeatures:
    """What a network reads of one instant: (1, 3, 3, nx, local ny + 2 reach, nz) velocity gradients, 1/time."""

    gradient: Tensor


class SubgridModel:
    """The closure made of a network that maps velocity gradients to stresses (`closures.operators.stress`).

    The slab of a rank is extended by the planes of its neighbours that the network reads; at a wall by copies of the
    nearest. Gradients with respect to weights and velocity pass through.

    Parameters
    ----------
    network : called with gradients and `Cells`, answers (1, 6, nx, local ny, nz).
    form : ``stress``, or ``eddy_viscosity``: ``nu_t = max(-tau_ij s_ij / (2 s_ij s_ij), 0)``, what of the stress
        drains energy along the strain, which can never feed it.
    device, precision : of the network.
    calls : from one evaluation to the next, see `ZeroOrderHold`.
    facts : what the summary of a run says about it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        grid: Grid,
        nu: float,
        name: str = "subgrid_model",
        form: Literal["stress", "eddy_viscosity"] = "stress",
        device: Wanted = "solver",
        precision: Precision = "float32",
        calls: int = 1,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.hold = ZeroOrderHold(calls)
        self.network, self.nu, self.name, self.form = network, nu, name, form
        self.device, self.precision = device, precision
        self.planes = cast(int, network.reach)
        self.reach: int | Literal["global"] = self.planes
        self.symmetries = cast(frozenset[str], network.symmetries)
        x, y, z = (axis.periodic for axis in grid.axes)
        self.periodic = x, y, z
        self.facts = facts or {}
        self.geometry = PerGrid(self._geometry)

    def init(self, operators: Operators) -> State:
        """Nothing is held; the weights move to their device."""
        self.geometry(operators)
        return {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The term at cell centres."""
        return self.hold(state, lambda own: (self.evaluate(self.features(velocity), velocity.operators), own))

    def features(self, velocity: Velocity) -> HaloFeatures:
        """The velocity gradient with the neighbours' planes (collective)."""
        operators = velocity.operators
        transfer = self.geometry(operators).transfer
        with transfer.timers("closure copy"):
            planes = [torch.stack([f.transpose(0, 1) for f in row]) for row in velocity.gradient]  # y slowest
            g = extended(torch.stack(planes).transpose(-3, -2), operators, self.planes)
        return HaloFeatures(transfer.inward(g[None]))

    def evaluate(self, features: Any, operators: Operators) -> SubgridTerm:
        """The network's answer on this rank.

        Raises
        ------
        Overruled : it has another shape than six stresses.
        """
        geometry = self.geometry(operators)
        with geometry.transfer.network():
            tau = self.answer(features, geometry.cells)
            expected = (1, 6, *operators.local_shape)
            if tuple(tau.shape) != expected:
                raise Overruled(f"its answer has the wrong shape: {tuple(tau.shape)}, expected {expected}")
            if self.form == "eddy_viscosity":
                inner = features.gradient.narrow(-2, self.planes, expected[-2])
                strain = 0.5 * symmetric(inner)
                square = 2.0 * (strain * strain).sum(dim=(1, 2))
                tiny = torch.finfo(square.dtype).tiny
                tau = (dissipation(tau, inner) / square.clamp_min(tiny)).clamp(min=0.0)
        fields = y_slowest(geometry.transfer.outward(tau[0]))
        if self.form == "eddy_viscosity":
            return EddyViscosity(fields)
        xx, yy, zz, xy, xz, yz = fields.unbind()
        return SubgridStress((xx, yy, zz, xy, xz, yz))

    def answer(self, features: Any, cells: Cells) -> Tensor:
        """The network's stresses, (1, 6, nx, local ny, nz)."""
        if self.planes:
            tau: Tensor = self.network(features.gradient, cells)
            return tau
        return self._pointwise(self.weights(), features.gradient, cells.delta, cells.wall_distance)

    def weights(self) -> dict[str, Tensor]:
        """All numbers of the network, for a kernel."""
        return dict(self.network.named_parameters()) | dict(self.network.named_buffers())

    @fused
    def _pointwise(
        self, weights: dict[str, Tensor], gradient: Tensor, delta: Tensor, distance: Tensor | None
    ) -> Tensor:
        """A network that reads one point at a time is one kernel in long runs, as algebraic models are.

        Its weights are arguments: a training by ensembles changes them between runs, and a kernel keeps what it reads.
        """
        tau: Tensor = functional_call(self.network, weights, (gradient, Cells(delta, self.nu, distance, self.periodic)))
        return tau

    def _geometry(self, operators: Operators) -> SlabGeometry:
        transfer = DeviceTransfer(operators, self.device, self.precision)
        dx, dy, dz = (transfer.inward(extended(w, operators, self.planes)) for w in axis_widths(operators))
        delta, distance = (extended(f(operators), operators, self.planes) for f in (filter_width, wall_distance))
        cells = Cells(
            transfer.inward(delta),
            self.nu,
            transfer.inward(distance) if walls(operators.grid) else None,
            self.periodic,
            (dx, dy, dz),
            halos=self.planes > 0,
        )
        transfer.settle(self.network)
        return SlabGeometry(transfer, cells)

"""A stress network in two parts as a subgrid model: it is told the mean flow along walls and the fluctuations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from closures.algebraic.geometry import walls
from closures.algebraic.mean_flow import Fluctuations, check_walls, mean_staggered
from closures.algebraic.mixing_length import NearWalls, turbulent_share
from closures.coupling.subgrid_model import HaloFeatures, SubgridModel
from closures.operators.split import MeanFlow
from closures.operators.stress import Cells
from solver.discretisation.fusion import fused
from solver.discretisation.velocity import Velocity
from solver.grid.grid import Grid


@dataclass(frozen=True)
class SplitFeatures(HaloFeatures):
    """What a network in two parts reads of one instant, besides the velocity gradient.

    Parameters
    ----------
    mean : of the mean flow, (1, 3, 3, ...), 1/time; None without walls.
    near : as `NearWalls.measured`, and ``energy`` of the fluctuations, velocity^2; empty without walls.
    """

    mean: Tensor | None
    near: dict[str, Tensor]


class SplitModel(SubgridModel):
    """The closure made of a network in two parts (`closures.operators.split`).

    The mean is that over the Fourier directions: planes of a channel, lines along x of a duct.

    Raises
    ------
    CaseError : walls without such a direction, modelled walls, or no viscosity.
    """

    def __init__(
        self, network: nn.Module, *, grid: Grid, nu: float, name: str = "subgrid_model", **options: Any
    ) -> None:
        super().__init__(network, grid=grid, nu=nu, name=name, **options)
        self.bounded = bool(walls(grid))
        if self.bounded:
            check_walls(name, grid, nu)
            self.symmetries = self.symmetries - {"rotation"}
        self.near_walls = NearWalls(grid, nu)

    def features(self, velocity: Velocity) -> SplitFeatures:
        """Gradients of the velocity and of its mean, and what the walls say (collective)."""
        gradient = super().features(velocity).gradient
        if not self.bounded:
            return SplitFeatures(gradient, None, {})
        inward = self.geometry(velocity.operators).transfer.inward
        energy = Fluctuations(velocity, mean_staggered(velocity)).energy
        near = {name: inward(f) for name, f in self.near_walls.measured(velocity).items()} | {"energy": inward(energy)}
        mean = gradient.mean([d - 3 for d in velocity.grid.fourier_axes], keepdim=True)
        return SplitFeatures(gradient, mean, near)

    def answer(self, features: SplitFeatures, cells: Cells) -> Tensor:
        """See `SubgridModel.answer`."""
        assert cells.widths is not None
        return self._split(self.weights(), features.gradient, features.mean, features.near, cells.delta, cells.widths)

    @fused
    def _split(
        self,
        weights: dict[str, Tensor],
        gradient: Tensor,
        mean: Tensor | None,
        near: dict[str, Tensor],
        delta: Tensor,
        widths: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """Both parts in one kernel, with y slowest as fields have it in memory."""

        def turned(f: Tensor) -> Tensor:
            return f.transpose(-3, -2) if f.ndim > 2 else f

        dx, dy, dz = (turned(w) for w in widths)
        cells = Cells(turned(delta), self.nu, None, self.periodic, (dx, dy, dz))
        if mean is None:
            return turned(functional_call(self.network, weights, (turned(gradient), cells)))
        flow = self.mean_flow(turned(mean), {name: turned(f) for name, f in near.items()})
        return turned(functional_call(self.network, weights, (turned(gradient - mean), cells, flow)))

    def mean_flow(self, mean: Tensor, near: dict[str, Tensor]) -> MeanFlow:
        """What the network is told of the mean flow, from `SplitFeatures`."""
        units = self.near_walls.units(near)
        return MeanFlow(mean, units, turbulent_share(near["energy"], units.squared_u_tau))


def subgrid_model(network: nn.Module, **about: Any) -> SubgridModel:
    """The closure that a stress network makes; `about` as `SubgridModel` has it."""
    kind = SplitModel if getattr(network, "splits", False) else SubgridModel
    return kind(network, **about)

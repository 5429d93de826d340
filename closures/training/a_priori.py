"""A stress model that learns from filtered direct simulations, on several grids at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from closures.coupling.frames import Frames
from closures.coupling.split_model import SplitModel, subgrid_model
from closures.coupling.subgrid_model import SubgridModel
from closures.data.exchange import TWICE
from closures.data.profiles import WALL_STRESS, filtered_channel
from closures.losses.objective import LOSS
from closures.operators.domain import Domain, same
from closures.operators.stress import PAIRS
from solver.analysis.moments import INDEX
from solver.case.case import load_case
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import SubgridStress
from solver.flow.simulation import Simulation
from solver.run import build

LEAST = 0.05  # of the greatest value of a profile: what its planes are measured by at least
Told = tuple[Tensor, dict[str, Tensor]]  # what a network is told of a mean flow, see `SplitModel.mean_flow`
STIRRED = 1e9  # energy of fluctuations of a mean profile from statistics: they are turbulent


@dataclass(frozen=True)
class Weights:
    """Of the three errors: of the stress at each point, of the drain of each component in each plane, and of the mean
    shear stress in each plane.
    """

    stress: float = 0.3
    drain: float = 1.0
    mean: float = 1.0


class OnGrid:
    """One coarse grid: its flow, and the network as a closure of it.

    Parameters
    ----------
    case, overrides : the flow; its numbers of points are replaced by those of `domain`.
    domain, path : of the filtered flow.
    network : a model of the stress.

    Raises
    ------
    CaseError : the case has other lengths, walls or cells than the file.
    """

    def __init__(self, case: str, overrides: Sequence[str], domain: Domain, path: Path, network: nn.Module) -> None:
        points = zip("xyz", domain.shape, strict=True)
        sizes = [f"grid.{name}.n={n}" for name, n in points]
        found, folder = load_case(Path(case), (*overrides, *sizes, "closure={name='none'}", "run.device=cpu"))
        with torch.no_grad():
            self.simulation: Simulation = build.build(build.Source(found, folder, folder.name))
        self.frames = Frames(self.simulation)
        if not same(domain.describe(), self.frames.domain.describe()):
            raise CaseError(f"[a_priori] case = '{case}': {path} has other lengths, walls or cells")
        grid, nu = self.simulation.operators.grid, self.simulation.nu
        self.model: SubgridModel = subgrid_model(network, grid=grid, nu=nu)

    def moments(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Own and true moments of frames, plane by plane, (rows, ny): see `_moments`."""
        rows = [self._of_frame(*frame.split([3, 6])) for frame in sample]
        own, true = (torch.stack(kind).mean(0) for kind in zip(*rows, strict=True))
        return own, true

    def _of_frame(self, u: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            velocity = Velocity(self.simulation.flow.strain, self.frames.start(u))
            g = velocity.gradient
            s = torch.stack([0.5 * (g[i][j] + g[j][i]) for i, j in PAIRS])
            true = torch.stack([self.frames.resampler.from_centres(f) for f in tau.to(s)])
            features = self.model.features(velocity)
        term = self.model.evaluate(features, velocity.operators)
        assert isinstance(term, SubgridStress)
        own = torch.stack(list(term.tau))
        return _moments(own, true, s), _moments(true, true, s)

    def of_profile(self, profile: Tensor) -> Told:
        """What a network is told of a mean profile."""
        assert isinstance(self.model, SplitModel)
        operators = self.simulation.operators
        with torch.no_grad():
            field = profile[None, :, None].expand(*operators.local_shape).contiguous()
            u, still = (operators.to_coefficients(f) for f in (field, torch.zeros_like(field)))
            velocity = Velocity(self.simulation.flow.strain, (u, still, still))
            features = self.model.features(velocity)
        assert features.mean is not None
        return features.mean, features.near | {"energy": torch.full_like(features.near["energy"], STIRRED)}


def _moments(tau: Tensor, true: Tensor, strain: Tensor) -> Tensor:
    """Plane means, (14, ny): the stress; what each component drains from the fluctuations; and the squares of the
    fluctuating deviator's difference from the true one, and of that one.
    """
    mean, rate = tau.mean((1, 3), keepdim=True), strain.mean((1, 3), keepdim=True)
    twice = tau.new_tensor(TWICE)[:, None]
    drain = -twice * ((tau - mean) * (strain - rate)).mean((1, 3))
    fluctuating = [_deviator(f - f.mean((1, 3), keepdim=True)) for f in (tau, true)]
    difference, size = fluctuating[0] - fluctuating[1], fluctuating[1]
    squares = [(twice[:, :, None, None] * f * f).sum(0).mean((0, 2)) for f in (difference, size)]
    return torch.cat([mean[:, 0, :, 0], drain, torch.stack(squares)])


def _deviator(tau: Tensor) -> Tensor:
    third = tau[:3].mean(0)
    return torch.cat([tau[:3] - third, tau[3:]])


class APriori(nn.Module):
    """The error of a stress model on filtered fields, and of its mean part on filtered profiles.

    An objective of `closures.training.fit`; a sample is some frames of one grid, (frames, 9, nx, ny, nz): velocity and
    stress at cell centres. The drain ``-<tau'_c s'_c>`` of each component c in each plane counts relative to the sum of
    the sizes of all six there (dissipation matching: Ling & Lozano-Duran 2026, arXiv 2601.20265); the stress of the
    fluctuations, without its trace, relative to the true one; the mean shear stress relative to its profile.

    Parameters
    ----------
    grids : of different numbers of points.
    network : whose weights are trained.
    weights : of the errors.
    profiles : mean flows of grids, with the mean shear stress that the filter took out; of networks with a mean part.

    Raises
    ------
    CaseError : profiles for a network without a mean part.
    """

    def __init__(
        self,
        grids: Sequence[OnGrid],
        network: nn.Module,
        weights: Weights,
        profiles: Sequence[tuple[OnGrid, Path]] = (),
    ) -> None:
        super().__init__()
        self.grids = {grid.frames.domain.shape: grid for grid in grids}
        self.network, self.weights = network, weights
        if profiles and not getattr(network, "splits", False):
            raise CaseError("[a_priori] profiles: are for networks with a mean part, such as 'split_stress'")
        self.profiles = [(grid, *_profile(grid, path)) for grid, path in profiles]

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss of a batch, a scalar; nothing is drawn at random."""
        return self.measure(batch, seeds)[LOSS].mean()

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The loss and its parts for each sample, (batch,)."""
        rows = [self._errors(*self.grids[tuple(sample.shape[2:])].moments(sample)) for sample in batch]
        stress, drain, mean = (torch.stack(part) for part in zip(*rows, strict=True))
        profile = self.profile_error().expand_as(mean)
        w = self.weights
        loss = w.stress * stress + w.drain * drain + w.mean * (mean + profile)
        return {LOSS: loss, "stress": stress, "drain": drain, "mean": mean, "profile": profile}

    def conclude(self, means: dict[str, Tensor]) -> dict[str, float]:
        """See `closures.losses.objective.Objective`: the parts as relative errors."""
        parts = {name: float(mean) ** 0.5 for name, mean in means.items() if name != LOSS}
        return {LOSS: float(means[LOSS])} | parts

    def _errors(self, own: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squares of relative errors of stress, drain and mean shear stress."""
        whole = true[6:12].abs().sum(0)
        scale = whole + LEAST * whole.max()
        drain = ((own[6:12] - true[6:12]) / scale).square().sum(0).mean()
        stress = (own[12] / (true[13] + LEAST * true[13].max())).mean()
        return stress, drain, _relative(own[3], true[3])

    def profile_error(self) -> Tensor:
        """Mean square of the relative error of the mean shear stress on all profiles; 0 without any."""
        errors = []
        for grid, (mean, near), target in self.profiles:
            assert isinstance(grid.model, SplitModel)
            tau = self.network.of_mean(grid.model.mean_flow(mean, near))  # type: ignore[operator]  # torch's
            errors.append(_relative(tau[0, 3].mean((0, 2)), target.to(tau.dtype)))
        return torch.stack(errors).mean() if errors else torch.zeros(())


def _relative(own: Tensor, true: Tensor) -> Tensor:
    return (own - true).square().sum() / true.square().sum()


def _profile(grid: OnGrid, path: Path) -> tuple[Told, Tensor]:
    """The mean flow of a file of statistics, as a network is told it, and its mean subgrid shear stress, (ny,)."""
    _, means = filtered_channel(path)
    mean = means[..., :WALL_STRESS, :, 0].mean((0, 1))
    u, tau = (grid.simulation.operators.tensor(mean[INDEX[name]]) for name in ("u", "tau_xy"))
    return grid.of_profile(u), tau

"""The filtered channel as a reference: what a large-eddy simulation on the coarse grid is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from closures.data.exchange import EXCHANGE, split_work
from closures.data.layout import MOMENTS
from closures.data.opened import opened
from closures.data.rows import FLOWS, STATISTICS
from solver.analysis.channel import ChannelProfiles
from solver.analysis.moments import INDEX, NAMES
from solver.errors import CaseError
from solver.grid.axis import Array, FiniteVolumeAxis, NoSlip

WALL_STRESS = len(NAMES)  # the row of the means of a filtered channel that a run's do not have
STATIONARY = 0.01  # of the wall stress: what the means of a developed channel may miss of the balance of momentum


@dataclass(frozen=True)
class FilteredChannel(ChannelProfiles):
    """Profiles in units of the wall stress of the fine flow: the slope between coarse cells is less than that.

    The means have one row more than others, `WALL_STRESS`: that of the direct simulation, kinematic, velocity^2. So
    the sampling error of the wall stress is part of that of everything in wall units.
    """

    def seen(self, means: Array) -> dict[str, Array]:
        """Moments as the walls see them, and the wall stress."""
        return super().seen(means) | {"wall_stress": means[WALL_STRESS, :, 0]}

    def fold(self, means: Array) -> dict[str, Array]:
        """Moments up to h, and the wall stress."""
        return super().fold(means) | {"wall_stress": means[WALL_STRESS, :, 0]}

    def friction_velocity(self, m: dict[str, Array]) -> float:
        """``sqrt(wall_stress)``."""
        return float(np.sqrt(abs(m["wall_stress"].mean())))

    def subgrid_work(self, m: dict[str, Array]) -> tuple[Array, Array]:
        """From the stresses at centres; that on the fluctuations is NaN in files that do not know it."""
        mean = -m["tau_xy"] * self.shear(m)
        return mean, m["eps_sgs"] - mean if m["eps_sgs"].any() else np.full_like(mean, np.nan)


def filtered_channel(path: Path, batches: int = 1) -> tuple[FilteredChannel, Array]:
    """The evaluator of a data set's means, and the means: (n_traj, batches, len(NAMES) + 1, ny, 1).

    Each trajectory is cut into `batches` of equal length; snapshots left over at its end are left out. The shear stress
    that the filter took out is in ``tau_xy``, the wall stress in the row `WALL_STRESS`; what a filtered field cannot
    tell is zero.

    Raises
    ------
    CaseError : not a channel, or fewer snapshots than batches.
    RunFolderError : missing, not trajectories, or of another version.
    """
    with opened(path, (FLOWS, STATISTICS)) as file:
        if "statistics/wall_stress" not in file:
            raise CaseError(f"{path}: only a channel has profiles in wall units")
        y = FiniteVolumeAxis(file["dimensions/y_faces"][()], NoSlip(), NoSlip())
        nu = float(file.attrs["nu"])
        n_traj, n_steps = file["statistics/moments"].shape[:2]
        length = n_steps // batches
        if length < 1:
            raise CaseError(f"{path}: {n_steps} snapshots cannot be cut into {batches} batches: ask for fewer")
        moments, stress = (file[f"statistics/{name}"][:, : batches * length] for name in ("moments", "wall_stress"))
        means = moments.reshape(n_traj, batches, length, *moments.shape[2:]).mean(axis=2)
        found = np.zeros((n_traj, batches, len(NAMES) + 1, y.n, 1))
        found[:, :, WALL_STRESS] = stress.reshape(n_traj, batches, -1).mean(axis=2)[..., None, None]
        for i, name in enumerate(MOMENTS):
            if name in INDEX:
                found[:, :, INDEX[name], :, 0] = means[:, :, i]
        if "statistics/exchange" in file:
            rows = file["statistics/exchange"][:, : batches * length]
            rows = np.moveaxis(rows.reshape(n_traj, batches, length, *rows.shape[2:]).mean(axis=2), 2, 0)
            named = dict(zip(EXCHANGE, rows, strict=True)) | dict(zip(MOMENTS, np.moveaxis(means, 2, 0), strict=True))
            found[:, :, INDEX["eps_sgs"], :, 0] = np.sum(split_work(named), axis=0)
    return FilteredChannel(y, nu), found


def channel_facts(path: Path) -> dict[str, float]:
    """``re_tau`` and ``imbalance`` of a channel's data, to see whether it was stationary; else nothing."""
    with opened(path, (FLOWS, STATISTICS)) as file:
        if "statistics/wall_stress" not in file:
            return {}
    channel, means = filtered_channel(path)
    mean = means.mean(axis=(0, 1))
    re_tau = channel.friction_velocity(channel.fold(mean)) * channel.half_height / channel.nu
    return {"re_tau": re_tau, "imbalance": channel.imbalance(mean)}

"""Energy spectra: one-dimensional ones of every plane of a channel, shell spectra of a periodic box."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from solver.analysis.batch_means import Array, BatchMeans
from solver.analysis.channel import ChannelProfiles
from solver.discretisation.calculus import Operators
from solver.discretisation.shells import shell_energies, shell_width
from solver.flow.simulation import Simulation
from solver.observers.schedule import TimeSchedule
from solver.observers.time_average import TimeAverage


def plane_spectra(operators: Operators, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One-dimensional cospectra of two coefficient fields in every plane, (kx, planes) and (kz, planes).

    Discrete and one-sided: the sum over the wavenumbers is the mean of ``a' b'`` over the plane, fluctuations about
    the means over the plane.
    """
    weight = torch.where(operators.wavenumber[2] > 0, 2.0, 1.0)
    density = (a * b).sum(0) * weight  # (kx, planes, kz)
    density[0, :, 0] = 0.0  # the mean is no fluctuation
    along_x = density.sum(-1)
    half = operators.grid.fourier_axes[0].highest_mode + 1
    one_sided = along_x[:half].clone()
    one_sided[1:] += along_x[half:].flip(0)
    return one_sided, density.sum(0).T


class PlaneSpectra(TimeAverage):
    """Time means of ``E_uu, E_vv, E_ww`` over kx and kz in every plane of cell centres.

    Discrete and one-sided: the sum over the wavenumbers is the variance about the mean over the plane. v is the mean of
    its two faces, as in all moments, so the sum of ``E_vv`` is ``vv`` at the same y.
    """

    name = "plane_spectra"

    def sample(self, simulation: Simulation) -> Tensor:
        """Spectra of the present velocity, (3, wavenumbers in x then z, planes, 1)."""
        velocity = simulation.velocity
        centred = [velocity.strain.to_centre(c, i) for i, c in enumerate(velocity.padded_coefficients)]
        return torch.stack([torch.cat(plane_spectra(self.operators, c, c))[..., None] for c in centred])

    def table(self, whole: BatchMeans, channel: ChannelProfiles, heights: tuple[float, ...]) -> dict[str, list[object]]:
        """Long table of what `gathered` gave at the planes nearest to the wall distances `heights`.

        Walls that see the same flow are averaged, each at the same distance.
        """
        grid = self.operators.grid
        mean = channel.planes(whole.mean[..., 0])
        wavenumbers = {name: grid.fourier_axes[d].wavenumbers(half=True) for name, d in (("x", 0), ("z", 2))}
        rows = []
        distance = channel.heights
        for plane in dict.fromkeys(int(np.abs(distance - height).argmin()) for height in heights):
            start = 0
            for direction, k in wavenumbers.items():
                block = mean[:, start : start + len(k), plane]
                rows += [
                    (direction, float(distance[plane]), float(k[i]), *map(float, block[:, i])) for i in range(len(k))
                ]
                start += len(k)
        names = ("direction", "y", "k", "E_uu", "E_vv", "E_ww")
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}


class ShellSpectra:
    """Three-dimensional energy spectrum at multiples of `interval`: ``sum E(k) dk`` is the kinetic energy."""

    name = "shell_spectra"

    def __init__(self, operators: Operators, interval: float) -> None:
        self.operators, self.schedule = operators, TimeSchedule(interval)
        self.base = shell_width(operators.grid)
        self.times: list[float] = []
        self.spectra: list[Array] = []

    def __call__(self, simulation: Simulation) -> None:
        """Sample, if it is time."""
        if not self.schedule.due(simulation):
            return
        self.times.append(simulation.t)
        self.spectra.append(shell_energies(self.operators, simulation.velocity.coefficients) / self.base)

    def state(self) -> dict[str, Array]:
        """Samples so far."""
        return {"times": np.array(self.times), "spectra": np.array(self.spectra)}

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from `state`."""
        self.times, self.spectra = list(state["times"]), list(state["spectra"])

    def table(self) -> dict[str, list[object]]:
        """Long table time, k, E."""
        rows = [
            (t, float(i * self.base), float(e))
            for t, s in zip(self.times, self.spectra, strict=True)
            for i, e in enumerate(s)
        ]
        return {name: [row[i] for row in rows] for i, name in enumerate(("time", "k", "E"))}

"""Spectra of a channel on one plane, against those of a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from closures.compare.references import Target
from solver.analysis.batch_means import Array
from solver.analysis.channel import ChannelProfiles
from solver.analysis.reference import ChannelReference
from solver.grid.grid import Grid

COMPONENTS = ("E_uu", "E_vv", "E_ww")
SAME_PLANE = 0.3  # |ln| of the ratio of wall distances up to which two planes are called one


@dataclass(frozen=True)
class Plane:
    """A plane on which spectra are compared; `reference` has (k, E/dk over the squared bulk velocity) by direction."""

    y_plus: float
    index: int
    wavenumbers: dict[str, Array]
    reference: dict[str, tuple[Array, Array]]

    @classmethod
    def near(
        cls, y_plus: float, grid: Grid, channel: ChannelProfiles, table: ChannelReference, target: Target
    ) -> Plane | None:
        """The plane of the runs nearest to one of the reference near `y_plus`, None where there is none.

        Parameters
        ----------
        y_plus : the height that is wanted.
        grid, channel : of the runs.
        table, target : profiles and spectra of the reference.
        """
        spectra = {d: found for d in "xz" if (found := target.spectra(d)) is not None}
        if not spectra:
            return None
        heights = np.unique(next(iter(spectra.values()))["y_over_h"])
        height = heights[np.abs(np.log(heights * table.re_tau / y_plus)).argmin()]
        index = int(np.abs(channel.distance / channel.half_height - height).argmin())
        far = abs(np.log(channel.distance[index] / channel.half_height / height))
        if far > SAME_PLANE or abs(np.log(height * table.re_tau / y_plus)) > SAME_PLANE:
            return None
        reference = {}
        for direction, columns in spectra.items():
            here = columns["y_over_h"] == height
            energy = np.stack([columns[name][here] for name in COMPONENTS]) / table.bulk**2
            reference[direction] = columns["k"][here], energy
        k = {d: grid.fourier_axes[i].wavenumbers(half=True) for d, i in (("x", 0), ("z", 2))}
        return cls(y_plus, index, k, reference)

    def density(self, spectra: Array, direction: str) -> Array:
        """Energy per unit wavenumber ``(3, k)`` on this plane, both halves averaged."""
        first, k = len(self.wavenumbers["x"]), self.wavenumbers[direction]
        block = spectra[:, :first] if direction == "x" else spectra[:, first:]
        mean = 0.5 * (block[:, :, self.index, 0] + block[:, :, -1 - self.index, 0])
        spectrum: Array = mean / (k[1] - k[0])
        return spectrum

    def expected(self, direction: str) -> tuple[NDArray[np.intp], Array]:
        """Indices of the wavenumbers that the reference covers, and its density there (log-log interpolation)."""
        k, (k_ref, energy) = self.wavenumbers[direction], self.reference[direction]
        covered = np.flatnonzero((k > 0) & (k >= k_ref[k_ref > 0].min() * 0.999) & (k <= k_ref.max()))
        x, xp = np.log(k[covered]), np.log(k_ref[k_ref > 0])
        rows = [np.exp(np.interp(x, xp, np.log(np.maximum(row[k_ref > 0], 1e-300)))) for row in energy]
        return covered, np.stack(rows)

    def distance(self, spectra: Array) -> float:
        """Root mean square of the logarithm (base 10) of the ratio to the reference."""
        logs = []
        for direction in self.reference:
            covered, truth = self.expected(direction)
            density = np.maximum(self.density(spectra, direction)[:, covered], 1e-300)
            logs.append(np.log10(density / truth).ravel())
        return float(np.sqrt((np.concatenate(logs) ** 2).mean()))

"""What channel runs are judged by: errors of profiles and friction in bulk units, and of spectra on two planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

import numpy as np

from closures.compare.filtered import parts
from closures.compare.metrics import added, measured
from closures.compare.plane import Plane
from closures.compare.references import Target, channel_of, second_opinions
from closures.compare.runs import Member, Run
from closures.compare.uncertainty import Estimate, Sample, estimate
from solver.analysis.batch_means import Array
from solver.analysis.channel import ERRORS, PROFILE, ChannelProfiles, departure, errors
from solver.analysis.metrics import PROFILES, WALL_FLOW, Metric
from solver.analysis.reference import ChannelReference
from solver.analysis.wall_flow import OUTER_LAYER

ROWS = tuple(metric.name for metric in PROFILES)
SUBGRID_ROWS = [PROFILE.index(name) for name in ("sgs_share", "sgs_work_mean", "sgs_work_fluctuation")]
PLANES = (15.0, 100.0)  # y+
METRICS = (
    Metric("profiles", "all profiles", "root mean square of the five errors that follow", lambda f: f.of_profiles),
    *WALL_FLOW,
    Metric(
        "total_stress",
        "-uv - tau",
        "total shear stress, resolved and subgrid; where both balance the forcing",
        lambda f: f.total_stress,
        of_mean_flow=True,
    ),
)
DEPARTURE = Metric(
    "u_plus",
    "max |dU+|",
    "largest departure of U from the reference",
    lambda f: float(departure(f.channel, f.reference, f.means)[0]),
    symbol=r"$\max|\Delta U^+|$",
    scale=1.0,
    unit="u_tau",
    of_mean_flow=True,
)
BALANCED = 0.1  # of the wall stress: a flow whose stresses miss more of its balance has others that are not recorded


@dataclass(frozen=True)
class ChannelMeans:
    """What a metric of a channel sees: the means of a run, the evaluator of its grid, and the reference.

    Parameters
    ----------
    channel : makes profiles and friction of the means.
    means : over x, z and time, as ``solver.observers.statistics`` has them, (len(NAMES), ny, 1).
    reference : profiles in wall units over the half channel.
    """

    channel: ChannelProfiles
    means: Array
    reference: ChannelReference

    @cached_property
    def errors(self) -> dict[str, float]:
        """Relative L2 errors of profiles, and of C_f, in bulk units."""
        return dict(zip(ERRORS, errors(self.channel, self.reference, self.means, units="bulk"), strict=True))

    @property
    def of_profiles(self) -> float:
        """The root mean square of the five errors of profiles."""
        return _rms([self.errors[name] for name in ROWS])

    @property
    def total_stress(self) -> float:
        """The relative error of the total shear stress in bulk units."""
        m = self.channel.fold(self.means)
        stress = (m["uv"] - m["u"] * m["v"] + m["tau_xy"]) / self.channel.bulk(m) ** 2
        return total_stress_error(self.channel, stress, self.reference)


def _rms(found: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(found))))


def total_stress_error(channel: ChannelProfiles, value: Array, reference: ChannelReference) -> float:
    """Relative error of the total shear stress `value` on the cells of `channel`, both in bulk units."""
    truth = total_stress(reference, channel.distance / channel.half_height) / reference.bulk**2
    wrong = (channel.judged * (value - truth) ** 2).sum()
    return float(np.sqrt(wrong / (channel.judged * truth**2).sum()))


def total_stress(table: ChannelReference, y_over_h: Array) -> Array:
    """Resolved and subgrid shear stress of a table in plus units; a table without the latter has resolved all."""
    resolved, nodes = table.profile("uv", y_over_h), table.table["y_over_h"]
    subgrid = table.table.get("tau_xy_plus")
    return resolved if subgrid is None else resolved + np.interp(y_over_h, nodes, subgrid)


def table_errors(channel: ChannelProfiles, one: ChannelReference, reference: ChannelReference) -> Array:
    """Errors of one table against another on the cells of `channel`, bulk units, as for a run."""
    y = channel.distance / channel.half_height
    found = []
    for name in ROWS:
        power = 2 if name == "uv" else 1
        value, truth = (t.profile(name, y) / t.bulk**power for t in (one, reference))
        found.append(np.sqrt((channel.judged * (value - truth) ** 2).sum() / (channel.judged * truth**2).sum()))
    found.append(abs(one.c_f / reference.c_f - 1))
    total = total_stress_error(channel, total_stress(one, y) / one.bulk**2, reference)
    return np.array([_rms(found[: len(ROWS)]), *found, total])


@dataclass(frozen=True)
class ChannelJudge:
    """Judges the members of a channel comparison against `target`."""

    first: Run
    target: Target

    @cached_property
    def channel(self) -> ChannelProfiles:
        """Evaluator of the runs' own grid."""
        return channel_of(self.first.case)

    @cached_property
    def table(self) -> ChannelReference:
        """The reference at its best."""
        return self.target.at()

    @cached_property
    def planes(self) -> list[Plane]:
        """Planes near `PLANES` that both runs and reference have; none where the first run kept no spectra."""
        if self.first.plane_spectra is None or self.target.mean_flow_only:
            return []
        about = self.first.case.build_grid(), self.channel, self.table, self.target
        return [p for height in PLANES if (p := Plane.near(height, *about)) is not None]

    @cached_property
    def metrics(self) -> list[Metric]:
        """What the columns of `errors` are, with the floors."""
        spectra = [
            Metric(
                f"spectra_{plane.y_plus:.0f}",
                f"E(k), y+ {plane.y_plus:.0f}",
                "one-dimensional spectra: rms of log10 of the ratio to the reference over components, "
                "directions and resolved wavenumbers",
                plane.distance,
                symbol=f"$E(k)$, $y^+={plane.y_plus:.0f}$",
                scale=1.0,
                unit="decades",
            )
            for plane in self.planes
        ]
        return [*self.of_means, *spectra]

    @cached_property
    def of_means(self) -> list[Metric]:
        """Those that the means decide, as far as the reference can judge them."""
        found = [metric.with_floor(floor) for metric, floor in zip(METRICS, self._floors(), strict=True)]
        if self.channel.is_modelled:
            found = [replace(m, meaning=f"{m.meaning}; y >= {OUTER_LAYER:g} h") for m in (*found, DEPARTURE)]
        return [m for m in (*found, *added("channel")) if m.of_mean_flow or not self.target.mean_flow_only]

    def _floors(self) -> Array:
        """How far references disagree: published databases at most, trajectories of a filtered one in the mean."""
        if self.target.sample is None:
            found = [table_errors(self.channel, other, self.table) for other in second_opinions(self.table)]
            return np.max(found, axis=0) if found else np.zeros(len(METRICS))
        tables = [self.target.at(means) for means in parts(self.target.sample)] if self.target.is_filtered else []
        found = [table_errors(self.channel, a, b) for a, b in permutations(tables, 2)]
        return np.sqrt(np.mean(np.square(found), axis=0)) if found else np.zeros(len(METRICS))

    def _function(self, means: Array, reference: Array | None = None) -> Array:
        table = self.table if reference is None else self.target.at(reference)
        return measured(self.of_means, ChannelMeans(self.channel, means, table))

    def _masked(self, found: Estimate, *members: Member) -> Estimate:
        """Without the total stress of members that move momentum by more than recorded stresses, as correctors do."""
        if all(self.channel.imbalance(member.moments.mean) < BALANCED for member in members):
            return found
        known = np.array([metric.name != "total_stress" for metric in self.of_means])
        return Estimate(*(np.where(known, f, np.nan) for f in (found.value, found.variance, found.freedom)))

    def errors(self, member: Member, duration: float | None = None) -> Estimate:
        """Errors of one member, in the order of `metrics`; of the first `duration` of its averages if given."""
        samples = [_shortened(member.moments, duration), *self._reference_sample()]
        found = self._masked(estimate(self._function, *samples), member)
        if not self.planes:
            return found
        spectra = member.plane_spectra
        if spectra is None:
            unknown = np.full(len(self.planes), np.nan)
            return _joined(found, Estimate(unknown, unknown, unknown))
        return _joined(found, estimate(self._spectral(member), _shortened(spectra, duration)))

    def difference(self, member: Member, baseline: Member) -> Estimate:
        """Errors of `member` minus those of `baseline`."""

        def minus(a: Array, b: Array, *reference: Array) -> Array:
            return self._function(a, *reference) - self._function(b, *reference)

        found = estimate(minus, member.moments, baseline.moments, *self._reference_sample())
        found = self._masked(found, member, baseline)
        if not self.planes:
            return found
        ours, theirs = member.plane_spectra, baseline.plane_spectra
        if ours is None or theirs is None:
            unknown = np.full(len(self.planes), np.nan)
            return _joined(found, Estimate(unknown, unknown, unknown))
        one, other = self._spectral(member), self._spectral(baseline)
        return _joined(found, estimate(lambda a, b: one(a) - other(b), ours, theirs))

    def profiles(self, member: Member) -> Estimate:
        """Rows `ROWS` over the half channel in units of the bulk velocity."""

        def scaled(means: Array) -> Array:
            m = self.channel.fold(means)
            ratio = self.channel.friction_velocity(m) / self.channel.bulk(m)
            return self.channel.profiles(means)[:5] * ratio ** np.array([1, 1, 1, 1, 2])[:, None]

        return estimate(scaled, member.moments)

    def subgrid_profiles(self, member: Member) -> Estimate:
        """Share of the subgrid stress and its work on the mean flow and on fluctuations, ``(3, planes)``, wall units.

        The rows `SUBGRID_ROWS`, NaN where a share means nothing: by 0.1 h from the centre all shear stress is noise.
        """
        found = estimate(lambda means: self.channel.profiles(means)[SUBGRID_ROWS], member.moments)
        value = found.value.copy()
        value[0, self.channel.distance > 0.9 * self.channel.half_height] = np.nan
        return Estimate(value, found.variance, found.freedom)

    def subgrid_of_reference(self) -> Array | None:
        """The same rows of a filtered reference, as far as it knows them; None where nothing was filtered out."""
        sample, channel = self.target.sample, self.target.channel
        if sample is None or channel is None:
            return None
        rows = channel.profiles(sample.mean)[SUBGRID_ROWS]
        return rows if np.nan_to_num(rows).any() else None

    def subgrid(self, member: Member) -> Estimate:
        """`solver.analysis.channel.SUBGRID`: a share, and works as parts of what the resolved flow loses."""
        return estimate(self.channel.subgrid, member.moments)

    def spectra(self, member: Member, plane: Plane, direction: str) -> Estimate | None:
        """Energy per unit wavenumber over the squared bulk velocity, ``(3, wavenumbers)``."""
        if member.plane_spectra is None:
            return None
        bulk = float(member.sound[0].summary["bulk_velocity"])
        return estimate(lambda s: plane.density(s, direction) / bulk**2, member.plane_spectra)

    def _reference_sample(self) -> list[Sample]:
        return [] if self.target.sample is None else [self.target.sample]

    def _spectral(self, member: Member) -> Callable[[Array], Array]:
        """Distances of spectra on the planes; the bulk velocity is prescribed, or known far better than they are."""
        bulk = float(member.sound[0].summary["bulk_velocity"])
        return lambda spectra: np.array([plane.distance(spectra / bulk**2) for plane in self.planes])


def _shortened(sample: Sample, duration: float | None) -> Sample:
    return sample if duration is None else sample.first(duration)


def _joined(one: Estimate, other: Estimate) -> Estimate:
    return Estimate(
        np.concatenate([one.value, other.value]),
        np.concatenate([one.variance, other.variance]),
        np.concatenate([one.freedom, other.freedom]),
    )

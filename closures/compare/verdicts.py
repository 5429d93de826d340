"""The comparison itself: every member's errors, their differences from the baseline, a word for each, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from closures.compare.boxes import BoxJudge
from closures.compare.channels import ChannelJudge
from closures.compare.cost import Cost, affordable, cost_of
from closures.compare.layers import LayerJudge
from closures.compare.references import Target
from closures.compare.runs import Member, Run
from closures.compare.uncertainty import Estimate, Word, judge, survivors
from solver.analysis.batch_means import Array
from solver.analysis.metrics import Metric
from solver.analysis.reference import comparable
from solver.errors import CaseError


@dataclass(frozen=True)
class Judged:
    """One member with what was found; `errors` is None for a member whose every run broke, or without reference."""

    member: Member
    cost: Cost
    errors: Estimate | None = None
    difference: Estimate | None = None
    words: tuple[Word, ...] = ()
    equal_wall: Estimate | None = None


@dataclass(frozen=True)
class Pair:
    """Two members by the leading quantity: `one` is better or worse than `other`, or neither."""

    one: str
    other: str
    difference: Estimate
    word: Word


@dataclass(frozen=True)
class Comparison:
    """Everything that the report shows."""

    members: tuple[Judged, ...]
    baseline: str
    target: Target | None
    judge: ChannelJudge | BoxJudge | None
    metrics: tuple[Metric, ...]
    pairs: tuple[Pair, ...]
    unit: str  # of time, in words


def compare_members(members: Sequence[Member], target: Target | None) -> Comparison:
    """Judge members against a reference; the baseline is the first one that is sound.

    Raises
    ------
    CaseError, RunFolderError : a flow that cannot be compared, missing statistics, no overlap with the reference.
    """
    sound = [run for member in members for run in member.sound]
    modelled = [run for run in sound if run.case.wall_model.acts]  # where some walls are, all are judged above them
    first = next(iter([*modelled, *sound]), members[0].runs[0])
    kind = _kind(first, target)
    judged_by = kind(first, target) if target is not None and any(m.sound for m in members) else None
    metrics = judged_by.metrics if judged_by else []
    baseline = next((m for m in members if m.sound and not m.broken), members[0])
    unit, name = _unit(judged_by)
    durations = affordable(list(members))
    judged = _with_words(
        [
            _judged(member, baseline, judged_by, len(metrics), cost_of(member, unit), duration)
            for member, duration in zip(members, durations, strict=True)
        ],
        np.array([q.floor for q in metrics]),
    )
    pairs = _pairs([m for m in members if not m.broken], judged_by, metrics)
    return Comparison(tuple(judged), baseline.label, target, judged_by, tuple(metrics), tuple(pairs), name)


def _kind(first: Run, target: Target | None) -> type[ChannelJudge] | type[BoxJudge]:
    """The judge of a flow: layers are measured where the reference is a run, whose snapshots can be filtered."""
    grid = first.case.build_grid()
    if not (grid.is_channel or grid.is_box):
        raise CaseError(f"{first.folder}: neither a channel nor a periodic box: only these can be compared")
    if grid.is_channel and not comparable(grid):
        raise CaseError(f"{first.folder}: the cells of the two halves are no mirror image: make [grid.y] symmetric")
    if grid.is_channel:
        return ChannelJudge
    has_layers = first.case.initial.kind == "shear_layers"
    return LayerJudge if has_layers and target is not None and target.run is not None else BoxJudge


def _unit(judged_by: ChannelJudge | BoxJudge | None) -> tuple[float, str]:
    """The unit of time that costs are given for, in time units of the case, and its name."""
    if not isinstance(judged_by, ChannelJudge):
        return 1.0, "time unit"
    half, nu = judged_by.channel.half_height, judged_by.channel.nu
    return half**2 / (nu * judged_by.table.re_tau), "h/u_tau"


def _judged(
    member: Member,
    baseline: Member,
    judged_by: ChannelJudge | BoxJudge | None,
    metrics: int,
    cost: Cost,
    duration: float,
) -> Judged:
    """What is found about one member; a broken run among several makes the whole member broken."""
    if judged_by is None or not member.sound:
        return Judged(member, cost, words=_broken(member, metrics))
    errors = judged_by.errors(member)
    equal_wall = None
    if isinstance(judged_by, ChannelJudge) and duration > 0:
        equal_wall = judged_by.errors(member, duration)
    difference = None if member is baseline else judged_by.difference(member, baseline)
    return Judged(member, cost, errors, difference, _broken(member, metrics), equal_wall)


def _with_words(judged: Sequence[Judged], floors: Array) -> list[Judged]:
    """The same with the words of everyone who has a difference and is not broken, all looked at together."""
    waiting = {i: j.difference for i, j in enumerate(judged) if j.difference is not None and not j.member.broken}
    words = dict(zip(waiting, judge(list(waiting.values()), floors), strict=True)) if waiting else {}
    return [replace(j, words=words[i]) if i in words else j for i, j in enumerate(judged)]


def _broken(member: Member, count: int) -> tuple[Word, ...]:
    """The status as the word of every quantity, nothing for a sound member."""
    words: dict[str, Word] = {"diverged": "diverged", "laminar": "laminar"}
    return (words[member.broken],) * count if member.broken else ()


def _pairs(
    members: Sequence[Member], judged_by: ChannelJudge | BoxJudge | None, metrics: Sequence[Metric]
) -> list[Pair]:
    """Every two sound members by the first quantity, all pairs looked at together."""
    if judged_by is None:
        return []
    twos = [(a, b) for i, a in enumerate(members) for b in members[i + 1 :]]
    found = [judged_by.difference(a, b).item(0) for a, b in twos]
    holds = survivors(np.array([float(d.p_value) for d in found]))
    pairs = []
    for (a, b), difference, held in zip(twos, found, holds, strict=True):
        word: Word = "not distinguishable"
        if not np.isfinite(difference.p_value):
            word = "not judged"
        elif held and abs(difference.value) > metrics[0].floor:
            word = "better" if difference.value < 0 else "worse"
        pairs.append(Pair(a.label, b.label, difference, word))
    return pairs

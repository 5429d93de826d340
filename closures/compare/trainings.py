"""Networks that were trained several times: what the next training may be expected to give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from closures.compare.runs import Member
from closures.compare.uncertainty import Estimate, over_repeats
from closures.compare.verdicts import Judged
from closures.registry.registry import ARTEFACT


@dataclass(frozen=True)
class Trainings:
    """One closure by several weights.

    Parameters
    ----------
    label : its name.
    members : labels of its trainings that can be judged.
    errors : mean over these, with the interval of their scatter (Student's); the sampling error of their runs is in it.
    """

    label: str
    members: tuple[str, ...]
    errors: Estimate


def over_trainings(judged: Sequence[Judged]) -> list[Trainings]:
    """The members that differ in nothing but their weights, two or more of them with errors."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        if one.errors is not None and one.member.runs[0].weights:
            found.setdefault(_but_for_weights(one.member), []).append(one)
    return [
        Trainings(
            group[0].member.runs[0].case.closure.name,
            tuple(one.member.label for one in group),
            over_repeats(np.stack([one.errors.value for one in group if one.errors is not None])),
        )
        for group in found.values()
        if len({one.member.runs[0].weights for one in group}) > 1
    ]


def _but_for_weights(member: Member) -> str:
    """Closure and wall model, without the folder of the network."""
    case = member.runs[0].case
    options = {key: value for key, value in case.closure.options.items() if key != ARTEFACT}
    return f"{case.closure.name} {sorted(options.items())} {case.wall_model.model_dump_json()}"

"""Frames drawn from runs of the solver, in place of a file."""

from __future__ import annotations

from pydantic import Field

from solver.case.table import Table


class FieldsTable(Table):
    """``[equations.fields]``: first frames without labels, from our own LES of the case with seeds of its own.

    Each trajectory starts in the initial field of the case, drawn anew.

    Parameters
    ----------
    trajectories : how many flows.
    frames : kept of each.
    spin_up : time before the first of them.
    """

    trajectories: int = Field(ge=2)
    frames: int = Field(ge=2)
    spin_up: float = Field(default=0.0, ge=0)


class LabelsTable(FieldsTable):
    """``[correct.fields]``: frames and labels from runs of the case with `overrides`, say with a good corrector.

    They can be as long as one likes, and begin in flows for which no direct simulation has labels.

    Parameters
    ----------
    overrides : of the keys of the case: the closure whose runs these are, say.
    interval : time between frames.
    steps : of the solver in between.
    """

    overrides: tuple[str, ...] = Field(strict=False)
    interval: float = Field(gt=0)
    steps: int = Field(default=1, ge=1, le=1000)

"""``[online]``: samples from running flows, in place of a data set."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from closures.training.online.buffer import Kind
from solver.case.table import Table, refuse_idle

Range = Annotated[tuple[float, float], Field(strict=False)]


class BufferTable(Table):
    """``[online.buffer]``: where samples wait, see `closures.training.online.buffer`.

    Parameters
    ----------
    kind : ``fifo``, ``firo`` or ``reservoir``.
    capacity : samples that it holds; a checkpoint holds them too.
    watermark : nothing is drawn before it holds more than so many.
    """

    kind: Kind = "reservoir"
    capacity: int = Field(default=48, ge=1)
    watermark: int = Field(default=16, ge=0)

    @model_validator(mode="after")
    def _can_be_drawn_from(self) -> BufferTable:
        if self.watermark >= self.capacity:
            raise ValueError(f"watermark = {self.watermark}: should be less than capacity = {self.capacity}")
        if self.kind == "fifo":
            refuse_idle(self, {"watermark": "kind = 'fifo'"})
        return self


class HeldOutTable(Table):
    """``[online.held_out]``: flows that judge and do not teach, and that give the network its units.

    Parameters
    ----------
    flows : how many.
    frames : of each, an interval apart.
    spin_up : time before the first of them.
    """

    flows: int = Field(default=2, ge=1)
    frames: int = Field(default=26, ge=2)
    spin_up: float = Field(default=0.0, ge=0)


class OnPolicyTable(Table):
    """``[online.on_policy]``: half of the samples begin where the network of the day has led the flow.

    It goes on alone for up to `longest` of its intervals, the teacher labels what follows, and the flow goes on from
    there (Ross, Gordon & Bagnell 2011, AISTATS, arXiv 1011.0686).

    Parameters
    ----------
    longest : intervals of the network in a row, at the most.
    rise : share of the training over which they become as many.
    refresh : steps of the optimiser from one set of weights that is sent out to the next.
    misfit : greatest residual of the teacher's equations along the network's last interval, see
        `Flow.midpoint_residual`; 1 is that of a field that does not move. Beyond it the flow is refused, none is
        labelled, and the sample is one of the teacher's own flow.
    """

    longest: int = Field(default=10, ge=1)
    rise: float = Field(default=0.5, ge=0, le=1)
    refresh: int = Field(default=20, ge=1)
    misfit: float = Field(default=1.0, gt=0)


class OnlineTable(Table):
    """``[online]``: samples from flows that run beside the training, ``mpirun -n 2 solver train ...``, and no files.

    Every rank but the first runs flows. Flow number i has a seed, and parameters, that depend on i alone; one that is
    lost is begun anew, from other noise. On one rank flows and training take turns.

    Parameters
    ----------
    case : of the teacher, folder or file, as `solver.case.paths` finds it.
    overrides : of its keys: the closure that labels, say.
    ranges : keys of the case, and least and greatest value of each: every flow draws its own.
    interval : time between frames.
    steps : of the teacher in between.
    spin_up : time of a flow before its first sample.
    flows : that run at a time, shared by the ranks.
    length : samples that a flow gives before the next one takes its place.
    samples : drawn between two looks at the held-out flows, an epoch.
    deterministic : the ratio of samples made to samples drawn is fixed, so that the weights do not depend on the number
        of ranks or on the clock; otherwise nobody waits for anybody without need.
    ratio : samples made for each that is drawn; of a reservoir alone, others draw each of them once.
    buffer, held_out, on_policy : tables of their own; without the last all samples are of the teacher's own flows.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    ranges: dict[str, Range] = Field(default_factory=dict)
    interval: float = Field(gt=0)
    steps: int = Field(default=1, ge=1, le=1000)
    spin_up: float = Field(default=0.0, ge=0)
    flows: int = Field(default=4, ge=1)
    length: int = Field(default=100, ge=1)
    samples: int = Field(ge=1)
    deterministic: bool = False
    ratio: float = Field(default=1.0, gt=0)
    buffer: BufferTable = BufferTable()
    held_out: HeldOutTable = HeldOutTable()
    on_policy: OnPolicyTable | None = None

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> OnlineTable:
        if self.buffer.kind != "reservoir":
            refuse_idle(self, {"ratio": f"[online.buffer] kind = '{self.buffer.kind}'"})
        for key, (least, greatest) in self.ranges.items():
            if key.split(".")[0] in ("grid", "time", "run") or key == "initial.seed":
                raise ValueError(f"ranges: '{key}' belongs to all flows: give a key of [flow], [initial] or [closure]")
            if least > greatest:
                raise ValueError(f"ranges: '{key}' = [{least:g}, {greatest:g}]: give the least value first")
        return self

"""The recipe of an ensemble: which flows its members run in, how far they may be off, how often they are moved."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from closures.training.data_table import SetTable
from closures.training.tables import CardTable, OperatorTable
from solver.analysis.metrics import C_F, U_MEAN, WALL_FLOW
from solver.case.table import Table

LEAST = 4  # flows that make an ensemble


TOLERANCES = {metric.name: 0.05 for metric in WALL_FLOW} | {U_MEAN.name: 0.01, C_F.name: 0.02}
_TOLERANCES: dict[str, Any] = {
    m.name: (float, Field(default=TOLERANCES[m.name], gt=0, description=m.meaning)) for m in WALL_FLOW
}
ToleranceTable = create_model(
    "ToleranceTable",
    __base__=Table,
    __doc__="""``[ensemble.tolerance]``: by how much, relative, each profile (in bulk units) and C_f may be off.

    Their inverse squares weigh the errors, as ``solver compare`` has them, against each other.
    """,
    **_TOLERANCES,
)


class FlowTable(Table):
    """``[[ensemble.flows]]``: one more flow in which every member runs, on another grid or at other parameters.

    Parameters
    ----------
    file : filtered trajectories on the points of the case: what its runs should settle to, and first frames. Of a set
        that has statistics alone these are those of ``[data] file``, interpolated.
    overrides : of the keys of ``[ensemble] case``, beside those of ``[ensemble]``.
    """

    file: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)


class EnsembleTable(Table):
    """``[ensemble]``: the channel in which the members run, and how long.

    Parameters
    ----------
    case : folder or file, as `solver.case.paths` finds it.
    overrides : of its keys: ``"run.dtype=float32"`` and the like.
    flows : others that count as much as that of ``[data] file``.
    begin : folder of an artefact whose weights are the centre of the first ensemble; a corrector or a surrogate has its
        units and times from there.
    closure : options of the closure, as in a case; of a corrector or a surrogate (``base``, ``every``, ...).
    moves : beginnings of the names of the weights that are trained; by default all are.
    members, iterations : how many networks, and how often all of them run.
    spread : standard deviation of the weights in the first ensemble, times the root of the number of inputs they share.
    settle, average : time units of a run before and during its averages; flows go on from iteration to iteration.
    seed : of the ensemble and of the flows.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    flows: tuple[FlowTable, ...] = Field(default=(), strict=False, exclude_if=lambda flows: not flows)
    begin: str | None = None
    closure: dict[str, Any] = Field(default_factory=dict)
    moves: tuple[str, ...] = Field(default=(), strict=False)
    members: int = Field(ge=LEAST)
    iterations: int = Field(ge=1)
    spread: float = Field(default=0.3, gt=0)
    settle: float = Field(gt=0)
    average: float = Field(gt=0)
    seed: int = Field(default=20411, ge=0)
    tolerance: ToleranceTable = ToleranceTable()  # type: ignore[valid-type]  # made from a table of metrics


class EnsembleRecipe(Table):
    """How one closure is trained on the statistics of long runs.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    data: SetTable = SetTable()
    operator: OperatorTable
    ensemble: EnsembleTable
    card: CardTable

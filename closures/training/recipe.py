"""A training recipe (TOML) checked once: frozen models, and one line naming key, file and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from closures.data import recipe_file
from closures.training.corrections import CorrectTable
from closures.training.data_table import DataTable
from closures.training.online.table import OnlineTable
from closures.training.tables import (
    CardTable,
    EquationsTable,
    LossTable,
    NetworkLoopTable,
    OperatorTable,
    OptimiserTable,
)
from solver.case.explain import explain
from solver.case.paths import beside
from solver.case.table import Table
from solver.errors import CaseError

SHIPPED = Path(__file__).parent / "recipes"
PRESSURE = Path(__file__).parents[1] / "pressure_nets" / "recipes"
AnyRecipe = TypeVar("AnyRecipe", bound=Table)


class Recipe(Table):
    """How one network is trained.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    data: DataTable = DataTable()
    operator: OperatorTable
    loss: LossTable = LossTable()
    equations: EquationsTable | None = None
    correct: CorrectTable | None = None
    online: OnlineTable | None = Field(default=None, exclude_if=lambda table: table is None)
    optimiser: OptimiserTable = OptimiserTable()
    loop: NetworkLoopTable
    card: CardTable

    @model_validator(mode="after")
    def _has_a_teacher(self) -> Recipe:
        kind, table = self.loss.kind, self.equations
        if self.rolls_out_corrections:
            if table is not None:
                raise ValueError("[equations]: a correction is projected in the flow of [correct]: remove it")
        elif self.loss.needs_case != (table is not None):
            raise ValueError(
                f"[loss] kind = '{kind}': 'projected_l2', 'les_residual' and 'hybrid' go with a table [equations]"
            )
        if table is not None and table.fields is not None and kind != "les_residual":
            raise ValueError("[equations.fields] has no labels: remove it, or set [loss] kind = 'les_residual'")
        drawn = self.drawn is not None
        given = drawn + self.data.is_given + (self.online is not None)
        if given != 1:
            fields = "[correct.fields]" if self.correct else "(without labels) [equations.fields]"
            remedy = "remove one" if given else "give one"
            raise ValueError(f"first frames come from [online], [data] file or {fields}: {remedy}")
        return self

    @model_validator(mode="after")
    def _is_online(self) -> Recipe:
        if self.online is None:
            return self
        if self.data != DataTable():
            raise ValueError("[data]: says how a data set is cut into windows, [online] has none: remove it")
        if self.loss.kind in ("les_residual", "hybrid"):
            raise ValueError(f"[loss] kind = '{self.loss.kind}': [online] has labels: use 'projected_l2' or an error")
        if self.correct is not None and not self.rolls_out_corrections:
            raise ValueError("[correct] beside [online]: use [loss] kind = 'projected_l2'")
        return self

    @model_validator(mode="after")
    def _stages_come_about(self) -> Recipe:
        stages = self.loss.stages
        if stages and stages[-1].epoch >= self.loop.epochs:
            raise ValueError(
                f"[[loss.stages]] epoch = {stages[-1].epoch}: there are {self.loop.epochs} epochs: raise "
                "[loop] epochs, or begin the stage earlier"
            )
        moves = self.correct is None or self.correct.ahead > 0
        if self.loss.frame and not moves:
            raise ValueError("[loss] frame: a corrector stays at the time where it is: leave it out")
        return self

    @property
    def drawn(self) -> EquationsTable | None:
        """The flow that frames are drawn from, with its `fields`; None where they come from a file."""
        if self.correct is not None and (labels := self.correct.fields) is not None:
            about = labels.model_dump(include={"overrides", "interval", "steps"})
            return EquationsTable(case=self.correct.case, fields=labels, **about)
        return self.equations if self.equations is not None and self.equations.fields is not None else None

    @property
    def rolls_out_corrections(self) -> bool:
        """Whether solver and corrector take turns in the loss, not the solver alone beforehand."""
        return self.correct is not None and self.loss.kind == "projected_l2"

    @model_validator(mode="after")
    def _corrects(self) -> Recipe:
        if self.correct is None:
            return self
        if self.loss.kind in ("les_residual", "hybrid") or self.loss.target == "state":
            raise ValueError("[correct] needs labels: use [loss] target = 'increment' and no equations")
        if self.loss.longest > 1 and not self.rolls_out_corrections:
            raise ValueError("[correct] teaches one correction: use [loss] steps = 1, or kind = 'projected_l2'")
        return self


def shipped() -> dict[str, Path]:
    """The recipes of this package by name: ``fno_channel180_coarse``, ``lesnets/hit_decay``, ``npsdo_32``."""
    return {str(p.relative_to(r).with_suffix("")): p for r in (SHIPPED, PRESSURE) for p in sorted(r.rglob("*.toml"))}


def read_tables(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """What a recipe holds, a file or the name of a shipped one, with ``key.path=value`` overrides; and its file.

    The data, the case and the network to begin with lie beside the recipe, or in the working directory.

    Raises
    ------
    CaseError : there is none, or it is no TOML; one line.
    """
    data, source = recipe_file.read(path, overrides, shipped())
    beside(data, ("file", "folder", "case", "begin"), Path(source).parent)
    return data, Path(source)


def checked(model: type[AnyRecipe], data: dict[str, Any], file: Path) -> AnyRecipe:
    """The tables of `file` as a recipe of the given kind; raises CaseError in one line."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise CaseError(f"{file}: {explain(error, model, data)}") from None

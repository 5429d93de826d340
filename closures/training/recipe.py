"""A training recipe (TOML) checked once: frozen models, and one line naming key, file and remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from closures.losses.les_residual import Norm
from closures.losses.registry import known
from closures.losses.time_residual import TimeScheme
from closures.training.corrections import CorrectTable
from closures.training.fields_table import FieldsTable
from solver.errors import CaseError
from solver.explain import explain
from solver.paths import beside
from solver.table import Table, refuse_idle

SHIPPED = Path(__file__).parent / "recipes"
AnyRecipe = TypeVar("AnyRecipe", bound=Table)


class FileTable(Table):
    """``[data]``: a file of trajectories, beside the recipe or in the working directory."""

    file: str | None = None


class DataTable(FileTable):
    """``[data]``: a file of trajectories and how it is cut into windows.

    Frames of a window are `stride` apart in the file, first frames `apart`. `validation` is the share of trajectories
    that choose the best weights, of those that the file does not keep for tests.

    Only the loss ``les_residual`` does without a file: it can draw fields from the solver (`FieldsTable`).
    """

    stride: int = Field(default=1, ge=1)
    apart: int = Field(default=1, ge=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    workers: int = Field(default=0, ge=0, le=64)


class OperatorTable(BaseModel):
    """``[operator]``: a name of `closures.operators`; every other key is an argument of that network."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What is handed to the network."""
        return dict(self.model_extra or {})


class LossTable(Table):
    """``[loss]``: mean over `steps` predicted steps of a relative error.

    `noise` perturbs the first frame, in units of the rms fluctuation of each component in each plane: a rollout leaves
    the flows of the data, and the equations hold beside them as well. `through`: gradients flow through the whole
    rollout; false cuts them between steps (push-forward, Brandstetter et al. 2022, arXiv 2202.03376).
    `length` is that of the Sobolev norm.

    ``projected_l2`` is the relative error of what the surrogate makes of the answers in the flow of ``[equations]``:
    divergence-free, of the same mass flux. A network without a view of the whole field cannot learn the pressure.
    With ``[correct]`` the solver and the network take turns, `steps` times. `norm` says whether errors are relative to
    the velocity of the whole volume, or plane by plane to the fluctuation there (`plane_error`). `mirrors` are
    directions along which every other window is reflected, symmetries of the flow: y and z in a channel, whose two
    walls then teach the same. `energy` is the weight of `energy_error` beside that error.
    ``les_residual`` needs no labels: the residual of ``[equations]`` on `steps` predicted frames, over du/dt.
    ``hybrid`` adds `data` times the relative error against the frames of the file.
    Other packages add errors of their own, see `closures.losses.registry`; they are used as ``relative_l2`` is.
    """

    kind: Annotated[str, AfterValidator(known)] = "relative_l2"
    target: Literal["increment", "state"] = "increment"
    length: float = Field(default=0.0, ge=0)
    steps: int = Field(default=1, ge=1, le=1000)
    noise: float = Field(default=0.0, ge=0)
    through: bool = True
    data: float = Field(default=1.0, gt=0)
    norm: Literal["volume", "plane"] = "volume"
    energy: float = Field(default=0.0, ge=0)
    mirrors: tuple[Literal["x", "y", "z"], ...] = Field(default=(), strict=False)

    @property
    def needs_case(self) -> bool:
        """Whether a case stands behind the loss: its equations, or what it imposes on a velocity."""
        return self.kind in ("projected_l2", "les_residual", "hybrid")

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> LossTable:
        unused = {
            "length": self.kind != "sobolev",
            "data": self.kind != "hybrid",
            "through": self.steps == 1,
            "norm": self.kind not in ("projected_l2", "hybrid"),
            "energy": self.kind not in ("projected_l2", "hybrid"),
            "mirrors": not self.needs_case,
        }
        refuse_idle(self, {key: f"kind = '{self.kind}', steps = {self.steps}" for key, idle in unused.items() if idle})
        return self


class EquationsTable(Table):
    """``[equations]``: the flow behind the losses ``projected_l2``, ``les_residual`` and ``hybrid``.

    Grid, viscosity, forcing and closure are those of `case` (a folder or file, as `solver.paths` finds it) with
    `overrides` (``"closure.c_s = 0.1"``). Frames are `interval` apart; the solver would take `steps` steps in between.
    `scheme`, `norm` and `alpha` are those of `closures.losses.les_residual`.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    interval: float = Field(gt=0)
    steps: int = Field(default=1, ge=1, le=1000)
    scheme: TimeScheme = "runge_kutta"
    norm: Norm = "l2"
    alpha: float = Field(default=1.0, gt=0)
    fields: FieldsTable | None = None


class OptimiserTable(Table):
    """``[optimiser]``: AdamW; the rate rises over the share `warm_up` of all steps and falls by `schedule`.

    ``step`` multiplies it by `factor` every `every` epochs. ``one_cycle`` has a rise of its own.
    """

    rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "one_cycle", "step", "constant"] = "cosine"
    warm_up: float = Field(default=0.02, ge=0, lt=1)
    factor: float = Field(default=0.7, gt=0, le=1)
    every: int = Field(default=5, ge=1)
    clip: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> OptimiserTable:
        unused = {"factor", "every"} if self.schedule != "step" else set()
        unused |= {"warm_up"} if self.schedule == "one_cycle" else set()
        refuse_idle(self, dict.fromkeys(unused, f"schedule = '{self.schedule}'"))
        return self


class LoopTable(Table):
    """``[loop]``: how long, how large. `batch` is that of all processes together; `patience` in epochs."""

    epochs: int = Field(ge=1)
    batch: int = Field(default=8, ge=1)
    seed: int = Field(default=20411, ge=0)
    patience: int | None = Field(default=None, ge=1)
    checkpoint_seconds: float = Field(default=300.0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class NetworkLoopTable(LoopTable):
    """``[loop]`` of a state operator. `begin` is the folder of an artefact whose weights are the first."""

    begin: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


class CardTable(Table):
    """``[card]``: what the card of the network says beyond what is measured."""

    trained_on: str
    licence: str = "BSD-3-Clause"


class Recipe(Table):
    """How one network is trained."""

    title: str
    data: DataTable = DataTable()
    operator: OperatorTable
    loss: LossTable = LossTable()
    equations: EquationsTable | None = None
    correct: CorrectTable | None = None
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
        if drawn == (self.data.file is not None):
            fields = "[correct.fields]" if self.correct else "(without labels) [equations.fields]"
            remedy = "remove one" if drawn else "give one"
            raise ValueError(f"first frames come from [data] file or {fields}: {remedy}")
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
        if self.loss.steps > 1 and not self.rolls_out_corrections:
            raise ValueError("[correct] teaches one correction: use [loss] steps = 1, or kind = 'projected_l2'")
        return self


def find(path: Path, table: str, folder: Path = SHIPPED) -> Path | None:
    """The file of a recipe with `table`: given, or shipped in `folder` under that name; None for other recipes."""
    shipped = folder / path.with_suffix(".toml")
    file = shipped if not path.suffix and not path.exists() and shipped.exists() else path
    try:
        return file if table in tomllib.loads(file.read_text(encoding="utf-8")) else None
    except (OSError, ValueError):
        return None  # whoever reads it next says what is wrong


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe: a file, or the name of a shipped one (``fno_channel180_coarse``, ``lesnets/...``).

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value; one line.
    """
    shipped = SHIPPED / path.with_suffix(".toml")
    by_name = not (path.suffix or path.is_absolute() or path.exists())
    file = shipped if by_name and shipped.exists() else path
    if not file.exists():
        known = ", ".join(sorted(str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.rglob("*.toml")))
        raise CaseError(f"{path}: no such recipe; give a file, or one of {known}")
    return read(Recipe, file)


def read(model: type[AnyRecipe], file: Path) -> AnyRecipe:
    """A TOML file as a recipe of the given kind; raises CaseError in one line.

    The data, the case and the network to begin with lie beside the recipe, or in the working directory.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError(f"{file}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{file}: not valid TOML: {error}") from None
    beside(data, ("file", "case", "begin"), file.parent)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise CaseError(f"{file}: {explain(error, model, data)}") from None

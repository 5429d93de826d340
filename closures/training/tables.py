"""The tables of a training recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from closures.losses.les_residual import Norm
from closures.losses.registry import LOSSES, known
from closures.losses.time_residual import TimeScheme
from closures.training.curriculum import StageTable, in_order
from closures.training.fields_table import FieldsTable
from solver.case.table import Table, refuse_idle


class OperatorTable(BaseModel):
    """``[operator]``: a network by name; every other key is an argument of that network.

    Parameters
    ----------
    name : of `closures.operators`, or of another package.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What is handed to the network."""
        return dict(self.model_extra or {})


def _error(name: str) -> str:
    if name != "volume" and name not in LOSSES.names():
        raise ValueError(f"unknown error '{name}'; one of volume, {', '.join(LOSSES.names())}")
    return name


class LossTable(Table):
    """``[loss]``: mean over `steps` predicted steps of a relative error.

    ``projected_l2`` is the relative error of what the surrogate makes of the answers in the flow of ``[equations]``:
    divergence-free, of the same mass flux. A network without a view of the whole field cannot learn the pressure.
    With ``[correct]`` the solver and the network take turns, `steps` times.
    ``les_residual`` needs no labels: the residual of ``[equations]`` on `steps` predicted frames, over du/dt.
    ``hybrid`` adds `data` times the relative error against the frames of the file.
    With `members` it is the score of so many answers of a network that draws, `closures.losses.crps`, in its place.
    Other errors (``relative_l2``, ``plane``, ``sobolev``, and those of other packages, see `closures.losses.registry`)
    are of the network's answers as they are.

    Parameters
    ----------
    kind : ours, or the name that another package gives to its own.
    options : of the error that `kind`, or `norm`, names, by name.
    target : whether the network answers with the change over a step or with the next state.
    length : of ``sobolev``: the length in its norm.
    steps : that are predicted in a row.
    stages : other numbers of steps from given epochs on, in place of `steps`; errors are those of the longest windows.
    noise : perturbs the first frame, in units of the rms fluctuation of each component in each plane: a rollout leaves
        the flows of the data, and the equations hold beside them as well.
    through : gradients flow through the whole rollout; false cuts them between steps (push-forward, Brandstetter et al.
        2022, arXiv 2202.03376).
    data : of ``hybrid``: weight of the error against the frames of the file.
    norm : error of frames in a flow, by name; ``volume``: ``relative_l2`` over the whole volume.
    energy : weight of `energy_error` beside that error.
    frame : velocity along x of a frame in which the change is predicted: the field is carried on by it first, exactly.
    energy_fixer : planes are rescaled, behind the projection, where the energy of their fluctuations changes by a
        larger factor than in the data, that to this power (1: as it is); in runs as well. 0: they are not.
    mirrors : directions along which every other window is reflected, symmetries of the flow: y and z in a channel,
        whose two walls then teach the same.
    members : answers of which the continuous ranked probability score is taken, by plane and component.
    alpha : of that score, 1 is fair, see `closures.losses.crps.kernel_crps`.
    waves : weight of the score of the waves by wavenumber beside it: so the spread, too, has the right spectrum.
    """

    kind: Annotated[str, AfterValidator(known)] = "relative_l2"
    options: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda options: not options)
    target: Literal["increment", "state"] = "increment"
    length: float = Field(default=0.0, ge=0)
    steps: int = Field(default=1, ge=1, le=1000)
    stages: Annotated[tuple[StageTable, ...], AfterValidator(in_order)] = Field(
        default=(), strict=False, exclude_if=lambda stages: not stages
    )
    noise: float = Field(default=0.0, ge=0)
    through: bool = True
    data: float = Field(default=1.0, gt=0)
    norm: Annotated[str, AfterValidator(_error)] = "volume"
    energy: float = Field(default=0.0, ge=0)
    frame: float = Field(default=0.0, exclude_if=lambda frame: frame == 0)
    energy_fixer: float = Field(default=0.0, ge=0, exclude_if=lambda power: power == 0)
    mirrors: tuple[Literal["x", "y", "z"], ...] = Field(default=(), strict=False)
    members: int = Field(default=0, ge=0, le=64, exclude_if=lambda members: members == 0)
    alpha: float = Field(default=1.0, gt=0, le=1, exclude_if=lambda alpha: alpha == 1.0)
    waves: float = Field(default=0.0, ge=0, exclude_if=lambda weight: weight == 0)

    @property
    def needs_case(self) -> bool:
        """Whether a case stands behind the loss: its equations, or what it imposes on a velocity."""
        return self.kind in ("projected_l2", "les_residual", "hybrid")

    @property
    def longest(self) -> int:
        """Steps of the longest windows."""
        return max((stage.steps for stage in self.stages), default=self.steps)

    @property
    def error(self) -> tuple[str, dict[str, Any]]:
        """The error of frames against labels, by name, and its options."""
        name = self.norm if self.needs_case else self.kind
        lengths = {"length": self.length} if name == "sobolev" and "length" not in self.options else {}
        return "relative_l2" if name == "volume" else name, lengths | self.options

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> LossTable:
        unused = {
            "length": "sobolev" not in (self.kind, self.norm),
            "data": self.kind != "hybrid",
            "through": self.longest == 1,
            "norm": self.kind not in ("projected_l2", "hybrid"),
            "energy": self.kind not in ("projected_l2", "hybrid"),
            "energy_fixer": not self.needs_case,
            "mirrors": not self.needs_case,
        }
        refuse_idle(
            self, {key: f"kind = '{self.kind}', steps = {self.longest}" for key, idle in unused.items() if idle}
        )
        if self.stages:
            refuse_idle(self, {"steps": "[[loss.stages]], which have their own"})
        return self

    @model_validator(mode="after")
    def _has_a_distribution(self) -> LossTable:
        if self.members == 1:
            raise ValueError("members = 1: a spread is that of two or more: set 2, or leave it out")
        if not self.members:
            refuse_idle(self, dict.fromkeys(("alpha", "waves"), "one answer (members)"))
        elif self.kind != "projected_l2":
            raise ValueError(f"members = {self.members}: does nothing with kind = '{self.kind}': use 'projected_l2'")
        else:
            given = ("norm", "energy", *(["options"] if self.options else []))
            refuse_idle(self, dict.fromkeys(given, f"members = {self.members}"))
        return self


class EquationsTable(Table):
    """``[equations]``: the flow behind the losses ``projected_l2``, ``les_residual`` and ``hybrid``.

    Grid, viscosity, forcing and closure are those of the case.

    Parameters
    ----------
    case : folder or file, as `solver.case.paths` finds it.
    overrides : of its keys: ``"closure.c_s = 0.1"`` and the like.
    interval : time between frames.
    steps : that the solver would take in between.
    scheme : difference in time, see `closures.losses.les_residual`.
    norm : of the residual, see `closures.losses.les_residual`.
    alpha : of ``h_minus_1``, see `closures.losses.negative_norm`.
    fields : frames from runs of the solver, in place of a file.
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

    Parameters
    ----------
    rate : the largest learning rate.
    weight_decay : of AdamW.
    schedule : how the rate falls; ``one_cycle`` has a rise of its own.
    warm_up : share of all steps over which the rate rises.
    factor, every : of ``step``: the rate is multiplied by `factor` every `every` epochs.
    clip : largest norm of a gradient.
    spectral_norm : greatest singular value that a linear map of the network may have; it is kept below by power
        iteration, and the artefact has plain weights. 0: any.
    average : decay of a moving average of the weights, 0.999 say, which is then judged and kept instead of these.
    """

    rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "one_cycle", "step", "constant"] = "cosine"
    warm_up: float = Field(default=0.02, ge=0, lt=1)
    factor: float = Field(default=0.7, gt=0, le=1)
    every: int = Field(default=5, ge=1)
    clip: float = Field(default=1.0, gt=0)
    spectral_norm: float = Field(default=0.0, ge=0, exclude_if=lambda bound: bound == 0)
    average: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda decay: decay == 0)

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> OptimiserTable:
        unused = {"factor", "every"} if self.schedule != "step" else set()
        unused |= {"warm_up"} if self.schedule == "one_cycle" else set()
        refuse_idle(self, dict.fromkeys(unused, f"schedule = '{self.schedule}'"))
        return self


class LoopTable(Table):
    """``[loop]``: how long, how large.

    Parameters
    ----------
    epochs : after which the training ends; more of them go on with one that has ended.
    batch : samples a step, of all processes together.
    seed : of the first weights, the order of samples and the noise.
    keep : the weights with the ``best`` validation loss, or the ``last``: flows that a teacher leads are no judge of a
        network that has learned to find back from its own.
    patience : epochs without a better validation loss after which it ends early.
    checkpoint_seconds : between two states from which it can go on.
    device : where to train; auto is a GPU if there is one.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=8, ge=1)
    seed: int = Field(default=20411, ge=0)
    keep: Literal["best", "last"] = Field(default="best", exclude_if=lambda keep: keep == "best")
    patience: int | None = Field(default=None, ge=1)
    checkpoint_seconds: float = Field(default=300.0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class NetworkLoopTable(LoopTable):
    """``[loop]`` of a state operator.

    Parameters
    ----------
    begin : folder of an artefact whose weights are the first.
    precision : in which the network is evaluated; its weights stay single.
    """

    begin: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


class CardTable(Table):
    """``[card]``: what the card of the network says beyond what is measured.

    Parameters
    ----------
    trained_on : the data, in words.
    licence : of the network.
    """

    trained_on: str
    licence: str = "BSD-3-Clause"

"""Wall models by name: the laws of this package, and those that other packages declare as entry points.

Another package adds a wall model with::

    [project.entry-points."solver.wall_models"]
    mine = "my_package.walls:Mine"

where ``Mine(*, grid, nu, **options)`` returns a `solver.flow.wall_stress.WallModel`. Its keyword arguments are the
options of the ``[wall_model]`` table, beside ``name``, ``height`` and ``filter``.

A trained one goes by the name of its folder in ``closures/pretrained``, or by its architecture (``wall_correction``)
with ``artefact = "FOLDER"``, a folder that `solver train` has made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from closures.algebraic.wall_friction import LAWS, Friction
from closures.coupling.corrected_law import CorrectedLaw
from closures.coupling.filtered_wall_model import Filtered
from closures.coupling.guarded_wall_model import GuardedWallModel
from closures.operators import artefact
from closures.operators.registry import WALLS
from closures.operators.shipped import wall_models as trained
from closures.operators.wall_correction import WallCorrection
from closures.registry.guest_checks import Checks
from solver.case.explain import explain
from solver.case.plugins import Registry
from solver.errors import CaseError
from solver.flow.closure import State
from solver.flow.wall_stress import Pair, WallModel, WallSample
from solver.grid.grid import Grid

ARTEFACT = "artefact"
WALL_MODELS = Registry("solver.wall_models", "[wall_model]", {}, lambda: ("none", *LAWS, *trained(), *WALLS))


def names() -> list[str]:
    """Every name there is, this package's first."""
    return [*LAWS, *trained(), *WALL_MODELS.foreign()]


def create(
    name: str, *, grid: Grid, nu: float, options: dict[str, Any] | None = None, filter_time: float = 0.0
) -> WallModel:
    """The wall model called `name`; a trained one and one of another package under guard, the log law in reserve.

    With a `filter_time` it sees the average of `closures.coupling.filtered_wall_model`.

    Raises
    ------
    CaseError : unknown name, unknown option or value, each with the remedy; a name that two packages use.
    ClosureError : a model of another package cannot be made.
    ArtefactError : a trained one is missing or damaged.
    """
    options = options or {}
    WALL_MODELS.require(name, [*names(), *WALLS])
    if name in LAWS:
        model: WallModel = law(name, options)
    elif name in trained() or name in WALLS:
        model = GuardedWallModel(_learned(name, options), law("log_law", {}))
    else:
        model = _guest(name, grid, nu, options)
    return Filtered(model, filter_time) if filter_time > 0 else model


def law(name: str, options: dict[str, Any]) -> Friction:
    """One of our own laws, its constants checked.

    Raises
    ------
    CaseError : unknown option, wrong type or value; one line.
    """
    table = LAWS[name]
    try:
        return Friction(name, table.model_validate(options).law())
    except ValidationError as error:
        raise CaseError(f"[wall_model] '{name}': {explain(error, table, options)}") from None


def _learned(name: str, options: dict[str, Any]) -> WallModel:
    """A trained wall model, from this package or from the folder that the options name.

    Raises
    ------
    ArtefactError : a file is missing or damaged.
    CaseError : no folder, another option, or a network of another role.
    """
    for key in options:
        if key != ARTEFACT:
            raise CaseError(f"[wall_model] unknown option '{key}' of '{name}'; it has {ARTEFACT}")
    folder = options.get(ARTEFACT, trained().get(name))
    if not isinstance(folder, str | Path):
        raise CaseError(f"[wall_model] '{name}' needs artefact = 'FOLDER', the folder of a trained wall model")
    found = artefact.load(Path(folder))
    if not isinstance(found.network, WallCorrection):
        role = found.card.role.replace("_", " ")
        what = f"holds a {role} ('{found.card.architecture}'), no wall model"
        raise CaseError(f"[wall_model] artefact = '{folder}': {what}")
    return CorrectedLaw(name, found.network)


def _guest(name: str, grid: Grid, nu: float, options: dict[str, Any]) -> WallModel:
    """A wall model of another package, under guard."""
    made = WALL_MODELS.load(name)
    checks = Checks(WALL_MODELS.origin(name), "[wall_model]")
    with checks.named("its constructor"):
        model = made(grid=grid, nu=nu, **options)
    if not isinstance(getattr(model, "name", None), str) or not callable(getattr(model, "init", None)):
        raise checks.problem("makes no wall model: one has name, init(sample) and __call__(sample, t, state)")
    return GuardedWallModel(Guest(model, checks), law("log_law", {}))


class Guest:
    """A wall model of another package, whose failures are named as its own."""

    def __init__(self, model: Any, checks: Checks) -> None:
        self.model, self.checks = model, checks
        self.name: str = model.name

    def init(self, sample: WallSample) -> State:
        """Its first state."""
        with self.checks.named("init"):
            return self.checks.state(self.model.init(sample), "init")

    def __call__(self, sample: WallSample, t: float, state: State) -> tuple[Pair, State]:
        """Its stresses, of the shape of the velocity, and the next state."""
        with self.checks.named("__call__"):
            answer = self.model(sample, t, state)
        stress, after = self.checks.pair(answer, "__call__")
        like = sample.velocity[0]
        for f in stress:
            if not isinstance(f, Tensor) or f.shape != like.shape or f.dtype != like.dtype or f.device != like.device:
                raise self.checks.problem(f"should give two stresses like the velocity, {tuple(like.shape)}")
        return (stress[0], stress[1]), after

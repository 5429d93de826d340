"""Wall models by name: the laws of this package, and those that other packages declare as entry points.

Another package adds a wall model with::

    [project.entry-points."solver.wall_models"]
    mine = "my_package.walls:Mine"

where ``Mine(*, grid, nu, **options)`` returns a `solver.flow.wall_stress.WallModel`. Its keyword arguments are the
options of the ``[wall_model]`` table, beside ``name``, ``height`` and ``filter``.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from torch import Tensor

from closures.registry.guest_checks import Checks
from closures.wall_models.filtered import Filtered
from closures.wall_models.friction import LAWS, Friction
from closures.wall_models.guarded import GuardedWallModel
from solver.case.explain import explain
from solver.case.plugins import Registry
from solver.errors import CaseError
from solver.flow.closure import State
from solver.flow.wall_stress import Pair, WallModel, WallSample
from solver.grid.grid import Grid

WALL_MODELS = Registry("solver.wall_models", "[wall_model]", {}, lambda: ("none", *LAWS))


def names() -> list[str]:
    """Every name there is, this package's first."""
    return [*LAWS, *WALL_MODELS.foreign()]


def create(
    name: str, *, grid: Grid, nu: float, options: dict[str, Any] | None = None, filter_time: float = 0.0
) -> WallModel:
    """The wall model called `name`; one of another package under guard, with the log law in reserve.

    With a `filter_time` it sees the average of `closures.wall_models.filtered`.

    Raises
    ------
    CaseError : unknown name, unknown option or value, each with the remedy; a name that two packages use.
    ClosureError : a model of another package cannot be made.
    """
    WALL_MODELS.require(name, names())
    model = law(name, options or {}) if name in LAWS else _guest(name, grid, nu, options or {})
    return Filtered(model, filter_time) if filter_time > 0 else model


def law(name: str, options: dict[str, Any]) -> Friction:
    """One of our own laws, its constants checked."""
    table = LAWS[name]
    try:
        return Friction(name, table.model_validate(options).law())
    except ValidationError as error:
        raise CaseError(f"[wall_model] '{name}': {explain(error, table, options)}") from None


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

"""An experiment: data, network, loss and optimiser, from one TOML file; whatever is trained, this is how.

What kind it is its tables say: ``[a_priori]`` trains a subgrid model on filtered stresses, ``[solver]`` through the
solver, ``[ensemble]`` a closure by the statistics of long runs (Kalman inversion, all others follow gradients),
``[matrices]`` a network for the pressure and ``[multigrid]`` a cycle for it; ``[profiles]`` a wall model on mean
velocities; ``[familiarity]`` finds out which flows a network knows. Without one of these it is an operator that learns
from frames, of a data set or, with ``[online]``, of flows that run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag
from rich.console import Console

from closures.training import (
    a_priori_recipe,
    ensemble,
    familiar_flows,
    learned_multigrid,
    offline,
    pressure_train,
    through_solver,
    wall_recipe,
)
from closures.training.a_priori_recipe import APrioriRecipe
from closures.training.ensemble_recipe import EnsembleRecipe
from closures.training.familiar_flows import FamiliarityRecipe
from closures.training.learned_multigrid import MultigridRecipe
from closures.training.online import train as online
from closures.training.pressure_recipe import MatrixRecipe
from closures.training.recipe import Recipe, checked, read_tables
from closures.training.study import Trained, descend
from closures.training.through_solver import SolverRecipe
from closures.training.wall_recipe import WallRecipe
from solver.errors import CaseError

FRAMES = "frames"


@dataclass(frozen=True)
class Kind:
    """How experiments of one kind are written, and how they are carried out.

    Parameters
    ----------
    recipe : what its tables hold.
    learn : trains by a recipe in a folder, with a file of trajectories in place of the recipe's, showing progress on a
        console if there is one.
    takes_data : whether it learns from trajectories.
    """

    recipe: type[Any]
    learn: Callable[[Any, Path, Path | None, Console | None], Trained]
    takes_data: bool = True


def _learn_from_frames(recipe: Recipe, out: Path, data: Path | None, console: Console | None) -> Trained:
    if recipe.online is not None:
        return online.learn(recipe, out, data, console)
    return descend(recipe, out, console, partial(offline.prepare, recipe, out, data))


KINDS: Mapping[str, Kind] = {
    "multigrid": Kind(MultigridRecipe, lambda recipe, out, _, c: learned_multigrid.learn(recipe, out, c), False),
    "matrices": Kind(
        MatrixRecipe,
        lambda recipe, out, _, c: descend(recipe, out, c, partial(pressure_train.prepare, recipe, out, console=c)),
        False,
    ),
    "solver": Kind(
        SolverRecipe,
        lambda recipe, out, data, c: descend(
            recipe, out, c, partial(through_solver.prepare, recipe, out, data), flow=recipe.solver.split == "flow"
        ),
    ),
    "ensemble": Kind(EnsembleRecipe, ensemble.invert),
    "a_priori": Kind(
        APrioriRecipe,
        lambda recipe, out, data, c: descend(recipe, out, c, lambda _: a_priori_recipe.prepare(recipe, out, data)),
    ),
    "familiarity": Kind(FamiliarityRecipe, lambda recipe, out, _, c: familiar_flows.learn(recipe, out, c), False),
    "profiles": Kind(
        WallRecipe, lambda recipe, out, _, c: descend(recipe, out, c, lambda _: wall_recipe.prepare(recipe, out)), False
    ),
    FRAMES: Kind(Recipe, _learn_from_frames),
}


def kind_of(tables: Any) -> str:
    """Which of `KINDS` an experiment is, from its tables or as it is."""
    found = tables if isinstance(tables, dict) else dict(tables)
    return next((kind for kind in KINDS if kind in found), FRAMES)


Experiment = Annotated[
    Annotated[MultigridRecipe, Tag("multigrid")]
    | Annotated[MatrixRecipe, Tag("matrices")]
    | Annotated[SolverRecipe, Tag("solver")]
    | Annotated[EnsembleRecipe, Tag("ensemble")]
    | Annotated[APrioriRecipe, Tag("a_priori")]
    | Annotated[FamiliarityRecipe, Tag("familiarity")]
    | Annotated[WallRecipe, Tag("profiles")]
    | Annotated[Recipe, Tag(FRAMES)],
    Discriminator(kind_of),
]


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment: a file, or the name of a shipped one; `overrides` are ``key.path=value``.

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value; one line.
    """
    tables, file = read_tables(path, overrides)
    found: Experiment = checked(KINDS[kind_of(tables)].recipe, tables, file)
    return found


def train(
    experiment: Experiment | Path,
    out: Path,
    data: Path | None = None,
    console: Console | None = None,
    overrides: Sequence[str] = (),
) -> Trained:
    """Train, or go on training, in the folder `out`, and write the artefact there.

    Parameters
    ----------
    experiment : as it is, or where it lies, with `overrides`.
    out : for the artefact, the recipe, and the state to go on from.
    data : a file of trajectories in place of the recipe's.
    console : shows progress; None: it is silent.

    Raises
    ------
    CaseError : the recipe, the case or the data are wrong, or do not belong together.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    FeatureUnavailable : no such device.
    Diverged : the gradient is not finite, or too few flows are left.
    """
    recipe = load_experiment(experiment, overrides) if isinstance(experiment, Path) else experiment
    kind = KINDS[kind_of(recipe)]
    if data is not None and not kind.takes_data:
        raise CaseError(f"--data {data}: this recipe learns from matrices, runs or tables of its own: leave it out")
    return kind.learn(recipe, out, data, console)

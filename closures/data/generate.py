"""Making a set of filtered trajectories: shared among groups of ranks, resumable at any moment.

A trajectory depends on the recipe, the run it starts from, its own number, and on how many ranks compute it, which the
recipe says: so the content of the file does not depend on how many ranks there are in all, on interruptions, or luck.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closures.data.folder import check_target, is_of_sets, is_set, made_by, manifest
from closures.data.grids import Recipes, load_flow_recipes
from closures.data.inspect import facts_of
from closures.data.recipe import FlowRecipe
from closures.data.rows import ORIGIN
from closures.data.store import FlowStore, origin_of
from closures.data.trajectory import Trajectory
from solver.discretisation import fusion
from solver.files import lock
from solver.parallel import ranks
from solver.parallel.task_farm import farm
from solver.run.machine import choose_fusion
from solver.terminal import Bar, console

METHOD = "filtered direct simulation"


def generate_flow(
    recipe_path: Path,
    out: Path | None = None,
    trajectories: int | None = None,
    quiet: bool = False,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the trajectories of a recipe, finish a set that was interrupted, or add to one that has fewer; collective.

    Parameters
    ----------
    recipe_path : TOML file, or the name of a shipped recipe.
    out : the folder, ``data/<recipe>`` by default; of several grids each has a set in it.
    trajectories : instead of the recipe's.
    overrides : of its keys, ``key.path=value``.

    Returns
    -------
    dict : ``path``, ``sha256``, ``samples`` (trajectories), ``snapshots`` (of each), ``method``, and of this call
        ``made``, ``seconds``, ``samples_per_second``; of a channel `facts_of`.

    Raises
    ------
    CaseError : the recipe is wrong, or the ranks cannot be divided into groups of its size.
    RunFolderError : the folder cannot be written, holds another set, or another process is making it; the stored run
        cannot be read.
    Diverged : a flow blew up or became laminar.
    """
    recipes = load_flow_recipes(recipe_path, trajectories, overrides)
    target = out if out is not None else Path("data") / recipe_path.stem
    check_target(target)
    start = time.monotonic()
    recipe = next(iter(recipes.values()))
    done = {"path": str(target), "samples": recipe.trajectories, "snapshots": recipe.sampling.snapshots}
    done |= {"method": METHOD, "made": 0, "seconds": 0.0, "samples_per_second": 0.0}
    sha, origin = ranks.broadcast(_finished(target, recipes) if ranks.is_root() else None)
    if sha:
        return done | {"sha256": sha}
    with lock.held(target, is_file=True):
        sha, made = _make(FlowStore(target, recipes, origin), recipe, quiet)
    seconds = time.monotonic() - start
    found = {"sha256": sha, "made": made, "seconds": seconds, "samples_per_second": made / seconds}
    return done | found | (facts_of(target) if ranks.is_root() else {})


def _finished(target: Path, recipes: Recipes) -> tuple[str, str]:
    """The checksum of the set if it is there, made by these very recipes, else ""; and that of the flow it starts from.

    Of a finished set the run that it started from may be gone.
    """
    start = next(iter(recipes.values())).start
    made = is_set(target) and is_of_sets(target) == ("" not in recipes)
    inputs = [manifest(target / name).get("inputs", {}) if made and is_set(target / name) else {} for name in recipes]
    wanted = [recipe.model_dump(mode="json") for recipe in recipes.values()]
    same = [told.get("recipe") for told in inputs] == wanted
    if same and start is not None and not Path(start.run).exists():
        return str(manifest(target)["sha256"]), ""
    origin = origin_of(next(iter(recipes.values())))
    same = same and all(told.get(ORIGIN, "") == origin for told in inputs)
    return str(manifest(target)["sha256"]) if same else "", origin


def _make(store: FlowStore, recipe: FlowRecipe, quiet: bool) -> tuple[str, int]:
    """The checksum (on the root) and the number of trajectories made now (collective)."""
    facts = made_by(torch=str(torch.__version__)) if ranks.is_root() else {}
    todo = ranks.broadcast(store.begin(facts) if ranks.is_root() else [])
    points = int(np.prod(recipe.case(0).build_grid().shape)) // recipe.farm.ranks
    device = ranks.choose_device(recipe.run.device).type
    fusion.enable(choose_fusion(recipe.run.fuse, points, None, device))
    end, whole = recipe.sampling.end, recipe.trajectories
    with Bar(whole * end, (whole - len(todo)) * end, console(quiet)) as bar, torch.no_grad():
        progress = FlowProgress(recipe, bar, whole - len(todo))

        def work(number: int, comm: object) -> int:
            Trajectory(number, store, comm).run(progress.reach)
            return number

        longest_first = sorted(todo, key=store.snapshots_of)  # else ranks wait for a busy root
        farm(longest_first, work, lambda number: progress.reach(number, end), recipe.farm.ranks)
    return store.finish(facts) if ranks.is_root() else "", len(todo)


class FlowProgress:
    """How far all trajectories have come in simulated time.

    Parameters
    ----------
    recipe : whose trajectories.
    bar : shows it.
    complete : trajectories that were made before.
    """

    def __init__(self, recipe: FlowRecipe, bar: Bar, complete: int = 0) -> None:
        self.recipe, self.bar, self.complete = recipe, bar, complete
        self.reached: dict[int, float] = {}

    def reach(self, trajectory: int, t: float) -> None:
        """A trajectory has come to time `t`."""
        end = self.recipe.sampling.end
        if trajectory not in self.reached and t < end:
            self.bar.already += t  # that far it may have come before; a step counts little
        self.reached[trajectory] = t
        complete = self.complete + sum(t >= end * (1 - 1e-9) for t in self.reached.values())
        detail = f"{complete}/{self.recipe.trajectories} trajectories  {self.bar.rate / end:.2g} samples/s"
        self.bar.reach(self.complete * end + sum(self.reached.values()), detail)

"""Making a set of filtered trajectories: shared among groups of ranks, resumable at any moment.

A trajectory depends on the recipe, the run it starts from, its own number, and on how many ranks compute it, which the
recipe says: so the content of the file does not depend on how many ranks there are in all, on interruptions, or luck.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from closures.data.file import ORIGIN, FlowFile
from closures.data.grid_set import is_flow_set, manifest
from closures.data.grids import load_flow_recipes
from closures.data.inspect import describe_flow
from closures.data.profiles import channel_facts
from closures.data.recipe import FlowRecipe
from closures.data.store import FlowStore, origin_of
from closures.data.trajectory import Trajectory
from solver import __version__
from solver.discretisation import fusion
from solver.errors import RunFolderError
from solver.files import lock
from solver.files.folder import commit
from solver.parallel import ranks
from solver.parallel.task_farm import farm
from solver.run.machine import choose_fusion
from solver.terminal import Bar

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
    out : the file, ``data/<recipe>.h5`` by default; the folder ``data/<recipe>`` where there are several grids.
    trajectories : instead of the recipe's.
    overrides : of its keys, ``key.path=value``.

    Returns
    -------
    ``path``, ``sha256``, ``samples`` (trajectories), ``snapshots`` (of each), ``method``, and of this call ``made``,
    ``seconds``, ``samples_per_second``; of a channel `channel_facts`.

    Raises
    ------
    CaseError : the recipe is wrong, or the ranks cannot be divided into groups of its size.
    RunFolderError : the file cannot be written, exists and is another one, or another process is making it; the stored
        run cannot be read.
    Diverged : a flow blew up or became laminar.
    """
    recipes = load_flow_recipes(recipe_path, trajectories, overrides)
    single = list(recipes) == [""]
    target = out if out is not None else Path("data") / (f"{recipe_path.stem}.h5" if single else recipe_path.stem)
    start = time.monotonic()
    _check_kind(target, single)
    recipe = next(iter(recipes.values()))
    finished = target.exists() if single else is_flow_set(target)
    grows = finished and FlowStore(target, recipes).grows
    if finished and not grows:
        return _already_there(FlowStore(target, recipes), recipe)
    store = FlowStore(target, recipes, ranks.broadcast(origin_of(recipe) if ranks.is_root() else ""))
    if grows:
        for file in store.files.values():
            file.check_origin(file.path, str(describe_flow(file.path).get(ORIGIN, "")))
    with lock.held(target, is_file=True):
        sha, made = _make(store, recipe, grows, quiet)
    seconds = time.monotonic() - start
    counts = {"samples": recipe.trajectories, "snapshots": recipe.sampling.snapshots, "made": made}
    found = {"path": str(target), "sha256": sha, "method": METHOD, "seconds": seconds}
    found |= _facts(store) if ranks.is_root() else {}
    return found | counts | {"samples_per_second": made / seconds}


def _check_kind(target: Path, single: bool) -> None:
    """A file where a folder should be, or the reverse, is another set."""
    if target.exists() and target.is_file() != single:
        wanted = "one file" if single else "a folder with a file for each grid"
        raise RunFolderError(f"{target}: exists, and the recipe makes {wanted}: choose another with --out")


def _facts(store: FlowStore) -> dict[str, float]:
    """`channel_facts` of the file that misses the balance of momentum least: cells that are coarse at the wall miss
    some of it in any flow.
    """
    found = [channel_facts(file.path) for file in store.files.values()]
    return min(found, key=lambda facts: facts.get("imbalance", 0.0))


def _make(store: FlowStore, recipe: FlowRecipe, grows: bool, quiet: bool) -> tuple[str, int]:
    """The checksum (on the root) and the number of trajectories made now (collective)."""
    if ranks.is_root():
        revision, dirty = commit()
        facts = {"version": __version__, "torch": str(torch.__version__), "commit": f"{revision}{'+' if dirty else ''}"}
        store.begin(facts)
    ranks.barrier()
    store.open_rows()
    if grows and ranks.is_root():
        store.adopt()
    ranks.barrier()
    points = int(np.prod(recipe.case(0).build_grid().shape)) // recipe.farm.ranks
    device = ranks.choose_device(recipe.run.device).type
    fusion.enable(choose_fusion(recipe.run.fuse, points, None, device))
    digests: dict[int, Mapping[str, bytes]] = {}
    console = Console(quiet=quiet or not ranks.is_root())
    with Bar(recipe.trajectories * recipe.sampling.end, console=console) as bar, torch.no_grad():
        progress = FlowProgress(recipe, bar)

        def work(number: int, comm: object) -> tuple[int, dict[str, bytes], bool]:
            trajectory = Trajectory(number, store, comm)
            return number, trajectory.run(progress.reach), trajectory.was_complete

        def done(result: tuple[int, dict[str, bytes], bool]) -> None:
            digests[result[0]] = result[1]
            progress.end(result[0], already=result[2])

        longest_first = sorted(range(recipe.trajectories), key=store.snapshots_of)  # else ranks wait for a busy root
        farm(longest_first, work, done, recipe.farm.ranks)
    return store.finish([digests[i] for i in range(len(digests))]) if ranks.is_root() else "", progress.made


def _already_there(store: FlowStore, recipe: FlowRecipe) -> dict[str, Any]:
    """What `generate_flow` returns for a finished set of the same recipe; the run it started from may be gone."""
    here = recipe.start is not None and Path(recipe.start.run).exists()
    origin = origin_of(recipe) if here else ""
    for file in store.files.values():
        found = describe_flow(file.path)
        if found["recipe"] != file.header:
            raise RunFolderError(
                f"{file.path}: exists, and another recipe made it: remove it or choose another with --out"
            )
        if here:
            FlowFile(file.path, file.recipe, origin).check_origin(file.path, str(found.get(ORIGIN, "")))
    sha = str(found["sha256"] if store.single else manifest(store.target)["sha256"])
    kept = {"path": str(store.target), "sha256": sha, "snapshots": recipe.sampling.snapshots}
    now = {"made": 0, "seconds": 0.0, "samples_per_second": 0.0}
    return kept | now | {"samples": recipe.trajectories, "method": METHOD}


class FlowProgress:
    """How far all trajectories have come in simulated time.

    Parameters
    ----------
    recipe : whose trajectories.
    bar : shows it.
    """

    def __init__(self, recipe: FlowRecipe, bar: Bar) -> None:
        self.recipe, self.bar, self.made, self.shown = recipe, bar, 0, 0.0
        self.reached: dict[int, float] = {}

    def end(self, trajectory: int, already: bool) -> None:
        """A trajectory is complete; `already` before this call."""
        if already:
            self.bar.already += self.recipe.sampling.end
        else:
            self.made += 1
        self.reach(trajectory, self.recipe.sampling.end)

    def reach(self, trajectory: int, t: float) -> None:
        """A trajectory has come to time `t`."""
        end, now = self.recipe.sampling.end, time.monotonic()
        if trajectory not in self.reached and t < end:
            self.bar.already += t  # that far it may have come before; a step counts little
        self.reached[trajectory] = t
        if now - self.shown > 0.5 or t >= end:
            self.shown = now
            complete = sum(t >= end * (1 - 1e-9) for t in self.reached.values())
            detail = f"{complete}/{self.recipe.trajectories} trajectories  {self.bar.rate / end:.2g} samples/s"
            self.bar.reach(sum(self.reached.values()), detail)

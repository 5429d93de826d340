"""Making a data set: samples in fixed batches, batches shared among the ranks, resumable at any moment.

A sample depends on the recipe's seed and its own number, a batch's recycled space on that batch alone, and the order
of solution on the whole recipe: so the content of the files does not depend on ranks, interruptions or luck.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from rich.console import Console

from closures.data.folder import MANIFEST, check_space, check_target, drop_empty, is_set, made_by, manifest, shut
from closures.data.generate import generate_flow
from closures.data.grids import is_flow_recipe
from closures.data.rows import LINEAR
from closures.linear_families.family import Family, Parameters
from closures.linear_families.recipe import AUTO, Recipe, load_recipe
from closures.linear_families.sequences.methods import Method, method
from closures.linear_families.sequences.system import LinearSolveError, Solution
from closures.linear_families.sorting import likeness_vectors, path
from closures.linear_families.store import intact, sample_rows, write_batch
from solver.errors import CaseError, RunFolderError
from solver.files import lock
from solver.files.folder import writing
from solver.parallel import ranks
from solver.parallel.task_farm import farm
from solver.terminal import Bar, console


def parameters_of(family: Family, seed: int, sample: int) -> Parameters:
    """The parameters of one sample, drawn from the seed and its number."""
    return family.draw(np.random.default_rng([seed, sample]))


def order_of(recipe: Recipe, family: Family, chosen: Method) -> np.ndarray:
    """The order in which samples are solved: by similarity if the method wants it, else as numbered."""
    if not chosen.sorts or recipe.farm.sorting == "none":
        return np.arange(recipe.samples)
    drawn = [family.likeness(parameters_of(family, recipe.seed, i)) for i in range(recipe.samples)]
    return path(likeness_vectors(drawn, recipe.farm.sorting), recipe.farm.sorting)


def solve_in_turn(
    recipe: Recipe, family: Family, chosen: Method, samples: list[int]
) -> Iterator[tuple[int, Parameters, Solution, float]]:
    """Solve samples one after the other, carrying what the method recycles; with the processor seconds each solve took.

    Raises
    ------
    LinearSolveError : a system was not solved to the tolerance.
    """
    carry: Any = None
    for sample in samples:
        parameters = parameters_of(family, recipe.seed, sample)
        system = family.system(parameters)
        start = time.thread_time()
        found, carry = chosen.solve(system, carry, recipe.solve.tolerance)
        seconds = time.thread_time() - start
        if not found.converged:
            raise LinearSolveError(
                f"sample {sample}: {chosen.name} stopped after {found.iterations} iterations at a relative residual of "
                f"{found.residual:.1e}, not {recipe.solve.tolerance:g}: choose another [solve] method"
            )
        yield sample, parameters, found, seconds


def resolve(recipe: Recipe) -> tuple[Recipe, Family, Method]:
    """The recipe with its method named, its family, and its method."""
    family = recipe.family.build()
    name = family.default_method if recipe.solve.method == AUTO else recipe.solve.method
    solve = recipe.solve.model_copy(update={"method": name})
    chosen = replace(method(name), subspace=solve.subspace, recycle=solve.recycle)
    return recipe.model_copy(update={"solve": solve}), family, chosen


def generate(
    recipe_path: Path,
    out: Path | None = None,
    samples: int | None = None,
    method_name: str | None = None,
    quiet: bool = False,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the data set of a recipe, or finish one that was interrupted; collective.

    Parameters
    ----------
    recipe_path : TOML file, or the name of a shipped recipe, of a linear family or of flows (then see `generate_flow`).
    out : the folder; ``data/<recipe>`` by default.
    samples, method_name : instead of the recipe's; a sample of flows is a trajectory.
    overrides : of its keys, ``key.path=value``.

    Returns
    -------
    dict : ``path``, ``sha256``, ``samples``, ``method``, and of this call ``made``, ``seconds``,
        ``samples_per_second``.

    Raises
    ------
    CaseError : the recipe is wrong.
    RunFolderError : the folder cannot be written, holds another set, or another process is making it.
    LinearSolveError : a system was not solved.
    """
    if is_flow_recipe(recipe_path):
        if method_name is not None:
            raise CaseError(
                f"--method {method_name}: {recipe_path} is about flows, not about linear systems: leave it out"
            )
        return generate_flow(recipe_path, out, samples, quiet, overrides)
    recipe, family, chosen = resolve(load_recipe(recipe_path, samples, method_name, overrides))
    target = out if out is not None else Path("data") / recipe_path.stem
    check_target(target)
    start = time.monotonic()
    inputs = recipe.model_dump(mode="json")
    done = {"path": str(target), "samples": recipe.samples, "method": chosen.name}
    made = ranks.is_root() and is_set(target) and manifest(target).get("inputs") == {"recipe": inputs}
    if ranks.broadcast(made):
        return done | {"sha256": manifest(target)["sha256"], "made": 0, "seconds": 0.0, "samples_per_second": 0.0}
    with lock.held(target, is_file=True):
        sha, made = _Batches(recipe, family, chosen, target).make(console(quiet))
    seconds = time.monotonic() - start
    return done | {"sha256": sha, "made": made, "seconds": seconds, "samples_per_second": made / seconds}


class _Batches:
    """The batches of one data set: which samples they hold, and which of them are there."""

    def __init__(self, recipe: Recipe, family: Family, chosen: Method, target: Path) -> None:
        self.recipe, self.family, self.chosen, self.target = recipe, family, chosen, target
        self.header = recipe.model_dump_json()
        self.facts = ranks.broadcast(made_by(numpy=np.__version__, scipy=scipy.__version__) if ranks.is_root() else {})

    def make(self, shown: Console) -> tuple[str, int]:
        """Make what is missing (collective); returns the checksum of all (on the root) and how many are new."""
        todo = ranks.broadcast(self._prepare() if ranks.is_root() else {})
        samples, made = self.recipe.samples, sum(len(batch) for batch in todo.values())
        with Bar(samples, samples - made, shown) as bar:

            def count(batch: int) -> None:
                done = round(bar.done) + batch
                bar.reach(done, f"{done}/{samples} samples  {bar.rate:.3g} samples/s")

            try:
                farm(todo.items(), lambda task, _: self._solve(*task), count)
            finally:
                drop_empty(self.target / "train", self.target)
        return self._shut() if ranks.is_root() else "", made

    def _place(self, batch: int) -> Path:
        return self.target / "train" / f"{batch:05d}.h5"

    def _prepare(self) -> dict[int, list[int]]:
        """Begin or continue the set; returns the batches still to be made (root only)."""
        order = order_of(self.recipe, self.family, self.chosen).tolist()
        size = self.recipe.farm.batch
        batches = {i // size: order[i : i + size] for i in range(0, len(order), size)}
        if self.target.is_dir():
            strange = {path.name for path in self.target.rglob("*.h5")} - {self._place(batch).name for batch in batches}
            if strange:
                raise RunFolderError(
                    f"{self.target}: holds {min(strange)}, which this recipe does not make: choose another with --out"
                )
        todo = {batch: samples for batch, samples in batches.items() if not intact(self._place(batch), self.header)}
        parameters = parameters_of(self.family, self.recipe.seed, 0)
        example = sample_rows(self.family, parameters, np.zeros(self.family.volumes.size), 0, 0.0)
        need = sum(len(batch) for batch in todo.values()) * sum(row.nbytes for row in example.values())
        check_space(self.target, need)
        with writing(self.target):
            (self.target / MANIFEST).unlink(missing_ok=True)
            for left in self.target.glob("train/.*.part"):  # of a write that was killed
                left.unlink(missing_ok=True)
        return todo

    def _solve(self, batch: int, samples: list[int]) -> int:
        """Solve a batch and write it, on whatever rank; returns its size."""
        rows = [
            sample_rows(self.family, parameters, found.x, found.iterations, found.residual)
            for _, parameters, found, _ in solve_in_turn(self.recipe, self.family, self.chosen, samples)
        ]
        told = {"title": self.recipe.title, "seed": self.recipe.seed, "method": self.chosen.name, **self.facts}
        write_batch(self._place(batch), self.family, self.header, samples, rows, told)
        return len(samples)

    def _shut(self) -> str:
        facts = {"kind": LINEAR, "title": self.recipe.title, "samples": self.recipe.samples, "made_by": self.facts}
        inputs = {"recipe": self.recipe.model_dump(mode="json")}
        return shut(self.target, {"": facts | {"method": self.chosen.name, "inputs": inputs}}, {})

"""Making a data set: samples in fixed batches, batches shared among the ranks, resumable at any moment.

A sample depends on the recipe's seed and its own number, a batch's recycled space on that batch alone, and the order
of solution on the whole recipe: so the content of the file does not depend on ranks, interruptions or luck.
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

from closures.data.generate import generate_flow
from closures.data.grids import is_flow_recipe
from closures.linear_families.family import Family, Parameters
from closures.linear_families.inspect import describe
from closures.linear_families.recipe import AUTO, Recipe, load_recipe
from closures.linear_families.sequences.methods import Method, method
from closures.linear_families.sequences.system import LinearSolveError, Solution
from closures.linear_families.sorting import likeness_vectors, path
from closures.linear_families.store import DIGEST, LinearStore, sample_rows
from solver import __version__
from solver.errors import CaseError, RunFolderError
from solver.files import lock
from solver.files.folder import commit
from solver.parallel import ranks
from solver.parallel.task_farm import farm
from solver.terminal import Bar


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
    out : the file; ``data/<recipe>.h5`` by default.
    samples, method_name : instead of the recipe's; a sample of flows is a trajectory.
    overrides : of its keys, ``key.path=value``.

    Returns
    -------
    ``path``, ``sha256``, ``samples``, ``method``, and of this call ``made``, ``seconds``, ``samples_per_second``.

    Raises
    ------
    CaseError : the recipe is wrong.
    RunFolderError : the file cannot be written, exists and is another one, or another process is making it.
    LinearSolveError : a system was not solved.
    """
    if is_flow_recipe(recipe_path):
        if method_name is not None:
            raise CaseError(
                f"--method {method_name}: {recipe_path} is about flows, not about linear systems: leave it out"
            )
        return generate_flow(recipe_path, out, samples, quiet, overrides)
    recipe, family, chosen = resolve(load_recipe(recipe_path, samples, method_name, overrides))
    target = out if out is not None else Path("data") / f"{recipe_path.stem}.h5"
    start = time.monotonic()
    header = recipe.model_dump_json()
    if target.exists():
        return _already_there(target, header)
    with lock.held(target, is_file=True):
        work = _Batches(recipe, family, chosen, LinearStore(target, header))
        todo = work.prepare() if ranks.is_root() else {}
        ranks.barrier()
        work.store.open_rows()
        made = sum(len(batch) for batch in todo.values())
        with Bar(recipe.samples, recipe.samples - made, Console(quiet=quiet or not ranks.is_root())) as bar:

            def record(result: tuple[int, list[str]]) -> None:
                done = round(bar.done) + work.record(*result)
                bar.reach(done, f"{done}/{recipe.samples} samples  {bar.rate:.3g} samples/s")

            farm(todo.items(), lambda task, _: work.solve(*task), record)
        sha = work.store.finish(work.digests) if ranks.is_root() else ""
    seconds = time.monotonic() - start
    return {
        "path": str(target),
        "sha256": sha,
        "samples": recipe.samples,
        "method": chosen.name,
        "made": made,
        "seconds": seconds,
        "samples_per_second": made / seconds,
    }


def _already_there(target: Path, header: str) -> dict[str, Any]:
    """What `generate` returns for a finished file of the same recipe."""
    found = describe(target)
    if found["recipe"] != header:
        raise RunFolderError(f"{target}: exists, and another recipe made it: remove it or choose another with --out")
    keys = ("path", "sha256", "samples", "method")
    return {key: found[key] for key in keys} | {"made": 0, "seconds": 0.0, "samples_per_second": 0.0}


class _Batches:
    """The batches of one data set: which samples they hold, and what is known of them."""

    def __init__(self, recipe: Recipe, family: Family, chosen: Method, store: LinearStore) -> None:
        self.recipe, self.family, self.chosen, self.store = recipe, family, chosen, store
        self.batches: dict[int, list[int]] = {}
        self.digests = np.zeros((recipe.samples, DIGEST), np.uint8)

    def prepare(self) -> dict[int, list[int]]:
        """Begin or continue the file; returns the batches still to be made (root only)."""
        parameters = parameters_of(self.family, self.recipe.seed, 0)
        example = sample_rows(self.family, parameters, np.zeros(self.family.volumes.size), 0, 0.0)
        attributes = {
            "title": self.recipe.title,
            "seed": self.recipe.seed,
            "method": self.chosen.name,
            "version": __version__,
            "commit": str(commit()[0]),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        }
        finished = self.store.begin(self.family, self.recipe.samples, example, attributes)
        order = order_of(self.recipe, self.family, self.chosen).tolist()
        size = self.recipe.farm.batch
        self.batches = {i // size: order[i : i + size] for i in range(0, len(order), size)}
        todo = dict(self.batches)
        for batch, digests in finished.items():
            samples = self.batches.get(batch)
            if samples is not None and self.store.intact(samples, digests):
                self._keep(batch, digests)
                todo.pop(batch, None)
        return todo

    def solve(self, batch: int, samples: list[int]) -> tuple[int, list[str]]:
        """Solve a batch and write it; on whatever rank."""
        rows = [
            sample_rows(self.family, parameters, found.x, found.iterations, found.residual)
            for _, parameters, found, _ in solve_in_turn(self.recipe, self.family, self.chosen, samples)
        ]
        return batch, self.store.write(samples, rows)

    def record(self, batch: int, digests: list[str]) -> int:
        """Note a finished batch (root only); returns its size."""
        self.store.record(batch, digests)
        self._keep(batch, digests)
        return len(digests)

    def _keep(self, batch: int, digests: list[str]) -> None:
        for sample, text in zip(self.batches[batch], digests, strict=True):
            self.digests[sample] = np.frombuffer(bytes.fromhex(text), np.uint8)

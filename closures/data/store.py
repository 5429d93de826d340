"""A set of trajectories while it is made: a file for each on each coarse grid, and one state a trajectory beside them.

One grid is a set, several are a folder of sets. A state is a checkpoint of the direct simulation that says how many
snapshots precede it and what they hash to in each file. It is written after the snapshots it counts are on disk, so a
run killed at any moment goes on without a lost or a doubled one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from closures.data.file import FlowFile
from closures.data.folder import MANIFEST, SPLITS, drop_empty, files_of, shut
from closures.data.grids import Recipes
from closures.data.recipe import FlowRecipe
from closures.data.rows import BEGIN, FLOWS, ORIGIN, Rows, chained
from solver.errors import RunFolderError
from solver.files import checkpoint_file as states
from solver.files.folder import writing
from solver.files.shares import Share
from solver.parallel.ranks import from_root


class FlowStore:
    """The files of a set while it is made, and its states.

    Parameters
    ----------
    target : the folder.
    recipes : what is made, by the name of the grid, which is that of its folder in `target`; the empty name is that of
        `target` itself.
    origin : checksum of the flow that trajectories start from, see `origin_of`.
    """

    def __init__(self, target: Path, recipes: Recipes, origin: str = "") -> None:
        self.target, self.recipes, self.origin = target, recipes, origin
        self.states = target.with_name(f".{target.name}.states")

    @property
    def recipe(self) -> FlowRecipe:
        """What the recipes of all grids say of the flow."""
        return next(iter(self.recipes.values()))

    def files(self, trajectory: int) -> dict[str, FlowFile]:
        """Those of one trajectory, by the name of the grid."""
        return {
            name: FlowFile(self.target / name, recipe, trajectory, self.origin) for name, recipe in self.recipes.items()
        }

    def begin(self, attributes: Mapping[str, Any]) -> list[int]:
        """Go on with what was begun earlier, or with a smaller set, or begin (root only); returns what is to be made.

        Raises
        ------
        RunFolderError : no space, no permission, or the folder holds something else.
        """
        self._refuse_strange()
        every = {number: self.files(number).values() for number in range(self.recipe.trajectories)}
        fresh = [file for files in every.values() for file in files if not file.resume()]
        none = len(fresh) == len(every) * len(self.recipes)
        with writing(self.target), self._nothing_left(fresh, none):
            for name in ("", *self.recipes):  # what is half replaced is not finished
                (self.target / name / MANIFEST).unlink(missing_ok=True)
            if none:
                shutil.rmtree(self.states, ignore_errors=True)
            for file in fresh:
                file.begin(attributes)
            self.states.mkdir(exist_ok=True)
        return [number for number, files in every.items() if not all(file.whole for file in files)]

    def _refuse_strange(self) -> None:
        """Raises RunFolderError if the folder holds what no set of these recipes has."""
        known = {MANIFEST, *(SPLITS if list(self.recipes) == [""] else self.recipes)}
        found = self.target.iterdir() if self.target.is_dir() else ()
        strange = {path.name for path in found if path.name[0] != "."} - known
        numbers = {f"{number:05d}" for number in range(self.recipe.trajectories)}
        for name in self.recipes if self.target.is_dir() else ():
            files = [path for paths in files_of(self.target / name).values() for path in paths]
            strange |= {path.name for path in files if path.exists() and path.stem not in numbers}
        if strange:
            raise RunFolderError(
                f"{self.target}: holds {min(strange)}, which this recipe does not make: choose another with --out"
            )

    @contextlib.contextmanager
    def _nothing_left(self, fresh: list[FlowFile], none: bool) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for file in fresh:
                file.discard()
            if none:
                shutil.rmtree(self.states, ignore_errors=True)
            drop_empty(*(self.target / name for name in self.recipes), self.target)
            raise

    def write(self, trajectory: int, frame: int, rows: Mapping[str, Rows]) -> None:
        """Put one snapshot in its place in each file."""
        for name, file in self.files(trajectory).items():
            file.write(frame, rows[name])

    def chained(self, digests: Mapping[str, bytes], rows: Mapping[str, Rows]) -> dict[str, bytes]:
        """What the snapshots so far and one more hash to, by file."""
        return {name: chained(digests[name], rows[name]) for name in self.recipes}

    @property
    def nothing(self) -> dict[str, bytes]:
        """What no snapshots at all hash to, by file."""
        return dict.fromkeys(self.recipes, BEGIN)

    def keep(
        self,
        trajectory: int,
        comm: Any,
        arrays: Mapping[str, np.ndarray | Share],
        attributes: Mapping[str, Any],
        digests: Mapping[str, bytes],
        count: int,
    ) -> None:
        """Flush the snapshots written so far, then note the state that follows them: a checkpoint; collective.

        Parameters
        ----------
        comm : the ranks of this trajectory.
        arrays, attributes : of the direct simulation; nothing where the trajectory is complete.
        digests : of the snapshots, by file.
        count : how many they are.
        """
        from_root(comm, lambda: self._flush(trajectory))
        found = {**attributes, "case": self.recipe.case(trajectory).model_dump_json()}
        found["count"] = count
        found["digests"] = json.dumps({name: digest.hex() for name, digest in digests.items()})
        states.write(self._state(trajectory), comm, arrays, found)

    def _flush(self, trajectory: int) -> None:
        for file in self.files(trajectory).values():
            file.flush()

    def close(self, trajectory: int, digests: Mapping[str, bytes]) -> None:
        """Give the files of a complete trajectory their names, and forget its state."""
        for name, file in self.files(trajectory).items():
            if not file.whole:
                file.finish(digests[name])
        self._state(trajectory).unlink(missing_ok=True)

    def _state(self, trajectory: int) -> Path:
        return self.states / f"{trajectory:05d}.h5"

    def kept(self, trajectory: int) -> states.Saved | None:
        """The last state of a trajectory; None where there is none, or the snapshots are not those it counts."""
        saved = self._last(trajectory)
        if saved is None:
            return None
        count, claimed = int(saved.attributes["count"]), digests_of(saved)
        if set(claimed) != set(self.recipes):
            return None
        intact = all(file.digest(count) == claimed[name] for name, file in self.files(trajectory).items())
        return saved if intact else None

    def state(self, trajectory: int) -> states.Saved:
        """The last state of a trajectory that is `kept`."""
        return states.read(self._state(trajectory), verify=False)

    def snapshots_of(self, trajectory: int) -> int:
        """How many its last state counts; that they are those is not looked at."""
        saved = self._last(trajectory)
        return 0 if saved is None else int(saved.attributes["count"])

    def _last(self, trajectory: int) -> states.Saved | None:
        if not self._state(trajectory).exists():
            return None
        try:
            saved = states.read(self._state(trajectory))
        except RunFolderError:  # begun anew
            return None
        return saved if "digests" in saved.attributes else None

    def finish(self, made_by: Mapping[str, Any]) -> str:
        """Write the manifests, drop the states (root only); returns the checksum of all."""
        recipe = self.recipe
        counts = {"trajectories": recipe.trajectories, "snapshots": recipe.sampling.snapshots}
        start = {ORIGIN: self.origin} if self.origin else {}
        if spectrum := recipe.initial.spectrum:
            start["spectrum_sha256"] = hashlib.sha256(Path(spectrum).read_bytes()).hexdigest()
        facts: dict[str, Any] = {"kind": FLOWS, "title": recipe.title, **counts, "made_by": made_by, "inputs": start}
        sets = {n: facts | {"inputs": {"recipe": r.model_dump(mode="json"), **start}} for n, r in self.recipes.items()}
        total = shut(self.target, sets, facts)
        shutil.rmtree(self.states, ignore_errors=True)
        return total


def digests_of(saved: states.Saved) -> dict[str, bytes]:
    """What the snapshots that a state counts hash to, by file."""
    return {name: bytes.fromhex(text) for name, text in json.loads(saved.attributes["digests"]).items()}


def origin_of(recipe: FlowRecipe) -> str:
    """Checksum of the checkpoint that ``[start] run`` leads to; empty without.

    Raises
    ------
    RunFolderError : there is none.
    """
    if recipe.start is None:
        return ""
    return states.latest(Path(recipe.start.run)).sha256

"""A set of trajectories while it is made: the file of each coarse grid, and one state a trajectory beside them.

One grid is a file, several are a folder with a file for each and a manifest, which is written last. A state is a
checkpoint of the direct simulation that says how many snapshots precede it and what they hash to in each file. It is
written after the snapshots it counts are on disk, so a run killed at any moment goes on without a lost or a doubled
one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from closures.data.file import BEGIN, ORIGIN, FlowFile, Rows, chained, read_rows
from closures.data.grid_set import MANIFEST, write_manifest
from closures.data.grids import Recipes
from closures.data.recipe import FlowRecipe
from solver.errors import RunFolderError
from solver.files import checkpoint_file as states
from solver.files.folder import write_hdf5, writing
from solver.files.hdf5 import open_hdf5


class FlowStore:
    """The files of a set while it is made, and its states.

    Parameters
    ----------
    target : final name of the file, or of the folder where there are several.
    recipes : what is made, by the name of the grid; the empty name is that of a single file.
    origin : checksum of the flow that trajectories start from, see `origin_of`.
    """

    def __init__(self, target: Path, recipes: Recipes, origin: str = "") -> None:
        self.target, self.origin, self.single = target, origin, list(recipes) == [""]
        paths = {name: target if self.single else target / f"{name}.h5" for name in recipes}
        self.files = {name: FlowFile(paths[name], recipe, origin) for name, recipe in recipes.items()}
        self.states = target.with_name(f".{target.name}.states")

    @property
    def recipe(self) -> FlowRecipe:
        """What the recipes of all grids say of the flow."""
        return next(iter(self.files.values())).recipe

    @property
    def grows(self) -> bool:
        """Whether there is a finished set of fewer trajectories, to be taken over."""
        return all(file.smaller for file in self.files.values())

    def begin(self, attributes: Mapping[str, Any]) -> None:
        """Go on with what was begun earlier, or begin it (root only).

        Raises
        ------
        RunFolderError : no space, no permission, or begun by another recipe or version.
        """
        fresh = [file for file in self.files.values() if not file.resume()]
        with writing(self.target), self._nothing_left(fresh):
            if len(fresh) == len(self.files):
                shutil.rmtree(self.states, ignore_errors=True)
            for file in fresh:
                file.begin(attributes)
            self.states.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def _nothing_left(self, fresh: list[FlowFile]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for file in fresh:
                file.discard()
            if len(fresh) == len(self.files):
                shutil.rmtree(self.states, ignore_errors=True)
            if not self.single:
                with contextlib.suppress(OSError):  # not empty, or never made
                    self.target.rmdir()
            raise

    def adopt(self) -> None:
        """Take over the trajectories of the smaller set that has the final name, if not yet done (root only)."""
        with contextlib.ExitStack() as stack:
            old = {name: stack.enter_context(open_hdf5(file.path)) for name, file in self.files.items()}
            for file, source in zip(self.files.values(), old.values(), strict=True):
                file.check_origin(file.path, str(source.attrs.get(ORIGIN, "")))
            for number in range(min(len(source["checksums"]) for source in old.values())):
                if not self._state(number).exists():
                    for frame in range(self.recipe.sampling.snapshots):
                        self.write(number, frame, {name: read_rows(old[name], number, frame) for name in old})
                    self.keep(number, {}, {}, {name: old[name]["checksums"][number].tobytes() for name in old})

    def open_rows(self) -> None:
        """Learn where the rows lie in the files (every rank)."""
        for file in self.files.values():
            file.open_rows()

    def write(self, trajectory: int, frame: int, rows: Mapping[str, Rows]) -> None:
        """Put one snapshot in its place in each file."""
        for name, file in self.files.items():
            file.write(trajectory, frame, rows[name])

    def chained(self, digests: Mapping[str, bytes], rows: Mapping[str, Rows]) -> dict[str, bytes]:
        """What the snapshots so far and one more hash to, by file."""
        return {name: chained(digests[name], rows[name]) for name in self.files}

    @property
    def nothing(self) -> dict[str, bytes]:
        """What no snapshots at all hash to, by file."""
        return dict.fromkeys(self.files, BEGIN)

    def keep(
        self,
        trajectory: int,
        arrays: Rows,
        attributes: Mapping[str, Any],
        digests: Mapping[str, bytes],
        count: int | None = None,
    ) -> None:
        """Flush the snapshots written so far, then note the state that follows them: a checkpoint.

        Parameters
        ----------
        arrays, attributes : of the direct simulation; nothing where the trajectory is complete.
        digests : of the snapshots, by file.
        count : how many they are; all by default.
        """
        for file in self.files.values():
            file.flush()
        found = {**attributes, "format": states.FORMAT, "case": self.recipe.case(trajectory).model_dump_json()}
        found["count"] = self.recipe.sampling.snapshots if count is None else count
        found["digests"] = json.dumps({name: digest.hex() for name, digest in digests.items()})
        write_hdf5(self._state(trajectory), lambda file: states.fill(file, arrays, found))

    def _state(self, trajectory: int) -> Path:
        return self.states / f"{trajectory:05d}.h5"

    def kept(self, trajectory: int) -> states.Saved | None:
        """The last state of a trajectory; None where there is none, or the snapshots are not those it counts."""
        saved = self._last(trajectory)
        if saved is None:
            return None
        count, claimed = int(saved.attributes["count"]), digests_of(saved)
        if set(claimed) != set(self.files):
            return None
        intact = all(file.digest(trajectory, count) == claimed[name] for name, file in self.files.items())
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

    def finish(self, digests: list[Mapping[str, bytes]]) -> str:
        """Give all files their names, then write the manifest, drop the states (root only); returns the checksum.

        Parameters
        ----------
        digests : of each trajectory, by file.
        """
        if not self.single:
            (self.target / MANIFEST).unlink(missing_ok=True)  # what is half replaced is not finished
        sums = {name: file.finish([one[name] for one in digests]) for name, file in self.files.items()}
        total = sums[""] if self.single else write_manifest(self.target, self.recipe, sums)
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

"""Sets of earlier versions, one file for all trajectories of a grid, as folders."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from closures.data.folder import check_target, made_by, manifest
from closures.data.inspect import verify
from closures.data.opened import opened
from closures.data.recipe import parse_flow_recipe
from closures.data.rows import ORIGIN, read_rows
from closures.data.store import FlowStore
from solver.errors import CaseError
from solver.files import lock

MADE_BY = ("version", "commit", "torch")


def convert(source: Path, target: Path) -> str:
    """Write the trajectories of a file, or of a folder of files, as the set that `solver generate` makes now.

    A set that has fewer than the recipe asks for goes on from there. Returns the checksum of the set.

    Raises
    ------
    RunFolderError : `source` is damaged or no such file, or `target` cannot be written or holds something else.
    CaseError : it has the layout of today.
    """
    paths = {"": source} if source.is_file() else {Path(name).stem: source / name for name in manifest(source)["files"]}
    if not all(path.is_file() for path in paths.values()) or (source.is_dir() and manifest(source)["format"] != 1):
        raise CaseError(f"{source}: is a set of this version already: leave it as it is")
    check_target(target)
    verify(source)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.held(target, is_file=True))
        old = {name: stack.enter_context(opened(path)).files[0] for name, path in paths.items()}
        recipes = {name: parse_flow_recipe(json.loads(file.attrs["recipe"]), str(source)) for name, file in old.items()}
        first = next(iter(old.values()))
        made = made_by() | {key: str(first.attrs[key]) for key in MADE_BY if key in first.attrs}
        store = FlowStore(target, recipes, str(first.attrs.get(ORIGIN, "")))
        for number in store.begin(made):
            for frame in range(store.recipe.sampling.snapshots):
                store.write(number, frame, {name: read_rows(file, number, frame) for name, file in old.items()})
            store.close(number, {name: file["checksums"][number].tobytes() for name, file in old.items()})
        return store.finish(made)

"""The first trajectories and snapshots of a set as a set of its own, compressed: a sample, or what is made so far.

A trajectory depends on the recipe and its number alone, a snapshot on those before it: so this is the file, and has the
checksum, that the recipe makes when it is asked for so many.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from closures.data.file import BEGIN, FORMAT, KIND, ORIGIN, chained, content_digest, read_rows, row_names
from closures.data.layout import lay_out, layout_of
from closures.data.recipe import FlowRecipe, held_out, parse_flow_recipe
from closures.data.store import FlowStore, digests_of
from closures.data.well import DIGEST
from solver.errors import CaseError, RunFolderError
from solver.files.folder import write_hdf5
from solver.files.hdf5 import open_hdf5

MADE = ("version", "torch", "commit", ORIGIN)  # attributes that tell what made the rows


def write_subset(source: Path, target: Path, trajectories: int, snapshots: int | None = None) -> str:
    """Write the subset to `target`; returns its checksum.

    Parameters
    ----------
    source : a finished file, or the name under which one is being made.
    trajectories, snapshots : how many from the first on; all snapshots by default.

    Raises
    ------
    RunFolderError : there is no such file, it is damaged, or `target` cannot be written.
    CaseError : it does not hold so many that are complete.
    """
    part = source.with_name(f".{source.name}.part")
    found = source if source.exists() else part
    if not found.exists():
        raise RunFolderError(f"{source}: no such data file, nor one that is being made: make it with `solver generate`")
    with open_hdf5(found) as old:
        if old.attrs.get("kind") != KIND or old.attrs.get("format") != FORMAT:
            raise RunFolderError(f"{found}: not trajectories of format {FORMAT}: generate the file again")
        whole = parse_flow_recipe(json.loads(old.attrs["recipe"]), str(found))
        recipe = smaller(whole, trajectories, snapshots)
        ended = old["checksums"][()] if found == source else _ended(FlowStore(source, {"": whole}))
        for number in range(trajectories):
            if number >= len(ended) or _digest(old, number, whole.sampling.snapshots) != ended[number].tobytes():
                raise CaseError(f"{found}: trajectory {number} is damaged or not complete: ask for {number}")
        write_hdf5(target, lambda new: _fill(new, old, recipe))
    with open_hdf5(target) as file:
        return bytes(file.attrs["sha256"]).decode()


def smaller(recipe: FlowRecipe, trajectories: int, snapshots: int | None = None) -> FlowRecipe:
    """The recipe with fewer trajectories, the same share of them for tests, and fewer snapshots.

    Raises
    ------
    CaseError : it has not so many.
    """
    count = recipe.sampling.snapshots if snapshots is None else snapshots
    if not (0 < trajectories <= recipe.trajectories and 2 <= count <= recipe.sampling.snapshots):
        raise CaseError(
            f"the set has {recipe.trajectories} trajectories of {recipe.sampling.snapshots} snapshots: "
            f"ask for no more than these, not for {trajectories} of {count}"
        )
    sampling = recipe.sampling.model_copy(update={"snapshots": count})
    test = held_out(recipe.test, recipe.trajectories, trajectories)
    return recipe.model_copy(update={"trajectories": trajectories, "test": test, "sampling": sampling})


def _digest(file: h5py.File, trajectory: int, snapshots: int) -> bytes:
    digest = BEGIN
    for frame in range(snapshots):
        digest = chained(digest, read_rows(file, trajectory, frame))
    return digest


def _ended(store: FlowStore) -> np.ndarray:
    """Digests of the complete trajectories from the first on, of a file that is being made."""
    digests: list[bytes] = []
    whole = store.recipe.sampling.snapshots
    while (saved := store.kept(len(digests))) and int(saved.attributes["count"]) == whole:
        digests.append(digests_of(saved)[""])
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST)


def _fill(new: h5py.File, old: h5py.File, recipe: FlowRecipe) -> None:
    lay_out(new, recipe, layout_of(recipe), compressed=True)
    n_traj, n_steps = recipe.trajectories, recipe.sampling.snapshots
    for name in row_names(new):
        new[name][...] = old[name][:n_traj, :n_steps]
    digests = b"".join(_digest(new, number, n_steps) for number in range(n_traj))
    new["checksums"][...] = np.frombuffer(digests, np.uint8).reshape(n_traj, DIGEST)
    new["statistics/mean"][...] = new["statistics/moments"][()].mean(axis=1).mean(axis=0)
    header = recipe.model_dump_json()
    new.attrs.update({key: old.attrs[key] for key in MADE if key in old.attrs})
    total = content_digest(new["checksums"][()], header, str(old.attrs.get(ORIGIN, "")))
    new.attrs.update(format=FORMAT, kind=KIND, recipe=header, sha256=np.bytes_(total))

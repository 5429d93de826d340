"""A folder of files of trajectories, one for each coarse grid that a direct simulation was filtered to.

``manifest.json`` names the files, and says of each what it is filtered to and what it hashes to; a folder without it
is not finished.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from closures.data.inspect import describe_flow, verify_flow
from closures.data.recipe import FlowRecipe
from solver.errors import RunFolderError
from solver.files.folder import write_json

MANIFEST = "manifest.json"
FORMAT = 1


def is_flow_set(path: Path) -> bool:
    """Whether a folder is a finished set."""
    return (path / MANIFEST).is_file()


def write_manifest(folder: Path, recipe: FlowRecipe, sums: dict[str, str]) -> str:
    """Close a set: name its files and their checksums; returns the checksum of all."""
    total = set_digest(sums)
    facts = {"trajectories": recipe.trajectories, "test": recipe.test, "snapshots": recipe.sampling.snapshots}
    files = {f"{name}.h5": sha for name, sha in sums.items()}
    found = {"format": FORMAT, "title": recipe.title, "sha256": total, **facts, "files": files}
    write_json(folder / MANIFEST, found)
    return total


def set_digest(sums: dict[str, str]) -> str:
    """SHA-256 of a set, from the names of its grids and the checksums of their files."""
    return hashlib.sha256("".join(f"{name} {sums[name]}\n" for name in sorted(sums)).encode()).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """What a set says of itself.

    Raises
    ------
    RunFolderError : no manifest, or one that cannot be read.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT and all(isinstance(sha, str) for sha in found["files"].values()):
            return dict(found)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}): finish it with `solver generate`") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise RunFolderError(f"{path}: damaged, or not of this version: generate the set again")


def files_of(folder: Path) -> list[Path]:
    """The files that the manifest names."""
    return [folder / name for name in manifest(folder)["files"]]


def describe_set(folder: Path) -> dict[str, Any]:
    """The manifest, and of each file the grid, the filter and the size.

    Raises
    ------
    RunFolderError : a file is missing, or is not what the manifest says.
    """
    found = manifest(folder)
    files = {}
    for name, sha in found.pop("files").items():
        told = describe_flow(folder / name)
        if told["sha256"] != sha:
            raise RunFolderError(f"{folder / name}: is not the file that {MANIFEST} names: generate the set again")
        size = f"{told['bytes'] / 2**20:.1f} MiB"
        files[name] = f"{told['filter']}, {size}, sha256 {sha[:16]}"
    return found | {"path": str(folder), "files": files}


def verify_set(folder: Path) -> dict[str, Any]:
    """Recompute every checksum of every file, and that of the set.

    Raises
    ------
    RunFolderError : damaged; the file and its first bad trajectory are named.
    """
    found = manifest(folder)
    sums = {Path(name).stem: verify_flow(folder / name)["sha256"] for name in found["files"]}
    if sums != {Path(name).stem: sha for name, sha in found["files"].items()} or set_digest(sums) != found["sha256"]:
        raise RunFolderError(f"{folder / MANIFEST}: its checksums are not those of the files: generate the set again")
    return {key: found[key] for key in ("trajectories", "snapshots")} | {"files": len(sums), "sha256": found["sha256"]}

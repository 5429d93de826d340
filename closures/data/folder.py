"""A data set is a folder: ``train/``, ``valid/`` and ``test/`` with a file for each trajectory, or batch of samples.

``manifest.json``, written last, names the files with their checksums, and says what they were made from: the recipe
with every default, the flow that they start from, the version. A direct simulation filtered to several grids makes a
folder of such sets, whose manifest names them. Other readers of The Well's layout need no manifest; a set without one
is not finished. The files of earlier versions, one for a whole set, are read as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from solver import __version__
from solver.errors import RunFolderError
from solver.files.folder import commit, write_json

MANIFEST = "manifest.json"
FORMAT = 2
SPLITS = ("train", "valid", "test")


def is_set(path: Path) -> bool:
    """Whether a folder is a finished set, or a finished folder of sets."""
    return (path / MANIFEST).is_file()


def is_of_sets(path: Path) -> bool:
    """Whether it is a finished folder of sets."""
    return is_set(path) and not any("/" in name for name in manifest(path)["files"])


def members(folder: Path) -> list[Path]:
    """The sets, and files of earlier versions, that lie in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".h5" or is_set(path)) if folder.is_dir() else []


def member(folder: Path, name: str) -> Path:
    """The set of a grid in a folder, or its file: of statistics, or of an earlier version."""
    file = folder / f"{name}.h5"
    return file if file.is_file() else folder / name


def files_of(path: Path) -> dict[str, list[Path]]:
    """The files of a set by split, in the order of their numbers; a file is a set of one."""
    if not path.is_dir():
        return {"train": [path]}
    kept = {split: sorted(p for p in (path / split).glob("*.h*5") if p.name[0] != ".") for split in SPLITS}
    return {split: files for split, files in kept.items() if files}


def write_manifest(folder: Path, facts: Mapping[str, Any], sums: Mapping[str, str]) -> str:
    """Close a set: name its files, or the sets in it, and their checksums; returns the checksum of all."""
    total = set_digest(sums)
    write_json(folder / MANIFEST, {"format": FORMAT, "sha256": total, **facts, "files": sums})
    return total


def set_digest(sums: Mapping[str, str]) -> str:
    """SHA-256 of a set, from the names of what is in it, without their endings, and their checksums."""
    lines = sorted(f"{name.removesuffix('.h5')} {sha}\n" for name, sha in sums.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """What a set says of itself; ``files`` are paths in it, or names of the sets in it, with their checksums.

    Raises
    ------
    RunFolderError : no manifest, or one that cannot be read.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] not in (1, FORMAT):  # those of format 1 have files for sets
            raise ValueError(f"format {found['format']}")
        sound = isinstance(found["sha256"], str) and all(
            isinstance(sha, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
            for name, sha in found["files"].items()
        )
        if not (sound and found["files"]):
            raise ValueError("names no files")
        return dict(found)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}): generate the set again") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path}: damaged, or not of this version ({error}): generate the set again") from None


def check_target(target: Path) -> None:
    """Raises RunFolderError for the name of a file: sets are folders."""
    if target.is_file():
        raise RunFolderError(
            f"{target}: is a file, as earlier versions made for a whole set: choose a folder with --out, "
            f"or make one of it: `solver data convert {target} --out {target.with_suffix('')}`"
        )
    if target.suffix == ".h5":
        raise RunFolderError(f"{target}: a data set is a folder now: give --out {target.with_suffix('')}")


def check_space(target: Path, size: int) -> None:
    """Raises RunFolderError unless there is room for so many bytes, before anything is computed."""
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise RunFolderError(
            f"{target}: cannot be written ({size / 2**20:.0f} MiB are needed, {free / 2**20:.0f} are left): "
            "free space or choose another folder with --out"
        )


def drop_empty(*folders: Path) -> None:
    """Remove folders that nothing was written into."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty, or never made
            folder.rmdir()


def made_by(**versions: str) -> dict[str, str]:
    """The version of this code and of what else `versions` names, for a file that is made."""
    revision, dirty = commit()
    return {"version": __version__, "commit": f"{revision}{'+' if dirty else ''}", **versions}


def shut(target: Path, sets: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Write the manifests of finished sets, then of the folder that holds them; returns the checksum of all.

    Parameters
    ----------
    target : the set, or the folder of sets.
    sets : what each says of itself, by the name of its folder in `target`; the empty name is that of `target`.
    facts : what the folder of sets says of itself.
    """
    sums = {}
    for name, told in sets.items():
        folder = target / name
        files = [path for paths in files_of(folder).values() for path in paths]
        sums[name] = write_manifest(folder, told, {str(p.relative_to(folder)): checksum(p) for p in files})
    return sums[""] if list(sums) == [""] else write_manifest(target, facts, sums)


def checksum(path: Path) -> str:
    """What a file that was just made says that its content hashes to."""
    with h5py.File(path, "r") as file:
        return bytes(file.attrs["sha256"]).decode()

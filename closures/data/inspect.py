"""What a finished set holds, and whether it still does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.folder import MANIFEST, checksum, files_of, is_of_sets, is_set, manifest, set_digest
from closures.data.opened import Joined, opened, plain, reading
from closures.data.profiles import channel_facts
from closures.data.rows import FLOWS, LINEAR, ORIGIN, content_digest, digest_of
from solver.errors import RunFolderError

KINDS = (FLOWS, LINEAR, None)  # earlier versions gave linear systems no kind


def describe(path: Path) -> dict[str, Any]:
    """What a set says of itself: attributes, datasets with their shapes, sizes, the checksum that it claims.

    Of a folder of sets its manifest, and of each set the filter and the checksum.

    Raises
    ------
    RunFolderError : missing, no such set, of another version, or with other files than its manifest names.
    """
    if is_of_sets(path):
        found = manifest(path)
        told = {name: describe(path / name) for name in found["files"]}
        _refuse(path, {name: one["sha256"] for name, one in told.items()})
        files = {name: f"{one.get('filter', '')}, sha256 {one['sha256'][:16]}" for name, one in told.items()}
        return found | {"path": str(path), "bytes": sum(one["bytes"] for one in told.values()), "files": files}
    with opened(path, KINDS) as file:
        found = {key: plain(value) for key, value in file.attrs.items()}
        found |= _sizes(file) | {"path": str(path), "datasets": _datasets(file)}
    paths = [one for split in files_of(path).values() for one in split]
    if is_set(path):
        _refuse(path, {str(one.relative_to(path)): checksum(one) for one in paths})
        found |= {key: value for key, value in manifest(path).items() if key not in ("format", "files")}
        found["files"] = {split: len(kept) for split, kept in files_of(path).items()}
    return found | {"bytes": sum(one.stat().st_size for one in paths)}


def _refuse(folder: Path, sums: dict[str, str]) -> None:
    """Raises RunFolderError unless a manifest names just these checksums."""
    claimed = manifest(folder)["files"]
    if differ := sorted(name for name in {*sums, *claimed} if sums.get(name) != claimed.get(name)):
        raise RunFolderError(f"{folder / differ[0]}: is not what {MANIFEST} names: generate the set again")


def _sizes(file: Joined) -> dict[str, Any]:
    if "solver/iterations" not in file:
        n_traj, n_steps = file["statistics/moments"].shape[:2]
        return {"trajectories": n_traj, "snapshots": n_steps}
    iterations = file["solver/iterations"][()]
    counts = {"mean": float(iterations.mean()), "largest": int(iterations.max())}
    return {
        "samples": len(iterations),
        "iterations": counts,
        "largest_residual": float(file["solver/residual"][()].max()),
    }


def _datasets(file: Joined) -> dict[str, Any]:
    """Shape and type of every dataset."""
    names: list[str] = []
    file.files[0].visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: (file[name].shape, str(file[name].dtype)) for name in names}


def verify(path: Path) -> dict[str, Any]:
    """Recompute every checksum of a set, or of every set of a folder, and mean statistics from the snapshots' own.

    Returns
    -------
    dict : ``rows`` (trajectories or samples), ``files`` and ``sha256``.

    Raises
    ------
    RunFolderError : damaged; the file and its first bad trajectory or sample are named.
    """
    if not is_set(path):
        return _verify_file(path)
    found = manifest(path)
    told = {name: verify(path / name) for name in found["files"]}
    _refuse(path, {name: one["sha256"] for name, one in told.items()})
    if set_digest(found["files"]) != found["sha256"]:
        raise RunFolderError(f"{path / MANIFEST}: its checksums are not those of the files: generate the set again")
    rows = [one["rows"] for one in told.values()]
    count = rows[0] if is_of_sets(path) else sum(rows)
    return {"rows": count, "files": sum(one["files"] for one in told.values()), "sha256": found["sha256"]}


def _verify_file(path: Path) -> dict[str, Any]:
    with opened(path, KINDS) as joined, reading(path):
        file = joined.files[0]
        claimed, item = file["checksums"][()], "trajectory" if "statistics/moments" in file else "sample"
        for row, sha in enumerate(claimed):
            if digest_of(file, row) != sha.tobytes():
                raise RunFolderError(f"{path}: damaged ({item} {row} does not match its checksum): generate it again")
        total = content_digest(claimed, *(str(plain(file.attrs.get(key, ""))) for key in ("recipe", ORIGIN)))
        if total != plain(file.attrs["sha256"]):
            raise RunFolderError(f"{path}: damaged (the checksums do not match their sum): generate it again")
        if "statistics/mean" in file:
            mean = file["statistics/moments"][()].mean(axis=(0, 1))
            if not np.allclose(mean, file["statistics/mean"][()], rtol=1e-10, atol=1e-14):
                raise RunFolderError(f"{path}: damaged (the mean profiles are not those of the snapshots)")
    return {"rows": len(claimed), "files": 1, "sha256": total}


def facts_of(path: Path) -> dict[str, float]:
    """`channel_facts` of a set, or of the set of a folder that misses the balance of momentum least: cells that are
    coarse at the wall miss some of it in any flow.
    """
    sets = [path / name for name in manifest(path)["files"]] if is_of_sets(path) else [path]
    return min((channel_facts(one) for one in sets), key=lambda facts: facts.get("imbalance", 0.0))

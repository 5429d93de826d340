"""Deleting runs that are worth nothing any more, and nothing else."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from solver.cli.run_list import Found, find, is_run, products
from solver.errors import RunFolderError
from solver.files.lock import Lock

log = logging.getLogger("solver")


def chosen(folders: Sequence[Path], everything: bool) -> list[Found]:
    """The runs to delete: those named themselves; in a folder of runs the worthless ones, or all.

    Runs at work are never among them.

    Raises
    ------
    RunFolderError : a folder that is not there.
    """
    found: dict[Path, Found] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunFolderError(f"{folder}: no such folder: give a run, or a folder of runs")
        whole = everything or is_run(folder)
        found |= {run.folder.resolve(): run for run in find(folder) if whole or run.is_worthless}
    return [run for run in found.values() if not run.writer]


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, and of what is in folders; what vanishes meanwhile has none."""
    total = 0
    for path in paths:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        for file in inside:
            with contextlib.suppress(OSError):
                total += file.lstat().st_size if not file.is_dir() else 0
    return total


def delete(run: Found) -> bool:
    """Delete what a run has written, and its folder if nothing else is in it; False if somebody writes there now."""
    try:
        claim = Lock(run.folder)
    except RunFolderError as error:
        log.warning("%s", error)
        return False
    try:
        for path in products(run.folder):
            _remove(path, run.folder)
    finally:
        claim.release()
    with contextlib.suppress(OSError):
        run.folder.rmdir()
    return True


def _remove(path: Path, folder: Path) -> None:
    try:
        if path == folder / "run.lock":  # ours, until it is released
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        while (path := path.parent) != folder and not any(path.iterdir()):
            path.rmdir()
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be deleted ({error.strerror}): change its permissions") from None

"""The run folder: the contract between run, training and comparison. Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import datetime
import functools
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from solver import __version__
from solver.case.case import Case
from solver.errors import RunFolderError
from solver.files.hdf5 import VERSION

log = logging.getLogger("solver")
LOCK = "run.lock"  # see `solver.files.lock`
PRODUCTS = (  # of a run, but for the file that makes a folder a run's: it stays until the next run replaces it
    *("summary.json", "case.toml", "log.txt", "timeseries.csv", "statistics.h5"),
    *("scalars.h5", "profiles.csv", "budget.csv", "spectra.csv", "checkpoints", "snapshots", "figures"),
)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the failure to write `path` into one line.

    Raises
    ------
    RunFolderError : it could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either
        reason = str(error).partition("\n")[0]
        raise RunFolderError(
            f"{path}: cannot be written ({reason}): free space or choose another folder with --out"
        ) from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename.

    Raises
    ------
    RunFolderError : the disk is full or the folder cannot be written; nothing half-written stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)  # safetensors makes its files private, results are for the group too
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda target: target.write_text(text, encoding="utf-8"))


def write_hdf5(path: Path, fill: Callable[[h5py.File], object]) -> None:
    """Write an HDF5 file atomically; made in memory, because on a full disk HDF5 crashes the whole process."""
    with h5py.File(path.name, "w", driver="core", backing_store=False, libver=VERSION) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, lambda target: target.write_bytes(image))


def label(file: h5py.File, name: str, array: np.ndarray, dimensions: Iterable[str]) -> h5py.Dataset:
    """Add an array with the scales of its dimensions, so that xarray knows their names and coordinates."""
    return name_dimensions(file, file.create_dataset(name, data=array), dimensions)


def name_dimensions(file: h5py.File, data: h5py.Dataset, dimensions: Iterable[str]) -> h5py.Dataset:
    """Attach the scales of its dimensions to an array; returns it."""
    for place, dimension in enumerate(dimensions):
        data.dims[place].attach_scale(file[dimension])
    return data


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; numbers that are not finite become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write_table(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write named columns as CSV, atomically."""

    def write(target: Path) -> None:
        with target.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows(
                [
                    [f"{x:.10g}" if isinstance(x, float) else x for x in row]
                    for row in zip(*columns.values(), strict=True)
                ]
            )

    write_atomically(path, write)


def run_folder(case: Case, name: str, out: Path | None) -> Path:
    """``runs/<case>-<closure>-<hash of the resolved case>``, or `out`."""
    digest = hashlib.sha256(case.model_dump_json().encode()).hexdigest()[:8]
    return out if out is not None else Path("runs") / f"{name}-{case.closure.name}-{digest}"


def case_of_run(folder: Path) -> str | None:
    """Short name of the case that a run folder is of; None for any other folder."""
    try:
        name: str | None = json.loads((folder / "provenance.json").read_text(encoding="utf-8")).get("case")
        return name
    except (OSError, ValueError, AttributeError):
        return None


def prepare(folder: Path) -> None:
    """Make a folder ready for a new run: what an older run wrote there goes, what others put there stays.

    Raises
    ------
    RunFolderError : it cannot be written, or holds something and no run.
    """
    try:
        remove_unfinished(folder)  # of a run that was killed before it had said what it is
        found = {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()
        if found and "provenance.json" not in found:
            raise RunFolderError(f"{folder}: exists and is not a run folder: choose another with --out")
        for path in (folder / name for name in PRODUCTS):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise RunFolderError(f"{folder}: cannot be written ({reason}): choose another folder with --out") from None


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left behind: see `write_atomically`."""
    for place in (folder, folder / "checkpoints", folder / "snapshots"):
        for path in place.glob(".*.part"):
            path.unlink(missing_ok=True)


def provenance(case: Case, ranks: int, threads: int, device: str, command: str) -> dict[str, Any]:
    """What made this run: commit, versions, machine, seed."""
    versions = {}
    for package in ("torch", "numpy", "scipy", "ducc0", "mpi4py", "h5py"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    revision, dirty = commit()
    return {
        "version": __version__,
        "commit": revision,
        "dirty": dirty,
        "source": source_digest(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "ranks": ranks,
        "threads": threads,
        "device": device,
        "seed": case.initial.seed,
        "command": command,
    }


@functools.cache
def source_digest() -> str:
    """SHA-256 of the code that computes, in this process: two runs of one digest were made by the same code.

    Unlike a commit it knows of changes that are not committed, and not of those to documents and tests.
    """
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for package in ("solver", "closures") for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def source_of(folder: Path) -> str:
    """The digests of the code of all legs of the run in a folder, joined by +; empty where it does not say."""
    try:
        return str(json.loads((folder / "provenance.json").read_text(encoding="utf-8")).get("source") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def commit() -> tuple[str | None, bool | None]:
    """The git commit of this code and whether the tree differs from it; (None, None) outside git.

    An environment may lie in a repository of other things: a commit counts if this file is in it.
    """
    here = Path(__file__)
    git = ["git", "--no-optional-locks", "-C", str(here.parent)]
    ours = ["rev-parse", "--quiet", "--verify", f"HEAD:./{here.name}"]
    try:
        subprocess.run([*git, *ours], capture_output=True, check=True, timeout=10)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head.stdout.strip(), bool(status.stdout.strip())


def processor() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def to_toml(value: Mapping[str, Any], prefix: str = "") -> str:
    """A nested mapping as TOML: scalars first, then tables."""
    lines = [f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items() if not isinstance(v, Mapping)]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, table in value.items():
        if isinstance(table, Mapping):
            name = f"{prefix}{_toml_key(key)}"
            text += f"\n[{name}]\n" + to_toml(table, f"{name}.")
    return text


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else repr(value)

"""``python -m tests.kill_runs FIRST LAST``: kill commands at random, run them again, and see that nothing is lost.

A seed chooses one to three moments at which a command gets `kill -9`: after a random time, or inside a write (after
half of a file, before or after it is flushed or renamed). After each kill every file that has its final name is whole,
and the newest checkpoint is no older than before. The command given once more comes to its end, with the numbers of a
command that nobody killed. Kinds by seed: a run, a run on two ranks, a data set, a training, a comparison.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from solver.cli.main import main
from solver.figures.results import read_table
from solver.files.checkpoint_file import checkpoints, read
from tests import runs

DATA = """\
title = "Tiny"
seed = 104_729
samples = 14
[family]
kind = "darcy"
shape = [12, 10]
[solve]
method = "skr"
[farm]
batch = 2
"""
TRAINING = """\
title = "tiny"
[matrices]
cells = 8
geometries = 2
vectors = 10
group = 5
samples = 8
validation = 2
[operator]
name = "npsdo"
levels = 2
[optimiser]
rate = 5e-3
[loop]
epochs = 3
batch = 1
device = "cpu"
[card]
trained_on = "two cubes"
"""
REFERENCE = """\
y_over_h,y_plus,U_plus,uu_plus,vv_plus,ww_plus,uv_plus
0,0,0,0,0,0,0
0.5,50,6.4,4,1,2,-0.5
1,100,7.2,1,1,1,0
"""
SETS = ("--set", "output.checkpoint=1e-6", "--set", "output.snapshot=1.0", "--set", "time.end=6.0")
PLANES = 29
WRITES = 40  # a kill inside a write is inside one of the first so many
SECONDS = 3.0  # and one by the clock comes that soon


def arm(number: int) -> None:
    """From now on the `number`-th write of this process is its last; of planes into a file, each `PLANES`-th counts."""
    left, planes = number, 0

    def pulled() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if pulled():
                _die()
            found = original(*args, **kwargs)
            if pulled():
                _die()
            return found

        return wrapped

    def half(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(where: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
            if pulled():
                original(where, data[: len(data) // 2], *args, **kwargs)
                _die()
            return original(where, data, *args, **kwargs)

        return wrapped

    def now_and_then(original: Callable[..., int]) -> Callable[..., int]:
        trap = half(original)

        def wrapped(file: int, data: Any, offset: int) -> int:
            nonlocal planes
            planes += 1
            return (original if planes % PLANES else trap)(file, data, offset)

        return wrapped

    os.replace, os.fsync, os.pwrite = deadly(os.replace), deadly(os.fsync), now_and_then(os.pwrite)
    Path.write_bytes, Path.write_text = half(Path.write_bytes), half(Path.write_text)  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Kind:
    """What is killed: the words of the command, on how many ranks, and the numbers it should leave."""

    words: Callable[[Path], Sequence[object]]
    numbers: Callable[[Path], dict[str, np.ndarray]]
    ranks: int = 1
    tolerance: float = 1e-9


def of_run(folder: Path) -> dict[str, np.ndarray]:
    """The last checkpoint, the rows and the number of snapshots."""
    found = {f"checkpoint/{k}": a for k, a in runs.arrays(checkpoints(folder / "run")[-1]).items() if "carry" not in k}
    rows = read_table(folder / "run/timeseries.csv")
    count = np.array(len(list((folder / "run/snapshots").glob("*.h5"))))
    return found | {f"rows/{k}": a for k, a in rows.items() if k != "max_divergence"} | {"snapshots": count}


def of_comparison(folder: Path) -> dict[str, np.ndarray]:
    """The errors in the report."""
    rows = json.loads((folder / "report/report.json").read_text())["rows"]
    return {f"{row['label']}/{k}": np.array(v["value"]) for row in rows for k, v in (row["errors"] or {}).items()}


def of_data(folder: Path) -> dict[str, np.ndarray]:
    """Every array of every file of the set."""
    files = sorted((folder / "data").rglob("*.h5"))
    return {f"{path.relative_to(folder)}/{k}": a for path in files for k, a in runs.arrays(path).items()}


def run_words(folder: Path) -> Sequence[object]:
    """One command that begins and goes on."""
    return "run", folder, "--out", folder / "run", "--restart", "auto", "--quiet", *SETS


KINDS = (
    Kind(run_words, of_run),
    Kind(run_words, of_run, ranks=2),
    Kind(
        lambda folder: ("generate", folder / "data.toml", "--out", folder / "data"),
        of_data,
    ),
    Kind(
        lambda folder: ("train", folder / "training.toml", "--out", folder / "net", "--quiet"),
        lambda folder: load_file(folder / "net/weights.safetensors"),
        tolerance=1e-5,
    ),
    Kind(
        lambda folder: ("compare", folder, "--closures", "none,wale", "--out", folder / "report", *SETS),
        of_comparison,
    ),
)


def prepare(folder: Path) -> Path:
    """A folder with what all kinds need."""
    runs.write_case(folder)
    (folder / "table.csv").write_text(REFERENCE)
    with (folder / "case.toml").open("a") as file:
        file.write('[reference]\nname = "made up"\nprofiles = "table.csv"\n')
    (folder / "data.toml").write_text(DATA)
    (folder / "training.toml").write_text(TRAINING)
    return folder


def launch(kind: Kind, folder: Path, write: int = 0) -> Any:
    """Begin the command in a process group of its own; `write` is the one that kills it, 0 for none."""
    words = [*map(str, kind.words(folder))]
    if kind.ranks > 1:
        command = [sys.executable, "-m", "tests.kill_runs", "--armed", str(write), *words]
        mpirun = ["mpirun", "--oversubscribe", "-n", str(kind.ranks), *command]
        environment = os.environ | runs.MPI
        return subprocess.Popen(
            mpirun,
            env=environment,
            cwd=runs.ROOT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def child() -> None:
        os.setsid()
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(runs.ROOT)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = open(folder / "errors.txt", "w")  # noqa: SIM115
        with runs.command_line(*words):
            if write:
                arm(write)
            main()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def finish(process: Any, folder: Path, seconds: float | None) -> int:
    """Wait for the end, or kill it and all it has started after so many `seconds`; returns the exit code."""
    started = time.monotonic()
    popen = isinstance(process, subprocess.Popen)
    code = process.poll() if popen else process.exitcode
    while code is None and time.monotonic() - started < (runs.PATIENCE if seconds is None else seconds):
        time.sleep(0.01)
        code = process.poll() if popen else process.exitcode
    if code is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its group yet
            process.kill()
    if popen:
        (folder / "errors.txt").write_bytes(process.communicate()[1])
        return process.returncode
    process.join()
    return process.exitcode


def whole(folder: Path) -> int:
    """Read every file that has its final name; returns the step of the newest checkpoint, -1 without."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text())
        elif path.suffix == ".csv":
            read_table(path)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.parent.name == "checkpoints" and path.suffix == ".h5":
            read(path)
        elif path.suffix == ".h5":
            runs.arrays(path)
    found = checkpoints(folder / "run")
    return int(found[-1].stem[5:]) if found else -1


def attempt(seed: int, folder: Path, expected: dict[str, np.ndarray]) -> list[str]:
    """Kill the command of a seed once to three times, then let it end; returns what was done.

    Raises
    ------
    AssertionError : something was lost or half-written, or the end is another.
    """
    draw, kind, reached, told = random.Random(seed), KINDS[seed % len(KINDS)], -1, []
    prepare(folder)
    for _ in range(draw.randint(1, 3)):
        write, seconds = (draw.randint(1, WRITES), None) if draw.random() < 0.6 else (0, draw.uniform(0.02, SECONDS))
        code = finish(launch(kind, folder, write), folder, seconds)
        told.append(f"write {write}" if write else f"{seconds:.2f} s")
        newest = whole(folder)
        assert newest >= reached, f"seed {seed}: {told}: checkpoint of step {newest} after {reached}"
        reached = newest
        if code == 0:
            break
    code = finish(launch(kind, folder), folder, None)
    errors = (folder / "errors.txt").read_text()
    assert code == 0, f"seed {seed}: {told}: exit code {code}: {errors}"
    whole(folder)
    found = kind.numbers(folder)
    assert found.keys() == expected.keys(), f"seed {seed}: {told}: {sorted(found.keys() ^ expected.keys())}"
    for name, array in expected.items():
        scale = (
            kind.tolerance * max(float(np.nanmax(np.abs(array), initial=0.0)), 1e-3) if array.dtype.kind == "f" else 0
        )
        np.testing.assert_allclose(found[name], array, rtol=0, atol=scale, err_msg=f"seed {seed}: {told}: {name}")
    return told


def unharmed(kind: int, folder: Path) -> dict[str, np.ndarray]:
    """The numbers of a command that nobody kills."""
    prepare(folder)
    code = finish(launch(KINDS[kind], folder), folder, None)
    assert code == 0, (folder / "errors.txt").read_text()
    return KINDS[kind].numbers(folder)


def campaign(first: int, last: int) -> int:
    """All seeds from `first` to before `last`; the number that failed."""
    failed, expected = 0, {}
    with tempfile.TemporaryDirectory() as base:
        for seed in range(first, last):
            kind = seed % len(KINDS)
            if kind not in expected:
                expected[kind] = unharmed(kind, Path(base) / f"whole-{kind}")
            try:
                print(seed, ", ".join(attempt(seed, Path(base) / str(seed), expected[kind])), flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED {seed}: {type(error).__name__}: {error}", flush=True)
    return failed


if __name__ == "__main__":
    if sys.argv[1] == "--armed":
        number, sys.argv = int(sys.argv[2]), ["solver", *sys.argv[3:]]
        if number:
            arm(number)
        main()
    sys.exit(min(campaign(int(sys.argv[1]), int(sys.argv[2])), 1))

"""Bad input: one line that names key, file and remedy; exit code 2; no traceback; nothing half-written."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from solver.errors import RunFolderError
from solver.files.checkpoint_file import read, write
from solver.parallel import ranks
from solver.run import run as application
from tests import runs

STEPS = ("--steps", 2, "--quiet")


def refused(ended: runs.Ended, *words: str) -> None:
    """One line on standard error that holds the words, exit code 2."""
    lines = ended.err.strip().splitlines()
    assert ended.code == 2, ended.err
    assert len(lines) == 1, ended.err
    assert ended.out == ""
    assert lines[0].startswith("solver: ")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with a short run in it, with two checkpoints."""
    folder = runs.write_case(tmp_path_factory.mktemp("finished"))
    done = runs.solver(
        "run", folder, "--out", folder / "run", "--set", "output.checkpoint=0.1", "--steps", 4, "--quiet"
    )
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A fresh case folder."""
    return runs.write_case(tmp_path)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the short run, to be damaged."""
    return Path(shutil.copytree(finished / "run", tmp_path / "copy"))


SETTINGS = {
    "unknown key": ("flow.viscosity=1", "[flow] unknown key 'viscosity'", "known keys"),
    "near miss": ("grid.y.strecthing=1", "[grid.y] unknown key", "did you mean 'stretching'"),
    "key of another kind": ("grid.x.stretching=1", "[grid.x] unknown key 'stretching'", "known keys: dealias"),
    "unknown table": ("statistic.start=1", "unknown key 'statistic'", "did you mean 'statistics'"),
    "wrong type": ("grid.y.n=8.5", "[grid.y] n = 8.5", "integer"),
    "word for a number": ("flow.nu=small", "[flow] nu = 'small'", "number"),
    "number for a table": ("flow.forcing=3", "[flow] forcing = 3", "table"),
    "not finite": ("flow.nu=nan", "[flow] nu = nan", "finite"),
    "without end": ("time.end=inf", "[time] end = inf", "finite"),
    "a drive that is no number": ("flow.forcing.bulk_velocity=nan", "bulk_velocity = nan", "finite"),
    "negative": ("time.end=-1", "[time] end = -1", "greater than 0"),
    "word in a list": ("output.spectra_at=[0.1, 'wall']", "[output] spectra_at = 'wall'", "number"),
    "odd length": ("grid.x.length=4 tau", "[grid.x] length = '4 tau'", "4 pi"),
    "length by zero": ("grid.x.length=pi / 0", "[grid.x] length", "4 pi"),
    "unknown kind": ("grid.z.kind=wall", "[grid.z] kind = 'wall'", "'fourier', 'finite_volume'"),
    "unknown boundary": ("grid.y.lower=sticky", "[grid.y] lower = 'sticky'", "'free_slip'"),
    "boundary with a typo": ("grid.y.lower={kind='no_slip', speed=1}", "[grid.y.lower]", "known keys: kind, velocity"),
    "inside out": ("grid.y.end=-2", "[grid.y] 'end' = -2", "larger than 'start'"),
    "one cell": ("grid.y.n=1", "[grid.y] n = 1", "greater than or equal to 2"),
    "impossible grid": (
        "grid.y={kind='fourier', n=8, length=1}",
        "[initial] kind = 'wall_turbulence' needs a no-slip wall",
    ),
    "Fourier in y alone": ("grid.x={kind='finite_volume', n=8, end=1.0}", "[grid]", "swap x and z"),
    "average after the end": ("statistics.start=9", "[statistics] start = 9", "before [time] end = 9"),
    "unknown closure": ("closure.name=smagorinski", "[closure] unknown name", "did you mean 'smagorinsky'"),
    "unknown option": ("closure.evry=2", "[closure] unknown option 'evry'", "did you mean 'every'"),
    "wrong option": ("closure.every=often", "[closure] every = 'often'", "integer"),
    "closure as a word": ("closure=wale", "closure = 'wale'", "table"),
    "forcing of a box": ("flow.forcing={kind='held_shells', energies=[1.0]}", "[initial]", "[flow.forcing]"),
    "no drive": ("flow.forcing.bulk_velocity=0", "[initial] kind = 'wall_turbulence'", "along x"),
    "unread": ("initial.thickness=0.3", "[initial] kind = 'wall_turbulence' does not read 'thickness'", "remove it"),
    "no viscosity": ("flow.nu=0", "[initial] kind = 'wall_turbulence' needs nu > 0"),
    "recipe for a box": ("initial.kind=isotropic", "[initial] kind = 'isotropic' needs Fourier axes"),
    "start from nothing": ("initial.kind=run", "[initial] kind = 'run' and the key 'run'", "belong together"),
    "start from nowhere": ("initial={kind='run', run='nowhere'}", "nowhere: no such run folder"),
    "missing reference": ("reference={name='A', profiles='a.csv'}", "[reference] profiles = 'a.csv'", "add the file"),
    "reference elsewhere": ("reference={name='A', profiles='../a.csv'}", "[reference] 'profiles'", "beside the case"),
    "unusable reference": ("reference={name='A', profiles='case.toml'}", "case.toml", "repair"),
    "no device of that name": ("run.device=tpu", "[run] device = 'tpu'", "'cuda'"),
    "no equals sign": ("grid.y.n", "--set grid.y.n", "--set grid.y.n=64"),
    "no key": ("=3", "--set =3", "key.path=value"),
    "below a value": ("title.size=3", "--set title.size=3", "'title' is a value"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(case, name):
    change, *words = SETTINGS[name]
    refused(runs.solver("run", case, "--out", case / "run", "--set", change, *STEPS), *words)
    assert [path.name for path in case.iterdir()] == ["case.toml"]


FILES = {
    "no such case": (lambda case: shutil.rmtree(case), "no such case file", "case.toml"),
    "not TOML": (lambda case: (case / "case.toml").write_text("title = \n"), "not valid TOML", "line 1"),
    "not text": (lambda case: (case / "case.toml").write_bytes(b"\xff\xfe"), "not valid TOML", "case.toml"),
    "nothing in it": (lambda case: (case / "case.toml").write_text(""), "missing key 'title'"),
    "a folder": (lambda case: [(case / "case.toml").unlink(), (case / "case.toml").mkdir()], "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(case, name):
    change, *words = FILES[name]
    change(case)
    refused(runs.solver("run", case, "--out", case / "run", *STEPS), *words)
    assert not (case / "run").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--steps", "0"), ("--steps", "greater than or equal to 1")),
        (("--stepz", "3"), ("No such option", "--steps", "see `solver run --help`")),
        (("--closure", 'a"b'), ("[closure] unknown name 'a\"b'",)),
        (("--restart", "nowhere"), ("nowhere: no such run folder",)),
        (("--out", "/proc/nothing/run"), ("/proc/nothing/run: cannot be written", "--out")),
        (("--out", __file__), ("cannot be written", "--out")),
        (("--out", f"{__file__}/run"), ("cannot be written", "--out")),
        (("--out", str(Path(__file__).parent)), ("exists and is not a run folder", "--out")),
    ],
)
def test_options(case, words, expected):
    refused(runs.solver("run", case, *STEPS, *words), *expected)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 EB")])
def test_too_large_for_the_machine(case, monkeypatch, error):
    def build(*_, **__):
        raise error

    monkeypatch.setattr(application, "build", build)
    refused(runs.solver("run", case, "--out", case / "run", *STEPS), "out of memory", "coarser grid")


def test_a_bug_that_speaks_of_memory_keeps_its_traceback(case, monkeypatch):
    def build(*_, **__):
        raise RuntimeError("cannot allocate a name: out of memory for them")

    monkeypatch.setattr(application, "build", build)
    done = runs.solver("run", case, "--out", case / "run", *STEPS)
    assert done.code == 1
    assert "Traceback" in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu(case):
    refused(runs.solver("run", case, "--device", "cuda"), "[run] device = 'cuda'", "'cpu'")


def test_a_run_does_not_replace_the_case_it_reads(run):
    refused(runs.solver("run", run, "--out", run, *STEPS), "folder of the case itself")
    assert len(runs.checkpoints(run)) == 2


def test_a_spectrum_that_cannot_be(tmp_path):
    axis = "kind = 'fourier'\nn = 8\nlength = '2 pi'\n"
    text = "".join(f"[grid.{name}]\n{axis}" for name in "xyz")
    recipe = "[flow]\nnu = 0.01\n[initial]\nkind = 'isotropic'\nspectrum = 'E.csv'\n[time]\nend = 1.0\n"
    (tmp_path / "case.toml").write_text(f"title = 'box'\n{text}{recipe}")
    (tmp_path / "E.csv").write_text("k,E\n1,1\n2,-1\n3,0.1\n")
    refused(runs.solver("run", tmp_path, "--out", tmp_path / "run", *STEPS), "[initial] spectrum", "negative")
    (tmp_path / "E.csv").write_text("wave,E\n1,1\n2,1\n")
    refused(runs.solver("run", tmp_path, "--out", tmp_path / "run", *STEPS), "E.csv", "lacks the column 'k'")
    assert not (tmp_path / "run").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def flip(path: Path) -> None:
    """Change one bit in the middle of a field."""
    with h5py.File(path) as file:
        place = file["velocity/u"].id.get_offset() + file["velocity/u"].id.get_storage_size() // 2
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def poison(path: Path) -> None:
    """A checkpoint that is whole, of a field that is not finite."""
    saved = read(path)
    arrays = {name: np.array(a) for name, a in saved.arrays.items()}
    fields = {name: a * float("nan") if name.startswith("velocity") else a for name, a in arrays.items()}
    saved.close()
    write(path, ranks.alone(), fields, saved.attributes)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_damaged_checkpoint(finished, run, damage):
    """It is named and the previous one is used; with none left, one line."""
    _, second = runs.checkpoints(run)
    damage(second)
    done = runs.solver("run", finished, "--restart", run, "--steps", 2)
    assert done.code == 0, done.err
    assert f"{second}: damaged checkpoint" in done.err
    assert "trying the previous one" in done.err
    assert "restarted from step 3" in done.err
    assert runs.summary(run)["steps"] == 5
    assert [path.name for path in runs.checkpoints(run)] == ["step_00000003.h5", "step_00000005.h5"]
    for path in runs.checkpoints(run):
        damage(path)
    done = runs.solver("run", finished, "--restart", run, *STEPS)
    assert done.code == 2
    assert "no usable checkpoint" in done.err.splitlines()[-1]
    refused(runs.solver("run", finished, "--restart", runs.checkpoints(run)[0], *STEPS), "damaged checkpoint")


def test_any_flipped_byte_is_harmless_or_named(finished, tmp_path):
    """Nothing but the good values or a named error comes out of a file with a flipped byte."""
    good = runs.checkpoints(finished / "run")[-1]
    expected, data = read(good), good.read_bytes()
    refusals = 0
    for place in range(41, len(data), len(data) // 150):
        bad = tmp_path / "bad.h5"
        bad.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        found, problem = None, ""
        try:
            found = read(bad)
        except RunFolderError as error:
            problem = str(error)
        if found is None:
            refusals += 1
            assert "bad.h5: damaged checkpoint" in problem
        else:
            assert found.attributes == expected.attributes
            assert all(np.array_equal(found.arrays[name], a, equal_nan=True) for name, a in expected.arrays.items())
    assert refusals > 50


def test_poisoned_checkpoint(finished, run):
    poison(runs.checkpoints(run)[-1])
    refused(runs.solver("run", finished, "--restart", run, *STEPS), "--restart", "not finite")


OTHER_GRIDS = {
    "finer": ("grid.y.n=10", "[grid.y] n was 9 and is 10", "kind = 'run'"),
    "other ends": ("grid.y.end=3.0", "[grid.y] end was 2.0 and is 3.0", "kind = 'run'"),
    "other modes": ("grid.x.dealias=2/3", "[grid.x] dealias was '3/2' and is '2/3'", "kind = 'run'"),
    "other kind": ("grid.z={kind='finite_volume', n=8, end=1.0}", "[grid.z] kind was 'fourier'", "kind = 'run'"),
}


@pytest.mark.parametrize("name", OTHER_GRIDS)
def test_checkpoint_of_another_grid(finished, run, name):
    change, *words = OTHER_GRIDS[name]
    before = sorted(path.read_bytes() for path in run.rglob("*") if path.is_file())
    refused(runs.solver("run", finished, "--restart", run, "--set", change, *STEPS), *words)
    assert sorted(path.read_bytes() for path in run.rglob("*") if path.is_file()) == before


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "interval", "file"),
    [(300, 0, "provenance.json"), (1000, 0, "timeseries.csv"), (9000, 1, "checkpoints/step_00000003.h5")],
)
def test_full_disk(case, size, interval, file):
    sets = ("--set", f"output.checkpoint={interval}", "--set", "output.every_steps=1")
    with small_disk(size):
        done = runs.solver("run", case, "--out", case / "run", *sets, "--quiet")
    refused(done, f"{file}: cannot be written", "free space", "--out")
    summary = case / "run/summary.json"
    assert not summary.exists() or runs.summary(case / "run")["status"] == "failed"
    assert not [path for path in (case / "run").rglob("*") if path.name.endswith(".part")]


def test_other_commands(case, tmp_path):
    (tmp_path / "records.json").write_text("{")
    bench: Callable[..., runs.Ended] = lambda *words: runs.solver("bench", "--no-fuse", "--rounds", 1, *words)  # noqa: E731
    refused(runs.solver("check", case, "--set", "flow.nu=-1"), "[flow] nu = -1")
    refused(runs.solver("plot", tmp_path / "nowhere"), "no run folder")
    refused(runs.solver("view", case), "no run folder", "solver run")
    refused(bench("--grid", "8x8"), "--grid 8x8", "64x96x64")
    refused(bench("--grid", "8x8x8", "--closure", "wael"), "did you mean 'wale'")
    refused(bench("--grid", "8x8x8", "--flow", "pipe"), "--flow pipe")
    refused(bench("--grid", "8x8x8", "--json", tmp_path / "records.json"), "records.json", "another file")
    refused(runs.solver("chekc", case), "chekc")

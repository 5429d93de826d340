"""Legs of a run: which keys may change between them, rows of the time series, and what is the same to the bit."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import h5py
import numpy as np
import pytest
import torch
from pydantic import BaseModel

from solver.case.case import Case, load_case
from solver.errors import CaseError
from solver.figures.results import read_table
from solver.files.checkpoint_file import Saved, checksum, latest, read
from solver.observers import averages, checkpoint
from solver.pressure.tuning import SelfTuning
from solver.run import leg, performance
from tests import runs

QUIET = ("--quiet", "--set", "output.checkpoint=1e-6")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with a trial of eight steps; averages have begun at t = 1, before its end."""
    case = runs.write_case(tmp_path_factory.mktemp("legs"))
    assert runs.solver("run", case, "--out", case / "run", "--steps", 8, *QUIET).code == 0
    return case


@pytest.fixture
def case(origin: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(origin, tmp_path / "case"))


# every key of a case, and what a change of it at a restart does


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """``table.key`` of a model and of the tables in it."""
    for name, found in model.model_fields.items():
        tables = list(models(found.annotation))
        for table in tables:
            yield from keys(table, f"{prefix}{name}.")
        if not tables:
            yield prefix + name


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def test_every_key_of_a_case_has_a_rule():
    """Keys of tables without a rule of their own raise StopIteration here: say in `leg.RULES` what they do."""
    found = {key: leg.rule_of(key) for key in keys(Case)}
    assert len(found) > 60
    assert found["flow.nu"] == found["closure.name"] == found["grid.y.upper.velocity"] == leg.PHYSICS
    assert found["grid.x.n"] == found["initial.seed"] == found["solids.shapes.radius"] == leg.FIXED
    assert {found[f"time.{name}"] for name in ("end", "cfl", "dt", "dt_max")} == {leg.FREE}
    assert {rule.split(".")[0] for rule in leg.RULES} == set(Case.model_fields)


def steps_of(run: Path) -> np.ndarray:
    return read_table(run / "timeseries.csv")["step"]


def last_is(name: str, value: float, tolerance: float = 1e-6) -> Any:
    return lambda run: read_table(run / "timeseries.csv")[name][-1] == pytest.approx(value, rel=tolerance)


EFFECTS = {
    "title": ("title=Other", lambda run: load_case(run)[0].title == "Other"),
    "time.dt": ("time.dt=0.01", last_is("dt", 0.01)),
    "time.dt_max": ("time.dt_max=0.02", last_is("dt", 0.02)),
    "time.cfl": ("time.cfl=0.5", last_is("cfl", 0.5, 0.1)),
    "output.every_steps": ("output.every_steps=1", lambda run: list(steps_of(run)) == [0, 3, 6, 9, 10, 11]),
    "output.snapshot": ("output.snapshot=0.1", lambda run: len(list((run / "snapshots").glob("*.h5"))) > 1),
    "output.checkpoint": ("output.checkpoint=0", lambda run: runs.checkpoints(run)[0].stem == "step_00000008"),
    "output.spectra_at": (
        "output.spectra_at=[0.5]",
        lambda run: len(np.unique(read_table(run / "spectra.csv")["y"])) == 1,
    ),
    "statistics.every_steps": (
        "statistics.every_steps=1",
        lambda run: latest(run).group("statistics")["sampled_at"][0] == runs.summary(run)["time"],
    ),
    "reference": (
        "reference={name='A', c_f=0.01}",
        lambda run: load_case(run)[0].reference.c_f == 0.01,
    ),
    "run.dtype": ("run.dtype=float32", lambda run: latest(run).arrays["velocity/u"].dtype == np.float32),
    "pressure.tolerance": ("pressure.tolerance=1e-6", lambda run: load_case(run)[0].pressure.tolerance == 1e-6),
}  # fmt: skip


@pytest.mark.parametrize("key", EFFECTS)
def test_keys_that_may_change_take_effect(case, key):
    """In the same folder, and averages go on."""
    change, effect = EFFECTS[key]
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 3, *QUIET, "--set", change)
    assert done.code == 0, done.err
    assert effect(case / "run")
    assert runs.summary(case / "run")["averaging_time"] > runs.summary(case / "run")["time"] - 1.5
    assert "anew" not in (case / "run/log.txt").read_text()


REFUSED = {
    "initial.seed": ("initial.seed=5", "[initial] seed was 73311 and is 5", "kind = 'run'"),
    "grid.z.length": ("grid.z.length=3.0", "[grid.z] length", "kind = 'run'"),
    "grid.y.stretching": ("grid.y.stretching=1.0", "[grid.y] stretching was 1.5 and is 1.0", "kind = 'run'"),
    "periodic": ("grid.y={kind='finite_volume', n=9, end=2.0, stretching=1.5, lower='periodic', upper='periodic'}",
                 "[grid.y] lower", "kind = 'run'"),
    "solids": ("solids={shapes=[{kind='sphere', centre=[1, 1, 1], radius=0.2}]}", "needs cells"),
    "statistics.start": ("statistics.start=1.2", "[statistics] start was 1.0 and is 1.2", "averages have begun"),
    "statistics.batches": ("statistics.batches=8", "[statistics] batches was 5 and is 8", "keep it"),
    "time.end": ("time.end=1.5", "beyond [time] end = 1.5"),
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
def test_keys_that_may_not_change_are_refused(case, key):
    before = {path: path.read_bytes() for path in (case / "run").rglob("*") if path.is_file()}
    change, *words = REFUSED[key]
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 3, *QUIET, "--set", change)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert all(word in done.err for word in words), done.err
    assert {path: path.read_bytes() for path in (case / "run").rglob("*") if path.is_file()} == before


def test_averages_that_are_taken_are_not_thrown_away(case):
    text = (case / "case.toml").read_text()
    (case / "case.toml").write_text(text.replace("[statistics]\nstart = 1.0\nevery_steps = 2\nbatches = 5\n", ""))
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 3, *QUIET)
    assert done.code == 2
    assert "averages taken so far would be lost" in done.err


def test_averages_may_begin_anew_later(case):
    t = runs.summary(case / "run")["time"]
    later = ("--set", f"statistics.start={t + 0.5}", "--set", f"time.end={t + 2}")
    done = runs.solver("run", case, "--restart", case / "run", *QUIET, *later)
    assert done.code == 0, done.err
    assert runs.summary(case / "run")["averaging_time"] == pytest.approx(1.5, abs=0.8)
    assert "averages begin anew" in (case / "run/log.txt").read_text()


def test_other_weights_are_another_flow():
    facts = [{"weights_sha256": word * 8} for word in ("0123abcd", "4567abcd")]
    saved = Saved({}, {"closure_facts": json.dumps(facts[0])})
    here, there = leg.Leg(Path("run"), False, saved), leg.Leg(Path("new"), True, saved)
    assert leg.with_weights(here, facts[0]) == here
    with pytest.raises(CaseError, match=r"weights was '0123abcd' and is '4567abcd'.*--out"):
        leg.with_weights(here, facts[1])
    assert not leg.with_weights(there, facts[1]).same_closure


# the same to the bit: same code, same arrays, one rank


@pytest.mark.parametrize("closure", ["dynamic_smagorinsky", "wale"])
def test_two_legs_are_one_run_to_the_bit(tmp_path, closure):
    """With the dynamic model in the middle of its interval; averages to round-off of their sums."""
    case = runs.write_case(tmp_path)
    words = ("--closure", closure, *QUIET)
    assert runs.solver("run", case, "--out", case / "one", "--steps", 20, *words).code == 0
    assert runs.solver("run", case, "--out", case / "two", "--steps", 7, *words).code == 0
    assert runs.solver("run", case, "--restart", case / "two", "--steps", 13, *words).code == 0
    one, two = (runs.arrays(runs.checkpoints(case / name)[-1]) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, array in one.items():
        if name.split("/")[0] in ("velocity", "closure"):
            np.testing.assert_array_equal(two[name], array, err_msg=name)
    runs.assert_same([case / "one/statistics.h5"], [case / "two/statistics.h5"], 1e-12)
    rows = [(case / name / "timeseries.csv").read_text() for name in ("one", "two")]
    assert rows[0] == rows[1]


def test_a_run_names_the_code_of_all_its_legs(tmp_path, monkeypatch):
    case = runs.write_case(tmp_path)
    for n, (code, named) in enumerate((("a", "a"), ("a", "a"), ("b", "a+b"), ("b", "a+b"), ("a", "a+b+a"))):
        monkeypatch.setattr("solver.files.folder.source_digest", lambda code=code: code)
        more = ("--restart", case / "run") if n else ()
        assert runs.solver("run", case, "--out", case / "run", *more, "--steps", 1, *QUIET).code == 0
        assert json.loads((case / "run/provenance.json").read_text())["source"] == named


def test_the_last_row_is_the_last_state(case):
    found, rows = runs.summary(case / "run"), read_table(case / "run/timeseries.csv")
    assert found["final"]["step"] == found["steps"] == rows["step"][-1] == 8
    assert found["final"]["time"] == found["time"]
    assert list(rows["step"]) == [0, 3, 6, 8]
    for name in ("dt", "cfl", "forcing"):
        assert np.isnan(rows[name][0])
        assert rows[name][1:].all()
    assert runs.solver("run", case, "--restart", case / "run", "--steps", 2, *QUIET).code == 0
    assert list(steps_of(case / "run")) == [0, 3, 6, 9, 10]


def test_rows_of_other_columns_survive(case):
    """A leg may have more columns than the one before, or fewer; a row that a kill cut short goes."""
    path = case / "run/timeseries.csv"
    header, *rows = path.read_text().splitlines()
    names = header.split(",")
    energy = names.index("kinetic_energy")
    cut = [[cell for i, cell in enumerate(row.split(",")) if i != energy] for row in (header, *rows)]
    text = "".join(",".join([*row, "c_d" if i == 0 else "1.5"]) + "\n" for i, row in enumerate(cut))
    path.write_text(text + "8,2.5,0.1")
    assert runs.solver("run", case, "--restart", case / "run", "--steps", 2, *QUIET).code == 0
    found = read_table(path)
    assert list(found["step"]) == [0, 3, 6, 9, 10]
    assert list(np.isnan(found["kinetic_energy"])) == [True, True, True, False, False]
    assert list(np.isnan(found["c_d"])) == [False, False, False, True, True]
    assert set(found) == {*names, "c_d"}


# nothing that fails at the end costs the summary


@pytest.mark.parametrize(
    "error", [KeyError("U_plus"), ZeroDivisionError("float division by zero"), CaseError("no table")]
)
def test_a_reference_that_fails_at_the_end_costs_itself_alone(tmp_path, monkeypatch, error):
    def fail(*_: object) -> dict[str, Any]:
        raise error

    case = runs.write_case(tmp_path)
    monkeypatch.setattr(averages, "report", fail)
    done = runs.solver("run", case, "--out", case / "run", "--steps", 8, "--quiet")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert type(error).__name__ in done.err
    found = runs.summary(case / "run")
    assert (found["status"], found["steps"]) == ("stopped", 8)
    assert found["seconds_per_step"] > 0
    assert (case / "run/statistics.h5").is_file()


def test_a_failure_of_all_ranks_at_the_end_leaves_the_summary(tmp_path, monkeypatch):
    def fail(*_: object) -> float:
        raise RuntimeError("the device is gone")

    case = runs.write_case(tmp_path)
    monkeypatch.setattr(performance, "fft_limit", fail)
    done = runs.solver("run", case, "--out", case / "run", "--steps", 2, "--quiet")
    assert done.code == 1
    assert runs.summary(case / "run")["steps"] == 2


# checkpoints that cannot be read are not damaged


def test_a_checkpoint_that_somebody_has_open_is_read(case):
    """A notebook that holds it open locks it; the file is read, and not deleted."""
    newest = runs.checkpoints(case / "run")[-1]

    def notebook() -> None:
        with h5py.File(newest, "a"):
            ready.set()
            done.wait(runs.PATIENCE)

    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=notebook, daemon=True)
    process.start()
    assert ready.wait(runs.PATIENCE)
    try:
        ended = runs.solver("run", case, "--restart", case / "run", "--steps", 1)
    finally:
        done.set()
        process.join(runs.PATIENCE)
    assert ended.code == 0, ended.err
    assert "damaged" not in ended.err
    assert runs.summary(case / "run")["steps"] == 9
    assert newest in runs.checkpoints(case / "run")


def test_a_checkpoint_that_cannot_be_read_is_not_passed_over(case):
    newest = runs.checkpoints(case / "run")[-1]
    newest.unlink()
    newest.mkdir()  # what root, too, cannot read
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 1, *QUIET)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{newest}: cannot be read" in done.err


def test_a_checkpoint_of_another_format_is_not_passed_over(case):
    newest = runs.checkpoints(case / "run")[-1]
    saved = read(newest)
    digest = checksum(saved.arrays, {**saved.attributes, "format": 99})
    saved.close()
    with h5py.File(newest, "r+") as file:
        file.attrs.update(format=99, sha256=digest)
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 1, *QUIET)
    assert done.code == 2
    assert "checkpoint format 99" in done.err
    assert newest.is_file()


# what a checkpoint keeps goes by name


@dataclass
class Arm:
    """Solves at once."""

    def solve(self, rhs: torch.Tensor, out: torch.Tensor) -> object:
        return object()


SLABS = SimpleNamespace(max=lambda value: value)


@pytest.mark.parametrize("others", [("box", "multigrid"), ("multigrid", "krylov", "box", "cg"), ("other",)])
def test_arms_of_a_tuned_solver_go_by_name(others):
    """Those that are still there keep what was learned, wherever they stand; new ones are tried."""
    first = SelfTuning({name: Arm() for name in ("multigrid", "box", "krylov")}, SLABS)
    field = torch.zeros(1)
    for _ in range(20):
        first.solve(field, field)
    second = SelfTuning({name: Arm() for name in others}, SLABS)
    second.restore(first.state())
    before, after = first.summary(), second.summary()
    for name in others:
        assert after[name] == before.get(name, {"solves": 0, "milliseconds": 0.0, "failures": 0})
    for _ in range(20):
        second.solve(field, field)
    assert all(arm["solves"] > 0 for arm in second.summary().values())


@pytest.mark.parametrize("slabs", [(), ("memory",)])
def test_the_layout_of_closure_states_is_declared(slabs):
    """Seen from a rank that is not the root: a field that nobody declares is refused, not guessed at or dropped."""
    mine, theirs = torch.ones(2, 3, 4), np.zeros((2, 3, 4))
    decomposition = SimpleNamespace(size=2, broadcast=lambda own: theirs, agree=bool)
    closure = SimpleNamespace(name="mine", slabs=slabs)
    simulation = SimpleNamespace(operators=SimpleNamespace(decomposition=decomposition), closure=closure)
    if slabs:
        assert checkpoint._of_closure(simulation, "memory", mine).axis == 1
        return
    with pytest.raises(CaseError, match=r"'mine': its state 'memory' differs from rank to rank.*`slabs`"):
        checkpoint._of_closure(simulation, "memory", mine)
    theirs[:] = 1.0
    np.testing.assert_array_equal(checkpoint._of_closure(simulation, "memory", mine), theirs)

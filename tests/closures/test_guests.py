"""Closures of other packages: what they read is all there, and what goes wrong in them bears their name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from closures.compare.runs import read
from closures.registry import registry
from closures.registry.guest_checks import ClosureError
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.run import leg
from tests import runs
from tests.closures import guest_package
from tests.coupling.flows import NU, channel, closure, distance, flow, write


@pytest.fixture(autouse=True)
def guests():
    with torch.no_grad(), guest_package.installed():
        yield


def told(name="told", answer="good", **options):
    """A channel with a guest in it that answers what it is told to."""
    grid = channel()
    return flow(grid, registry.create(name, grid=grid, nu=NU, options={"answer": answer, **options}))


@runs.needs_mpirun
def test_what_a_guest_reads_is_there_on_any_number_of_ranks():
    """A network that reads the whole field was given a part of it, without a word."""
    done = runs.ended(runs.mpirun(3, "-m", "tests.closures.run_guests"))
    assert done.code == 0, done.out + done.err
    assert "ranks 3 compared 11" in done.out


def test_slabs_thinner_than_the_reach_are_refused(monkeypatch):
    grid = channel()
    model = registry.create("neighbours", grid=grid, nu=NU)
    simulation = flow(grid, None)
    slabs = simulation.operators.decomposition
    monkeypatch.setattr(slabs, "size", 9)
    monkeypatch.setattr(slabs, "plane_counts", [1] * 9)
    with pytest.raises(ClosureError, match=r"'neighbours' .* reads 2 planes of its neighbours, which have 1"):
        model.init(simulation.operators)


def test_what_a_guest_declares_for_graphs_is_passed_on(monkeypatch):
    model = told().closure
    assert model.graph_cycle == 0
    monkeypatch.setattr(type(model.closure), "graph_cycle", 3, raising=False)
    assert told().closure.graph_cycle == 3


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("told", "tensor", "gives an object of type Tensor as its term, expected one of EddyViscosity, SubgridStress"),
        (
            "told",
            "shape",
            "gives the shape (14, 9, 10) as EddyViscosity.nu_t, expected (15, 9, 10) = (nx, local",
        ),
        ("told", "broadcast", "gives the shape (1, 9, 1) as EddyViscosity.nu_t, expected (15, 9, 10)"),
        ("told", "single", "gives torch.float32 on cpu as EddyViscosity.nu_t, expected torch.float64 on cpu"),
        ("told", "nan", "gives EddyViscosity.nu_t that is not finite at its first call"),
        ("told", "five", "gives 5 fields as SubgridStress.tau, expected 6"),
        ("told", "array", "gives an object of type ndarray as EddyViscosity.nu_t, expected a tensor"),
        ("told", "edited", "edits the velocity it is handed"),
        ("told", "edited_behind_the_back", "edits the velocity it is handed"),
        ("told", "broken", "failed in __call__: RuntimeError: size mismatch"),
        ("told", "none", "failed in its constructor: KeyError: 'none'"),
        ("alone", "good", "gives an object of type EddyViscosity as the answer of __call__, expected a pair"),
        ("number", "good", "gives an object of type dict as the state of init, expected a dictionary of tensors"),
        ("nameless", "good", "makes an object of type Nameless without a name"),
        ("half", "good", "has correct() but lacks facts, wait(t): see solver.flow.closure.Corrector"),
    ],
)
def test_a_mistake_of_a_guest_is_one_line_in_its_name(name, answer, message):
    with pytest.raises(ClosureError) as error:
        told(name, answer).step()
    said = str(error.value)
    assert said.startswith(f"[closure] '{name}' (tests.closures.guest_package:{name.capitalize()}) ")
    assert message in said
    assert "\n" not in said
    assert (f"guest_package.py, line {line_of('torch.ones(3, 4)')})" in said) == (answer == "broken")


def line_of(text):
    """Where the package says so."""
    lines = Path(guest_package.__file__).read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


def test_a_later_edit_of_the_velocity_is_refused_too(monkeypatch):
    simulation = told()
    simulation.step()
    monkeypatch.setattr(simulation.closure.closure, "answer", guest_package.ANSWERS["edited_coefficients"])
    with pytest.raises(ClosureError, match="edits the velocity it is handed"):
        simulation.step()


def test_a_corrector_of_another_package_corrects():
    plain, grown = told(), told("growing")
    plain.step()
    grown.step()
    for d, factor in ((0, 1.0), (1, 1.1), (2, 1.1)):
        torch.testing.assert_close(grown.velocity.coefficients[d], factor * plain.velocity.coefficients[d])


def behind(folder, name, answer="good", **options):
    """A channel with a network of no use, which leaves the flow to the guest behind it."""
    grid = channel()
    if name == "fallback":
        folder = write(folder, "tensor_basis")
        options = {"each": "stage", "guard": {"size": 1e-9, "patience": 1000}} | options
    else:
        folder = write(folder, "fno", grid, scale=0.0)
    made = {name: "told", f"{name}_options": {"answer": answer}} | options
    return flow(grid, closure("tensor_basis" if name == "fallback" else "fno", folder, grid, **made))


@pytest.mark.parametrize("key", ["base", "fallback"])
def test_a_guest_acts_behind_a_network(tmp_path, key):
    plain, acted = told(), behind(tmp_path, key)
    for _ in range(3):
        plain.step()
        acted.step()
    assert distance(plain, acted) < 1e-13 < distance(plain, flow(channel(), None))
    assert int(acted.closure_state["guard"][0]) == (9 if key == "fallback" else 0)
    assert acted.closure.facts[key]["entry_point"] == "tests.closures.guest_package:Told"
    with pytest.raises(ClosureError, match=r"'told' \(.*\) failed in __call__: RuntimeError: size mismatch"):
        behind(tmp_path, key, "broken").step()


@pytest.mark.parametrize("key", ["base", "fallback"])
def test_a_corrector_behind_a_network_is_refused(tmp_path, key):
    """It was built, and never asked for a correction."""
    with pytest.raises(CaseError, match=rf"^\[closure\] {key} = 'growing': it changes the velocity between steps"):
        behind(tmp_path, key, **{key: "growing"})


def test_states_of_a_guard_and_of_a_guest_are_not_mixed_up(tmp_path):
    with pytest.raises(CaseError, match=r"'clocked' names its state clock, as the guard does"):
        behind(tmp_path, "base", base="clocked")


@pytest.fixture
def weights(tmp_path):
    """Any file that a guest takes."""
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return tmp_path / "weights.bin"


def test_a_run_says_what_the_guest_was_made_of(tmp_path, weights):
    """A package, its version and the checksum of the weights: else a run cannot be made again."""
    case, sets = runs.write_case(tmp_path / "tiny"), ("--set", f"closure.weights='{weights}'")
    done = runs.solver(
        *("run", case, "--closure", "told", "--set", "closure.answer='good'", *sets, "--steps", 1),
        *("--out", tmp_path / "run", "--quiet"),
    )
    assert (done.code, done.err) == (0, "")
    about = json.loads((tmp_path / "run/provenance.json").read_text())["closure"]
    assert about["entry_point"] == "tests.closures.guest_package:Told"
    assert about["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert {"package", "package_version"} <= about.keys()


def test_the_command_line_shows_no_code_of_ours(tmp_path):
    case = runs.write_case(tmp_path / "tiny")
    done = runs.solver(
        *("run", case, "--closure", "told", "--set", "closure.answer='broken'", "--steps", 1),
        *("--out", tmp_path / "run", "--quiet"),
    )
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("solver: [closure] 'told' (tests.closures.guest_package:Told) failed in __call__: ")


SHORT = ("--quiet", "--set", "time.dt=0.05", "--set", "time.end=2", "--set", "statistics.start=0.2")
ENOUGH = "[closure] 'tired' (tests.closures.guest_package:Tired) failed in __call__: RuntimeError: enough"


def tired(folder, *more):
    """The command that runs a channel until the guest in it has enough."""
    return ("run", runs.write_case(folder / "tiny"), "--closure", "tired", "--out", folder / "run", *SHORT, *more)


def assert_failed(run):
    """The summary and the tables say what was before."""
    summary, rows = runs.summary(run), runs.table(run / "timeseries.csv")
    assert (summary["status"], summary["steps"]) == ("failed", 10)
    assert summary["time"] == pytest.approx(0.5)
    assert summary["final"]["time"] == pytest.approx(rows[-1, 1]) == pytest.approx(0.45)
    assert summary["averaging_time"] == pytest.approx(0.3, abs=0.06)
    assert (run / "profiles.csv").is_file()
    assert ENOUGH in (run / "log.txt").read_text()


def test_a_run_that_fails_keeps_what_it_has(tmp_path):
    """Hours of averages went with one error of a closure; the error is the same line as ever."""
    run = tmp_path / "run"
    for _ in range(2):  # where one cannot go on, the same command begins again
        done = runs.solver(*tired(tmp_path))
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.startswith(f"solver: {ENOUGH}")
        assert_failed(run)
    with pytest.raises(RunFolderError, match=r"ended by an error at t = 0\.5: see .*log\.txt"):
        read(run)
    case, _ = load_case(run)
    assert not leg.has_ended(runs.summary(run), case)


def test_a_run_that_has_failed_goes_on_from_its_checkpoint(tmp_path):
    words = tired(tmp_path, "--set", "output.checkpoint=0.2")
    assert runs.solver(*words).code == 2
    assert [path.name for path in runs.checkpoints(tmp_path / "run")] == ["step_00000004.h5", "step_00000008.h5"]
    done = runs.solver(*words)
    assert (done.code, "holds a run (failed at t = 0.5): go on with it" in done.err) == (2, True)
    assert runs.solver(*words, "--restart", "auto").code == 2
    assert_failed(tmp_path / "run")


def test_a_failure_leaves_the_summary_of_what_was_finished(tmp_path):
    words, run = tired(tmp_path), tmp_path / "run"
    assert runs.solver(*words, "--set", "time.end=0.4").code == 0
    before = (run / "summary.json").read_bytes()
    assert runs.solver(*words, "--restart", run).code == 2
    assert (run / "summary.json").read_bytes() == before


@runs.needs_mpirun
@pytest.mark.parametrize("rank", [-1, 0])
def test_ranks_that_fail_together_keep_what_they_have(tmp_path, rank):
    """One that fails alone ends the others, which wait for it."""
    words = tired(tmp_path, "--set", f"closure.rank={rank}")
    done = runs.ended(runs.mpirun(2, "-m", "tests.closures.run_solver", *words))
    assert done.code == 2
    assert f"solver: {ENOUGH}" in done.err
    if rank < 0:
        assert_failed(tmp_path / "run")
    else:
        assert not (tmp_path / "run/summary.json").exists()


def test_check_asks_for_the_contract(tmp_path):
    """One's own closure is asked what the shipped ones are."""
    case = runs.write_case(tmp_path / "tiny")
    done = runs.solver("check", case, "--closure", "told", "--set", "closure.answer='good'")
    assert (done.code, done.err) == (0, "")
    assert all(f"contract: {clause}" in done.out for clause in ("repeats", "restarts", "rests"))
    done = runs.solver("check", case, "--closure", "told", "--set", "closure.answer='at_rest'")
    assert done.code == 2
    assert done.err == "solver: [closure] 'told' does not keep its contract: rests\n"

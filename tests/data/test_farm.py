"""The farm: same content on any number of ranks and after any kill; failures leave nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from closures.data import recipe_file
from closures.linear_families import generate as making
from closures.linear_families.generate import generate, order_of, parameters_of, resolve
from closures.linear_families.inspect import describe, verify
from closures.linear_families.recipe import load_recipe
from closures.linear_families.sequences.system import LinearSolveError
from closures.linear_families.store import content_digest
from solver.errors import CaseError, RunFolderError
from solver.parallel.task_farm import farm
from tests import runs

RECIPE = """\
title = "Tiny"
seed = 104_729
samples = 14
[family]
kind = "darcy"
shape = [12, 10]
[solve]
method = "skr"
[farm]
batch = 4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of four batches, whose method recycles and sorts."""
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE)
    return file


def made(recipe: Path, name: str = "whole.h5") -> dict:
    return generate(recipe, recipe.parent / name, quiet=True)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith((".part", ".journal"))]


def test_the_file_holds_what_the_recipe_says(recipe):
    report = made(recipe)
    path = Path(report["path"])
    loaded, family, method = resolve(load_recipe(recipe))
    assert report["made"] == report["samples"] == 14
    assert method.name == "skr"
    with h5py.File(path) as file:
        assert file.attrs["dataset_name"] == "darcy"
        assert file["dimensions"].attrs["spatial_dims"].tolist() == ["x", "y"]
        assert file["t0_fields"].attrs["field_names"].tolist() == ["permeability", "pressure"]
        for i in range(14):
            parameters = parameters_of(family, loaded.seed, i)
            assert (file["t0_fields/permeability"][i] == parameters["permeability"]).all()
            system = family.system(parameters)
            residual = system.rhs - system.matrix @ file["t0_fields/pressure"][i].ravel()
            assert np.linalg.norm(residual) <= 1.01e-8 * np.linalg.norm(system.rhs)
    assert verify(path)["sha256"] == report["sha256"] == describe(path)["sha256"]
    assert leftovers(recipe.parent) == []
    assert made(recipe)["made"] == 0  # nothing is made twice


@pytest.mark.parametrize(
    "family",
    [
        'kind = "poisson"\nshape = [8, 6]',
        'kind = "helmholtz"\nshape = [8, 6, 4]\nwave_number = [9.0, 12.0]\nmedium = "wave_number"',
        'kind = "thermal"\nshape = [20, 8]',
    ],
)
def test_every_family_by_its_default_method(tmp_path, family):
    file = tmp_path / "r.toml"
    file.write_text(f'title = "t"\nseed = 12_289\nsamples = 5\n[family]\n{family}\n')
    report = made(file)
    assert verify(Path(report["path"]))["largest_residual"] <= 1.01e-8
    other = generate(file, tmp_path / "lu.h5", method_name="direct", quiet=True)
    with h5py.File(report["path"]) as one, h5py.File(other["path"]) as two:
        unknown = one["t0_fields"].attrs["field_names"][-1]
        a, b = one[f"t0_fields/{unknown}"][()], two[f"t0_fields/{unknown}"][()]
    assert abs(a - b).max() < 1e-5 * abs(b).max()
    assert abs(b).max() > 0


@pytest.mark.slow
@runs.needs_mpirun
def test_same_content_on_one_two_and_three_ranks(recipe):
    whole = made(recipe)["sha256"]
    for ranks in (2, 3):
        out = recipe.parent / f"{ranks}.h5"
        done = runs.ended(runs.mpirun(ranks, "-m", "tests.data.run_farm", recipe, out, "0.01"))
        assert done.code == 0, done.err
        assert verify(out)["sha256"] == whole


def launch(recipe: Path, out: Path) -> multiprocessing.process.BaseProcess:
    """`generate` in a fork, which spares it the start, slowly."""

    def child() -> None:
        solve = making.solve_in_turn

        def slowly(*arguments):
            for found in solve(*arguments):
                time.sleep(0.05)
                yield found

        making.solve_in_turn = slowly
        generate(recipe, out, quiet=True)

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    return process


def records(journal: Path) -> list[int]:
    """Batches that a journal has whole lines for."""
    found = []
    for line in journal.read_text().splitlines()[1:] if journal.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line)["batch"])
    return found


def kill_after(recipe: Path, out: Path, journal: Path) -> None:
    """Begin or continue, and kill -9 as soon as one more batch is recorded."""
    before, process = len(records(journal)), launch(recipe, out)
    deadline = time.monotonic() + runs.PATIENCE
    while len(records(journal)) <= before:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not out.exists()


@pytest.mark.slow
def test_three_kills_and_the_same_checksum(recipe):
    """Killed three times, leaving once a torn journal and once a batch that is not what the journal says."""
    whole, out = made(recipe)["sha256"], recipe.parent / "killed.h5"
    journal, part = out.with_name(".killed.h5.journal"), out.with_name(".killed.h5.part")
    loaded, family, method = resolve(load_recipe(recipe))
    kill_after(recipe, out, journal)
    assert records(journal) == [0]
    with journal.open("a") as file:
        file.write('{"batch": 3, "dig')
    kill_after(recipe, out, journal)
    assert records(journal) == [0, 1]
    with h5py.File(part, "r+") as file:
        file["t0_fields/pressure"][order_of(loaded, family, method)[1], 3, 3] += 1e-9
    kill_after(recipe, out, journal)
    assert records(journal) == [0, 1, 0]
    report = generate(recipe, out, quiet=True)
    assert report["made"] == 6  # the last two batches
    assert report["sha256"] == whole == verify(out)["sha256"]
    assert leftovers(recipe.parent) == []


def test_a_full_disk_is_met_before_anything_is_computed(recipe, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(making, "solve_in_turn", None)
    with pytest.raises(RunFolderError, match=r"whole\.h5: cannot be written .*No space left.*--out"):
        made(recipe)
    assert [p.name for p in recipe.parent.iterdir()] == ["tiny.toml"]


def test_a_limit_of_the_file_size_is_met_by_the_real_call(recipe):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(RunFolderError, match="File too large"):
            made(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)
    assert [p.name for p in recipe.parent.iterdir()] == ["tiny.toml"]


def test_another_recipe_does_not_touch_the_file(recipe):
    made(recipe)
    recipe.write_text(RECIPE.replace("104_729", "104_723"))
    with pytest.raises(RunFolderError, match="another recipe made it"):
        made(recipe)


def test_a_file_begun_by_another_recipe_is_not_continued(recipe, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "solve_in_turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(recipe)
    monkeypatch.undo()
    assert sorted(leftovers(recipe.parent)) == [".whole.h5.journal", ".whole.h5.part"]
    recipe.write_text(RECIPE.replace("104_729", "104_723"))
    with pytest.raises(RunFolderError, match="begun by another recipe or version"):
        made(recipe)


def test_a_system_that_is_not_solved_stops_the_farm(recipe, monkeypatch):
    recipe.write_text(RECIPE.replace('"skr"', '"skr"\ntolerance = 1e-30'))
    with pytest.raises(LinearSolveError, match=r"sample \d+: skr stopped after .* choose another \[solve\] method"):
        made(recipe)
    assert not (recipe.parent / "whole.h5").exists()


@pytest.mark.parametrize(
    ("name", "match"), [("t0_fields/pressure", "sample 5 does not match"), ("checksums", "does not match its checksum")]
)
def test_damage_is_found(recipe, name, match):
    path = Path(made(recipe)["path"])
    with h5py.File(path, "r+") as file:
        row = file[name][5]
        row[3] = row[3] + 1
        file[name][5] = row
    with pytest.raises(RunFolderError, match=match):
        verify(path)


def test_a_solution_of_something_else_is_found(recipe):
    """Checksums can be made again; the residual cannot."""
    path = Path(made(recipe)["path"])
    with h5py.File(path, "r+") as file:
        file.attrs["recipe"] = file.attrs["recipe"].replace("104729", "104723")

        file.attrs["sha256"] = np.bytes_(content_digest(file["checksums"][()], file.attrs["recipe"]))
    with pytest.raises(RunFolderError, match="not what its recipe makes"):
        verify(path)


def test_wrong_files_are_named(recipe, tmp_path):
    path = Path(made(recipe)["path"])
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(RunFolderError, match="data format 99, this version reads 1"):
        describe(path)
    with pytest.raises(RunFolderError, match="no such data file"):
        verify(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(RunFolderError, match="not an HDF5 file"):
        verify(tmp_path / "text.h5")


def test_shipped_recipes_are_valid():
    names = list(recipe_file.shipped())
    assert {"darcy_100", "darcy_small"} <= set(names)
    for name in ("darcy_100", "darcy_small", "helmholtz_sweep"):
        loaded, family, method = resolve(load_recipe(Path(name)))
        system = family.system(parameters_of(family, loaded.seed, 0))
        assert method.solve(system, None, loaded.solve.tolerance)[0].converged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "darcy"', 'kind = "darcie"'), r"\[family\] kind = 'darcie': should be one of"),
        (("shape = [12, 10]", "shape = [12]"), r"\[family\] shape = \(12,\)|shape = \[12\]"),
        (("shape = [12, 10]", "shap = [12, 10]"), "unknown key 'shap'; did you mean 'shape'"),
        (('"skr"', '"skrr"'), r"\[solve\] method = 'skrr': .*no such method; did you mean 'skr"),
        (('"skr"', '"skr"\nrecycle = 40'), r"\[solve\] 'recycle' = 40 should be less than 'subspace' = 40"),
        (("batch = 4", "batch = 0"), r"\[farm\] batch = 0"),
        (('"skr"', '"direct"\nrecycle = 10'), r"recycle: does nothing with \[solve\] method = 'direct': remove it"),
        (('"skr"', '"auto"\nsubspace = 80'), "subspace: does nothing with"),
        (("seed = 104_729", ""), "missing key 'seed'"),
        (('"darcy"\nshape = [12, 10]', '"thermal"\nshape = [12, 12]'), "slot fits multiples of 20"),
        (("samples = 14", "samples = "), "not valid TOML"),
    ],
)
def test_bad_recipes_are_one_line(recipe, change, message):
    recipe.write_text(RECIPE.replace(*change))
    with pytest.raises(CaseError, match=message) as caught:
        load_recipe(recipe)
    assert "tiny.toml" in str(caught.value)
    assert "\n" not in str(caught.value).rstrip()


def test_missing_recipe_suggests_a_shipped_one():
    with pytest.raises(CaseError, match="did you mean 'darcy_100'"):
        load_recipe(Path("darcy_10"))


def test_farm_on_one_rank_does_every_task_and_passes_errors_on():
    found: list[int] = []
    farm(range(5), lambda task, group: task * task + group.size, found.append)
    assert found == [1, 2, 5, 10, 17]

    def fail(task, _):
        raise ZeroDivisionError(task)

    with pytest.raises(ZeroDivisionError):
        farm(range(5), fail, found.append)
    with pytest.raises(CaseError, match="cannot be divided into groups of 2"):
        farm(range(5), fail, found.append, ranks_per_task=2)

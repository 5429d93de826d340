"""The farm: same content on any number of ranks and after any kill; failures leave nothing half-written."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from closures.data import recipe_file
from closures.data.folder import MANIFEST, files_of, manifest, shut
from closures.data.inspect import describe
from closures.data.opened import opened
from closures.data.rows import LINEAR, content_digest, row_names
from closures.linear_families import generate as making
from closures.linear_families.generate import generate, order_of, parameters_of, resolve
from closures.linear_families.inspect import verify
from closures.linear_families.recipe import load_recipe
from closures.linear_families.sequences.system import LinearSolveError
from solver.errors import CaseError, RunFolderError
from solver.files.hdf5 import VERSION
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


def made(recipe: Path, name: str = "whole") -> dict:
    return generate(recipe, recipe.parent / name, quiet=True)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob(".*")]


def test_the_file_holds_what_the_recipe_says(recipe):
    report = made(recipe)
    path = Path(report["path"])
    loaded, family, method = resolve(load_recipe(recipe))
    assert report["made"] == report["samples"] == 14
    assert method.name == "skr"
    assert list(manifest(path)["files"]) == [f"train/0000{batch}.h5" for batch in range(4)]
    with opened(path, (LINEAR,)) as file:
        assert file.attrs["dataset_name"] == "darcy"
        assert file["dimensions"].attrs["spatial_dims"].tolist() == ["x", "y"]
        assert file["t0_fields"].attrs["field_names"].tolist() == ["permeability", "pressure"]
        numbers = np.concatenate([batch["dimensions/sample"][()] for batch in file.files])
        assert sorted(numbers) == list(range(14))
        assert numbers.tolist() == order_of(loaded, family, method).tolist()
        for i, number in enumerate(numbers):
            parameters = parameters_of(family, loaded.seed, int(number))
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
    other = generate(file, tmp_path / "lu", method_name="direct", quiet=True)
    with opened(Path(report["path"]), (LINEAR,)) as one, opened(Path(other["path"]), (LINEAR,)) as two:
        assert one["dimensions/sample"][()].tolist() == list(range(5))
        assert two["dimensions/sample"][()].tolist() == list(range(5))
        unknown = one["t0_fields"].attrs["field_names"][-1]
        a, b = one[f"t0_fields/{unknown}"][()], two[f"t0_fields/{unknown}"][()]
    assert abs(a - b).max() < 1e-5 * abs(b).max()
    assert abs(b).max() > 0


@pytest.mark.slow
@runs.needs_mpirun
def test_same_content_on_one_two_and_three_ranks(recipe):
    whole = made(recipe)["sha256"]
    for ranks in (2, 3):
        out = recipe.parent / f"{ranks}"
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


def batches(out: Path) -> list[str]:
    """Those that are there."""
    return [path.name for path in files_of(out).get("train", [])] if out.is_dir() else []


def kill_after(recipe: Path, out: Path) -> None:
    """Begin or continue, and kill -9 as soon as there is one more batch."""
    before, process = len(batches(out)), launch(recipe, out)
    deadline = time.monotonic() + runs.PATIENCE
    while len(batches(out)) <= before:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (out / MANIFEST).exists()


@pytest.mark.slow
def test_two_kills_and_the_same_checksum(recipe):
    """And what a kill left of a write goes, as does a batch that is not what it was."""
    whole, out = made(recipe)["sha256"], recipe.parent / "killed"
    kill_after(recipe, out)
    assert batches(out) == ["00000.h5"]
    (out / "train" / ".00001.h5.1.part").touch()
    kill_after(recipe, out)
    assert batches(out) == ["00000.h5", "00001.h5"]
    with h5py.File(out / "train/00000.h5", "r+") as file:
        file["t0_fields/pressure"][1, 3, 3] += 1e-9
    report = generate(recipe, out, quiet=True)
    assert report["made"] == 10  # the first batch, and the last two
    assert report["sha256"] == whole == verify(out)["sha256"]
    assert leftovers(recipe.parent) == []


def test_a_full_disk_is_met_before_anything_is_computed(recipe, monkeypatch):
    usage = shutil.disk_usage(recipe.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=14 * 2 * 12 * 10 * 8))
    monkeypatch.setattr(making, "solve_in_turn", None)
    with pytest.raises(RunFolderError, match=r"whole: cannot be written .* MiB are needed, .* left\).*--out"):
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
    with pytest.raises(RunFolderError, match=r"00000\.h5: another recipe or version made it"):
        made(recipe)
    recipe.write_text(RECIPE.replace("samples = 14", "samples = 4"))
    with pytest.raises(RunFolderError, match=r"holds 00001\.h5, which this recipe does not make"):
        made(recipe)


def test_a_system_that_is_not_solved_stops_the_farm(recipe, monkeypatch):
    recipe.write_text(RECIPE.replace('"skr"', '"skr"\ntolerance = 1e-30'))
    with pytest.raises(LinearSolveError, match=r"sample \d+: skr stopped after .* choose another \[solve\] method"):
        made(recipe)
    assert not (recipe.parent / "whole").exists()


@pytest.mark.parametrize(
    ("name", "match"), [("t0_fields/pressure", "sample 1 does not match"), ("checksums", "does not match its checksum")]
)
def test_damage_is_found(recipe, name, match):
    path = Path(made(recipe)["path"])
    with h5py.File(path / "train/00002.h5", "r+") as file:
        row = file[name][1]
        row[3] = row[3] + 1
        file[name][1] = row
    with pytest.raises(RunFolderError, match=rf"00002\.h5: damaged .*{match}"):
        verify(path)


def test_a_solution_of_something_else_is_found(recipe):
    """Checksums can be made again; the residual cannot."""
    path = Path(made(recipe)["path"])
    for batch in files_of(path)["train"]:
        with h5py.File(batch, "r+") as file:
            file.attrs["recipe"] = file.attrs["recipe"].replace("104729", "104723")
            file.attrs["sha256"] = np.bytes_(content_digest(file["checksums"][()], file.attrs["recipe"]))
    shut(path, {"": {}}, {})
    with pytest.raises(RunFolderError, match="not what its recipe makes"):
        verify(path)


def test_wrong_files_are_named(recipe, tmp_path):
    path = Path(made(recipe)["path"])
    with h5py.File(path / "train/00000.h5", "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(RunFolderError, match=r"whole: not trajectories of format 1 \(linear systems of format 99\)"):
        describe(path)
    with pytest.raises(RunFolderError, match="no such data set"):
        verify(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(RunFolderError, match="not an HDF5 file"):
        verify(tmp_path / "text.h5")


def test_a_file_from_before_the_folders_is_verified(recipe):
    """All samples in one, in the order of their numbers, without a kind."""
    path, old = Path(made(recipe)["path"]), recipe.parent / "old.h5"
    with opened(path, (LINEAR,)) as file, h5py.File(old, "w", libver=VERSION) as new:
        order = np.argsort(np.concatenate([batch["dimensions/sample"][()] for batch in file.files]))
        for name in row_names(file.files[0]):
            new[name] = file[name][()][order]
            new[name].attrs.update(sample_varying=True, time_varying=False)
        new["checksums"], new["dimensions/sample"] = file["checksums"][()][order], np.arange(14)
        header = file.attrs["recipe"]
        sha = content_digest(new["checksums"][()], header)
        new.attrs.update(format=1, recipe=header, sha256=np.bytes_(sha))
    assert verify(old)["sha256"] == describe(old)["sha256"] == sha
    assert describe(old)["iterations"] == describe(path)["iterations"]


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

"""Trajectories: what the file says is true, it survives kills and ranks, and failures leave nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import t as student_t

from closures.compare.uncertainty import Sample, estimate
from closures.data import generate, recipe_file
from closures.data import store as flow_store
from closures.data.commutator import PAIRS
from closures.data.convert import convert
from closures.data.folder import MANIFEST, files_of, manifest
from closures.data.generate import generate_flow
from closures.data.grids import is_flow_recipe, load_flow_recipes
from closures.data.inspect import describe, verify
from closures.data.layout import MOMENTS
from closures.data.opened import opened
from closures.data.profiles import (
    STATIONARY,
    WALL_STRESS,
    FilteredChannel,
    channel_facts,
    filtered_channel,
)
from closures.data.rows import content_digest, row_names
from closures.data.scaling import scaling
from closures.data.statistics import write_statistics
from closures.data.trajectory import Trajectory
from closures.data.windows import TrajectoryFiles, Windows, split
from closures.operators.domain import Domain, same
from solver.analysis.channel import table_of
from solver.analysis.moments import INDEX, NAMES
from solver.analysis.reference import ChannelReference
from solver.case.case import load_case
from solver.discretisation.calculus import Operators
from solver.errors import CaseError, Diverged, RunFolderError
from solver.flow.closure import SubgridStress
from solver.flow.simulation import Simulation
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip
from solver.grid.grid import Grid
from tests import runs
from tests.data.flows import BOX, CHANNEL, forked, kill_when, listing, write_recipe
from tests.data.stored import as_one_file, begun, from_points, load_flow_recipe, reference_profiles
from tests.grids import minus, norm, operators, orders, project, tendency

SAMPLE = recipe_file.PACKAGE / "data" / "samples" / "channel180_sample.h5"
COMM = operators("box").decomposition.comm


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def channel(tmp_path_factory) -> Path:
    """The channel data set, made once."""
    folder = tmp_path_factory.mktemp("channel")
    return Path(generate_flow(write_recipe(folder), folder / "channel", quiet=True)["path"])


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("box")
    return Path(generate_flow(write_recipe(folder, BOX), folder / "box", quiet=True)["path"])


def recipe_of(file: h5py.File):
    return json.loads(file.attrs["recipe"])


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_windows_reads_the_file(channel, box):
    recipe = load_flow_recipe(write_recipe(channel.parent))
    for path, grid, start, step in ((channel, recipe.coarse_grid, 0.5, 0.25), (box, None, 0.0, 0.1)):
        source = TrajectoryFiles(path)
        assert (source.start, source.step) == pytest.approx((start, step))
        assert len(Windows(source, [0, 1], steps=2)) == 2 * (source.shape[1] - 2)
        assert min(scaling(source, [0], 1, "increment").change) > 0
        if grid is not None:
            assert source.shape == (3, 5, 6, 6, 8, 3)
            assert source.nu.tolist() == [0.002]
            assert json.loads(source.attributes["filter"]) == {"horizontal": "box", "width": 0.7, "vertical": "face"}
            on_modes = [FourierAxis(a.n, a.length, "2/3") if a.is_fourier else a for a in grid.axes]
            assert same(source.domain.describe(), Domain.of(Grid(*on_modes)).describe())


def test_snapshots_are_those_of_the_simulation(channel):
    """Computed again without the farm, the hook or the file: same flow, same filter, evenly spaced in time."""
    recipe = load_flow_recipe(write_recipe(channel.parent))
    run = Trajectory(1, flow_store.FlowStore(channel.parent / "none", {"": recipe}), COMM)
    simulation = run._simulation()
    view = run.flow.views[""]
    with opened(channel) as file:
        for frame in range(3):
            due = 0.5 + 0.25 * frame
            while simulation.t < due - 1e-12:
                simulation.step(wait=due - simulation.t)
                assert simulation.dt > 0.01
            filtered = view.commutator.velocity(simulation.velocity)
            for i, f in enumerate(filtered.centred):
                stored = torch.from_numpy(file["t1_fields/velocity"][1, frame, ..., i].astype(float))
                points = view.commutator.filter.coarse.to_physical(from_points(filtered.operators, stored))
                torch.testing.assert_close(points, f, rtol=0, atol=3e-7)
        assert file["statistics/wall_stress"][1, 2] == pytest.approx(_slope(simulation), rel=1e-12)
        assert not np.array_equal(file["t1_fields/velocity"][0], file["t1_fields/velocity"][1])
    assert {split: [path.name for path in files] for split, files in files_of(channel).items()} == {
        "train": ["00000.h5", "00001.h5"],
        "test": ["00002.h5"],
    }


def _slope(simulation: Simulation) -> float:
    u, y = simulation.velocity.centred[0].mean((0, 2)), simulation.operators.grid.y
    return 0.002 * 0.5 * float(u[0] / (y.centres[0] - y.faces[0]) + u[-1] / (y.faces[-1] - y.centres[-1]))


def test_statistics_equal_those_of_the_snapshots(channel, box):
    for path in (channel, box):
        with opened(path) as file:
            velocity = file["t1_fields/velocity"][()].astype(float)
            moments = dict(zip(MOMENTS, np.moveaxis(file["statistics/moments"][()], 2, 0), strict=True))
            parts = dict(zip("uvw", np.moveaxis(velocity, -1, 0), strict=True))
            for name in ("u", "v", "w", "uu", "vv", "ww", "uv", "uw", "vw"):
                product = np.prod([parts[c] for c in name], axis=0)
                np.testing.assert_allclose(moments[name], product.mean((2, 4)), rtol=0, atol=1e-6, err_msg=name)
            pooled = file["statistics/moments"][0].mean(0)
            np.testing.assert_allclose(file["statistics/mean"][()], pooled, rtol=1e-12, atol=1e-15)
            if "t2_fields/subgrid_stress" in file:
                tau = file["t2_fields/subgrid_stress"][()].astype(float)
                for k, (i, j) in enumerate(PAIRS):
                    np.testing.assert_array_equal(tau[..., i, j], tau[..., j, i])
                    name = f"tau_{'xyz'[i]}{'xyz'[j]}"
                    np.testing.assert_allclose(moments[name], tau[..., i, j].mean((2, 4)), rtol=0, atol=1e-6)
                    assert k == MOMENTS.index(name) - 9
                assert abs(moments["tau_xx"]).max() > 1e-4


def test_energy_of_a_box_is_that_of_its_spectrum(box):
    with opened(box) as file:
        energy = 0.5 * (file["t1_fields/velocity"][()].astype(float) ** 2).sum(-1).mean((2, 3, 4))
        np.testing.assert_allclose(file["statistics/spectrum"][()].sum(-1), energy, rtol=1e-6)
        assert np.all(np.diff(energy) < 0)
        assert file["dimensions/shell"][()].tolist() == pytest.approx(np.arange(6))


def test_forced_turbulence(tmp_path):
    """The shells that the forcing holds are held in the file too: the sharp filter does not touch them."""
    forcing = '[flow.forcing]\nkind = "held_shells"\nenergies = [0.8, 0.4]\n[initial]'
    recipe = write_recipe(tmp_path, BOX.replace("[initial]", forcing))
    made = generate_flow(recipe, tmp_path / "forced", 1, quiet=True)
    with opened(Path(made["path"])) as file:
        spectrum = file["statistics/spectrum"][0]
    np.testing.assert_allclose(spectrum[:, 1:3], np.tile([0.8, 0.4], (4, 1)), rtol=1e-12)
    assert np.all(np.diff(spectrum[:, 3:].sum(-1)) != 0)


def coarse_of(path: Path) -> Operators:
    with opened(path) as file:
        text = write_recipe(path.parent).read_text()
        assert file.attrs["dataset_name"] in text
    return operators(load_flow_recipe(path.parent / "tiny.toml").coarse_grid)


def test_stored_fields_are_solenoidal(channel):
    op = coarse_of(channel)
    with opened(channel) as file:
        staggered = file["t1_fields/staggered_velocity"][()].astype(float)
    for frames in staggered:
        for frame in frames:
            u, v, w = (from_points(op, torch.from_numpy(frame[..., i])) for i in range(3))
            assert float(op.to_physical(op.divergence((u, v, w))).abs().max()) < 1e-5  # single precision


def test_the_stored_stress_closes_the_stored_momentum(tmp_path):
    """From the file alone: the change of the filtered field between snapshots is what the coarse grid makes of the
    field and of tau, to second order in the interval; without tau it never is. A box approximates nothing else.
    """
    closed, open_ = [], []
    for interval in (0.08, 0.04, 0.02):
        text = BOX.replace("interval = 0.1", f"interval = {interval}").replace(
            "spin_up = 0.0", f"spin_up = {0.3 - interval}"
        )
        text = text.replace("[run]", "[store]\nstress = true\n[run]")
        made = generate_flow(write_recipe(tmp_path, text), tmp_path / f"{interval}", 1, True, ["sampling.snapshots=3"])
        op = operators(load_flow_recipe(tmp_path / "tiny.toml").coarse_grid)
        with opened(Path(made["path"])) as file:
            velocity = torch.from_numpy(file["t1_fields/velocity"][0].astype(float))
            stress = torch.from_numpy(file["t2_fields/subgrid_stress"][0, 1].astype(float))
        before, now, after = ([from_points(op, u[..., i].clone()) for i in range(3)] for u in velocity)
        tau = SubgridStress(tuple(op.to_physical(from_points(op, stress[..., i, j].clone())) for i, j in PAIRS))
        change = [(b - a) / (2 * interval) for a, b in zip(before, after, strict=True)]
        for found, term in ((closed, tau), (open_, None)):
            rate = project(op, tendency(op, tuple(now), 0.02, term))
            found.append(norm(op, minus(rate, change)) / norm(op, change))
    assert min(orders(closed)) > 1.8
    assert closed[-1] < 0.01
    assert abs(orders(open_)[-1]) < 0.2
    assert open_[-1] > 5 * closed[-1]


def test_stepped_in_a_moving_frame_it_is_the_same_flow(tmp_path):
    """What is stored is seen at rest: snapshots differ by the error of the steps, which goes with their cube."""
    recipe = write_recipe(tmp_path)
    apart = []
    for cfl in (0.8, 0.4):
        sets = []
        for frame in (0.0, 0.5):
            changed = [f"sampling.cfl={cfl}", f"sampling.frame={frame}", "sampling.snapshots=2", "run.dtype=float64"]
            made = generate_flow(recipe, tmp_path / f"{cfl}_{frame}", 1, True, changed)
            with opened(Path(made["path"])) as file:
                sets.append(file["t1_fields/velocity"][0].astype(float))
        apart.append(np.linalg.norm(sets[1] - sets[0]) / np.linalg.norm(sets[0]))
    assert 0 < apart[1] < 1e-3
    assert apart[0] > 5 * apart[1]


def test_dimensions_have_scales(channel, box):
    """Every dimension of every field names its coordinates: what labelled-array readers look for."""
    for path in (channel, box):
        with opened(path) as file:
            file = file.files[-1]
            names = [f"t1_fields/{n}" for n in file["t1_fields"]] + [f"statistics/{n}" for n in file["statistics"]]
            for name in [*names, *(f"t2_fields/{n}" for n in file["t2_fields"])]:
                for dimension, size in zip(file[name].dims, file[name].shape, strict=True):
                    assert len(dimension) == 1, name
                    assert dimension[0].is_scale
                    assert len(dimension[0]) == size
            labels = [d[0].name.rpartition("/")[2] for d in file["t1_fields/velocity"].dims]
            assert labels == ["trajectory", "time", "x", "y", "z", "component"]


def test_xarray_finds_the_coordinates(channel, box):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    for folder, sides in ((channel, (6, 6, 8)), (box, (8, 8, 8))):
        path = files_of(folder)["train"][1]
        with xarray.open_datatree(path, engine="h5netcdf", phony_dims="sort") as tree, h5py.File(path) as file:
            velocity = tree["t1_fields/velocity"]
            assert velocity.dims == ("trajectory", "time", "x", "y", "z", "component")
            assert velocity.shape[2:5] == sides
            assert not [name for node in tree.subtree for name in node.sizes if name.startswith("phony")]
            y = file["dimensions/y"][()]
            chosen = velocity.sel(trajectory=1, component="z").sel(y=y[2], method="nearest").isel(time=3)
            np.testing.assert_array_equal(chosen.values, file["t1_fields/velocity"][0, 3, :, 2, :, 2])
            mean = tree["statistics/moments"].sel(moment="u").mean(("trajectory", "time"))
            np.testing.assert_allclose(mean.values, file["statistics/mean"][0], rtol=1e-12, atol=1e-15)


def test_a_set_of_one_file_is_read_and_made_a_folder(channel, tmp_path):
    """As earlier versions wrote it: same windows, profiles and parts; as a folder it is the set that is made today."""
    old = as_one_file(channel, tmp_path / "old.h5")
    assert verify(old)["rows"] == 3
    assert describe(old)["snapshots"] == 5
    one, many = TrajectoryFiles(old), TrajectoryFiles(channel)
    assert (one.shape, one.test, one.step) == (many.shape, many.test, many.step) == ((3, 5, 6, 6, 8, 3), (2,), 0.25)
    np.testing.assert_array_equal(one.read(1, slice(1, 4)), many.read(1, slice(1, 4)))
    np.testing.assert_allclose(filtered_channel(old, 2)[1], filtered_channel(channel, 2)[1], rtol=1e-13)
    recipe = write_recipe(tmp_path)
    with pytest.raises(RunFolderError, match=r"old\.h5: is a file, as earlier versions made .* `solver data convert"):
        generate_flow(recipe, old, quiet=True)
    told = runs.solver("data", "convert", old, "--out", tmp_path / "new")
    assert (told.code, told.err) == (0, "")
    assert manifest(tmp_path / "new")["files"] == manifest(channel)["files"]
    assert generate_flow(recipe, tmp_path / "new", quiet=True)["made"] == 0
    with pytest.raises(CaseError, match="is a set of this version already"):
        convert(tmp_path / "new", tmp_path / "other")


def test_a_larger_set_takes_over_a_smaller_one(channel, tmp_path):
    """What was for tests is for training then; the files have the checksums of a set made at once."""
    recipe, out = write_recipe(tmp_path), tmp_path / "set"
    generate_flow(recipe, out, 2, quiet=True)
    assert list(manifest(out)["files"]) == ["train/00000.h5", "test/00001.h5"]
    grown = generate_flow(recipe, out, quiet=True)
    assert (grown["made"], grown["sha256"]) == (1, verify(out)["sha256"])
    assert manifest(out)["files"] == manifest(channel)["files"]
    assert leftovers(tmp_path) == leftovers(out) == []
    with pytest.raises(RunFolderError, match=r"set: holds 00002\.h5, which this recipe does not make"):
        generate_flow(recipe, out, 2, quiet=True)


def test_parts_of_a_set(tmp_path):
    text = CHANNEL.replace("test = 1", "valid = 1\ntest = 1")
    recipe = load_flow_recipe(write_recipe(tmp_path, text))
    assert [recipe.split_of(n) for n in range(3)] == ["train", "valid", "test"]
    for count, kept in ((1, (0, 0)), (2, (0, 1)), (6, (2, 2)), (8, (3, 3))):
        other = load_flow_recipe(write_recipe(tmp_path, text), count)
        assert (other.valid, other.test) == kept
    with pytest.raises(CaseError, match="'valid' = 2 and 'test' = 1 together should be less than 'trajectories' = 3"):
        load_flow_recipe(write_recipe(tmp_path, text.replace("valid = 1", "valid = 2")))


def test_what_has_most_left_is_handed_out_first(tmp_path, monkeypatch):
    """Else the ranks that go on with what is nearly complete wait for the root, which has begun one meanwhile."""
    handed: list[int] = []
    monkeypatch.setattr(generate, "farm", lambda tasks, *_: handed.extend(tasks))
    monkeypatch.setattr(flow_store.FlowStore, "snapshots_of", lambda _, number: [4, 0, 2][number])
    monkeypatch.setattr(flow_store.FlowStore, "finish", lambda *_: "")
    monkeypatch.setattr(generate, "facts_of", lambda _: {})
    generate_flow(write_recipe(tmp_path), tmp_path / "set", quiet=True)
    assert handed == [1, 2, 0]


def test_what_an_unfinished_set_has_can_be_used(channel, tmp_path, monkeypatch):
    """Whole trajectories have their names at once; the set itself is refused until it has all."""
    recipe, out = write_recipe(tmp_path), tmp_path / "set"
    run = Trajectory.run

    def interrupted(self: Trajectory, progress: object) -> None:
        if self.number == 2:
            raise KeyboardInterrupt
        run(self, progress)

    monkeypatch.setattr(Trajectory, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_flow(recipe, out, quiet=True)
    assert [path.name for path in files_of(out)["train"]] == ["00000.h5", "00001.h5"]
    assert verify(files_of(out)["train"][1])["sha256"] == manifest(channel)["files"]["train/00001.h5"]
    with pytest.raises(RunFolderError, match="set: is not finished"):
        filtered_channel(out)
    monkeypatch.undo()
    assert generate_flow(recipe, out, quiet=True)["made"] == 1
    assert manifest(out) == manifest(channel)


def test_reference_profiles_are_in_wall_units(channel):
    """The table is one the solver judges runs by; u_tau is the wall stress of the fine flow."""
    table = reference_profiles(channel)
    with opened(channel) as file:
        u_tau = file["statistics/wall_stress"][()].mean() ** 0.5
        u = file["t1_fields/velocity"][()][..., 0].astype(float)
        y = file["dimensions/y"][()]
    mean, square = (0.5 * (f + f[::-1])[:3] for f in (u.mean((0, 1, 2, 4)), (u**2).mean((0, 1, 2, 4))))
    np.testing.assert_allclose(table["uu_plus"][1:], (square - mean**2) / u_tau**2, rtol=1e-4)
    reference = ChannelReference(table)
    assert reference.re_tau == pytest.approx(u_tau / 0.002)
    assert reference.profile("u_mean", y[1:2])[0] == pytest.approx(table["U_plus"][2])
    assert table["uv_plus"][1] < 0
    evaluator, means = filtered_channel(channel)
    compared = table_of(evaluator, Sample.of([(m, np.ones(1)) for m in means]).mean)  # as `solver compare` would
    for name, column in compared.table.items():
        np.testing.assert_allclose(column, table[name], rtol=1e-12, atol=1e-15, err_msg=name)
    assert compared.bulk * u_tau == pytest.approx(1.0, rel=1e-6)
    _, halves = filtered_channel(channel, batches=2)
    with opened(channel) as file:
        uv = file["statistics/moments"][:, :, MOMENTS.index("uv")]
    assert halves.shape[:2] == (3, 2)
    np.testing.assert_allclose(halves[2, 1, INDEX["uv"], :, 0], uv[2, 2:4].mean(0), rtol=1e-12)
    with pytest.raises(CaseError, match="5 snapshots cannot be cut into 6 batches"):
        filtered_channel(channel, batches=6)


def test_means_of_a_stationary_channel_balance():
    """Viscous, resolved and filtered-out stress add up to ``u_tau^2 (1 - y / h)``; what is missing is seen."""
    y = FiniteVolumeAxis(np.array([0.0, 0.1, 0.3, 0.6, 1.0, 1.4, 1.7, 1.9, 2.0]), NoSlip(), NoSlip())
    channel, means = FilteredChannel(y, 0.01), np.zeros((len(NAMES) + 1, y.n, 1))
    means[WALL_STRESS] = 0.04
    u = means[INDEX["u"], :, 0] = y.centres * (2 - y.centres)
    whole = np.concatenate([[-u[0]], u, [-u[-1]]])  # the wall lies half way
    slopes = np.diff(whole) / np.diff(np.concatenate([[-y.centres[0]], y.centres, [2 + y.centres[0]]]))
    left = 0.04 * (1 - y.centres) - 0.01 * 0.5 * (slopes[1:] + slopes[:-1])
    means[INDEX["uv"], :, 0], means[INDEX["tau_xy"], :, 0] = -0.7 * left, -0.3 * left
    assert channel.imbalance(means) < 1e-14
    means[INDEX["uv"], [2, -3], 0] += 0.002, -0.002
    assert channel.imbalance(means) == pytest.approx(0.05 * 0.3**0.5)  # in three tenths of the half height


def test_another_call_makes_nothing_and_damage_is_found(channel, tmp_path):
    copy = shutil.copytree(channel, tmp_path / "channel")
    recipe = write_recipe(tmp_path)
    assert generate_flow(recipe, copy, quiet=True)["made"] == 0
    assert verify(copy) == {"rows": 3, "files": 3, "sha256": describe(copy)["sha256"]}
    assert {key: describe(copy)[key] for key in ("trajectories", "snapshots")} == {"trajectories": 3, "snapshots": 5}
    with pytest.raises(RunFolderError, match=r"00000\.h5: another recipe or version made it"):
        generate_flow(recipe, copy, quiet=True, overrides=("sampling.snapshots=4",))
    with pytest.raises(RunFolderError, match=r"a\.h5: a data set is a folder now: give --out .*a$"):
        generate_flow(recipe, tmp_path / "a.h5", quiet=True)
    file = files_of(copy)["train"][1]
    shutil.move(file, tmp_path / "kept")
    with pytest.raises(RunFolderError, match=r"00001\.h5: is not what manifest\.json names"):
        describe(copy)
    shutil.move(tmp_path / "kept", file)
    with h5py.File(file, "r+") as data:
        data["t1_fields/velocity"][0, 3, 2, 2, 2, 0] += 1e-3
    with pytest.raises(RunFolderError, match=r"00001\.h5: damaged \(trajectory 0 does not match its checksum"):
        verify(copy)
    with h5py.File(file, "r+") as data:
        data.attrs["format"] = 99
    with pytest.raises(RunFolderError, match="format 99"):
        describe(copy)
    with pytest.raises(RunFolderError, match="no such data set"):
        verify(tmp_path / "none.h5")


@pytest.mark.slow
def test_three_kills_and_the_same_checksum(channel, tmp_path):
    """Killed once in each trajectory at a random moment; then a damaged state and a lost snapshot on top."""
    recipe, out = write_recipe(tmp_path), tmp_path / "killed"
    states = tmp_path / ".killed.states"
    rng = np.random.default_rng(int(time.time()))  # other moments each time: what is claimed is that none matters
    for number, latest in enumerate((5, 5, 3)):
        steps, delay = int(rng.integers(1, latest + 1)), float(rng.uniform(0, 0.11))
        kill_when(forked(recipe, out), states / f"{number:05d}.h5", steps, delay)
    assert not (out / MANIFEST).exists()
    (states / "00002.h5").write_bytes((states / "00002.h5").read_bytes()[:-100])
    part = out / ".00001.part"
    (found,) = [part] if part.exists() else out.glob("*/00001.h5")
    with h5py.File(found, "r+") as file:
        file["t1_fields/velocity"][0, 4, 1, 1, 1, 1] = 0.0
    done = generate_flow(recipe, out, quiet=True)
    if found != part:  # a whole file is not looked into again, until it is verified
        with pytest.raises(RunFolderError, match=r"00001\.h5: damaged"):
            verify(out)
        found.unlink()
        (out / MANIFEST).unlink()
        done = generate_flow(recipe, out, quiet=True)
    assert done["sha256"] == describe(channel)["sha256"] == verify(out)["sha256"]
    assert leftovers(tmp_path) == leftovers(out) == []


@pytest.mark.slow
@runs.needs_mpirun
def test_same_set_on_three_ranks_and_nearly_the_same_on_shared_trajectories(channel, tmp_path):
    """To the bit where each has a rank for itself; to round-off, grown by the flow, where two share one."""
    several = "coarse = [{ n = [6, 6, 8] }, { n = [4, 5, 6] }]\n"
    recipe, out = write_recipe(tmp_path, listing(CHANNEL, several)), tmp_path / "ranks"
    done = runs.ended(runs.mpirun(3, "-m", "tests.data.flows", recipe, out))
    assert done.code == 0, done.err
    assert verify(out / "6x6x8")["sha256"] == describe(channel)["sha256"]
    assert verify(out)["files"] == 6
    shared = write_recipe(tmp_path, CHANNEL.replace("[run]", "[farm]\nranks = 2\n[run]"), "shared")
    done = runs.ended(runs.mpirun(2, "-m", "tests.data.flows", shared, tmp_path / "shared"))
    assert done.code == 0, done.err
    with opened(channel) as one, opened(tmp_path / "shared") as other:
        for name in row_names(one.files[0]):
            scale = np.abs(one[name][()]).max()
            np.testing.assert_allclose(other[name][()], one[name][()], rtol=0, atol=3e-7 * scale, err_msg=name)
    with pytest.raises(CaseError, match="cannot be divided into groups of 2"):
        generate_flow(shared, tmp_path / "one", quiet=True)


def test_trajectories_from_a_stored_state(tmp_path):
    """A run's checkpoint plus noise of each trajectory's own; the mean flow stays what it was."""
    recipe = write_recipe(tmp_path)
    started = load_flow_recipe(recipe)
    store = flow_store.FlowStore(tmp_path / "a", {"": started})
    begun(store)
    first = Trajectory(0, store, COMM)
    simulation = first._simulation()
    for _ in range(3):
        simulation.step()
    first._keep(simulation)
    text = CHANNEL.replace("[run]", f'[start]\nrun = "{store._state(0)}"\nperturbation = 0.1\n[run]')
    branched = load_flow_recipe(write_recipe(tmp_path, text, "branched"))
    flows = [
        Trajectory(
            i,
            flow_store.FlowStore(tmp_path / "b", {"": branched}, flow_store.origin_of(branched)),
            first.operators.decomposition.comm,
        )
        for i in range(2)
    ]
    op = first.operators
    fields = [flow._start() for flow in flows]
    noise = [norm(op, minus(f, simulation.velocity.coefficients)) for f in fields]
    assert min(noise) > 1e-3
    assert norm(op, minus(*fields)) > 1e-3
    for f in fields:
        torch.testing.assert_close(f[0][0, 0, :, 0], simulation.velocity.coefficients[0][0, 0, :, 0], atol=0.02, rtol=0)
    content = [flow_store.origin_of(branched)]
    simulation.step()
    first._keep(simulation)  # under the same name another flow
    content.append(flow_store.origin_of(branched))
    digests = {content_digest(np.zeros(4, np.uint8), "the recipe", origin) for origin in content}
    assert len(digests) == 2
    with pytest.raises(RunFolderError, match=r"b: its trajectories start from another flow than \[start\] run"):
        flows[0]._start()
    missing = text.replace(str(store._state(0)), str(tmp_path / "nothing"))
    with pytest.raises(RunFolderError, match="nothing: no such run folder or checkpoint"):
        generate_flow(write_recipe(tmp_path, missing, "missing"), tmp_path / "c", quiet=True)
    assert not [p for p in tmp_path.iterdir() if p.name.strip(".")[:1] == "c"]


def test_keys_of_the_noise_that_do_nothing_are_refused(tmp_path):
    for line, words in (("seed = 7", "seed: does nothing with 'seed'"), ("thickness = 2.0", "does not read")):
        text = CHANNEL.replace('"wall_turbulence"', f'"wall_turbulence"\n{line}')
        with pytest.raises(CaseError, match=words):
            load_flow_recipe(write_recipe(tmp_path, text))


def test_a_stored_state_is_scaled_to_the_bulk_velocity(tmp_path):
    """The same flow in units of another bulk velocity: both begin at theirs, on profiles of the same shape."""
    store = flow_store.FlowStore(tmp_path / "a", {"": load_flow_recipe(write_recipe(tmp_path))})
    begun(store)
    first = Trajectory(0, store, COMM)
    first._keep(first._simulation())
    text = CHANNEL.replace("[run]", f'[start]\nrun = "{store._state(0)}"\nperturbation = 1e-9\n[run]')
    text = text.replace("bulk_velocity = 1.0", "bulk_velocity = 0.6")
    slower = load_flow_recipe(write_recipe(tmp_path, text, "slower"))
    other = flow_store.FlowStore(tmp_path / "b", {"": slower}, flow_store.origin_of(slower))
    flow = Trajectory(0, other, first.operators.decomposition.comm)
    for ours, theirs in zip(
        flow._simulation().velocity.coefficients, first._simulation().velocity.coefficients, strict=True
    ):
        torch.testing.assert_close(ours, 0.6 * theirs, rtol=0, atol=1e-8)


def test_a_full_disk_is_met_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunFolderError, match=r"whole: cannot be written .*No space left.*--out"):
        generate_flow(write_recipe(tmp_path), tmp_path / "whole", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_limit_of_the_file_size_is_met_by_the_real_call(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    recipe = write_recipe(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(RunFolderError, match="File too large"):
            generate_flow(recipe, tmp_path / "whole", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.toml"]


def test_from_the_command_line(tmp_path):
    recipe, out = write_recipe(tmp_path, BOX), tmp_path / "box"
    done = runs.solver("generate", recipe, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "100 %  2/2 trajectories" in done.out
    assert "samples/s  0 s left" in done.out
    assert "2 samples by filtered direct simulation, 2 of them now" in done.out
    told = runs.solver("data", "info", out)
    assert (told.code, told.err) == (0, "")
    assert "t1_fields/velocity" in told.out
    checked = runs.solver("data", "verify", out)
    assert (checked.code, checked.err) == (0, "")
    assert describe(out)["sha256"][:40] in checked.out  # the table is as wide as the terminal
    refused = runs.solver("generate", recipe, "--method", "gmres")
    assert refused.code == 2
    assert "is about flows, not about linear systems" in refused.err


def test_a_flow_that_fails_is_named_and_another_recipe_does_not_go_on(tmp_path, monkeypatch):
    """Nothing has the final name; what was begun belongs to the recipe that began it."""
    out = tmp_path / "whole"

    def blow_up(self: Simulation, longest: float = np.inf, wait: float = np.inf) -> None:
        raise Diverged("the velocity is not finite")

    monkeypatch.setattr(Simulation, "step", blow_up)
    with pytest.raises(Diverged, match="trajectory 0, t = 0: the velocity is not finite"):
        generate_flow(write_recipe(tmp_path), out, quiet=True)
    assert not files_of(out)
    with pytest.raises(RunFolderError, match="another recipe or version made it"):
        generate_flow(write_recipe(tmp_path, CHANNEL.replace("350_377", "350_378")), out, quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("snapshots = 5", "snapshot = 5"), r"\[sampling\] unknown key 'snapshot'; did you mean 'snapshots'"),
        (('"box"', '"boxx"'), r"\[filter\] horizontal = 'boxx'"),
        (("n = 6\nend", "n = 14\nend"), r"\[coarse.y\] is finer than \[grid.y\]"),
        (('n = 6\nlength = "4 pi"', 'n = 6\nlength = "2 pi"'), r"\[coarse.x\] should be of the same kind and length"),
        (("test = 1", "test = 3"), "'test' = 3 should be less than 'trajectories' = 3"),
        (("seed = 350_377\n", ""), "missing key 'seed'"),
        (('kind = "wall_turbulence"', 'kind = "run"\nrun = "runs/x"'), r"give the stored run in \[start\] run"),
        (("interval = 0.25", "interval = 0"), r"\[sampling\] interval = 0"),
        (("trajectories = 3", "trajectories = "), "not valid TOML"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path, change, message):
    assert change[0] in CHANNEL
    recipe = write_recipe(tmp_path, CHANNEL.replace(*change, 1))
    with pytest.raises(CaseError, match=message) as caught:
        load_flow_recipe(recipe)
    assert "tiny.toml" in str(caught.value)
    assert "\n" not in str(caught.value).rstrip()


def test_shipped_recipes_are_valid():
    names = [name for name, path in recipe_file.shipped().items() if is_flow_recipe(path)]
    expected = {"channel180_small", "hit_decay_32", "mixing_layer", "channel180_grids", "channel395_grids"}
    expected |= {f"channel180_coarse{kind}" for kind in ("", "_dense", "_stationary")}
    assert set(names) == expected
    for name in names:
        recipe = next(iter(load_flow_recipes(Path(name)).values()))
        assert recipe.case(0).initial.seed != recipe.case(1).initial.seed
    coarse = load_flow_recipe(Path("channel180_coarse"))
    assert [axis.n for axis in coarse.coarse_grid.axes] == [32, 32, 16]
    assert coarse.trajectories - coarse.test >= 20
    assert coarse.test >= 4
    with pytest.raises(CaseError, match=r"nowhere\.toml: no such recipe"):
        load_flow_recipe(Path("nowhere.toml"))


def test_a_set_does_not_hide_the_recipe_whose_name_it_has(tmp_path, monkeypatch):
    """Nor a folder of runs the case: the same command goes on where its results lie in the folder it is called from."""
    monkeypatch.chdir(tmp_path)
    for name in ("channel180_small", "channel180_coarse"):
        (tmp_path / name).mkdir()
    assert load_flow_recipe(Path("channel180_small")).trajectories > 0
    assert load_case(Path("channel180_coarse"))[0].title.startswith("Turbulent channel")


def test_the_shipped_sample_is_a_turbulent_channel():
    """What `solver generate channel180_small` makes, whole, small enough to ship, and physically what its title is."""
    recipe = load_flow_recipe(Path("channel180_small"))
    assert SAMPLE.stat().st_size <= 5_000_000
    assert describe(SAMPLE)["recipe"] == recipe.model_dump_json()
    assert verify(SAMPLE)["rows"] == recipe.trajectories
    source = TrajectoryFiles(SAMPLE)
    training, validation = split(source, 0.25)
    assert sorted([*training, *validation, *source.test]) == list(range(recipe.trajectories))
    assert len(Windows(source, training)) == 2 * len(Windows(source, validation))
    table = reference_profiles(SAMPLE)
    reference = ChannelReference(table)
    assert reference.re_tau == pytest.approx(180, rel=0.1)
    evaluator, means = filtered_channel(SAMPLE)
    assert evaluator.bulk(evaluator.fold(means.mean(axis=(0, 1)))) == pytest.approx(1.0, rel=1e-6)
    assert 1.5 < table["uu_plus"].max() ** 0.5 < 3.0
    assert 0.4 < table["vv_plus"].max() ** 0.5 < 0.9
    assert np.all(table["tau_xy_plus"][1:] < 0)  # the filter took momentum transport out, it did not add any
    total = table["uv_plus"] + table["tau_xy_plus"]
    assert total.min() == pytest.approx(-0.72, abs=0.08)  # Kim, Moin & Moser 1987, J. Fluid Mech. 177, 133


def test_the_friction_of_the_reference_has_a_sampling_error(tmp_path):
    """Wall stresses that scatter by 5 % between the batches, means that do not: u_tau and C_f have an interval."""
    target = tmp_path / "statistics.h5"
    write_statistics(SAMPLE, target, batches=5)
    scatter = np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    with h5py.File(target, "a") as file:
        file["statistics/moments"][:] = file["statistics/moments"][:].mean(axis=(0, 1))
        file["statistics/wall_stress"][:] = 0.004 * scatter
    channel, means = filtered_channel(target, batches=5)
    sample = Sample.of([(m, np.ones(len(m))) for m in means])

    def friction(m: np.ndarray) -> np.ndarray:
        return np.array([channel.friction_velocity(channel.fold(m)) ** 2, table_of(channel, m).c_f])

    found = estimate(friction, sample)
    stress, c_f = found.half_width / found.value
    batches = 5 * len(means)
    expected = np.tile(scatter, len(means)).std(ddof=1) / batches**0.5 * student_t.ppf(0.975, batches - 1)
    assert stress >= 0.99 * expected  # wider where neighbours are correlated
    assert stress < 2 * expected
    assert c_f == pytest.approx(stress, rel=0.05)


def test_statistics_without_fields_judge_as_the_set_does(tmp_path):
    """Means and intervals from the small file are those of the sample; what is no set of channels is refused."""
    target = tmp_path / "statistics.h5"
    write_statistics(SAMPLE, target, batches=4)
    assert target.stat().st_size < 0.1 * SAMPLE.stat().st_size
    (whole, means), (small, kept) = filtered_channel(SAMPLE, batches=4), filtered_channel(target, batches=4)
    np.testing.assert_allclose(kept, means, rtol=1e-13, atol=1e-16)
    assert isinstance(small, type(whole))
    with pytest.raises(CaseError, match="cannot be cut into 33 batches"):
        write_statistics(SAMPLE, tmp_path / "b", batches=33)
    with pytest.raises(RunFolderError, match="not trajectories of format"):
        write_statistics(target, tmp_path / "c")


def test_what_judges_leaves_out_what_was_learned_from(channel, tmp_path):
    """Three trajectories, the last kept for tests: its statistics alone, and a split that the set has not."""
    whole, target = filtered_channel(channel, batches=2)[1], tmp_path / "held_out.h5"
    write_statistics(channel, target, batches=2, splits=("valid", "test"))
    np.testing.assert_allclose(filtered_channel(target, batches=2)[1], whole[2:], rtol=1e-12, atol=1e-16)
    with pytest.raises(RunFolderError, match=r"no files in .*/valid"):
        write_statistics(channel, target, splits=("valid",))
    with pytest.raises(CaseError, match="'tests' is no part of a data set: there are train, valid, test"):
        write_statistics(channel, target, splits=("tests",))


def test_the_coarse_channel_is_judged_by_filtered_simulations():
    """What lies beside the case: the peaks published for this filter, grid and Reynolds number, but for its kernel."""
    case, folder = load_case(Path(__file__).parents[2] / "cases/channel180_coarse")
    table = reference_profiles(case.reference.files(folder)["filtered"])
    assert ChannelReference(table).re_tau == pytest.approx(180, rel=0.015)
    peaks = [table[name].max() ** 0.5 for name in ("uu_plus", "vv_plus", "ww_plus")]
    assert peaks == pytest.approx([2.00, 0.57, 0.86], rel=0.06)
    assert channel_facts(case.reference.files(folder)["filtered"])["imbalance"] < STATIONARY

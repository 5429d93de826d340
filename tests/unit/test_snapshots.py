"""Snapshots as others read them: xarray by any engine, ParaView's reader; x is x, and the flow is not mirrored."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import pyvista
import torch

from solver.analysis.batch_means import BatchMeans
from solver.analysis.moments import NAMES
from solver.case.case import load_case
from solver.errors import RunFolderError
from solver.files.checkpoint_file import read
from solver.flow.closure import EddyViscosity
from solver.observers.averages import write_means
from solver.observers.checkpoint import Checkpoint
from solver.observers.snapshots import Snapshots
from tests import runs
from tests.grids import operators, simulation, uniform, values

xarray = pytest.importorskip("xarray")


class Viscous:
    """A closure whose eddy viscosity is 100 times z."""

    name, reach = "viscous", 0

    def init(self, op):
        self.term = EddyViscosity(values(op, lambda x, y, z: 100 * z + 0 * (x + y)))
        return {}

    def __call__(self, velocity, t, state):
        return self.term, state


def flow(grid: str, fields):
    """A simulation whose velocity at cell centres is replaced by functions of x, y, z."""
    op = operators(grid)
    made = simulation(op, uniform(op, (0.0, 0.0, 0.0)), 0.25, 0.1, closure=Viscous())
    made.velocity.__dict__["centred"] = tuple(values(op, f) for f in fields)
    made.pressure = lambda: values(op, linear(4.0))
    return made


def linear(scale: float):
    """X + 10 y + 100 z, times `scale`: says where a value belongs."""
    return lambda x, y, z: scale * (x + 10 * y + 100 * z)


LINEAR = tuple(linear(scale) for scale in (1.0, 2.0, 3.0))
SEED = 61_453
GRIDS = ("box", "channel_even", "cavity")


def written(folder, grid: str, fields=LINEAR, times=(0.0,)):
    """The files of snapshots at these times, and the grid."""
    made, hook = flow(grid, fields), Snapshots(folder, 1.0)
    for step, t in enumerate(times):
        made.state = replace(made.state, t=t, step=step)
        hook.write(made)
    return sorted((folder / "snapshots").glob("step_*.h5")), made.operators.grid


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("grid", GRIDS)
def test_xarray_finds_every_value_by_its_coordinates(tmp_path, grid, engine):
    pytest.importorskip("netCDF4" if engine == "netcdf4" else engine)
    (file,), made = written(tmp_path, grid)
    with xarray.open_dataset(file, engine=engine) as data:
        assert data.velocity.dims == ("component", "x", "y", "z")
        assert data.pressure.dims == data.nu_t.dims == ("x", "y", "z")
        for name, axis in zip("xyz", made.axes, strict=True):
            np.testing.assert_array_equal(data[name], axis.centres)
        place = data.x + 10 * data.y + 100 * data.z
        for component, scale in zip("uvw", (1, 2, 3), strict=True):
            np.testing.assert_allclose(data.velocity.sel(component=component), scale * place, rtol=1e-6)
        np.testing.assert_allclose(data.nu_t, (100 * data.z).broadcast_like(data.nu_t), rtol=1e-6)
        np.testing.assert_allclose(data.pressure, 4 * place, rtol=1e-6)
        assert float(data.coords["time"]) == 0.0
    with h5py.File(file) as opened:  # as the figures and comparisons read it
        x, y, z = (axis.centres[3] for axis in made.axes)
        assert opened["velocity"][1, 3, 3, 3] == pytest.approx(2 * (x + 10 * y + 100 * z), rel=1e-6)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("grid", ["channel", "duct"])
def test_xarray_finds_the_dimensions_of_averages(tmp_path, grid, engine):
    pytest.importorskip("netCDF4" if engine == "netcdf4" else engine)
    made, means = operators(grid).grid, BatchMeans(1.0, 2.0)
    planes = made.z.points if grid == "duct" else 1
    sample = np.random.default_rng(SEED).standard_normal((len(NAMES), made.y.points, planes))
    for t in (1.5, 3.5, 5.5):
        means.add(t, 0.5, t * sample)
    write_means(tmp_path, made, 0.1, means)
    with xarray.open_dataset(tmp_path / "statistics.h5", engine=engine) as data:
        assert data.uv.dims == ("y", "z")
        np.testing.assert_array_equal(data.y, made.y.centres)
        np.testing.assert_allclose(data.uv, 3.5 * sample[NAMES.index("uv")], rtol=1e-12)
        assert data.sizes["z"] == planes
    with xarray.open_dataset(tmp_path / "statistics.h5", engine=engine, group="batches") as batches:
        assert batches.sums.dims == ("batch", "quantity", "y", "z")
        assert batches.weights.dims == ("batch",)
    with xarray.open_datatree(tmp_path / "statistics.h5", engine=engine) as tree:
        one = tree["batches/sums"].sel(quantity="uv", batch=4.0)
        np.testing.assert_allclose(one, 0.5 * 3.5 * sample[NAMES.index("uv")], rtol=1e-12)


def test_snapshots_join_along_time(tmp_path):
    files, _ = written(tmp_path, "box", times=(0.0, 0.7, 1.9))
    data = xarray.concat([xarray.open_dataset(file, engine="h5netcdf") for file in files], dim="time")
    assert data.time.values.tolist() == [0.0, 0.7, 1.9]
    assert data.velocity.dims == ("time", "component", "x", "y", "z")


@pytest.mark.parametrize("grid", GRIDS)
def test_paraview_finds_every_value_in_its_place(tmp_path, grid):
    (file,), made = written(tmp_path, grid)
    mesh = pyvista.read(file.with_suffix(".xdmf"))
    ends = [end for axis in made.axes for end in (axis.centres[0], axis.centres[-1])]
    assert mesh.bounds == pytest.approx(ends)
    assert mesh["velocity"].shape == (mesh.n_points, 3)
    place = mesh.points @ [1.0, 10.0, 100.0]
    np.testing.assert_allclose(mesh["velocity"], place[:, None] * [1.0, 2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(mesh["pressure"], 4 * place, rtol=1e-5)
    np.testing.assert_allclose(mesh["nu_t"], 100 * mesh.points[:, 2], rtol=1e-5, atol=1e-5)


def test_a_right_handed_helix_stays_one(tmp_path):
    """The curl of (0, cos kx, -sin kx) is k times itself; seen in a mirror it is minus that."""
    k = 2 * np.pi / 6.0
    helix = (lambda x, y, z: 0 * (x + y + z), lambda x, y, z: torch.cos(k * x) + 0 * (y + z))
    (file,), _ = written(tmp_path, "box_even", (*helix, lambda x, y, z: -torch.sin(k * x) + 0 * (y + z)))
    mesh = pyvista.read(file.with_suffix(".xdmf"))
    curl = mesh.compute_derivative("velocity", gradient=False, vorticity=True)["vorticity"]
    share = (curl * mesh["velocity"]).sum() / (k * mesh["velocity"] ** 2).sum()
    assert share == pytest.approx(1.0, abs=0.15)  # differences of second order


def test_the_series_has_every_time(tmp_path):
    times = (0.0, 0.7, 1.9)
    files, _ = written(tmp_path, "box", times=times)
    reader = pyvista.get_reader(files[0].with_name("series.xdmf"))
    assert reader.time_values == pytest.approx(times)
    for file, time in zip(files, times, strict=True):
        reader.set_active_time_value(time)
        np.testing.assert_array_equal(reader.read()["velocity"], pyvista.read(file.with_suffix(".xdmf"))["velocity"])


def test_a_checkpoint_has_every_value_in_its_place(tmp_path):
    """Coefficients along cells are values: u on upper faces in x, v in y, w in z."""
    case, _ = load_case(runs.write_case(tmp_path / "case"))
    made = flow("cavity", LINEAR)
    op, axes = made.operators, made.operators.grid.axes
    made.velocity.coefficients = tuple(op.to_coefficients(values(op, f, i)) for i, f in enumerate(LINEAR))
    assert Checkpoint(tmp_path, case, 0.0, []).write(made)
    saved = read(tmp_path / "checkpoints/step_00000000.h5")
    for i, name in enumerate("uvw"):
        lines = [axis.faces[1:] if d == i else axis.centres for d, axis in enumerate(axes)]
        x, y, z = np.meshgrid(*lines, indexing="ij")
        np.testing.assert_allclose(np.squeeze(saved.arrays[f"velocity/{name}"]), linear(i + 1.0)(x, y, z), rtol=1e-12)


def test_a_leg_from_an_earlier_time_replaces_what_it_comes_past(tmp_path):
    hook, made = Snapshots(tmp_path, 1.0), flow("box", LINEAR)
    for step, t in enumerate((0.0, 1.0, 2.0, 3.0)):
        made.state = replace(made.state, t=t, step=step)
        hook.write(made)
    leg = Snapshots(tmp_path, 1.0)
    made.state = replace(made.state, t=1.5, dt=0.5, step=11)
    leg(made)
    made.state = replace(made.state, t=2.5, step=12)
    leg.write(made)
    assert pyvista.get_reader(tmp_path / "snapshots/series.xdmf").time_values == pytest.approx([0.0, 1.0, 2.5, 3.0])


@pytest.mark.parametrize("value", [[1.0, 2.0], "soon"], ids=str)
def test_a_damaged_snapshot_of_before_does_not_end_a_run(tmp_path, value):
    hook, made = Snapshots(tmp_path, 1.0), flow("box", LINEAR)
    made.state = replace(made.state, t=1.0, step=1)
    hook.write(made)
    old = tmp_path / "snapshots/step_00000001.h5"
    with h5py.File(old, "r+") as file:
        file.attrs["time"] = value
    leg = Snapshots(tmp_path, 1.0)
    made.state = replace(made.state, t=2.0, step=12)
    leg.write(made)
    assert old.exists()


@pytest.mark.parametrize("key", ["sha256", "format"])
def test_a_number_that_became_a_list_is_damage(tmp_path, key):
    case, _ = load_case(runs.write_case(tmp_path / "case"))
    assert Checkpoint(tmp_path, case, 0.0, []).write(flow("cavity", LINEAR))
    path = tmp_path / "checkpoints/step_00000000.h5"
    with h5py.File(path, "r+") as file:
        file.attrs[key] = ["1", "2"]
    with pytest.raises(RunFolderError, match="damaged checkpoint"):
        read(path)


def test_a_run_keeps_its_initial_field(tmp_path):
    case = runs.write_case(tmp_path / "case")
    sets = ("--set", "output.snapshot=2.0", "--closure", "smagorinsky", "--quiet")
    assert runs.solver("run", case, "--out", tmp_path / "run", "--steps", 1, *sets).code == 0
    first, last = sorted((tmp_path / "run/snapshots").glob("step_*.h5"))
    with h5py.File(first) as a, h5py.File(last) as b:
        assert a.attrs["time"] == 0
        for name in ("pressure", "velocity", "nu_t"):
            change = np.linalg.norm(a[name][()] - b[name][()]) / np.linalg.norm(b[name][()])
            assert 0 < change < 0.5, name

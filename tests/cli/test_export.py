"""Snapshots for other programs: what is at a place stays there, and what cannot be exported says so in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import meshio
import numpy as np
import pytest
import pyvista
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline
from vtkmodules.vtkIOHDF import vtkHDFReader

from solver.figures.export import FORMATS
from tests import runs
from tests.cli.test_bad_input import refused
from tests.solids.test_field_means import BALL_IN_SPACE

CENTRE, RADIUS = (1.2, 0.95, 0.75), 0.3


def made(folder: Path, case: str) -> Path:
    """A run with two snapshots; the last one says where a value belongs."""
    (folder / "case").mkdir()
    (folder / "case" / "case.toml").write_text(case)
    words = ("--closure", "smagorinsky", "--set", "output.snapshot=100.0", "--steps", 1, "--quiet")
    assert runs.solver("run", folder / "case", "--out", folder / "run", *words).code == 0
    _, last = sorted((folder / "run" / "snapshots").glob("*.h5"))
    with h5py.File(last, "r+") as file:
        x, y, z = np.meshgrid(file["x"], file["y"], file["z"], indexing="ij")
        place = x + 10 * y + 100 * z
        file["velocity"][...] = np.stack([place, 2 * place, 3 * place])
        file["pressure"][...], file["nu_t"][...] = 4 * place, 5 * place
    return folder / "run"


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run around a ball, on uneven cells."""
    return made(tmp_path_factory.mktemp("ball"), BALL_IN_SPACE)


def found_in(file: Path) -> tuple[meshio.Mesh, np.ndarray, dict[str, np.ndarray]]:
    """The mesh of a file, the middles of its cells, and the fields on them."""
    mesh = meshio.read(file, file_format=FORMATS[file.suffix][0])
    (cells,) = mesh.cells
    assert cells.type == "hexahedron"
    fields = {name: np.asarray(values[0]) for name, values in mesh.cell_data.items()}
    if "velocity_0" in fields:
        fields["velocity"] = np.stack([fields[f"velocity_{i}"] for i in range(3)], axis=-1)
    return mesh, mesh.points[cells.data].mean(axis=1), fields


def series(file: Path) -> tuple[list[float], list[pyvista.UnstructuredGrid]]:
    """Times, and the mesh with its fields at each, by the reader that ParaView has."""
    reader = vtkHDFReader()
    reader.SetFileName(str(file))
    reader.UpdateInformation()
    times = reader.GetOutputInformation(0).Get(vtkStreamingDemandDrivenPipeline.TIME_STEPS())
    meshes = []
    for time in times:
        reader.UpdateTimeStep(time)
        meshes.append(pyvista.wrap(reader.GetOutput()).copy())
    return list(times), meshes


def is_in_place(middles: np.ndarray, fields: dict[str, np.ndarray]) -> None:
    """Every value is where its coordinates say, to single precision."""
    place = middles @ [1.0, 10.0, 100.0]
    np.testing.assert_allclose(fields["velocity"], place[:, None] * [1.0, 2.0, 3.0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fields["pressure"], 4 * place, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fields["nu_t"], 5 * place, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_value_is_found_by_its_coordinates(ball, tmp_path, suffix):
    out = tmp_path / "new" / f"flow{suffix}"
    done = runs.solver("export", ball, "--out", out)
    assert (done.code, done.out.strip()) == (0, str(out)), done.err
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    _, middles, fields = found_in(out)
    assert len(middles) == 10 * 12 * 6
    is_in_place(middles, fields)
    np.testing.assert_array_equal(fields["solid"], np.linalg.norm(middles - CENTRE, axis=1) < RADIUS)
    assert fields["solid"].any()


def test_points_of_fourier_axes_are_the_middles_of_cells(tmp_path):
    run, out = made(tmp_path, runs.CASE), tmp_path / "flow.vtu"
    assert runs.solver("export", run, "--out", out).code == 0
    mesh, middles, fields = found_in(out)
    is_in_place(middles, fields)
    assert not fields["solid"].any()
    sizes = pyvista.from_meshio(mesh).compute_cell_sizes(length=False, area=False)["Volume"]
    assert sizes.min() > 0  # corners in the order of hexahedra
    assert sizes.sum() == pytest.approx(4 * np.pi * 2.0 * 2 * np.pi)


def test_a_series_has_every_time_and_says_where_nothing_is_known(ball, tmp_path):
    """As ParaView reads it: cells once, the ball in them, fields at each time; an instant may lack a field."""
    first, last = sorted((ball / "snapshots").glob("*.h5"))
    run, out = tmp_path / "run", tmp_path / "flow.vtkhdf"
    shutil.copytree(ball, run)
    with h5py.File(run / "snapshots" / first.name, "r+") as file:
        del file["nu_t"]
    assert runs.solver("export", run, "--out", out).code == 0
    times, (at_first, at_last) = series(out)
    with h5py.File(first) as one, h5py.File(last) as other:
        assert times == [one.attrs["time"], other.attrs["time"]]
        np.testing.assert_array_equal(at_first["velocity"][:, 0], one["velocity"][0].ravel())
    assert np.isnan(at_first["nu_t"]).all()
    middles = at_first.cell_centers().points
    is_in_place(middles, {name: np.asarray(at_last[name]) for name in ("velocity", "pressure", "nu_t")})
    for mesh in (at_first, at_last):
        np.testing.assert_array_equal(mesh["solid"], np.linalg.norm(middles - CENTRE, axis=1) < RADIUS)
        assert mesh.compute_cell_sizes(length=False, area=False)["Volume"].min() > 0


def test_one_snapshot_of_several(ball, tmp_path):
    first, last = sorted((ball / "snapshots").glob("*.h5"))
    out = tmp_path / "flow.vtu"
    assert runs.solver("export", first, "--out", out).code == 0
    with h5py.File(first) as file:
        speed = file["velocity"][0].ravel()
    np.testing.assert_array_equal(found_in(out)[2]["velocity"][:, 0], speed)
    before = out.read_bytes()
    refused(runs.solver("export", last, "--out", out), str(out), "exists", "--overwrite")
    assert out.read_bytes() == before
    assert runs.solver("export", last, "--out", out, "--overwrite").code == 0
    is_in_place(*found_in(out)[1:])


def test_refused(ball, tmp_path):
    def say(source: Path, name: str, *words: str) -> None:
        refused(runs.solver("export", source, "--out", tmp_path / name), *words)
        assert not (tmp_path / name).exists()

    for name in ("flow.foo", "flow", "flow.stl", "flow.inp"):  # the last two would keep no field
        say(ball, name, f"--out {tmp_path / name}", ".vtu, .vtk")
    bare, other = tmp_path / "bare", tmp_path / "other"
    shutil.copytree(ball, bare, ignore=shutil.ignore_patterns("snapshots"))
    shutil.copytree(ball, other)
    lost = shutil.copy(next((ball / "snapshots").glob("*.h5")), tmp_path / "lost.h5")
    say(bare, "flow.vtu", str(bare), "[output] snapshot")
    say(tmp_path, "flow.vtu", f"{tmp_path}: no run folder")
    say(tmp_path / "nowhere", "flow.vtu", "nowhere: no such run folder")
    say(Path(lost), "flow.vtu", "lost.h5", "RUN/snapshots")
    say(next((ball / "checkpoints").glob("*.h5")), "flow.vtu", "no snapshot", "give RUN")
    say(ball / "snapshots" / "series.xdmf", "flow.vtu", "series.xdmf: cannot be read", "give RUN")
    text = (other / "case.toml").read_text()
    (other / "case.toml").write_text(text.replace("n = 10", "n = 11"))
    say(other, "flow.vtu", "its cells are not those of", str(other / "case.toml"))
    sorted((other / "snapshots").glob("*.h5"))[0].write_bytes(b"torn")
    say(other, "flow.vtu", "step_00000000.h5: damaged snapshot")

"""Files that ranks write together: byte for byte the same on any number of them, and whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import pyvista

from solver.errors import RunFolderError
from solver.files import checkpoint_file as files
from solver.files.folder import write_hdf5
from solver.parallel import ranks
from tests.parallel.run_files import KINDS, WAVE, noise, some
from tests.runs import needs_mpirun, on_ranks

COUNTS = (1, 2, 3)
pytestmark = needs_mpirun


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    return on_ranks(COUNTS, "tests.parallel.run_files", folder)


@pytest.mark.parametrize("name", [*KINDS, *(f"{kind}_short" for kind in KINDS), "snapshots/step_00000000"])
def test_the_file_does_not_depend_on_the_number_of_ranks(results, folder, name):
    one, *others = ((folder / str(count) / f"{name}.h5").read_bytes() for count in COUNTS)
    assert all(other == one for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_was_written(results, folder, kind):
    saved, expected = files.read(folder / "3" / f"{kind}.h5"), some(kind)
    assert set(saved.arrays) == set(expected)
    for name, array in expected.items():
        whole = getattr(array, "values", array)
        np.testing.assert_array_equal(saved.arrays[name], whole, err_msg=name)
    assert saved.attributes == {"t": 1.5, "case": "{}", "format": files.FORMAT}


@pytest.mark.parametrize("count", COUNTS)
def test_a_rank_that_cannot_write_is_named_by_all(results, count):
    """On the last rank the disk is full, then no rank can make the file: one line, and what was there stays."""
    told = {key: str(results[count][key]) for key in ("full", "unwritable")}
    assert told["full"].endswith("free space or choose another folder with --out")
    assert "box.h5: cannot be written ([Errno 28] No space left on device)" in told["full"]
    assert "more.h5: cannot be written" in told["unwritable"]
    assert results[count]["untouched"]


@pytest.mark.parametrize("count", [1, 3])
def test_paraview_sees_the_helicity_that_was_written(results, folder, count):
    """The curl of (0, cos kx, -sin kx) is k times itself, whoever wrote which planes."""
    mesh = pyvista.read(folder / str(count) / "snapshots/step_00000000.xdmf")
    expected = np.stack([0 * mesh.points[:, 0], np.cos(WAVE * mesh.points[:, 0]), -np.sin(WAVE * mesh.points[:, 0])])
    np.testing.assert_allclose(mesh["velocity"], expected.T, atol=1e-6)
    curl = mesh.compute_derivative("velocity", gradient=False, vorticity=True)["vorticity"]
    assert (curl * mesh["velocity"]).sum() / (WAVE * mesh["velocity"] ** 2).sum() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("damage", ["value", "axis"])
def test_damage_in_what_ranks_share_is_seen(results, folder, tmp_path, damage):
    path = tmp_path / "bad.h5"
    path.write_bytes((folder / "2/channel.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        if damage == "value":
            file["velocity/v"][1, 2, 3, 4] += 1e-9
        else:
            file["velocity/v"].attrs[files.ALONG] = 1
    with pytest.raises(RunFolderError, match="damaged checkpoint"):
        files.read(path)


def test_files_of_the_first_format_are_read(tmp_path):
    arrays = {"velocity/u": noise(2, 3, 4, 5), "grid/y": noise(4)}
    attributes = {"format": 1, "t": 0.5}

    def fill(file: h5py.File) -> None:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update(attributes)
        file.attrs["sha256"] = files.checksum(arrays, attributes)

    write_hdf5(tmp_path / "old.h5", fill)
    saved = files.latest(tmp_path / "old.h5", ranks.alone())
    np.testing.assert_array_equal(saved.arrays["velocity/u"], arrays["velocity/u"])

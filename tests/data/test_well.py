"""Our data files open with the reader of The Well itself, and hold every value where its coordinates say."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from closures.data import recipe_file
from closures.data.convert import convert
from closures.data.folder import SPLITS, files_of
from closures.data.grids import load_flow_recipes
from closures.data.inspect import describe
from closures.data.inspect import verify as verify_flow
from closures.data.layout import lay_out, layout_of
from closures.data.windows import TrajectoryFiles
from closures.linear_families.generate import generate
from closures.linear_families.inspect import verify
from solver.files.folder import write_hdf5
from tests.data.flows import BOX, CHANNEL, write_recipe
from tests.training.trajectories import write_file

data = pytest.importorskip("the_well.data")

SAMPLE = recipe_file.PACKAGE / "data" / "samples" / "channel180_sample.h5"
WALL, OPEN, PERIODIC = 0, 1, 2  # codes of The Well
FLOWS = {"channel": CHANNEL, "box": BOX}


def linear_flow(folder: Path, text: str) -> Path:
    """A file as `solver generate` lays it out, with scale (x + 10 y + 100 z) + t for u, v, w: scale 1, 2, 3."""
    (recipe,) = load_flow_recipes(write_recipe(folder, text)).values()

    def fill(file: h5py.File) -> None:
        lay_out(file, recipe, layout_of(recipe), range(recipe.trajectories))
        lines = [file[f"dimensions/{name}"][()] for name in "xyz"]
        x, y, z = np.meshgrid(*lines, indexing="ij")
        steady = (x + 10 * y + 100 * z)[..., None] * [1.0, 2.0, 3.0]
        times = file["dimensions/time"][()]
        file["t1_fields/velocity"][...] = steady + times[:, None, None, None, None]
        if "t2_fields/subgrid_stress" in file:
            file["t2_fields/subgrid_stress"][..., 1] = 7.0

    (folder / "set").mkdir()
    write_hdf5(folder / "set/flow.h5", fill)
    return folder / "set/flow.h5"


@pytest.mark.parametrize("kind", FLOWS)
def test_the_reader_of_the_well_finds_every_value(tmp_path, kind):
    path = linear_flow(tmp_path, FLOWS[kind])
    flows = data.WellDataset(path=str(path.parent), n_steps_input=2, n_steps_output=1, normalize_time_grid=False)
    with h5py.File(path) as file:
        trajectories, frames = file["t1_fields/velocity"].shape[:2]
    assert len(flows) == trajectories * (frames - 2)
    sample = flows[1]
    place = sample["space_grid"].double() @ sample["space_grid"].new_tensor([1.0, 10.0, 100.0]).double()
    for step, field in enumerate(sample["input_fields"].double()):
        for i in range(3):
            exact = (i + 1) * place + sample["input_time_grid"][step]
            np.testing.assert_allclose(field[..., i], exact, rtol=1e-6)
    y = [WALL, WALL] if kind == "channel" else [PERIODIC] * 2
    assert sample["boundary_conditions"].tolist() == [[PERIODIC] * 2, y, [PERIODIC] * 2]
    assert sample["constant_scalars"].tolist() == [0.002 if kind == "channel" else 0.02]
    names = flows.metadata.field_names
    assert names[1][:3] == ["velocity_x", "velocity_y", "velocity_z"]
    if kind == "channel":  # stresses too: the component that was set is the one it is called
        assert names[2][1] == "subgrid_stress_xy"
        assert sample["input_fields"][..., len(names[1]) + 1].unique().tolist() == [7.0]
    whole = data.WellDataset(path=str(path.parent), full_trajectory_mode=True)
    assert whole[1]["output_fields"].shape[0] == frames - 1


@pytest.mark.parametrize("kind", FLOWS)
def test_what_is_written_is_what_training_reads(tmp_path, kind):
    source = TrajectoryFiles(linear_flow(tmp_path, FLOWS[kind]))
    x, y, z = np.meshgrid(*(line.points.numpy() for line in source.domain.lines), indexing="ij")
    steady = (x + 10 * y + 100 * z)[..., None] * [1.0, 2.0, 3.0]
    times = source.start + source.step * np.arange(4)
    np.testing.assert_allclose(
        source.read(1, slice(0, 4)), steady + times[:, None, None, None, None], rtol=1e-6, atol=1e-6
    )


def test_each_part_of_a_folder_opens(tmp_path):
    """Frame by frame, the trajectories that our own reader says are in that part."""
    convert(SAMPLE, tmp_path / "set")
    source, found = TrajectoryFiles(tmp_path / "set"), []
    for split in SPLITS:
        if (tmp_path / "set" / split).is_dir():
            flows = data.WellDataset(path=str(tmp_path / "set" / split))
            found += [flows[31 * n]["input_fields"][0].numpy() for n in range(len(flows) // 31)]
    assert len(found) == source.shape[0] == 4
    assert source.test == TrajectoryFiles(SAMPLE).test == (3,)
    for number, first in enumerate(found):
        np.testing.assert_array_equal(first[..., :3], source.read(number, slice(0, 1))[0])


def test_the_shipped_sample_opens(tmp_path):
    shutil.copy(SAMPLE, tmp_path)
    flows = data.WellDataset(path=str(tmp_path))
    sample = flows[33]  # the third frame of the second trajectory
    with h5py.File(SAMPLE) as file:
        np.testing.assert_array_equal(sample["input_fields"][0], file["t1_fields/velocity"][1, 2])
        np.testing.assert_array_equal(sample["output_fields"][0], file["t1_fields/velocity"][1, 3])
    assert sample["boundary_conditions"].tolist() == [[PERIODIC] * 2, [WALL] * 2, [PERIODIC] * 2]
    assert verify_flow(SAMPLE)["sha256"] in (SAMPLE.parent / "README.md").read_text()


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ('kind = "darcy"\nshape = [8, 6]', [[OPEN] * 2, [OPEN] * 2]),
        ('kind = "thermal"\nshape = [20, 8]', [[OPEN, OPEN], [WALL] * 2]),
    ],
)
@pytest.mark.filterwarnings("ignore:Only axis-aligned boundary")
def test_linear_families_open(tmp_path, family, ends):
    """Steady: all is constant, so nothing is asked of the time after."""
    (tmp_path / "r.toml").write_text(f'title = "t"\nseed = 12_289\nsamples = 3\n[family]\n{family}\n')
    path = Path(generate(tmp_path / "r.toml", tmp_path / "family", method_name="direct", quiet=True)["path"])
    samples = data.WellDataset(path=str(path / "train"), n_steps_output=0)
    assert len(samples) == 3
    sample = samples[2]
    names = samples.metadata.constant_field_names[0]
    (file,) = files_of(path)["train"]
    with h5py.File(file) as file:
        for channel, name in enumerate(names):
            np.testing.assert_allclose(sample["constant_fields"][..., channel], file[f"t0_fields/{name}"][2], rtol=1e-6)
    assert sample["boundary_conditions"].tolist() == ends
    with pytest.importorskip("xarray").open_dataset(
        files_of(path)["train"][0], group="t0_fields", engine="h5netcdf", phony_dims="sort"
    ) as fields:
        assert fields[names[-1]].dims == ("sample", "x", "y")
    assert verify(path)["rows"] == 3
    assert any(name.startswith("boundary_conditions/") for name in describe(path)["datasets"])


def test_files_from_before_the_masks_are_still_read(tmp_path):
    old = Path(shutil.copy(SAMPLE, tmp_path))
    with h5py.File(old, "r+") as file:
        del file["scalars"].attrs["field_names"]
        for group in file["boundary_conditions"].values():
            del group["mask"]
    assert verify_flow(old)["sha256"] == describe(SAMPLE)["sha256"]
    np.testing.assert_array_equal(
        TrajectoryFiles(old).read(2, slice(5, 7)), TrajectoryFiles(SAMPLE).read(2, slice(5, 7))
    )


def test_a_file_of_the_well_needs_no_viscosity(tmp_path):
    path = write_file(tmp_path / "waves.h5")
    with h5py.File(path, "r+") as file:
        for name in ("nu", "filter", "case"):
            del file.attrs[name]
    assert TrajectoryFiles(path).nu.tolist() == [0.0]
    with h5py.File(path, "r+") as file:
        file["scalars/nu"] = 0.03
    assert TrajectoryFiles(path).nu.tolist() == [0.03]

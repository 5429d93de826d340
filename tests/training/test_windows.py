"""Trajectories and the windows cut from them, and the functions of the step that decide what is seen when."""

from __future__ import annotations

from itertools import chain

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from closures.data.scaling import CHUNK, fluctuation_size, scaling
from closures.data.windows import InMemory, TrajectoryFiles, Windows, split
from closures.operators import Domain
from closures.operators.domain import same
from closures.training.objective import perturbed
from closures.training.schedule import batches, rate, seeds
from closures.training.tables import OptimiserTable
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip
from solver.grid.grid import Grid
from tests.training.trajectories import FACES, LX, LZ, NX, NY, NZ, STEP, travelling, write_file


def of_solver():
    wall = NoSlip()
    y = FiniteVolumeAxis(FACES, wall, wall)
    return Domain.of(Grid(FourierAxis(NX, LX, "2/3"), y, FourierAxis(NZ, LZ, "2/3")))


def test_a_file_is_on_the_domain_of_the_solver(tmp_path):
    source = TrajectoryFiles(write_file(tmp_path / "waves.h5"))
    assert same(source.domain.describe(), of_solver().describe())
    torch.testing.assert_close(source.domain.volumes, of_solver().volumes, rtol=1e-12, atol=0)
    assert source.step == pytest.approx(STEP)
    assert source.nu.tolist() == [0.01]


@pytest.mark.parametrize(("steps", "stride", "apart"), [(1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 1, 3), (1, 2, 2)])
@pytest.mark.parametrize("workers", [0, 2])
def test_windows_are_consecutive_frames_of_one_trajectory(tmp_path, steps, stride, apart, workers):
    """From the file, also in other processes, and from memory."""
    velocity = travelling(3, 7)
    file = TrajectoryFiles(write_file(tmp_path / "waves.h5", velocity))
    expected = [
        np.moveaxis(velocity[t, s : s + steps * stride + 1 : stride], -1, 1)
        for t in (2, 0)
        for s in range(0, 7 - steps * stride, apart)
    ]
    for source in (file, InMemory(velocity, file.domain, STEP)):
        windows = Windows(source, [2, 0], steps, stride, apart)
        found = [w[0].numpy() for w in DataLoader(windows, batch_size=1, num_workers=workers)]
        assert len(windows) == len(expected)
        np.testing.assert_array_equal(found, expected)


def test_whole_trajectories_are_held_back():
    def source(trajectories, *test):
        found = InMemory(np.zeros((trajectories, 2, NX, NY, NZ, 3), np.float32), of_solver(), STEP)
        found.test = test
        return found

    assert split(source(20), 0.2) == (list(range(16)), list(range(16, 20)))
    assert split(source(2), 0.01) == ([0], [1])
    assert split(source(5, 4, 1), 0.4) == ([0, 2], [3])
    with pytest.raises(CaseError, match="1 trajectories: cannot be split"):
        split(source(1), 0.2)
    with pytest.raises(CaseError, match="3 trajectories, 2 of them for tests: cannot be split"):
        split(source(3, 1, 2), 0.2)


def test_trajectories_for_tests_are_not_learned_from(tmp_path):
    """Where the file says which; without the mark all are free."""
    marked = write_file(tmp_path / "marked.h5", travelling(4, 6))
    with h5py.File(marked, "a") as file:
        file.attrs["test_trajectories"] = np.arange(3, 4)
    assert TrajectoryFiles(marked).test == (3,)
    training, validation = split(TrajectoryFiles(marked), 0.25)
    assert set(training) | set(validation) == {0, 1, 2}
    assert TrajectoryFiles(write_file(tmp_path / "plain.h5")).test == ()


def test_noise_is_measured_by_the_fluctuation_in_each_plane():
    """The mean profile, however large, is none of it; nor does it depend on how many frames are in memory."""
    velocity = travelling(2, CHUNK + 3)
    y = 0.5 * (FACES[1:] + FACES[:-1])
    sheared = velocity + np.stack([10 * y, 0 * y, 0 * y], -1)[:, None].astype(np.float32)
    found, again = (fluctuation_size(InMemory(v, of_solver(), STEP), [0, 1]) for v in (velocity, sheared))
    assert found.shape == (3, 1, NY, 1)
    fluctuation = velocity - velocity.mean((2, 4), keepdims=True, dtype=np.float64)
    expected = np.sqrt((fluctuation**2).mean((0, 1, 2, 4))).T
    np.testing.assert_allclose(found[:, 0, :, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(again, found, rtol=1e-4)
    noisy = perturbed(torch.zeros(1, 3, NX, NY, NZ), [3], 0.1 * found) / found
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("stride", [1, 3])
def test_scaling_is_the_statistics_of_the_training_trajectories(stride):
    """Weighted with the cells, over more frames than are in memory at a time."""
    velocity = travelling(3, CHUNK + 9)
    volumes = of_solver().volumes.numpy()
    found = scaling(InMemory(velocity, of_solver(), STEP), [0, 2], stride, "increment")
    used = velocity[[0, 2]].astype(np.float64)
    mean = np.einsum("tsijkc,ijk->c", used, volumes) / used.shape[1] / 2
    square = np.einsum("tsijkc,ijk->c", (used - mean) ** 2, volumes) / used.shape[1] / 2
    change = used[:, stride:] - used[:, :-stride]
    changes = np.einsum("tsijkc,ijk->c", change**2, volumes) / change.shape[1] / 2
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.std, square**0.5, rtol=1e-9)
    np.testing.assert_allclose(found.change, changes**0.5, rtol=1e-9)


def test_a_component_that_rests_is_not_magnified():
    velocity = travelling(1, 4)
    velocity[..., 2] = 0.0
    found = scaling(InMemory(velocity, of_solver(), STEP), [0], 1, "state")
    assert found.std[2] == pytest.approx(1e-3 * max(found.std))
    with pytest.raises(CaseError, match="constant or not finite"):
        scaling(InMemory(np.ones_like(velocity), of_solver(), STEP), [0], 1, "state")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"t1_fields__velocity": None}, "t1_fields/velocity is missing"),
        ({"dimensions__z": None}, "dimensions/z is missing"),
        ({"t1_fields__velocity": h5py.Empty("f4")}, "t1_fields/velocity holds no values"),
        ({"dimensions__time": h5py.Empty("f8")}, "dimensions/time holds no values"),
        ({"dimensions__y_faces": None}, "dimensions/y_faces is missing"),
        ({"dimensions__time": np.array([0, 0.1, 0.2, 0.4, 0.5, 0.6])}, "evenly spaced times"),
        ({"dimensions__time": np.arange(5.0)}, "does not fit its dimensions"),
        ({"dimensions__x": np.arange(3.0)}, "does not fit its dimensions"),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, changes, match):
    path = write_file(tmp_path / "waves.h5", **changes)
    with pytest.raises(CaseError, match=match) as caught:
        TrajectoryFiles(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(CaseError, match="no such data set"):
        TrajectoryFiles(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(CaseError, match="not a set of trajectories"):
        TrajectoryFiles(tmp_path / "text.h5")
    with pytest.raises(CaseError, match="should be"):
        InMemory(travelling()[..., :2], of_solver(), STEP)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_share_the_batches_of_one(size):
    whole = batches(23, 8, 7, epoch=3, rank=0, size=1)
    shares = [batches(23, 8, 7, epoch=3, rank=r, size=size) for r in range(size)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    flat = list(chain(*whole))
    assert len(whole) == 2
    assert len(set(flat)) == 16
    assert max(flat) < 23
    assert whole != batches(23, 8, 7, epoch=4, rank=0, size=1)
    drawn = seeds(7, 11, 8, rank=0, size=1)
    assert list(chain(*(seeds(7, 11, 8, rank=r, size=size) for r in range(size)))) == drawn
    assert len(set(drawn) | set(seeds(7, 12, 8, 0, 1))) == 16


def test_rates():
    def rates(**settings):
        table = OptimiserTable(rate=0.1, **settings)
        return np.array([rate(table, step, 1000, 100) for step in range(1000)])

    cycle = rates(schedule="one_cycle")
    assert np.argmax(cycle) == pytest.approx(299, abs=1)
    assert cycle.max() == pytest.approx(0.1, rel=1e-4)
    assert cycle[0] == pytest.approx(0.1 / 25, rel=1e-3)
    assert cycle[-1] == pytest.approx(1e-5, rel=1e-6)
    cosine = rates(schedule="cosine", warm_up=0.1)
    assert np.allclose(np.diff(cosine[:99]), 0.1 / 100)
    assert np.all(np.diff(cosine[100:]) < 0)
    assert cosine[550] == pytest.approx(0.05, rel=1e-3)
    assert cosine[-1] < 1e-6
    steps = rates(schedule="step", factor=0.7, every=5, warm_up=0.0)
    np.testing.assert_allclose(np.unique(steps), [0.07, 0.1])
    assert np.all(rates(schedule="constant", warm_up=0.0) == 0.1)

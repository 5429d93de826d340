"""Fields between grids: what both grids can hold is kept, and what is kept on disk is what was written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from solver.discretisation.calculus import Operators
from solver.errors import RunFolderError
from solver.files import checkpoint_file as files
from solver.files.checkpoint_file import FORMAT, Saved, Stored, checksum, latest, write
from solver.files.regrid import same_grid, velocity_of
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, Inflow, NoSlip, Outflow, Periodic
from solver.grid.grid import Grid
from solver.parallel import ranks
from tests.grids import distance, operators, random_velocity, sample, uneven, walls

SEED = 50_423


def saved(op: Operators, velocity) -> Saved:
    """A checkpoint in memory."""
    fields = {f"velocity/{name}": f.numpy() for name, f in zip("uvw", velocity, strict=True)}
    lines = {f"grid/{name}": axis.centres for name, axis in zip("xyz", op.grid.axes, strict=True)}
    kinds = [{"kind": "fourier" if axis.is_fourier else "finite_volume"} for axis in op.grid.axes]
    return Saved(fields | lines, {"case": json.dumps({"grid": dict(zip("xyz", kinds, strict=True))})})


def box(*n: int) -> Grid:
    return Grid(*(FourierAxis(points, 2 * np.pi) for points in n))


def channel(nx: int, y: FiniteVolumeAxis, nz: int) -> Grid:
    return Grid(FourierAxis(nx, 2 * np.pi), y, FourierAxis(nz, 2 * np.pi))


def energy(op: Operators, velocity) -> float:
    return sum(float(op.inner_product(c, c, i)) for i, c in enumerate(velocity))


@pytest.mark.parametrize("name", ["box", "channel", "half_channel", "periodic", "duct", "cavity", "slit"])
def test_the_same_grid_keeps_every_bit(name):
    op = operators(name)
    velocity = random_velocity(op, SEED)
    assert same_grid(saved(op, velocity), op)
    assert distance(velocity_of(saved(op, velocity), op), velocity) == 0


@pytest.mark.parametrize(("few", "many"), [((8, 9, 7), (12, 14, 15)), ((7, 8, 8), (8, 9, 10)), ((1, 8, 6), (4, 8, 8))])
def test_modes_survive_a_finer_box_and_back(few, many):
    coarse, fine = operators(box(*few)), operators(box(*many))
    velocity = random_velocity(coarse, SEED)
    there = velocity_of(saved(coarse, velocity), fine)
    assert not same_grid(saved(coarse, velocity), fine)
    assert distance(velocity_of(saved(fine, there), coarse), velocity) < 1e-15
    assert energy(fine, there) == pytest.approx(energy(coarse, velocity), rel=1e-13)


SLIP = FreeSlip()
FLOWS = {
    "walls": (lambda n: walls(n, 2.0), lambda y: y * (2 - y), lambda y: (np.pi * y).sin() ** 2),
    "half": (lambda n: walls(n, 2.0, NoSlip(), SLIP), lambda y: y * (4 - y), lambda y: (np.pi * y).sin() ** 2),
    "periodic": (lambda n: uneven(n, 2.0), lambda y: 2 + (np.pi * y).sin(), lambda y: (np.pi * y).cos()),
}


@pytest.mark.parametrize("kind", FLOWS)
def test_finite_volumes_interpolate_at_second_order(kind):
    """u, on centres, and v, on faces, near every kind of end."""
    line, u, v = FLOWS[kind]
    zero = lambda x, y, z: 0 * (x + y + z)  # noqa: E731
    functions = (lambda x, y, z: u(y) + zero(x, y, z), lambda x, y, z: v(y) * x.sin() + 0 * z, zero)
    errors = []
    for n in (20, 40, 80):
        old, new = operators(channel(6, line(n), 6)), operators(channel(8, line(n + 7), 8))
        found = velocity_of(saved(old, sample(old, functions)), new)
        errors.append(distance(found, sample(new, functions)))
    assert errors[2] < errors[0] / (4 if kind != "periodic" else 3)  # the random cells differ from grid to grid
    assert errors[2] < 0.01


def test_periodic_ends_meet():
    line = FiniteVolumeAxis(np.linspace(0.0, 2.0, 9), Periodic(), Periodic())
    old, new = operators(channel(4, line, 4)), operators(channel(4, uneven(11, 2.0), 4))
    one = (lambda x, y, z: 1.0 + 0 * (x + y + z),) * 3
    assert distance(velocity_of(saved(old, sample(old, one)), new), sample(new, one)) < 1e-15


def test_couette_flow_survives_with_the_velocity_of_its_walls():
    """Linear between walls that move in x and z: exact on any cells."""
    lower, upper = NoSlip((0.5, 0.0, 0.0)), NoSlip((1.0, 0.0, -2.0))
    old, new = (operators(channel(4, walls(n, 1.0, lower, upper), 4)) for n in (4, 16))
    zero = lambda x, y, z: 0 * (x + y + z)  # noqa: E731
    linear = (lambda x, y, z: 0.5 + 0.5 * y + 0 * (x + z), zero, lambda x, y, z: -2.0 * y + 0 * (x + z))
    assert distance(velocity_of(saved(old, sample(old, linear)), new), sample(new, linear)) < 1e-14


def test_what_enters_is_what_the_new_inflow_says():
    """From a stream of 1 with a parabola to one of 2: at the first faces halfway from the inflow to what was there."""
    entering = [Inflow((speed, 0.1, 0.0), "parabolic") for speed in (1.0, 2.0)]
    grids = [
        Grid(FiniteVolumeAxis(np.linspace(0.0, 2.0, n + 1), end, Outflow()), walls(6, 1.0), FourierAxis(1, 1.0))
        for n, end in zip((4, 8), entering, strict=True)
    ]
    old, new = (operators(grid) for grid in grids)
    one = (lambda x, y, z: 1.0 + 0 * (x + y + z), lambda x, y, z: 0 * (x + y + z), lambda x, y, z: 0 * (x + y + z))
    u, v, _ = velocity_of(saved(old, sample(old, one)), new)
    profile = entering[1].factor(grids[1].y.faces)
    np.testing.assert_allclose(u[0, 0, :, 0], 0.5 * (2.0 * profile + 1.0), rtol=1e-14)
    np.testing.assert_allclose(u[0, 1, :, 0], 1.0, rtol=1e-14)
    np.testing.assert_allclose(v[0, 0, :-1, 0], 0.05, rtol=1e-14)  # halfway from 0.1 on the end to 0 in the cell


class Alone:
    """A communicator that says it is one of several and talks to nobody."""

    def __init__(self, rank: int, size: int, root_says: object = None) -> None:
        self.rank, self.size, self.root_says = rank, size, root_says

    def bcast(self, value: object, root: int = 0) -> object:
        return value if self.rank == root else self.root_says


@pytest.mark.parametrize("name", ["box", "channel", "cavity"])
def test_a_rank_reads_its_own_planes_and_the_root_alone_verifies(name, tmp_path, monkeypatch):
    op, path = operators(name), tmp_path / "step_00000001.h5"
    velocity = random_velocity(op, SEED)
    held = saved(op, velocity)
    write(path, ranks.alone(), held.arrays, held.attributes)
    asked, summed = [], []
    read, verify = Stored.__getitem__, files.checksum

    def noted(stored: Stored, index: object) -> np.ndarray:
        asked.append(read(stored, index))
        return asked[-1]

    monkeypatch.setattr(Stored, "__getitem__", noted)
    monkeypatch.setattr(files, "checksum", lambda *given: summed.append(1) or verify(*given))
    parts = []
    for rank in range(3):
        some = operators(name, comm=Alone(rank, 3, path))
        found = latest(path, Alone(rank, 3, path))
        assert len(summed) == 1
        asked.clear()
        parts.append(velocity_of(found, some))
        fields = [a for a in asked if a.ndim > 2]
        assert sum(a.size for a in fields) == sum(f.numel() for f in parts[-1])
        found.close()
    joined = [torch.cat(fields, 1 if name == "box" else 2) for fields in zip(*parts, strict=True)]
    assert distance(joined, velocity) == 0


def test_a_file_is_verified_in_pieces(tmp_path, monkeypatch):
    """The sum is that of the whole, whatever the pieces; none is larger than asked for by more than a row."""
    arrays = {
        "a": np.arange(210.0).reshape(2, 7, 3, 5),
        "b": np.arange(50.0),
        "c": np.array(3.0),
        "d": np.zeros((0, 4)),
    }
    expected = checksum(arrays, {"t": 1.0})
    monkeypatch.setattr(files, "PIECE", 240)
    assert checksum(arrays, {"t": 1.0}) == expected
    pieces = [piece.nbytes for piece in files._pieces(arrays["a"])]
    assert max(pieces) == 240
    assert sum(pieces) == arrays["a"].nbytes
    path = tmp_path / "some.h5"
    write(path, ranks.alone(), arrays, {})
    assert files.read(path).sha256 == checksum(arrays, {"format": FORMAT})


def test_another_period_is_refused():
    """Modes have no length: they would be squeezed into the new box."""
    wide = Grid(*(FourierAxis(8, length) for length in (60.0, 2.0, 3.0)))
    narrow = Grid(*(FourierAxis(12, length) for length in (6.0, 2.0, 3.0)))
    old, new = operators(wide), operators(narrow)
    with pytest.raises(RunFolderError, match=r"period along x is 60, here it is 6; set \[grid.x\] length = 60"):
        velocity_of(saved(old, random_velocity(old, SEED)), new)


def test_checksum_sees_names_shapes_values_and_attributes():
    base = {"a": np.arange(6.0), "b": np.zeros(0)}
    others = [
        ({"c": base["a"], "b": base["b"]}, {"t": 1.0}),
        ({"a": base["a"].reshape(2, 3), "b": base["b"]}, {"t": 1.0}),
        ({"a": base["a"] + 1e-16 * (np.arange(6) == 0), "b": base["b"]}, {"t": 1.0}),
        (base, {"t": 1.0 + 1e-15}),
        ({"a": base["a"]}, {"t": 1.0}),
    ]
    sums = {checksum(*other) for other in [(base, {"t": 1.0}), *others]}
    assert len(sums) == 6

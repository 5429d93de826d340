"""What each filter promises: transfer functions, calculus that commutes, solenoidal fields, any rank count."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from closures.data.filters import GridFilter, Kernel, on_points
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid
from tests import runs
from tests.data.stored import from_points
from tests.grids import SLIP, WALL, distance, operators, random_scalar, random_velocity, uneven, uniform, values, walls

SEED = 271_829
LX, LZ = 6.0, 3.0
FINE = Grid(FourierAxis(20, LX), walls(24), FourierAxis(17, LZ, "2/3"))
COARSE = {
    "subset": Grid(FourierAxis(8, LX), walls(8), FourierAxis(6, LZ)),
    "other faces": Grid(FourierAxis(9, LX, "2/3"), walls(7, stretching=1.2), FourierAxis(11, LZ, "2/3")),
    "x and z alone": Grid(FourierAxis(8, LX), walls(24), FourierAxis(6, LZ)),
}
BOX = Grid(FourierAxis(15, LX), FourierAxis(13, 5.0, "2/3"), FourierAxis(12, LZ))
COARSE_BOX = Grid(FourierAxis(8, LX), FourierAxis(7, 5.0), FourierAxis(6, LZ))
GRIDS = {name: (FINE, coarse) for name, coarse in COARSE.items()} | {"box": (BOX, COARSE_BOX)}
SHARP, WIDE = Kernel("sharp"), Kernel("box", 1.3)


def made(name: str, kernel: Kernel) -> GridFilter:
    fine, coarse = GRIDS[name]
    return GridFilter(operators(fine), coarse, kernel)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kernel", [SHARP, WIDE])
@pytest.mark.parametrize("name", GRIDS)
def test_filtered_velocity_stays_solenoidal(name, kernel):
    f = made(name, kernel)
    u = f.velocity(random_velocity(f.fine, SEED))
    assert kernel.solenoidal
    assert min(float(c.abs().max()) for c in u) > 1e-3
    assert float(f.coarse.to_physical(f.coarse.divergence(u)).abs().max()) < 1e-12
    if not f.fine.grid.is_box:
        assert float(u[1].select(-2, -1).abs().max()) == 0.0  # nothing flows through the wall


@pytest.mark.parametrize("vertical", ["volume", "sample"])
def test_other_filters_across_walls_do_not_keep_the_divergence(vertical):
    """The test above is not vacuous, and these kernels say so."""
    f = made("subset", Kernel("sharp", vertical=vertical))
    u = f.velocity(random_velocity(f.fine, SEED))
    assert not f.kernel.solenoidal
    assert float(f.coarse.to_physical(f.coarse.divergence(u)).abs().max()) > 1e-2


@pytest.mark.parametrize("name", GRIDS)
def test_coarse_divergence_is_the_mean_of_the_fine_one(name):
    """Also where it is not zero."""
    f = made(name, WIDE)
    noise = [random_scalar(f.fine, SEED + i) for i in range(3)]
    if not f.fine.grid.is_box:
        noise[1][..., -1, :] = 0.0
    fine = f.centred([f.fine.divergence((noise[0], noise[1], noise[2]))])[0]
    coarse = f.coarse.divergence(f.velocity((noise[0], noise[1], noise[2])))
    assert float(fine.abs().max()) > 1e-2
    assert distance([coarse], [fine]) < 1e-12 * float(fine.abs().max())


@pytest.mark.parametrize("kernel", [SHARP, WIDE, Kernel("box", 0.5, "volume"), Kernel("sharp", vertical="sample")])
@pytest.mark.parametrize("name", GRIDS)
def test_filters_commute_with_derivatives_along_fourier_axes(name, kernel):
    f = made(name, kernel)
    scalar = random_scalar(f.fine, SEED)
    for d in f.fine.grid.fourier_axes:
        first = f.centred([f.fine.derivative(scalar, d)])[0]
        last = f.coarse.derivative(f.centred([scalar])[0], d)
        assert distance([first], [last]) < 1e-13 * float(first.abs().max())


@pytest.mark.parametrize("name", GRIDS)
def test_box_is_the_mean_over_its_width(name):
    """A wave keeps its phase and is multiplied by the mean of cos over the box; one beyond the grid is gone."""
    f = made(name, Kernel("box", 1.3))
    for d, (axis, coarse) in enumerate(zip(f.fine.grid.axes, f.coarse.grid.axes, strict=True)):
        if not axis.is_fourier:
            continue
        width, base = 1.3 * axis.length / coarse.n, 2 * np.pi / axis.length
        offsets = (np.arange(4000) + 0.5) / 4000 * width - 0.5 * width
        for mode in range(axis.highest_mode + 1):
            kept = np.cos(mode * base * offsets).mean() if mode <= coarse.highest_mode else 0.0

            def wave(x, y, z, mode=mode, d=d, base=base):
                return torch.cos(mode * base * (x, y, z)[d] + 0.3) + 0.0 * (x + y + z)

            filtered = f.centred([f.fine.to_coefficients(values(f.fine, wave))])[0]
            found = f.coarse.to_physical(filtered)
            torch.testing.assert_close(found, kept * values(f.coarse, wave), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", GRIDS)
def test_sharp_filter_is_a_projection(name):
    """Without change in y, filtering again changes nothing; the box damps again."""
    coarse = GRIDS[name][1]
    if coarse.y.n == FINE.y.n or name == "box":
        for kernel, same in ((SHARP, True), (WIDE, False)):
            once = made(name, kernel).velocity(random_velocity(operators(GRIDS[name][0]), SEED))
            twice = GridFilter(operators(coarse), coarse, kernel).velocity(once)
            assert (distance(once, twice) < 1e-15) is same


@pytest.mark.parametrize("vertical", ["face", "volume", "sample"])
@pytest.mark.parametrize("name", COARSE)
def test_profiles_are_preserved(name, vertical):
    """Constants always; linear profiles except by the mean over cells that are cut."""
    f = made(name, Kernel("box", 1.0, vertical))
    for profile in (lambda y: 0.0 * y + 1.0, lambda y: 3.0 * y - 1.0):
        flow = [lambda x, y, z, p=profile: p(y) + 0.0 * (x + z)] * 3
        u = [f.fine.to_coefficients(values(f.fine, g, i)) for i, g in enumerate(flow)]
        filtered = f.velocity((u[0], u[1], u[2]))
        for i in range(3):
            expected, found = values(f.coarse, flow[i], i), f.coarse.to_physical(filtered[i])
            if i == 1:  # v is zero on walls, and a mean over its volume belongs to the middle of that
                y = f.coarse.grid.y
                place = 0.5 * (y.centres[1:] + y.centres[:-1]) if vertical == "volume" else y.faces[1:-1]
                expected = torch.from_numpy(profile(place))[None, 1:-1, None].expand_as(found[:, 1:-2])
                found = found[:, 1:-2]
            exact = profile(np.zeros(1)) == 1.0 or i == 1 or name != "other faces" or vertical == "sample"
            error = float((found - expected).abs().max())
            assert error < 1e-13 if exact else 1e-4 < error < 0.1


@pytest.mark.parametrize("vertical", ["face", "volume", "sample"])
def test_nothing_happens_in_y_on_the_same_cells(vertical):
    """But for the mean of v over its volume."""
    f = made("x and z alone", Kernel("sharp", vertical=vertical))
    u = random_velocity(f.fine, SEED)
    profile = [c[0, 0, :, 0] for c in u]
    filtered = [c[0, 0, :, 0] for c in f.velocity(u)]
    np.testing.assert_array_equal(filtered[0], profile[0])
    np.testing.assert_array_equal(filtered[2], profile[2])
    for mine, theirs in zip(f.velocity(u)[1][:, 1, :, 2], u[1][:, 1, :, 2], strict=True):
        assert bool((mine == theirs).all()) is (vertical != "volume")


@pytest.mark.parametrize("name", GRIDS)
def test_bulk_velocity_is_kept(name):
    f = made(name, WIDE)
    u, filtered = random_velocity(f.fine, SEED), f.velocity(random_velocity(f.fine, SEED))
    drift = uniform(f.fine, (1.0, 0.0, 1.0)), uniform(f.coarse, (1.0, 0.0, 1.0))
    for i in (0, 2):
        fine, coarse = f.fine.inner_product(u[i], drift[0][i]), f.coarse.inner_product(filtered[i], drift[1][i])
        assert float(fine) == pytest.approx(float(coarse), abs=1e-15)


@pytest.mark.parametrize("name", ["subset", "other faces", "box"])
def test_points_carry_all_modes(name):
    f = made(name, SHARP)
    c = f.centred([random_scalar(f.fine, SEED)])[0]
    on = on_points(f.coarse, c)
    assert tuple(on.shape) == tuple(axis.n for axis in f.coarse.grid.axes)
    assert distance([from_points(f.coarse, on.clone())], [c]) < 1e-15 * 100
    wave = lambda x, y, z: torch.cos(2 * np.pi / LX * x + 0.2) * (1.0 + y) + 0.0 * z  # noqa: E731
    if not f.fine.grid.is_box:
        x, z = (torch.arange(a.n) * (a.length / a.n) for a in (f.coarse.grid.x, f.coarse.grid.z))
        y = torch.from_numpy(f.coarse.grid.y.centres)
        expected = wave(x[:, None, None], y[None, :, None], z[None, None, :])
        found = on_points(f.coarse, f.coarse.to_coefficients(values(f.coarse, wave)))
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=1e-6)


@pytest.mark.gradients
def test_gradients_flow_through_a_filter():
    """``<F u, r> = <u, F^T r>`` by automatic differentiation, against the filter of unit fields."""
    f = made("subset", WIDE)
    with torch.enable_grad():
        u = [c.clone().requires_grad_() for c in random_velocity(f.fine, SEED)]
        weights = [torch.randn_like(c) for c in f.velocity((u[0], u[1], u[2]))]
        total = sum((c * r).sum() for c, r in zip(f.velocity((u[0], u[1], u[2])), weights, strict=True))
        gradients = torch.autograd.grad(total, u)
    linear = sum((g * c).sum() for g, c in zip(gradients, u, strict=True))
    torch.testing.assert_close(linear, total)


def test_grids_without_a_filter_between_them_are_named():
    finer, shorter = Grid(FourierAxis(30, LX), walls(8), FINE.z), Grid(FINE.x, walls(8, 1.5), FINE.z)
    stretched = Grid(FINE.x, walls(24, stretching=3.0), FINE.z)
    spectral = Grid(FINE.x, FourierAxis(8, 2.0), FINE.z)
    periodic = Grid(FINE.x, uneven(9, 2.0), FINE.z)
    moved = Grid(FINE.x, FiniteVolumeAxis(walls(8).faces + 0.5, WALL, SLIP), FINE.z)
    sample = Kernel("sharp", vertical="sample")
    for coarse, kernel, match in (
        (finer, SHARP, r"\[coarse.x\] n = .* keeps more modes than \[grid.x\]"),
        (shorter, SHARP, r"\[coarse.y\] should be of the same kind and length"),
        (stretched, sample, r"\[coarse.y\] is finer than \[grid.y\] somewhere"),
        (spectral, SHARP, r"\[coarse.y\] should be of the same kind"),
        (periodic, SHARP, r"\[coarse.y\] filters know"),
        (moved, SHARP, r"\[coarse.y\] should have the ends"),
        (Grid(FINE.x, walls(25), FINE.z), SHARP, r"\[coarse.y\] is finer"),
    ):
        with pytest.raises(CaseError, match=match):
            GridFilter(operators(FINE), coarse, kernel)


def _filtered_everywhere() -> dict[str, np.ndarray]:
    """Filtered velocities of random flows, by grid and kernel; what the ranks are compared in."""
    found = {}
    for name in GRIDS:
        for vertical in ("face", "volume", "sample"):
            f = made(name, Kernel("box", 1.3, vertical))
            for i, c in enumerate(f.velocity(random_velocity(f.fine, SEED))):
                found[f"{name} {vertical} {i}"] = c.numpy()
    return found


@runs.needs_mpirun
def test_same_on_three_ranks(tmp_path):
    """The whole coarse field on every rank; three do not divide the planes evenly."""
    with torch.no_grad():
        one = _filtered_everywhere()
    done = runs.ended(runs.mpirun(3, "-m", "tests.data.test_filters", tmp_path / "last_rank.npz"))
    assert done.code == 0, done.err
    with np.load(tmp_path / "last_rank.npz") as other:
        assert set(other) == set(one)
        for key, field in one.items():
            np.testing.assert_allclose(other[key], field, rtol=0, atol=1e-13, err_msg=key)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    fields, slabs = _filtered_everywhere(), operators(FINE).decomposition
    if slabs.rank == slabs.size - 1:
        np.savez(sys.argv[1], **fields)

"""The subgrid stress: zero where nothing is lost, positive where the filter is, and it closes the filtered momentum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.data.commutator import PAIRS, Commutator
from closures.data.filtered_dns import FilteredView
from closures.data.filters import GridFilter, Kernel
from closures.data.recipe import StoreTable
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import SubgridStress
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.data.stored import from_points
from tests.grids import distance, minus, norm, operators, orders, random_velocity, sample, tendency, walls

SEED = 577_213
LX, LZ, NU = 6.0, 3.0, 0.05
FINE = Grid(FourierAxis(20, LX), walls(24), FourierAxis(17, LZ))
BOX = Grid(FourierAxis(16, LX), FourierAxis(16, 5.0), FourierAxis(12, LZ))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def pair(commutator, velocity):
    """Filtered velocity coefficients and the stress that goes with them."""
    filtered = commutator.velocity(velocity)
    return filtered.coefficients, commutator.stress(velocity, filtered)


def commutator(fine: Grid, coarse: Grid, kernel: Kernel) -> Commutator:
    return Commutator(GridFilter(operators(fine), coarse, kernel))


def flow(c: Commutator, components) -> Velocity:
    return Velocity(VelocityGradient(c.filter.fine), components)


def as_stored(c: Commutator, velocity: Velocity):
    """Coefficients of the filtered velocity, and the subgrid stress, from the rows that go to a file."""
    rows = FilteredView(c, StoreTable(staggered=True, stress=True)).rows(velocity)
    u = torch.from_numpy(rows["t1_fields/staggered_velocity"]).double()
    tau = torch.from_numpy(rows["t2_fields/subgrid_stress"]).double()
    op = c.filter.coarse
    components = tuple(from_points(op, u[..., i].clone()) for i in range(3))
    return components, SubgridStress(tuple(op.to_physical(from_points(op, tau[..., i, j].clone())) for i, j in PAIRS))


def low_modes(c: Commutator, share: int):
    """A random velocity in the lowest modes alone: 1/share of those of the coarse grid."""
    coarse = c.filter.coarse.grid
    axes = [FourierAxis(2 * (a.highest_mode // share) + 1, a.length) if a.is_fourier else a for a in coarse.axes]
    narrow = GridFilter(c.filter.fine, Grid(axes[0], c.filter.fine.grid.y, axes[2]), Kernel())
    if coarse.is_box:
        narrow = GridFilter(c.filter.fine, Grid(*axes), Kernel())
    few = narrow.velocity(random_velocity(c.filter.fine, SEED))
    whole = []
    for f, like in zip(few, random_velocity(c.filter.fine, SEED), strict=True):
        padded = torch.zeros_like(like)
        index = [
            torch.arange(f.shape[d - 3]) if f.shape[d - 3] == like.shape[d - 3] or d == 2 else _signed(f.shape[d - 3])
            for d in range(3)
        ]
        padded[:, index[0][:, None, None], index[1][:, None], index[2]] = f
        whole.append(padded)
    return whole[0], whole[1], whole[2]


def _signed(n: int) -> torch.Tensor:
    k = torch.arange(n)
    return torch.where(k <= n // 2, k, k - n)


@pytest.mark.parametrize("name", ["channel", "box"])
def test_no_stress_where_the_coarse_grid_resolves_everything(name):
    """The sharp filter, y as it is, and a flow in the modes that the coarse grid has; the box filter leaves some."""
    fine = FINE if name == "channel" else BOX
    y = fine.y if name == "channel" else FourierAxis(9, 5.0)
    coarse = Grid(FourierAxis(12, LX), y, FourierAxis(8, LZ))
    for kernel, zero in ((Kernel("sharp"), True), (Kernel("box"), False)):
        c = commutator(fine, coarse, kernel)
        u = flow(c, low_modes(c, 1))
        ubar, tau = pair(c, u)
        size = max(float(f.abs().max()) for f in tau)
        assert norm(c.filter.coarse, ubar) > 0.05
        assert (size < 1e-15) is zero
        assert zero or size > 1e-4


def test_a_linear_profile_leaves_the_variance_within_a_cell():
    """``mean(y^2) - mean(y)^2`` over the fine cells in a coarse one, to round-off; nothing else."""
    coarse = Grid(FourierAxis(8, LX), walls(8), FourierAxis(6, LZ))
    c = commutator(FINE, coarse, Kernel("sharp", vertical="face"))
    rest = lambda x, y, z: 0.0 * y  # noqa: E731
    flat = sample(c.filter.fine, [lambda x, y, z: 2.0 * y + 0.0 * (x + z), rest, rest])
    tau = c.stress(flow(c, flat))
    centres, width = FINE.y.centres.reshape(8, 3), FINE.y.width.reshape(8, 3)
    share = width / width.sum(1, keepdims=True)
    variance = (share * centres**2).sum(1) - (share * centres).sum(1) ** 2
    np.testing.assert_allclose(tau[0][0, 0, :, 0].numpy(), 4.0 * variance, rtol=1e-12, atol=1e-15)
    assert all(float(f.abs().max()) < 1e-15 for f in tau[1:])


@pytest.mark.parametrize("name", ["mean over cells", "box in x and z"])
def test_normal_stresses_are_positive_where_the_filter_is(name):
    """Jensen's inequality, at every point: fields whose products the grid still has, so that nothing is cut off."""
    if name == "mean over cells":
        coarse, kernel = Grid(FINE.x, walls(8), FINE.z), Kernel("sharp", vertical="face")
    else:
        coarse, kernel = FINE, Kernel("box", 2.0, "sample")
    c = commutator(FINE, coarse, kernel)
    op = c.filter.coarse
    xx, yy, zz, _, xz, _ = (op.to_physical(f) for f in c.stress(flow(c, low_modes(c, 2))))
    size = float(xx.abs().max())
    assert size > 1e-4
    assert float(xx.min()) > -1e-14
    assert float(zz.min()) > -1e-14
    assert float((xx * zz - xz**2).min()) > -1e-14 * size
    if kernel.vertical == "sample":  # v is interpolated to centres, which the mean over cells does not commute with
        assert float(yy.min()) > -1e-14


@pytest.mark.parametrize("kernel", [Kernel("sharp"), Kernel("box"), Kernel("box", 0.5, "volume")])
def test_the_stress_closes_the_filtered_momentum_equation(kernel):
    """Filtered fine tendency = coarse tendency with tau, to second order in the cells; nothing converges without tau.

    Both are what a data file keeps of them: values on the points of the coarse grid in single precision.
    Without viscosity: the diffusion of a row of cells at a wall is of lower order, filtered or not.
    """
    closed, open_ = [], []
    for n in (12, 24, 48):
        fine = Grid(FourierAxis(14, LX), walls(2 * n, stretching=1.2), FourierAxis(12, LZ))
        coarse = Grid(FourierAxis(6, LX), walls(n, stretching=1.2), FourierAxis(6, LZ))
        c = commutator(fine, coarse, kernel)
        u = sample(c.filter.fine, MANUFACTURED)
        op = c.filter.coarse
        filtered, term = as_stored(c, flow(c, u))
        wanted = c.filter.velocity(tendency(c.filter.fine, u))
        closed.append(norm(op, minus(tendency(op, filtered, term=term), wanted)) / norm(op, wanted))
        open_.append(norm(op, minus(tendency(op, filtered), wanted)) / norm(op, wanted))
    assert min(orders(closed)) > 1.7
    assert closed[-1] < 0.01
    assert abs(orders(open_)[-1]) < 0.2
    assert open_[-1] > 5 * closed[-1]


def _wall(y, power):
    return torch.sin(0.5 * np.pi * y) ** power


def _u(x, y, z):
    a, b = 2 * np.pi / LX, 2 * np.pi / LZ
    return _wall(y, 2) * (1.0 + torch.cos(3 * a * x + 0.3) * torch.cos(b * z) + 0.5 * torch.sin(5 * a * x + 2 * b * z))


def _v(x, y, z):
    a, b = 2 * np.pi / LX, 2 * np.pi / LZ
    return _wall(y, 3) * (torch.sin(2 * a * x) * torch.cos(3 * b * z + 0.4) + 0.7 * torch.cos(a * x + b * z))


def _w(x, y, z):
    a, b = 2 * np.pi / LX, 2 * np.pi / LZ
    return _wall(y, 2) * (torch.cos(4 * a * x + 1.0) + torch.sin(a * x + 3 * b * z + y))


MANUFACTURED = [_u, _v, _w]


def test_filtering_in_a_box_is_exact():
    """Without cells the momentum equation with tau is the filtered one, to round-off."""
    c = commutator(BOX, Grid(FourierAxis(8, LX), FourierAxis(7, 5.0), FourierAxis(6, LZ)), Kernel("box"))
    u = random_velocity(c.filter.fine, SEED)
    filtered, tau = pair(c, flow(c, u))
    op = c.filter.coarse
    term = SubgridStress(tuple(op.to_physical(f) for f in tau))
    wanted = c.filter.velocity(tendency(c.filter.fine, u, NU))
    assert distance(tendency(op, filtered, NU, term), wanted) < 1e-14
    assert distance(tendency(op, filtered, NU), wanted) > 1e-3
    assert len(tau) == len(PAIRS) == 6

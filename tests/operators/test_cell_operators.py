"""MgNO and U-Net: shifts by what coarsening allows, walls, the V-cycle of Poisson's equation, grids refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.operators import Domain, build
from closures.operators.cells import Prolongation, Restriction, Stencil, surrounded, volumes_of
from closures.operators.mgno import VCycle
from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.operators.fields import SMALL, channel_domain, randomise, smooth

OPERATORS = ("mgno", "unet")
CHANNEL, BOX = (True, False, True), (True, True, True)
LINEAR = np.array([0.25, 0.75, 0.75, 0.25])  # from the cells of a coarse grid to those of half the size
OMEGA = 0.8  # of Jacobi's iteration
every_operator = pytest.mark.parametrize("name", OPERATORS)


def small(name, seed=530_117, **changes):
    return randomise(build(name, **(SMALL[name] | changes)).double(), seed)


def noise(*shape, seed=271_906):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def stencil(weights, like):
    """One channel's weights in place."""
    with torch.no_grad():
        like.kernel.weight.copy_(torch.from_numpy(weights))
    return like


def product(line):
    return np.einsum("i,j,k->ijk", line, line, line)[None, None]


# -- operators ---------------------------------------------------------------------------------------------------------


@every_operator
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_commutes_with_shifts_by_a_coarse_cell_along_periods(name, levels):
    domain, by = channel_domain(8, 8, 12), 2 ** (levels - 1)
    network, u = small(name, levels=levels), noise(2, 3, 8, 8, 12)
    expected = network(u, domain)
    assert expected.std() > 1e-3
    for shift, d in ((by, 2), (3 * by, 4)):
        moved = network(u.roll(shift, d), domain)
        torch.testing.assert_close(moved, expected.roll(shift, d), rtol=0, atol=1e-12)
    if levels > 1:
        fraction = network(u.roll(by // 2, 2), domain) - expected.roll(by // 2, 2)
        assert fraction.abs().max() > 1e-3 * expected.std()
    across = network(u.roll(by, 3), domain) - expected.roll(by, 3)
    assert across.abs().max() > 1e-2 * expected.std()  # walls are where they are


@every_operator
def test_in_a_box_all_three_directions_are_alike(name):
    box = Domain.of(Grid(*(FourierAxis(n, length, "2/3") for n, length in ((6, 4.0), (4, 3.0), (8, 2.0)))))
    network, u = small(name, periodic=BOX), noise(2, 3, *box.shape)
    moved, expected = network(u.roll((2, 2, 4), (2, 3, 4)), box), network(u, box).roll((2, 2, 4), (2, 3, 4))
    assert expected.std() > 1e-3
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@every_operator
def test_nothing_comes_through_walls(name):
    """On one grid stencils reach a few cells: what is at the lower wall goes around a period, not through a wall."""
    domain, network = channel_domain(16, 16, 16), small(name, levels=1)
    u = noise(1, 3, 16, 16, 16)
    kicked = u.clone()
    kicked[:, :, 0, 0, 0] += 1.0
    change = (network(kicked, domain) - network(u, domain)).abs().amax((0, 1))
    reached = change > 0
    assert reached[1, 0, 0]
    assert reached[15, 0, 0]
    assert reached[0, 0, 15]
    assert reached[0, 1, 0]
    assert not reached[:, 10:].any()


@every_operator
def test_hears_of_all_cells_and_knows_the_wall(name):
    """The coarsest grid carries what is far away; in a field that is the same everywhere cells at walls differ."""
    domain = channel_domain(8, 8, 8)
    u = noise(1, 3, 8, 8, 8).requires_grad_()
    small(name, levels=3)(u, domain)[0, 0, 0, 0, 0].backward()
    assert (u.grad[0].abs().amax(0) > 0).all()
    even = small(name)(torch.ones(1, 3, 8, 8, 8, dtype=torch.float64), domain)[0, 0, ::2, :, ::2]
    assert even.std((0, 2)).max() < 1e-12
    assert abs(even[0, 0, 0] - even[0, 4, 0]) > 1e-4


@every_operator
def test_begins_with_a_frozen_flow(name):
    domain = channel_domain(8, 8, 8, torch.float32)
    network = build(name, **SMALL[name])
    assert not network(smooth(domain), domain).any()
    assert not network.grid_free
    assert network.reach == "global"


@every_operator
def test_grids_that_cannot_be_halved_are_refused(name):
    u = torch.zeros(1, 3, 8, 6, 8, dtype=torch.float64)
    with pytest.raises(
        CaseError, match="levels = 3: 6 points along y can be halved 1 times: lower it to 2, or take 4 n"
    ):
        small(name, levels=3)(u, channel_domain(8, 6, 8))
    with pytest.raises(CaseError, match="levels = 2: 9 points along x can be halved 0 times: lower it to 1"):
        small(name)(torch.zeros(1, 3, 9, 6, 8, dtype=torch.float64), channel_domain(9, 6, 8))
    with pytest.raises(CaseError, match="made for periodic x, periodic y"):
        small(name, periodic=BOX)(u, channel_domain(8, 6, 8))
    assert (
        small(name, levels=1)(torch.zeros(1, 3, 9, 7, 5, dtype=torch.float64), channel_domain(9, 7, 5)).isfinite().all()
    )


# -- stencils, and the cycle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [32, 16, 8])
def test_what_vanishes_on_walls_is_an_eigenvector_of_the_laplacian_on_every_grid(n):
    """A sine is zero on both walls, midway between cells and their images: no row of the matrix knows of its wall."""
    laplacian = stencil(laplace(1.0), Stencil(1, 1, CHANNEL).double())
    phase = 3.0 * np.pi * (np.arange(n) + 0.5) / n
    f = torch.from_numpy(np.sin(phase))[None, None, None, :, None].expand(1, 1, 4, n, 4)
    expected = 4.0 * np.sin(1.5 * np.pi / n) ** 2 * f
    torch.testing.assert_close(laplacian(f).detach(), expected, rtol=0, atol=1e-14)
    coarse = stencil(product(LINEAR / 2), Restriction(1, CHANNEL).double())(f, torch.ones_like(f))[0, 0, 0]
    half = torch.from_numpy(np.sin(3.0 * np.pi * (np.arange(n // 2) + 0.5) / (n // 2)))
    ratio = (coarse[:, 0] / half).detach()
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-12, atol=0)


def test_restriction_keeps_the_integral_and_prolongation_the_mean_on_stretched_cells():
    domain = channel_domain(6, 8, 4)
    f = noise(1, 1, *domain.shape)
    fine, coarse = volumes_of(domain, f, 2)
    block = stencil(product(np.array([0.0, 0.5, 0.5, 0.0])), Restriction(1, CHANNEL).double())
    torch.testing.assert_close((block(f, fine) * coarse).sum(), (f * fine).sum(), rtol=1e-13, atol=0)
    assert float(coarse.sum()) == pytest.approx(float(fine.sum()))
    spread = stencil(product(np.array([0.0, 1.0, 1.0, 0.0])), Prolongation(1, 1, CHANNEL).double())(block(f, fine))
    torch.testing.assert_close((spread * fine).sum(), (f * fine).sum(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("nx", [2, 6, 5])
def test_one_sample_that_is_cut_in_two_is_convolved_as_a_whole(nx):
    torch.manual_seed(118_402)
    stencil, f = Stencil(2, 3, CHANNEL, bias=True).double(), noise(1, 2, nx, 4, 3).requires_grad_()
    whole, slope = stencil(f.expand(2, -1, -1, -1, -1))[:1], noise(1, 3, nx, 4, 3)
    torch.testing.assert_close(stencil(f), whole, rtol=0, atol=1e-14)
    found, expected = (torch.autograd.grad(answer, f, slope)[0] for answer in (stencil(f), whole))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_beyond_a_wall_is_the_image_with_the_other_sign():
    f = noise(1, 2, 4, 3, 2)
    wide = surrounded(f, CHANNEL)
    assert wide.shape == (1, 2, 6, 5, 4)
    torch.testing.assert_close(wide[:, :, 1:-1, 1:-1, 1:-1], f, rtol=0, atol=0)
    torch.testing.assert_close(wide[:, :, 1:-1, 0, 1:-1], -f[:, :, :, 0], rtol=0, atol=0)
    torch.testing.assert_close(wide[:, :, 0, -1, 1:-1], -f[:, :, -1, -1], rtol=0, atol=0)
    torch.testing.assert_close(wide[:, :, 1:-1, 1:-1, 0], f[..., -1], rtol=0, atol=0)


def laplace(spacing):
    """Seven points of minus the Laplacian, (1, 1, 3, 3, 3)."""
    one, two = np.array([0.0, 1.0, 0.0]), np.array([-1.0, 2.0, -1.0]) / spacing**2
    return sum(np.einsum("i,j,k->ijk", *(two if d == e else one for e in range(3))) for d in range(3))[None, None]


def set_cycle(cycle, spacing):
    """Poisson's equation: seven points, Jacobi's iteration, linear interpolation and its transpose."""
    jacobi = np.zeros((1, 1, 3, 3, 3))
    jacobi[..., 1, 1, 1] = OMEGA * spacing**2 / 6.0
    stencil(laplace(spacing), cycle.matrix)
    for smoother in (*cycle.before, *cycle.after):
        stencil(jacobi, smoother)
    if hasattr(cycle, "coarser"):
        stencil(product(LINEAR / 2), cycle.restrict)
        stencil(product(LINEAR), cycle.prolong)
        set_cycle(cycle.coarser, 2.0 * spacing)


def by_matrices(shape, spacing, levels, before, after):
    """The same cycle as a matrix, from those of one direction by Kronecker products; walls at both ends of y."""
    second, interpolation = [], []
    for n, periodic in zip(shape, CHANNEL, strict=True):
        matrix = 2.0 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
        if periodic:
            matrix[0, -1] -= 1.0
            matrix[-1, 0] -= 1.0
        else:
            matrix[0, 0] = matrix[-1, -1] = 3.0  # half a cell from the wall
        second.append(matrix / spacing**2)
        linear = np.zeros((n, n // 2))
        for cell in range(n):
            linear[cell, cell // 2] += 0.75
            other = cell // 2 + (1 if cell % 2 else -1)
            if periodic or 0 <= other < n // 2:
                linear[cell, other % (n // 2)] += 0.25
            else:
                linear[cell, cell // 2] -= 0.25
        interpolation.append(linear)
    ones = [np.eye(n) for n in shape]
    a = sum(kron(second[e] if d == e else ones[e] for e in range(3)) for d in range(3))
    s, one = OMEGA * spacing**2 / 6.0, np.eye(len(a))
    answer = np.zeros_like(a)
    for _ in range(before):
        answer = answer + s * (one - a @ answer)
    if levels > 1:
        p = kron(interpolation)
        coarse, _ = by_matrices([n // 2 for n in shape], 2.0 * spacing, levels - 1, before, after)
        answer = answer + p @ coarse @ (p.T / 8.0) @ (one - a @ answer)
    for _ in range(after):
        answer = answer + s * (one - a @ answer)
    return answer, a


def kron(factors):
    x, y, z = factors
    return np.kron(np.kron(x, y), z)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1)])
def test_with_the_weights_of_poissons_equation_it_is_the_multigrid_cycle(before, after):
    """Of three grids, written down as matrices; and it solves: the error falls by as much on every grid."""
    factors = []
    for shape, levels in (((4, 4, 4), 2), ((8, 8, 8), 3)):
        cycle = VCycle(1, 1, levels, before, after, CHANNEL).double()
        set_cycle(cycle, 1.0)
        units = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, 1, *shape)
        volumes = [torch.ones(1, 1, *(n >> k for n in shape), dtype=torch.float64) for k in range(levels)]
        found = cycle(units, volumes).detach().flatten(1).T.numpy()
        expected, matrix = by_matrices(list(shape), 1.0, levels, before, after)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        factors.append(max(abs(np.linalg.eigvals(np.eye(len(matrix)) - found @ matrix))))
    jacobi = 1.0 - OMEGA / 6.0 * min(np.linalg.eigvalsh(matrix))
    assert jacobi ** (before + after) > 0.9
    assert max(factors) < 0.6
    assert factors[1] < 1.05 * factors[0]

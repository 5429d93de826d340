"""The stress in two parts, learned: what it is before it has learned anything, and what no weights can change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.coupling.split_model import subgrid_model
from closures.operators import build
from closures.operators.stress import Cells, dissipation
from closures.registry.registry import create
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid
from tests.closures.flows import NU, answer, assert_same, make_grid, make_operators, make_velocity, random_fields
from tests.operators.fields import randomise


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def network(seed=3, scale=0.5, **options):
    return randomise(build("split_stress", **options), seed, scale=scale)


def of(made, grid, fields, nu=NU):
    model = subgrid_model(made, grid=grid, nu=nu, precision="float64")
    return answer(model, make_velocity(make_operators(grid), fields)).numpy()


@pytest.mark.parametrize(
    ("kind", "wall"), [("channel", (0.0, 0.0, 0.0)), ("channel", (0.4, 0.0, 0.1)), ("duct", (0.0,) * 3)]
)
def test_a_new_network_is_the_two_part_model(kind, wall):
    grid = make_grid(kind, wall)
    fields = random_fields(grid)
    expected = answer(create("two_part", grid=grid, nu=NU), make_velocity(make_operators(grid), fields)).numpy()
    assert_same(expected, of(build("split_stress").double(), grid, fields), 1e-6)  # its constants are single precision


def test_a_new_network_without_walls_is_wale():
    grid = make_grid("box")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    nu_t = answer(create("wale", grid=grid, nu=NU), velocity)[0]
    g = velocity.gradient
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    expected = torch.stack([-nu_t * (g[i][j] + g[j][i]) for i, j in pairs]).numpy()
    assert_same(expected, of(build("split_stress"), grid, random_fields(grid)), 1e-12)


def noise(seed, shape=(4, 5, 6)):
    """Trace-free gradients of order one, and cells of unequal sides."""
    g = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 3, 3, *shape)))
    g = g - torch.eye(3).double().reshape(1, 3, 3, 1, 1, 1) * (torch.einsum("bii...->b...", g) / 3)[:, None, None]
    dx, dy, dz = (torch.full((1, 1, 1), f, dtype=torch.float64) for f in (0.3, 0.05, 0.12))
    return g, Cells((dx * dy * dz) ** (1 / 3), 0.01, None, (True,) * 3, (dx, dy, dz))


@pytest.mark.parametrize("seed", range(4))
def test_fluctuations_are_drained_whatever_the_weights(seed):
    """Directional viscosities drain at every point, and what turns does no work."""
    made, (g, cells) = network(seed, scale=0.1).double(), noise(seed)
    drained = dissipation(made(g, cells), g)
    assert float(drained.min()) > 0.0
    made.ratios[-1].bias[1] += 0.7
    turned = made(g, cells)
    assert float((dissipation(turned, g) - drained).abs().max()) < 1e-13 * float(drained.max())
    made.ratios[-1].bias[1] -= 0.7
    assert float((turned - made(g, cells)).abs().max()) > 1e-2 * float(turned.abs().max())


def test_no_stress_in_laminar_flow():
    grid = make_grid("channel")
    u = (grid.y.centres * (2.0 - grid.y.centres))[None, :, None] + np.zeros(grid.shape)
    turbulent = np.abs(
        of(network(), grid, [f + g for f, g in zip(random_fields(grid), (u, 0 * u, 0 * u), strict=True)])
    )
    assert np.abs(of(network(), grid, [u, 0 * u, 0.3 * u])).max() < 1e-20 * turbulent.max()


def test_it_vanishes_with_the_grid():
    """Drains go like the square of the width, the stress of the mean as well once the width is small."""
    largest = []
    for factor in (1.0, 0.5, 0.25):
        y = FiniteVolumeAxis(stretched_faces(6, 0.0, 2e-3 * factor, 1.5), NoSlip(), NoSlip())
        grid = Grid(FourierAxis(8, 6e-3 * factor), y, FourierAxis(8, 3e-3 * factor))
        fields = [1e-3 * factor * f for f in random_fields(grid)]  # the same gradients
        largest.append(np.abs(of(build("split_stress"), grid, fields)).max())
    assert np.log2(np.divide(largest[:-1], largest[1:])) == pytest.approx(2.0, abs=0.5)


def test_gradients_reach_every_weight():
    grid = make_grid("channel")
    made = network().double()
    with torch.enable_grad():
        made.requires_grad_()
        model = subgrid_model(made, grid=grid, nu=NU, precision="float64")
        u = (grid.y.centres * (2.0 - grid.y.centres))[None, :, None]
        fields = [f + g for f, g in zip(random_fields(grid), (u, 0, 0), strict=True)]
        answer(model, make_velocity(make_operators(grid), fields)).square().sum().backward()
    assert all(bool(p.grad.abs().max() > 0) for p in made.parameters())


@pytest.mark.parametrize(
    ("kind", "nu", "word"), [("cavity", NU, "use 'wale' or 'amd'"), ("channel", 0.0, "needs nu > 0")]
)
def test_where_there_is_no_mean_along_walls(kind, nu, word):
    with pytest.raises(CaseError, match=word):
        subgrid_model(network(), grid=make_grid(kind), nu=nu)

"""Classical starts: the network is the cycle, the cycle is symmetric and definite, and conjugate directions are few."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from closures.operators import build
from closures.pressure_nets import starts
from closures.pressure_nets.conjugate_net import ConjugateDirectionNet
from closures.pressure_nets.cosines import factors, fitted, modes, polynomial, residuals
from closures.pressure_nets.directions import ConjugateDirections, NetworkDirection
from closures.pressure_nets.geometry_net import GeometryNet
from closures.pressure_nets.two_grid import Kernels, two_grid
from solver.errors import CaseError
from solver.grid.grid import Grid
from solver.pressure.multigrid import MultigridPressure
from tests.pressure.problems import BALL, PERIODIC, RODS, Problem, cells, cube, noise

SWEEPS = {64: (2, 3), 128: (3, 5)}


@pytest.fixture(autouse=True)
def production_mode(gradient_mode: None):
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def kernels() -> dict[int, Kernels]:
    """Quickly fitted, on small boxes."""
    return {name: fitted(*sweeps, cells=(32, 64), iterations=6, steps=60) for name, sweeps in SWEEPS.items()}


def matrix_of(linear, shape: tuple[int, int, int]) -> torch.Tensor:
    """Columns are the images of unit vectors."""
    size = math.prod(shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape)
    return linear(units).reshape(size, size).T


@pytest.mark.parametrize("periodic", [(False, False, False), (True, False, True)], ids=["closed", "periodic"])
@pytest.mark.parametrize("trained_for", [64, 128])
def test_the_network_is_the_two_grid_cycle(kernels, trained_for, periodic):
    torch.manual_seed(5)
    network = ConjugateDirectionNet(trained_for=trained_for, walls="mirror").double()
    starts.embed(network, kernels[trained_for])
    r = torch.randn(2, 1, 12, 8, 10, dtype=torch.float64)
    expected = two_grid(kernels[trained_for], r, periodic)
    assert torch.allclose(network(r, r, periodic), expected, rtol=0, atol=1e-13 * float(expected.abs().max()))


def test_channels_that_the_cycle_leaves_free_can_learn(kernels):
    torch.manual_seed(6)
    network = ConjugateDirectionNet(walls="mirror").double()
    starts.embed(network, kernels[64])
    with torch.enable_grad():
        network(torch.randn(1, 1, 8, 8, 8, dtype=torch.float64), torch.ones(1)).square().sum().backward()
    for block in (*network.coarse, *network.after):
        free = block.second.weight.grad[: starts.SIGNED, starts.SIGNED :]
        assert float(free.abs().max()) > 0  # what they would contribute, although they do not yet
        assert block.second.bias.grad is None


@pytest.mark.parametrize("periodic", [(False, False, False), (True, False, True)], ids=["closed", "periodic"])
@pytest.mark.parametrize("sweeps", SWEEPS.values(), ids=map(str, SWEEPS))
def test_the_cycle_is_symmetric_and_positive_definite(sweeps, periodic):
    for found in (polynomial(*sweeps), fitted(*sweeps, cells=(32,), iterations=6, steps=30)):
        m = matrix_of(lambda r, k=found: two_grid(k, r, periodic), (8, 6, 8))
        values = torch.linalg.eigvalsh(0.5 * (m + m.T))
        assert float((m - m.T).abs().max()) < 1e-13 * float(values.max())
        assert float(values.min()) > 0.05  # an exact inverse has 1/12 there


def test_cosines_are_what_the_cycle_makes_of_them():
    n, found = 8, fitted(2, 3, cells=(16,), iterations=5, steps=10)
    box = modes(n)
    smoothed, left, correction = factors(found, box)
    x = (torch.arange(n, dtype=torch.float64) + 0.5) * math.pi / n

    def field(numbers) -> torch.Tensor:
        lines = [torch.cos(int(m) * x) for m in numbers]
        return torch.einsum("i,j,k->ijk", *lines)[None, None]

    numbers = [m for m in itertools.product(range(n // 2), repeat=3) if list(m) == sorted(m)]
    at = numbers.index((1, 2, 3))
    aliases = [
        tuple(n - m if flip else m for m, flip in zip((1, 2, 3), flips, strict=True))
        for flips in itertools.product((False, True), repeat=3)
    ]
    for source in (0, 5):
        share = correction[at] * box.restriction[at, source] * left[at, source]
        expected = sum(
            float(share * box.restriction[at, i] * left[at, i]) * field(alias) for i, alias in enumerate(aliases)
        )
        expected = expected + float(smoothed[at, source]) * field(aliases[source])
        assert torch.allclose(two_grid(found, field(aliases[source])), expected, rtol=0, atol=1e-12)


def test_sums_over_modes_foretell_conjugate_gradients():
    """White noise spreads evenly over modes, so its mean course is that of the sums."""
    found, n = polynomial(2, 3), 16
    foretold = [float(r) for r in residuals(found, modes(n), 4)]
    problem = Problem(cube(n)).poisson()
    rhs = noise(problem)
    cycle = _cycle(problem, found)
    for count in (2, 4):
        report = ConjugateDirections(problem, cycle, foretold[count - 1] * 1.3).solve(rhs, torch.zeros_like(rhs))
        assert report.iterations == count


def test_fitted_kernels_leave_less_than_the_polynomial_they_start_from():
    box = modes(32)
    before = float(residuals(polynomial(2, 3), box, 6)[-1])
    assert float(residuals(fitted(2, 3, cells=(32,), iterations=6, steps=60), box, 6)[-1]) < 0.3 * before


@pytest.mark.parametrize("shape", ["ball", "rods"])
@pytest.mark.parametrize("name", ["dcdm", "npsdo"])
def test_few_directions_are_enough_around_solids(kernels, name, shape):
    n = 32
    if shape == "ball":
        poisson = Problem(cube(n), [BALL]).poisson()
    else:
        poisson = Problem(Grid(cells(n, 1.0, PERIODIC), cells(n), cells(n, 1.0, PERIODIC)), RODS).poisson()
    torch.manual_seed(8)
    if name == "dcdm":
        network = ConjugateDirectionNet(walls="mirror")
        starts.embed(network, kernels[64])
    else:
        network = GeometryNet(levels=4)
        starts.begin(network, 32)
    rhs = noise(poisson)
    solver = ConjugateDirections(poisson, NetworkDirection(poisson, network), 1e-8)
    learned = solver.solve(rhs, torch.zeros_like(rhs)).iterations
    plain = MultigridPressure(poisson, 1e-8, 500, preconditioner=torch.clone).solve(rhs, torch.zeros_like(rhs))
    assert solver.interventions == 0
    assert learned <= 26
    assert learned < 0.25 * plain.iterations


def test_smoothers_of_the_multilevel_start_are_mirrored_at_solids():
    network = GeometryNet(levels=1).double()
    starts.begin(network, 32)
    fluid = torch.ones(1, 1, 8, 8, 8, dtype=torch.float64)
    fluid[..., 2:5, 3:6, 0:4] = 0.0
    smoother = network.before[0]
    stencils = smoother.read(torch.cat([0 * fluid, fluid, fluid], 1))
    inside = fluid.flatten() > 0
    m = matrix_of(lambda r: smoother(stencils, r * fluid), (8, 8, 8))
    assert torch.allclose(m[inside][:, inside], m[inside][:, inside].T, rtol=0, atol=1e-15)
    constant = smoother(stencils, fluid)
    assert torch.allclose(constant, fluid, rtol=0, atol=1e-14)  # constants stay, and nothing gets into solids


def test_levels_that_small_boxes_cannot_teach_keep_their_classical_weights():
    network = GeometryNet(levels=3)
    starts.begin(network, 32)
    learns = {name.split(".weights")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert learns == {f"{part}.{level}" for part in ("before", "after", "kept", "added") for level in (0, 1)}


def test_only_networks_in_space_have_a_classical_start():
    with pytest.raises(CaseError, match="start = 'random'"):
        starts.begin(build("dcdm", dimensions=2), 32)


def _cycle(poisson, kernels):
    layout = poisson.layout

    def direction(residual: torch.Tensor) -> torch.Tensor:
        flat = layout.zeros(poisson.dtype)
        r = layout.cells(residual).transpose(0, 1)[None, None]
        layout.cells(flat).copy_(two_grid(kernels, r)[0, 0].transpose(0, 1))
        return flat

    return direction

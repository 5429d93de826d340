"""State operators by name: published sizes, symmetries, convergence on stretched grids, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call

from closures.operators import Domain, Line, build, kind, names
from closures.operators.axial import harmonic_angles, rotated
from closures.operators.spectral import SpectralConvolution
from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.operators.fields import SMALL, channel_domain, randomise, smooth

OPERATORS = SMALL | {
    "differential, no_slip": SMALL["differential"] | {"no_slip": True},
    "ifactformer_m, products": SMALL["ifactformer_m"] | {"products": (0.3, 0.2, 0.25), "no_slip": True},
}
OF_ONE_GRID = ("mgno", "unet")  # their stencils are of cells: tests/operators/test_cell_operators.py
every_operator = pytest.mark.parametrize("name", OPERATORS)
every_grid_free_operator = pytest.mark.parametrize("name", [name for name in OPERATORS if name not in OF_ONE_GRID])


def small(name, seed=3, **changes):
    return randomise(build(name.partition(",")[0], **(OPERATORS[name] | changes)).double(), seed)


def integral(field, domain, power):
    """A smooth functional of a field, by the midpoint rule in y."""
    y = domain.y.points
    return float((field.detach() * domain.volumes * torch.cos(power * y)[:, None]).sum())


@pytest.mark.parametrize(("name", "count"), [("ifactformer_m", 1_163_331), ("ifactformer_o", 1_071_171)])
def test_published_parameter_counts(name, count):
    network = build(name, variant="published")
    assert sum(weight.numel() for weight in network.parameters()) == count
    assert not network.grid_free


@every_grid_free_operator
def test_commutes_with_shifts_along_periodic_directions(name):
    domain = channel_domain(9, 6, 6)
    network, u = small(name), smooth(domain)
    moved = network(u.roll((2, 1), (2, 4)), domain)
    expected = network(u, domain).roll((2, 1), (2, 4))
    assert "shift" in network.symmetries
    assert expected.std() > 1e-3
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@every_grid_free_operator
def test_in_a_box_all_three_directions_are_alike(name):
    box = Domain.of(Grid(*(FourierAxis(n, length, "2/3") for n, length in ((6, 4.0), (5, 3.0), (8, 2.0)))))
    changes = {"walls": 0} if "fact" in name else {"periodic": (True, True, True)}
    network = small(name, **changes)
    u = torch.from_numpy(np.random.default_rng(4).standard_normal((2, 3, *box.shape)))
    moved, expected = network(u.roll((1, 2, 5), (2, 3, 4)), box), network(u, box).roll((1, 2, 5), (2, 3, 4))
    assert expected.std() > 1e-3
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("changes", [{"positions": "all"}, {"variant": "published"}])
def test_absolute_positions_give_up_shifts_and_do_not_claim_them(changes):
    domain = channel_domain(9, 6, 6)
    network, u = small("ifactformer_m", **changes), smooth(domain)
    moved, expected = network(u.roll(2, 2), domain), network(u, domain).roll(2, 2)
    assert "shift" not in network.symmetries
    assert (moved - expected).abs().max() > 1e-3 * expected.abs().max()


@every_grid_free_operator
def test_converges_on_stretched_grids_with_second_order(name):
    """The midpoint rule in y is all that is left of the grid: weights are the same, answers differ by O(dy^2)."""
    network = small(name)
    answers = []
    for ny in (32, 64, 128, 256):
        domain = channel_domain(9, ny, 6)
        out = network(smooth(domain), domain)
        answers.append([integral(out[0, i], domain, power) for i in range(3) for power in (0, 1)])
    changes = np.abs(np.diff(np.array(answers), axis=0)).max(axis=1)
    assert changes[0] > 1e-7  # else the order of round-off would be measured
    orders = np.log2(changes[:-1] / changes[1:])
    assert orders[-1] == pytest.approx(2.0, abs=0.15)


def test_published_kernels_do_not_converge():
    """Plain sums over stretched points are integrals over another measure: the answers do not agree with the default's
    kind of limit, and the average over a plane of uneven cells is biased for good.
    """
    network = small("ifactformer_m", variant="published")
    answers = []
    for ny in (16, 32, 64):
        domain = channel_domain(9, ny, 6)
        answers.append(integral(network(smooth(domain), domain)[0, 0], domain, 1))
    first, second = np.abs(np.diff(answers))
    assert second > first / 3.0  # where second order would give a quarter


@pytest.mark.parametrize("name", ["fno", "ifno"])
def test_fno_transfers_between_resolutions_along_periodic_directions(name):
    """A smooth function at the points that two grids share: the answers agree spectrally."""
    network = small(name)
    fine = channel_domain(48, 8, 48)
    reference = network(8 * smooth(fine), fine).detach()  # large values: a GELU is nearly linear on small ones
    size, errors, points = reference.std(), [], np.array([6, 8, 12, 16])
    for n in points:
        domain = channel_domain(n, 8, n)
        shared = reference[..., :: 48 // n, :, :: 48 // n]
        errors.append(float((network(8 * smooth(domain), domain).detach() - shared).abs().max() / size))
    assert errors[0] > 1e-4
    orders = np.log(np.array(errors[:-1]) / errors[1:]) / np.log(points[1:] / points[:-1])
    assert min(orders) > 4
    assert errors[-1] < 1e-6


@every_operator
def test_gradients_in_double_precision(name):
    domain = channel_domain(4, 4 if name in OF_ONE_GRID else 3, 4)
    changes = {"width": 2} | ({"modes": (1, 2, 1), "hidden": 2} if "fno" in name else {})
    network = small(name, **changes)
    field = smooth(domain).requires_grad_()
    weights = {key: w for key, w in network.named_parameters() if w.requires_grad}

    def evaluate(u, *values):
        return functional_call(network, dict(zip(weights, values, strict=True)), (u, domain))

    assert torch.autograd.gradcheck(evaluate, (field, *weights.values()), fast_mode=True)


@pytest.mark.parametrize("name", ["ifno", "ifactformer_m", "ifactformer_m, products"])
def test_recomputation_changes_nothing(name):
    domain = channel_domain(6, 5, 4)
    grads = []
    for recompute in (False, True):
        network = small(name, recompute=recompute)
        (network(smooth(domain), domain) ** 2).sum().backward()
        grads.append([w.grad for w in network.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_spectral_convolution_with_unit_weights_is_a_projection():
    """On any grid, stretched or coarse: the retained modes come back, and twice is once."""
    convolution = SpectralConvolution(2, (2, 3, 2), (True, False, True)).double()
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, ..., 0] = convolution.weight[1, 1, ..., 0] = 1.0
    domain = channel_domain(9, 7, 6)
    noise = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 2, *domain.shape)))
    once = convolution(noise, domain)
    torch.testing.assert_close(convolution(once, domain), once, rtol=0, atol=1e-13)
    x, y, z = torch.meshgrid(*(line.points for line in domain.lines), indexing="ij")
    kept = torch.cos(2 * x - 2 * z + 0.4) * (1 + y**2) + torch.sin(x + 4 * z)
    both = torch.stack([kept, y + 0 * x])[None]
    torch.testing.assert_close(convolution(both, domain), both, rtol=0, atol=1e-12)


def test_spectral_convolution_is_a_convolution():
    """Against the sum over all points that defines it, in a periodic box."""
    shape = (5, 6, 7)
    box = Domain.of(Grid(*(FourierAxis(n, 1.0 + n, "2/3") for n in shape)))
    convolution = SpectralConvolution(1, (1, 2, 2), (True, True, True)).double()
    rng = np.random.default_rng(11)
    delta = torch.zeros((1, 1, *shape), dtype=torch.float64)
    delta[0, 0, 0, 0, 0] = 1.0
    response = convolution(delta, box)[0, 0].detach().numpy()
    field = rng.standard_normal(shape)
    expected = np.zeros(shape)
    for i, j, k in np.ndindex(shape):
        expected += field[i, j, k] * np.roll(response, (i, j, k), (0, 1, 2))
    found = convolution(torch.from_numpy(field)[None, None], box)[0, 0].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_wall_polynomials_are_orthonormal_and_tend_to_legendre():
    errors = []
    for ny in (16, 32, 64):
        line = channel_domain(4, ny, 4).y
        basis = line.polynomials(6)
        gram = basis.T @ (line.weights[:, None] * basis)
        torch.testing.assert_close(gram, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
        x = 2 * line.unit.numpy() - 1
        legendre = np.polynomial.legendre.legvander(x, 5) * np.sqrt(2 * np.arange(6) + 1)
        errors.append(np.abs(basis.numpy() - legendre).max())
    assert np.log2(errors[-2] / errors[-1]) == pytest.approx(2.0, abs=0.3)


def test_rotary_products_depend_on_the_periodic_distance_only():
    line = channel_domain(12, 4, 4).x
    rng = np.random.default_rng(8)
    q, k = (torch.from_numpy(rng.standard_normal(10)).expand(12, 10) for _ in range(2))
    angles = harmonic_angles(line, 10, 2)
    kernel = rotated(q, angles) @ rotated(k, angles).T
    for shift in range(12):
        torch.testing.assert_close(kernel.roll((shift, shift), (0, 1)), kernel, rtol=0, atol=1e-12)
    assert kernel[0].std() > 0.1


def test_half_precision_stays_close_to_full():
    domain = channel_domain(8, 8, 8, torch.float32)
    u = smooth(domain)
    for name in SMALL:
        network = randomise(build(name, **SMALL[name]), 4)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(u, domain)
        exact = network(u, domain)
        assert (rough - exact).norm() < 0.05 * exact.norm()


def test_names_and_arguments_are_checked():
    assert set(SMALL) == {name for name in names() if kind(name) == "state"} - {"module"}  # all of them are tested here
    with pytest.raises(CaseError, match=r"unknown name 'ifactformer-m'; did you mean 'ifactformer_m'"):
        build("ifactformer-m")
    with pytest.raises(CaseError, match=r"'fno': unknown key 'widht'; did you mean 'width'"):
        build("fno", widht=3)
    with pytest.raises(CaseError, match="'fno': layers = 0: should be greater than or equal to 1"):
        build("fno", layers=0)
    with pytest.raises(CaseError, match=r"'ifno': modes = \[3, 3\]: should be three values"):
        build("ifno", modes=[3, 3])
    with pytest.raises(CaseError, match="width = 5: should be even"):
        build("ifactformer_m", width=5)


def test_another_kind_of_domain_is_refused():
    box = Domain.of(Grid(*(FourierAxis(6, 1.0, "2/3") for _ in range(3))))
    u = torch.zeros((1, 3, 6, 6, 6), dtype=torch.float64)
    with pytest.raises(CaseError, match="made for periodic x, walled y, periodic z, asked to act on periodic x, per"):
        small("fno")(u, box)
    with pytest.raises(CaseError, match="made for 1 walled directions, asked to act on 0"):
        small("ifactformer_o")(u, box)
    with pytest.raises(CaseError, match="needs a periodic direction"):
        build("fno", periodic=(False, False, False))


def test_volumes_are_shares():
    domain = channel_domain(6, 9, 5)
    assert float(domain.volumes.sum()) == pytest.approx(1.0, abs=1e-14)
    y = Line.of(FourierAxis(8, 3.0))
    assert float(y.weights.sum()) == pytest.approx(1.0, abs=1e-14)
    assert math.isclose(domain.y.length, 2.0)

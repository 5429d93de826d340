"""Discretisations of the linear families: second order, conservative, symmetric, and random as published."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from closures.linear_families.darcy import Darcy
from closures.linear_families.helmholtz import Helmholtz
from closures.linear_families.poisson import Poisson
from closures.linear_families.random_fields import gaussian_field
from closures.linear_families.thermal import Thermal
from closures.linear_families.volumes import Volumes
from solver.errors import CaseError

SEED = 86_028
SIZES = (32, 64, 128)


def orders(errors: list[float]) -> list[float]:
    return [float(np.log2(a / b)) for a, b in itertools.pairwise(errors)]


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def manufactured_error(shape: tuple[int, ...], reaction: float) -> float:
    """``u = sin(x + 2 y - z)``, ``K = exp(x cos(3 y) + z)``: values on some sides, fluxes on the others."""
    d = len(shape)
    sides = (("value", "value"), ("value", "flux"), ("flux", "value"))[:d]
    volumes = Volumes(shape, (1.0, 0.8, 1.2)[:d], sides)

    def k_of(x, y, z):
        return np.exp(x * np.cos(3 * y) + z)

    def u_of(x, y, z):
        return np.sin(x + 2 * y - z)

    def gradient(x, y, z):
        return tuple(c * np.cos(x + 2 * y - z) for c in (1.0, 2.0, -1.0))

    def source(x, y, z):
        k = k_of(x, y, z)
        k_slopes = (k * np.cos(3 * y), -3 * x * np.sin(3 * y) * k, k)
        u_slopes = gradient(x, y, z)
        laplacian = -(1 + 4 + (d == 3)) * u_of(x, y, z)
        inner = sum(a * b for a, b in zip(k_slopes[:d], u_slopes[:d], strict=True))
        return -inner - k * laplacian + reaction * u_of(x, y, z)

    def at(points):
        return (*points, 0.0) if d == 2 else tuple(points)

    centres = volumes.centres()
    boundary = {}
    for axis in range(d):
        for end in (0, 1):
            points = list(centres)
            points[axis] = np.full_like(points[axis][volumes.along(axis, slice(0, 1))], end * volumes.lengths[axis])
            if sides[axis][end] == "value":
                data = u_of(*at(points)) * np.ones_like(k_of(*at(points)))
            else:
                data = (1 if end else -1) * k_of(*at(points)) * gradient(*at(points))[axis]
            boundary[axis, end] = np.squeeze(
                np.broadcast_to(data, np.broadcast_shapes(*(p.shape for p in points))), axis
            )
    k = k_of(*at(centres)) * np.ones(shape)
    rhs = volumes.right_hand_side(k, source(*at(centres)), boundary)
    solution = volumes.field(spsolve(volumes.matrix(k, reaction).tocsc(), rhs))
    return rms(solution - u_of(*at(centres)))


@pytest.mark.parametrize("reaction", [0.0, 3.0, -60.0])
def test_second_order_in_two_dimensions(reaction):
    errors = [manufactured_error((n, n + 4), reaction) for n in SIZES]
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.15)


def test_second_order_in_three_dimensions():
    errors = [manufactured_error((n, n, n), 0.0) for n in (6, 12, 24)]
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.2)


def test_second_order_around_a_slot():
    """``cos(20 pi x) cos(2.5 pi y)`` has no normal slope on any insulated face of the thermal block."""
    errors = []
    for q in (2, 4, 8):
        volumes = Thermal((20 * q, 32 * q)).volumes
        x, y = volumes.centres()
        u = np.cos(20 * np.pi * (x - 0.5)) * np.cos(2.5 * np.pi * (y - 0.8))
        ends = np.cos(2.5 * np.pi * (y[0] - 0.8))
        ones = np.ones(volumes.shape)
        f = ((20 * np.pi) ** 2 + (2.5 * np.pi) ** 2) * u
        rhs = volumes.right_hand_side(ones, f, {(0, 0): ends, (0, 1): ends})
        found = spsolve(volumes.matrix(ones).tocsc(), rhs)
        errors.append(rms(found - u[volumes.active]))
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.25)


def outflow(volumes, k, u, boundary) -> float:
    """What leaves through all sides, ``-sum K du/dn`` times area, of a solution (*shape)."""
    total = 0.0
    for axis, pair in enumerate(volumes.sides):
        area = volumes.cell_volume / volumes.spacing[axis]
        for end, kind in enumerate(pair):
            place: list = [slice(None)] * len(volumes.shape)
            place[axis] = -end
            cells, data = tuple(place), boundary.get((axis, end), 0.0)
            if kind == "value":
                flux = 2 * k[cells] / volumes.spacing[axis] * (u[cells] - data)
            else:
                flux = -np.broadcast_to(data, u[cells].shape)
            total += float((flux * volumes.active[cells]).sum() * area)
    return total


@pytest.mark.parametrize("shape", [(20, 24), (20, 12, 8)])
@pytest.mark.parametrize("right", ["temperature", "flux"])
def test_what_enters_the_block_leaves_it(shape, right):
    family = Thermal(shape, right)
    parameters = family.draw(np.random.default_rng(SEED))
    system = family.system(parameters)
    u = family.volumes.field(spsolve(system.matrix.tocsc(), system.rhs))
    left, both = {(0, 0): family.sides(parameters)[0, 0]}, family.sides(parameters)
    scale = abs(u).max()
    assert abs(outflow(family.volumes, np.ones(shape), u, both)) < 1e-10 * scale
    assert left[0, 0] >= u[family.volumes.active].max() > u[family.volumes.active].min()  # maximum principle
    if right == "flux":
        section = u[0] * family.volumes.active[0]
        entering = 2 / family.volumes.spacing[0] * (left[0, 0] - section).sum() * family.volumes.cell_volume
        area = np.prod(family.volumes.lengths[1:])
        assert entering / family.volumes.spacing[0] == pytest.approx(-float(parameters["right_flux"]) * area)


@pytest.mark.parametrize("shape", [(24, 20), (10, 8, 12)])
def test_darcy_conserves(shape):
    """Everything that springs from f = 1 leaves through the sides."""
    family = Darcy(shape)
    k = family.draw(np.random.default_rng(SEED))["permeability"]
    system = family.system({"permeability": k})
    u = family.volumes.field(spsolve(system.matrix.tocsc(), system.rhs))
    assert outflow(family.volumes, k, u, {}) == pytest.approx(1.0, rel=1e-11)


FAMILIES = [
    Darcy((12, 10)),
    Darcy((6, 5, 4)),
    Poisson((12, 10)),
    Poisson((6, 5, 4)),
    Helmholtz((12, 10)),
    Helmholtz((12, 10), (20.0, 22.0), "wave_number"),
    Helmholtz((6, 6, 6), (12.0, 14.0), "wave_number", media=2),
    Thermal((20, 12)),
    Thermal((20, 8, 4), "flux"),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.name}{f.volumes.shape}")
def test_matrices_are_symmetric_sorted_and_as_definite_as_they_say(family):
    system = family.system(family.draw(np.random.default_rng(SEED)))
    a = system.matrix.toarray()
    assert (a == a.T).all()
    assert system.matrix.has_sorted_indices
    assert (np.linalg.eigvalsh(a).min() > 0) == system.definite
    if system.nearby is not None and system.definite:
        inverse = np.stack([system.nearby(e) for e in np.eye(len(a))])
        assert abs(inverse - inverse.T).max() < 1e-12 * abs(inverse).max()
        spread = np.linalg.eigvals(inverse @ a).real
        assert spread.max() / spread.min() < 3


def test_poisson_reproduces_its_boundary_values():
    """The unknowns next to a side approach its values, and f = 0 with linear sides is solved exactly."""
    family = Poisson((40, 40))
    parameters = dict(family.draw(np.random.default_rng(SEED)))
    linear = np.zeros((4, 1, 6))  # u = 1 + 2 x - y, x and y mapped to (-1, 1)
    linear[0, 0, :2], linear[1, 0, :2] = (1 - 2, -1), (1 + 2, -1)
    linear[2, 0, :2], linear[3, 0, :2] = (1 + 1, 2), (1 - 1, 2)
    parameters |= {"source": np.zeros((40, 40)), "side_coefficients": linear}
    system = family.system(parameters)
    x, y = (2 * c - 1 for c in family.volumes.centres())
    assert family.volumes.field(system.nearby(system.rhs)) == pytest.approx(1 + 2 * x - y, abs=1e-10)


def test_slot_must_fit_the_cells():
    with pytest.raises(CaseError, match="multiples of 20"):
        Thermal((30, 32))


def test_random_field_statistics():
    """Variance from the spectrum (E |c_k|^2 = 1), zero mean, and the published range of K = exp(g)."""
    n, samples = 32, 400
    fields = np.stack([gaussian_field(np.random.default_rng([SEED, i]), (n, n), 2.5, 7.0) for i in range(samples)])
    k = np.fft.fftfreq(n, 1 / n)
    kx, ky = np.meshgrid(k, k)
    kept = (np.maximum(abs(kx), abs(ky)) < n / 2) & (kx**2 + ky**2 > 0)
    spectrum = 7.0**3 * (4 * np.pi**2 * (kx**2 + ky**2) + 49) ** -2.5
    assert fields.var() == pytest.approx(spectrum[kept].sum(), rel=0.05)
    assert abs(fields.mean(axis=(1, 2))).max() < 1e-14
    power = (abs(np.fft.fft2(fields, norm="forward")) ** 2).mean(0)
    assert power[0, 1:4] == pytest.approx(spectrum[0, 1:4], rel=0.3)
    assert power[1:4, 0] == pytest.approx(spectrum[1:4, 0], rel=0.3)
    assert power[1, -2] == pytest.approx(spectrum[1, -2], rel=0.3)
    assert 0.5 < np.exp(fields[:40]).min() < 0.65
    assert 1.6 < np.exp(fields[:40]).max() < 2.0


@pytest.mark.parametrize("shape", [(30, 30), (10, 10, 10)])
def test_random_field_is_one_function_at_any_resolution(shape):
    """Cells three times smaller share every third centre; only the modes that the coarse grid lacks differ."""
    coarse = gaussian_field(np.random.default_rng(SEED), shape, 4.0, 7.0)
    fine = gaussian_field(np.random.default_rng(SEED), tuple(3 * n for n in shape), 4.0, 7.0)
    shared = fine[(slice(1, None, 3),) * len(shape)]
    spectrum = np.fft.fftn(fine, norm="forward")
    k = np.meshgrid(*(np.fft.fftfreq(3 * n, 1 / (3 * n)) for n in shape), indexing="ij")
    spectrum[np.max([abs(c) / n for c, n in zip(k, shape, strict=True)], axis=0) >= 0.5] = 0
    smooth = np.fft.ifftn(spectrum, norm="forward").real[(slice(1, None, 3),) * len(shape)]
    assert coarse == pytest.approx(smooth, abs=1e-12)
    assert abs(shared - coarse).max() < 0.1 * abs(coarse).max()


def test_media_are_shared():
    family = Helmholtz((8, 8), (20.0, 22.0), "wave_number", media=2)
    fields = [family.draw(np.random.default_rng([SEED, i]))["wave_number"] for i in range(12)]
    shapes = {tuple(np.round(f / f.mean(), 12).ravel()) for f in fields}
    assert len(shapes) == 2
    assert len({round(float(f.mean()), 9) for f in fields}) == 12

"""What each algebraic model promises beyond the contract: known values, walls, pure shear, Germano's identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.algebraic import germano
from closures.algebraic.box import BoxFilter, sides_of_test_filter
from closures.algebraic.geometry import mean_wall_shear, wall_distance
from closures.algebraic.sigma import singular_values
from closures.registry.registry import create
from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.closures.flows import NU, make_grid, make_operators, make_velocity, random_fields, viscosity

POINTWISE = ["wale", "vreman", "sigma", "amd"]


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def random_gradient(n=200, seed=31):
    g = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 3, n)))
    g[2, 2] = -g[0, 0] - g[1, 1]
    return g


def rows(g):
    return tuple(tuple(g[i, j] for j in range(3)) for i in range(3))


def formula(name, g):
    model = create(name, grid=make_grid("box"), nu=NU)
    widths = torch.ones(3 if name in ("vreman", "amd") else 1, 1, dtype=g.dtype)
    return model.eddy_viscosity(rows(g), widths).reshape(-1)


def test_smagorinsky_on_taylor_green():
    grid = Grid(*(FourierAxis(12, 2 * np.pi) for _ in range(3)))
    x, y, z = np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
    u = [np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), np.zeros_like(x)]
    model = create("smagorinsky", grid=grid, nu=NU, options={"c_s": 0.2})
    nu_t = viscosity(model, make_velocity(make_operators(grid), u))
    sxx, sxz = np.cos(x) * np.cos(y) * np.cos(z), -0.5 * np.sin(x) * np.cos(y) * np.sin(z)
    syz = 0.5 * np.cos(x) * np.sin(y) * np.sin(z)  # s_yy = -s_xx, s_zz = s_xy = 0
    norm = np.sqrt(2 * (2 * sxx**2 + 2 * sxz**2 + 2 * syz**2))
    np.testing.assert_allclose(nu_t.numpy(), (0.2 * 2 * np.pi / 11) ** 2 * norm, atol=1e-14)  # 11 retained modes


@pytest.mark.parametrize("kind", ["channel", "duct"])
def test_van_driest_uses_the_mean_stress_of_the_walls(kind):
    grid = make_grid(kind)
    y = grid.y.centres[None, :, None]
    shape = y * (2.0 - y) + np.zeros(grid.shape)
    velocity = make_velocity(make_operators(grid), [shape, 0 * shape, 0 * shape])
    height = float(grid.y.width[0])
    at_y = (2 * (y[0, 0, 0] * (2.0 - y[0, 0, 0]))) / height
    expected = at_y
    if kind == "duct":
        side = np.sum(2 * shape[0, :, 0] / grid.z.width[0] * grid.y.width)
        expected = (2 * at_y * grid.z.length + 2 * side) / (2 * grid.z.length + 2 * grid.y.length)
    assert float(mean_wall_shear(velocity)) == pytest.approx(expected, rel=1e-12)
    damped, plain = (
        viscosity(create("smagorinsky", grid=grid, nu=NU, options={"damping": damping}), velocity)
        for damping in ("van_driest", "none")
    )
    y_plus = wall_distance(velocity.operators).numpy() * np.sqrt(expected / NU)
    np.testing.assert_allclose(damped.numpy(), plain.numpy() * (1 - np.exp(-y_plus / 25)) ** 2, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("kind", "c_s"), [("channel", 0.1), ("box", 0.17)])
def test_smagorinsky_has_the_constant_of_channels_where_there_are_walls(kind, c_s):
    grid = make_grid(kind)
    velocity = make_velocity(make_operators(grid), random_fields(grid, seed=12))
    default, given = (
        viscosity(create("smagorinsky", grid=grid, nu=NU, options=o), velocity) for o in ({}, {"c_s": c_s})
    )
    assert torch.equal(default, given)
    assert float(given.max()) > 0


def test_damping_needs_a_wall():
    with pytest.raises(CaseError, match="damping = 'none'"):
        create("smagorinsky", grid=make_grid("box"), nu=NU, options={"damping": "van_driest"})


@pytest.mark.parametrize("name", POINTWISE)
def test_no_viscosity_in_pure_shear_but_smagorinsky_has(name):
    grid = make_grid("channel")
    y = grid.y.centres[None, :, None]
    laminar = y * (2.0 - y) + np.zeros(grid.shape)
    velocity = make_velocity(make_operators(grid), [laminar, 0 * laminar, 0 * laminar])
    assert float(viscosity(create(name, grid=grid, nu=NU), velocity).max()) < 1e-18  # the transforms leave round-off
    shear = torch.zeros(3, 3, 1, dtype=torch.float64)
    shear[0, 1] = 1.7
    assert float(formula(name, shear)) == 0.0
    smagorinsky = viscosity(create("smagorinsky", grid=grid, nu=NU), velocity)
    assert float(smagorinsky.max()) > 1e-4


def near_wall_gradient(y):
    """``u = (a y + ., -(a_x + c_z) y^2 / 2, c y + .)`` with generic coefficients: the flow at a no-slip wall."""
    a, ax, az, c, cx, cz, bx, bz = 1.0, 0.7, -0.4, 0.3, 0.5, 0.9, 0.6, -0.8
    zero = torch.zeros_like(y)
    g = [[ax * y, a + zero, az * y], [bx * y**2, -(ax + cz) * y, bz * y**2], [cx * y, c + zero, cz * y]]
    return torch.stack([torch.stack(row) for row in g])


@pytest.mark.parametrize(("name", "order"), [("wale", 3.0), ("sigma", 3.0), ("vreman", 1.0), ("amd", 1.0)])
def test_order_at_a_wall(name, order):
    y = torch.tensor([1e-3, 1e-4], dtype=torch.float64)
    nu_t = formula(name, near_wall_gradient(y))
    assert float(torch.log10(nu_t[0] / nu_t[1])) == pytest.approx(order, abs=0.05)


def test_damped_smagorinsky_is_quadratic_at_a_wall():
    grid = make_grid("channel")
    y = grid.y.centres[None, :, None]
    flow = 1e-4 * (y * (2.0 - y) + np.zeros(grid.shape))
    velocity = make_velocity(make_operators(grid), [flow, 0 * flow, 0 * flow])
    factor = create("smagorinsky", grid=grid, nu=NU).damping(velocity)[0, :, 0]
    order = torch.log(factor[1] / factor[0]) / np.log(y[0, 1, 0] / y[0, 0, 0])
    assert float(order) == pytest.approx(1.0, abs=0.05)  # of the length, whose square is the viscosity


def test_formulas_against_plain_linear_algebra():
    g = random_gradient()
    a = g.permute(2, 0, 1)
    s = 0.5 * (a + a.mT)
    squared = a @ a
    deviator = 0.5 * (squared + squared.mT)
    deviator = deviator - torch.eye(3) * (deviator.diagonal(dim1=1, dim2=2).sum(1) / 3)[:, None, None]
    ss, dd = (s * s).sum((1, 2)), (deviator * deviator).sum((1, 2))
    torch.testing.assert_close(formula("wale", g), 0.325**2 * dd**1.5 / (ss**2.5 + dd**1.25))
    b = a @ a.mT
    second = 0.5 * (b.diagonal(dim1=1, dim2=2).sum(1) ** 2 - (b * b).sum((1, 2)))
    torch.testing.assert_close(formula("vreman", g), 0.07 * torch.sqrt(second / (a * a).sum((1, 2))))
    s1, s2, s3 = torch.linalg.svdvals(a).unbind(1)
    torch.testing.assert_close(formula("sigma", g), 1.35**2 * s3 * (s1 - s2) * (s2 - s3) / s1**2)
    produced = -torch.einsum("nik,njk,nij->n", a, a, s)
    torch.testing.assert_close(formula("amd", g), produced.clamp_min(0.0) / (12.0 * (a * a).sum((1, 2))))


def test_amd_counts_cells_double():
    """C D^2 is 1/12 of the squared width of a mode along Fourier directions, 1/3 of the squared cell along others."""
    grid = make_grid("channel")
    scale = create("amd", grid=grid, nu=NU).scale(make_operators(grid))
    assert float(scale[0, 0, 3, 0] ** 2 / 12) == pytest.approx((6.0 / 9) ** 2 / 12)
    assert float(scale[1, 0, 3, 0] ** 2 / 12) == pytest.approx(grid.y.width[3] ** 2 / 3)
    assert float(scale[2, 0, 3, 0] ** 2 / 12) == pytest.approx((3.0 / 9) ** 2 / 12)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_singular_values(scale):
    g = random_gradient()
    expected = torch.linalg.svdvals(g.permute(2, 0, 1)).T
    torch.testing.assert_close(torch.stack(singular_values(rows(scale * g))) / scale, expected, rtol=1e-11, atol=0.0)


@pytest.mark.parametrize("name", POINTWISE)
def test_laminar_flows_without_viscosity(name):
    """Solid rotation is seen by WALE alone; plane strain and jets by WALE and Vreman, not by sigma and AMD."""
    rotation, plane, axisymmetric = torch.zeros(3, 3, 3, 1, dtype=torch.float64)
    rotation[0, 1], rotation[1, 0] = 1.0, -1.0
    plane[0, 0], plane[1, 1] = 1.0, -1.0
    axisymmetric[0, 0], axisymmetric[1, 1], axisymmetric[2, 2] = 2.0, -1.0, -1.0
    seen = [bool(formula(name, g).max() > 1e-7) for g in (rotation, plane, axisymmetric)]
    assert seen == [name in ("wale", "vreman")] * 3


@pytest.mark.parametrize("kind", ["channel", "box", "duct"])
def test_cutoff_filter_is_the_truncated_fourier_series(kind):
    """Against torch.fft: the modes up to half the highest, evaluated on the coarse points."""
    grid = make_grid(kind)
    operators = make_operators(grid)
    model = create("dynamic_smagorinsky", grid=grid, nu=NU)
    f = torch.from_numpy(np.random.default_rng(61).standard_normal(grid.shape))
    cutoff = model.cutoff(operators)
    found = cutoff.in_planes(f)
    found = cutoff.across_planes(found) if 1 in model.filtered else found
    expected, ratio = f, 1.0
    for d in model.filtered:
        axis = grid.fourier_axes[d]
        kept, coarse = axis.highest_mode // 2, found.shape[d]
        half = torch.fft.rfft(expected, dim=d, norm="forward").narrow(d, 0, kept + 1)
        expected = torch.fft.irfft(half, n=coarse, dim=d, norm="forward")
        ratio *= (2 * axis.highest_mode + 1) / (2 * kept + 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    assert model.alpha == pytest.approx(ratio ** (1 / len(model.filtered)))


def test_dynamic_means_do_not_depend_on_the_slabs(monkeypatch):
    grid = make_grid("channel")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    model = create("dynamic_smagorinsky", grid=grid, nu=NU)
    whole = model(velocity, 0.0, model.init(velocity.operators))[0].nu_t
    monkeypatch.setattr("solver.discretisation.calculus.CACHE_BYTES", 5 * 18 * 8 * velocity.staggered[0][:, 0].numel())
    assert len(velocity.operators.slabs(18)) > 1
    torch.testing.assert_close(model(velocity, 0.0, model.init(velocity.operators))[0].nu_t, whole, rtol=1e-12, atol=0)


def test_dynamic_model_recovers_a_planted_coefficient():
    g = random_gradient(50)
    filtered = list(torch.from_numpy(np.random.default_rng(37).standard_normal((18, 50))))
    filtered[8:13] = [g[0, 0], g[1, 1], g[0, 1], g[0, 2], g[1, 2]]
    u, v, w = filtered[:3]
    diagonal = g[0, 0] ** 2 + g[1, 1] ** 2 + (g[0, 0] + g[1, 1]) ** 2
    s_norm = torch.sqrt(2 * (diagonal + 2 * (g[0, 1] ** 2 + g[0, 2] ** 2 + g[1, 2] ** 2)))
    m = [4.0 * s_norm * s - q for s, q in zip(filtered[8:13], filtered[13:], strict=True)]
    mzz, planted = -(m[0] + m[1]), 0.03
    resolved = [u * u - w * w, v * v - w * w, u * v, u * w, v * w]
    leonard = [-2 * planted * x for x in (m[0] - mzz, m[1] - mzz, *m[2:])]
    filtered[3:8] = [a + b for a, b in zip(resolved, leonard, strict=True)]
    numerator, denominator = germano.contractions(filtered, alpha=2.0)
    torch.testing.assert_close(-0.5 * numerator / denominator, torch.full((50,), planted, dtype=torch.float64))


def test_both_filters_of_the_dynamic_model_have_one_strain_norm():
    """Where the test filter changes nothing, M_ij M_ij = (alpha^2 - 1)^2 |S|^4 / 2: no factor sqrt(2) between them.

    And the coefficient is that of the flow's shape: three times the velocity has the same.
    """
    grid = make_grid("channel")
    operators, fields = make_operators(grid), random_fields(grid)
    model = create("dynamic_smagorinsky", grid=grid, nu=NU)
    found = []
    for factor in (1.0, 3.0):
        velocity = make_velocity(operators, [factor * f for f in fields])
        resolved = model.resolved(velocity)
        _, square = germano.contractions(germano.products(resolved), alpha=2.0)
        torch.testing.assert_close(square, 9.0 * 0.5 * resolved[1] ** 4, rtol=1e-10, atol=1e-12)
        found.append(model(velocity, 0.0, model.init(operators))[1]["c_s2"])
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-14)


def test_test_filter_removes_the_highest_mode():
    grid = make_grid("box")  # 12 points carry modes 0 .. 4
    wave = torch.cos(2 * np.pi * 4 * torch.arange(12, dtype=torch.float64) / 12).reshape(-1, 1, 1).repeat(1, 12, 12)
    (filtered,) = BoxFilter({0: sides_of_test_filter(grid)[0]})([wave], make_operators(grid))
    assert float(filtered.abs().max()) < 1e-14


def test_test_filter_along_uneven_cells():
    """Keeps linear fields away from walls, and has the second moment of a box of twice the cell."""
    grid = make_grid("cavity")
    y, dy = grid.y.centres, grid.y.width
    for power, expected in ((1, y), (2, y**2 + dy**2 / 3)):
        f = torch.from_numpy(np.broadcast_to((y**power)[None, :, None], grid.shape).copy())
        (filtered,) = BoxFilter({1: sides_of_test_filter(grid)[1]})([f], make_operators(grid))
        np.testing.assert_allclose(filtered[0, 1:-1, 0].numpy(), expected[1:-1], rtol=1e-13)
    one = torch.ones(grid.shape, dtype=torch.float64)
    assert float((BoxFilter(sides_of_test_filter(grid))([one], make_operators(grid))[0] - 1).abs().max()) < 1e-15


def test_dynamic_model_is_small_at_a_wall_and_bounded_locally():
    grid = make_grid("channel")
    x, y, z = np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
    y_face = grid.y.faces[1:][None, :, None]
    k, m = 2 * np.pi / 6.0, 2 * np.pi / 3.0

    def bump(s):
        return (s * (2.0 - s)) ** 2

    slope = 2 * y * (2 - y) * (2 - 2 * y)
    u = [y * (2 - y) + slope * np.sin(k * x) * np.cos(m * z) / k, -bump(y_face) * np.cos(k * x) * np.cos(m * z), 0 * x]
    velocity = make_velocity(make_operators(grid), u)
    model = create("dynamic_smagorinsky", grid=grid, nu=NU)
    term, state = model(velocity, 0.0, model.init(velocity.operators))
    assert state["c_s2"].shape == (1, 12, 1)
    assert float(term.nu_t[:, 0].max()) < 0.02 * float(term.nu_t.max())
    local = create("dynamic_smagorinsky", grid=grid, nu=NU, options={"averaging": "local", "c_s_max": 0.1})
    bound = create("smagorinsky", grid=grid, nu=NU, options={"c_s": 0.1, "damping": "none"})
    assert torch.all(viscosity(local, velocity) <= viscosity(bound, velocity) * (1 + 1e-12))


def test_dynamic_coefficient_is_kept_between_evaluations():
    grid = make_grid("channel")
    operators = make_operators(grid)
    first, second = (make_velocity(operators, random_fields(grid, seed)) for seed in (41, 43))
    model = create("dynamic_smagorinsky", grid=grid, nu=NU, options={"every": 2})
    _, state = model(first, 0.0, model.init(operators))
    term, kept = model(second, 0.0, state)
    _, renewed = model(second, 0.0, kept)
    assert torch.equal(state["c_s2"], kept["c_s2"])
    assert not torch.equal(kept["c_s2"], renewed["c_s2"])
    undamped = create("smagorinsky", grid=grid, nu=NU, options={"c_s": 1.0, "damping": "none"})
    torch.testing.assert_close(term.nu_t, state["c_s2"] * viscosity(undamped, second))

"""The two-part model: its formula against numpy, laminar flow, walls of every kind, and what the fluctuations see."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from closures.algebraic.mean_flow import Fluctuations, mean_staggered
from closures.algebraic.mixing_length import NearWalls, mixing_length
from closures.registry import contract
from closures.registry.registry import create
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, stretched_faces
from solver.grid.grid import Grid
from tests.closures.flows import NU, answer, assert_same, exchange, exchange_answer, make_grid, random_fields
from tests.closures.flows import make_operators as operators_of
from tests.closures.flows import make_velocity as velocity_of

ROOT = Path(__file__).parents[2]
FACES = stretched_faces(12, 0.0, 2.0, 1.5)


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def channel(lower=NoSlip(), upper=NoSlip(), faces=FACES, z=FourierAxis(8, 3.0)):  # noqa: B008
    return Grid(FourierAxis(8, 6.0), FiniteVolumeAxis(faces, lower, upper), z)


def of(grid, fields, **options):
    model = create("two_part", grid=grid, nu=NU, options=options)
    return answer(model, velocity_of(operators_of(grid), fields)).numpy()


def profile(grid, shape):
    return shape(grid.y.centres)[None, :, None] + np.zeros(grid.shape)


def test_no_stress_in_laminar_flow():
    """Poiseuille and Couette flow; the mixing length itself is not zero there."""
    for grid, shape in (
        (channel(), lambda y: y * (2.0 - y)),
        (channel(upper=NoSlip((1.0, 0.0, 0.4))), lambda y: 0.5 * y),
    ):
        u = profile(grid, shape)
        assert np.abs(of(grid, [u, 0 * u, 0.4 * u])).max() < 1e-25
        length = mixing_length(
            NearWalls(grid, NU)(velocity_of(operators_of(grid), [u, 0 * u, 0.4 * u])), 0.58, 0.217, 0.42
        )
        assert float(length.min()) > 0.0


def test_stress_of_the_mean_is_the_formula():
    """A flow towards -x over a wall that moves, with a mean along z: against the formula in numpy."""
    grid = channel(lower=NoSlip((0.2, 0.0, 0.1)))
    noise = [f - f.mean((0, 2), keepdims=True) for f in random_fields(grid)]
    y = grid.y.centres
    wall, rise = 0.2, 1.0 - (1.0 - y) ** 6  # 0 at both walls
    u, w = wall * (1 - 0.5 * y) - rise, 0.1 * (1 - 0.5 * y) - 0.3 * rise
    fields = [noise[0] + u[None, :, None], noise[1], noise[2] + w[None, :, None]]
    tau = of(grid, fields, model="none")

    gaps = np.concatenate([[grid.y.width[0]], np.diff(y), [grid.y.width[-1]]])
    ghosts = {0: (2 * 0.2 - u[0], -u[-1]), 2: (2 * 0.1 - w[0], -w[-1])}
    at_faces = {i: np.diff([ghosts[i][0], *f, ghosts[i][1]]) / gaps for i, f in ((0, u), (2, w))}
    slopes = {i: 0.5 * (f[1:] + f[:-1]) for i, f in at_faces.items()}
    walls = [np.array([at_faces[0][k], at_faces[2][k]]) for k in (0, -1)]
    dx, dz = 6.0 / 7, 3.0 / 7  # 8 modes without the Nyquist mode
    lower = y < 1.0
    speed = np.where(lower, *(np.sqrt(NU * np.linalg.norm(s)) for s in walls))
    across = [np.sqrt((s[0] ** 2 * dz**2 + s[1] ** 2 * dx**2) / (s @ s)) for s in walls]
    across = np.where(lower, *across)
    d = np.minimum(y, 2.0 - y)
    van_driest = 0.41 * d * (1 - np.exp(-d * speed / NU / 26))
    near, far = 0.58 * (across * speed / NU / 50) ** 0.42 * van_driest, 0.217 * across
    length = (near**-4 + far**-4) ** -0.25
    norm = np.hypot(slopes[0], slopes[2])
    for i, index in ((0, 3), (2, 5)):
        expected = -(length**2) * norm * slopes[i]
        np.testing.assert_allclose(tau[index], np.broadcast_to(expected[:, None], tau[index].shape), rtol=1e-9)
    assert np.abs(tau[[0, 1, 2, 4]]).max() < 1e-12 * np.abs(tau).max()


def test_the_length_has_the_stress_of_filtered_direct_simulation():
    """The mean profile of the reference of channel180_coarse, seen through the model on that grid."""
    with h5py.File(ROOT / "cases/channel180_coarse/reference/filtered_dns.h5") as file:
        names = [name.decode() for name in file["dimensions/moment"][:]]
        mean = dict(zip(names, file["statistics/moments"][:].mean((0, 1)), strict=True))
        nu, y_plus = float(file.attrs["nu"]), file["dimensions/y"][:16]
        y_plus = y_plus * np.sqrt(float(file["statistics/wall_stress"][:].mean())) / nu
    y = FiniteVolumeAxis(stretched_faces(32, 0.0, 2.0, 1.6), NoSlip(), NoSlip())
    grid = Grid(FourierAxis(4, 4 * np.pi), y, FourierAxis(16, 4 * np.pi / 3))
    u = mean["u"][None, :, None] + np.zeros(grid.shape)
    velocity = velocity_of(operators_of(grid), [u, 0 * u, 0 * u])
    length = mixing_length(NearWalls(grid, nu)(velocity), 0.58, 0.217, 0.42)
    slope = velocity.gradient[0][1][0, :, 0].numpy()
    found = -(length[0, :, 0].numpy() ** 2) * np.abs(slope) * slope
    ratio = 0.5 * (found[:16] - found[::-1][:16]) / (0.5 * (mean["tau_xy"][:16] - mean["tau_xy"][::-1][:16]))
    buffer, outer = (y_plus > 14) & (y_plus < 40), (y_plus > 40) & (y_plus < 120)
    assert np.abs(ratio[buffer] - 1).max() < 0.1
    assert np.abs(ratio[outer] - 1).max() < 0.14


@pytest.mark.parametrize("end", ["lower", "upper"])
def test_half_a_channel_is_half_of_the_channel(end):
    """A wall on one side and free slip on the symmetry plane."""
    whole = channel()
    half = FACES[:7] if end == "lower" else FACES[6:]
    ends = (NoSlip(), FreeSlip()) if end == "lower" else (FreeSlip(), NoSlip())
    part = channel(*ends, faces=half)
    fields = random_fields(part, seed=17)
    fields[1][:, -1] = 0.0
    mirrored = contract.reflect(fields, 1, part.y)
    order = (fields, mirrored) if end == "lower" else (mirrored, fields)
    both = [np.concatenate([a, b], 1) for a, b in zip(*order, strict=True)]
    tau = of(whole, both)
    assert_same(tau[:, :, :6] if end == "lower" else tau[:, :, 6:], of(part, fields), 1e-10)


def test_both_sides_of_a_square_duct_are_one():
    def line():
        return FiniteVolumeAxis(stretched_faces(8, 0.0, 2.0, 1.2), NoSlip(), NoSlip())

    grid = Grid(FourierAxis(8, 6.0), line(), line())
    fields = random_fields(grid)
    for name in ("none", "wale"):
        found = of(grid, fields, model=name)
        assert_same(exchange_answer(found, 1, 2), of(grid, exchange(fields, 1, 2), model=name))
    assert np.ptp(of(grid, fields, model="none"), axis=1).max() == 0.0


def test_the_model_sees_the_fluctuations():
    """They are at rest at a wall that moves; the parts add up, for a viscosity and for a stress."""
    grid, still = channel(upper=NoSlip((0.7, 0.0, 0.2))), channel()
    velocity = velocity_of(operators_of(grid), random_fields(grid))
    part = Fluctuations(velocity, mean_staggered(velocity))
    alone = velocity_of(operators_of(still), [np.zeros(grid.shape)] * 3)
    alone = type(alone)(alone.strain, part.coefficients)
    pairs = zip((part.staggered, part.padded_coefficients), (alone.staggered, alone.padded_coefficients), strict=True)
    for found, expected in ((f, e) for a, b in pairs for f, e in zip(a, b, strict=True)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    for row, other in zip(part.gradient, alone.gradient, strict=True):
        for found, expected in zip(row, other, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    heights = (grid.y.width, grid.y.spacing[1:], grid.y.width)
    squares = [(f[:, 1:-1] ** 2).mean((0, 2)).numpy() @ h for f, h in zip(alone.staggered, heights, strict=True)]
    assert float(part.energy) == pytest.approx(0.5 * sum(squares) / 2.0, rel=1e-12)
    fields = random_fields(grid)
    nu_t = answer(create("amd", grid=still, nu=NU), alone)[0]
    s = [0.5 * (alone.gradient[i][j] + alone.gradient[j][i]) for i, j in contract.STRESS]
    drain = torch.stack([-2.0 * nu_t * f for f in s]).numpy()
    assert_same(of(grid, fields, model="none") + drain, of(grid, fields, model="amd"))
    nested = of(grid, fields, model="two_part", model_options={"model": "amd"})
    assert_same(of(grid, fields, model="amd"), nested)  # of fluctuations there is no mean: the parts are those of amd


def test_without_walls_the_model_has_the_whole_flow():
    grid = make_grid("box")
    fields = random_fields(grid)
    velocity = velocity_of(operators_of(grid), fields)
    assert np.array_equal(of(grid, fields), answer(create("wale", grid=grid, nu=NU), velocity).numpy())


def test_the_length_vanishes_with_the_grid():
    """``l_m`` goes like the width across the flow where that is small: the stress like its square."""
    lengths = []
    for factor in (1.0, 0.5, 0.25):
        grid = channel(z=FourierAxis(8, 1e-3 * factor))
        u = profile(grid, lambda y: y * (2.0 - y))
        length = mixing_length(
            NearWalls(grid, NU)(velocity_of(operators_of(grid), [u, 0 * u, 0 * u])), 0.58, 0.217, 0.42
        )
        lengths.append(float(length[0, 6, 0]))
    assert np.log2(np.divide(lengths[:-1], lengths[1:])) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "nu", "options", "word"),
    [
        ("cavity", NU, {}, "use 'wale' or 'amd'"),
        ("channel", 0.0, {}, "needs nu > 0"),
        ("channel", NU, {"model": "smagorinski"}, "did you mean 'smagorinsky'"),
        ("channel", NU, {"model_options": {"c": 1.0}}, "unknown option 'c' of 'wale'"),
    ],
)
def test_bad_input(kind, nu, options, word):
    with pytest.raises(CaseError, match=word):
        create("two_part", grid=make_grid(kind), nu=nu, options=options)

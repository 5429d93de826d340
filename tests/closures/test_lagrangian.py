"""Averages along fluid paths: what is carried where, how fast it is forgotten, and flows without even directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.registry.registry import create
from tests.closures.flows import NU, make_grid, make_operators, make_velocity, random_fields, viscosity

NAME = "lagrangian_dynamic_smagorinsky"


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def model(kind, **options):
    grid = make_grid(kind)
    return create(NAME, grid=grid, nu=NU, options=options), make_operators(grid)


@pytest.mark.parametrize("kind", ["channel", "box", "duct", "cavity"])
def test_a_field_arrives_with_the_flow(kind):
    """A linear function of the coordinates moves by -u dt but for dt^2 / 2 (u . grad) u and the like."""
    closure, operators = model(kind)
    velocity = make_velocity(operators, random_fields(operators.grid), project=False)
    x, y, z = (c + 0 * velocity.centred[0] for c in operators.coordinates())
    u, v, w = velocity.centred
    inside, errors = (slice(2, -2),) * 3, []  # off walls and seams
    for dt in (0.01, 0.005):
        (found,) = closure.carried([x + 2.0 * y - 3.0 * z], velocity, torch.tensor(dt, dtype=torch.float64))
        expected = x + 2.0 * y - 3.0 * z - dt * (u + 2.0 * v - 3.0 * w)
        errors.append(float((found - expected)[inside].abs().max()))
    for (lower, upper), speed in zip(closure.paths(operators).values(), (u, v, w), strict=True):
        assert float((speed.abs() * 0.01 / torch.minimum(lower, upper)).max()) < 1.0
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_whole_cell_is_a_shift_and_more_is_not():
    closure, operators = model("box")
    grid = operators.grid
    step = float(grid.x.width[0])
    velocity = make_velocity(operators, [np.ones(grid.shape), np.zeros(grid.shape), np.zeros(grid.shape)])
    f = torch.from_numpy(random_fields(grid)[0])
    for path in (step, 3.0 * step):
        (found,) = closure.carried([f], velocity, torch.tensor(path, dtype=torch.float64))
        torch.testing.assert_close(found, torch.roll(f, 1, 0), rtol=0, atol=1e-12)


def test_averages_stay_between_what_they_are_made_of():
    """Interpolation along paths is a mean with positive weights, however long the step."""
    closure, operators = model("channel")
    velocity = make_velocity(operators, random_fields(operators.grid))
    f = torch.from_numpy(random_fields(operators.grid, seed=3)[0])
    (found,) = closure.carried([f], velocity, torch.tensor(10.0, dtype=torch.float64))
    assert float(f.min()) <= float(found.min()) < float(found.max()) <= float(f.max())


def test_the_coefficient_goes_from_the_first_guess_to_what_the_flow_says():
    """In a flow at one instant for ever the averages tend to the products themselves, clipped."""
    closure, operators = model("box", every=1, c_s_max=10.0)
    velocity = make_velocity(operators, random_fields(operators.grid))
    term, state = closure(velocity, 0.0, closure.init(operators))
    smagorinsky = create("smagorinsky", grid=operators.grid, nu=NU, options={"c_s": 0.16, "damping": "none"})
    torch.testing.assert_close(term.nu_t, viscosity(smagorinsky, velocity), rtol=1e-10, atol=1e-14)
    still = make_velocity(operators, [np.zeros(operators.grid.shape)] * 3)
    one = torch.ones_like(state["lm"])
    lm, mm, delta = 0.0256 * one, one, closure.delta(operators)
    numerator, denominator = -0.5 * 0.01 * one / delta**2, 0.25 * one / delta**4  # c_s^2 = 0.01, M_ij M_ij = 1
    for _ in range(2000):
        lm, mm = closure.carried([lm, mm], still, torch.tensor(0.1, dtype=torch.float64))
        lm, mm = closure.averaged(lm, mm, numerator, denominator, delta, torch.tensor(0.1, dtype=torch.float64))
    torch.testing.assert_close(lm / mm, 0.01 * one, rtol=1e-6, atol=0)


def test_forgets_at_the_rate_of_the_paper():
    """One step towards zero: a factor 1 / (1 + dt / T) with T = 1.5 delta (lm mm)^(-1/8)."""
    closure, operators = model("box")
    one, delta, dt = torch.ones(operators.local_shape, dtype=torch.float64), closure.delta(operators), 0.2
    lm, mm = closure.averaged(0.3 * one, 2.0 * one, 0 * one, 0 * one, delta, torch.tensor(dt, dtype=torch.float64))
    factor = 1.0 / (1.0 + dt / (1.5 * delta * 0.6 ** (-0.125)))
    torch.testing.assert_close(lm, 0.3 * factor * one, rtol=1e-12, atol=0)
    torch.testing.assert_close(mm, 2.0 * factor * one, rtol=1e-12, atol=0)

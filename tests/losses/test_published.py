"""The published residual against exact flows and against ours, and what it and its released code do not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.coupling.resample import Resampler, network_grid
from closures.losses.les_residual import LesResidual
from closures.registry.registry import create
from solver.discretisation.velocity import Velocity
from solver.flow.flow import Flow
from tests.grids import distance, moving, operators, orders
from tests.losses.flows import LENGTH, flow, grid, residual_of, trajectory
from tests.losses.published import SPACE, PublishedResidual

N, NU, C_S = 12, 1 / 64, 0.1
DELTA = LENGTH / N


def published(interval=0.02, nu=NU, c_s=C_S, n=N, delta=DELTA):
    return PublishedResidual((n, n, n), (LENGTH,) * 3, nu=nu, c_s=c_s, delta=delta, interval=interval)


def points(n=N):
    x = torch.arange(n, dtype=torch.float64) * LENGTH / n
    return torch.meshgrid(x, x, x, indexing="ij")


def coefficients_of(op, u):
    """Of values on as many points as modes."""
    still = (torch.zeros(2, *op.grid.coefficient_shape, dtype=op.dtype),) * 3
    return Resampler(op, network_grid(op.grid)).changed(still, u)


def beltrami(strength=1.0, phase=0.0, n=N):
    """``(sin z, cos z, 0)``: the strain norm is `strength` everywhere, and ``u x omega`` is zero."""
    z = points(n)[2] + phase
    return strength * torch.stack([torch.sin(z), torch.cos(z), torch.zeros_like(z)])


def abc(a, b, c, n=N):
    """A steady flow without viscosity (Arnold, Beltrami, Childress)."""
    x, y, z = points(n)
    return torch.stack(
        [a * z.sin() + c * y.cos(), b * x.sin() + a * z.cos(), c * y.sin() + b * x.cos()],
    )


def noise(n=N, seed=9_973, highest=2):
    """Random values of few modes, divergence-free, and the part that is a gradient."""
    f = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, n, n, n)))
    residual = published(n=n)
    k = torch.stack(torch.broadcast_tensors(*residual.wavenumber))
    few = residual.kept & (k.abs() <= highest).all(0) & (k.abs().sum(0) > 0)  # no Nyquist modes: their k is zero here
    spectrum = torch.fft.rfftn(f, dim=SPACE) * few
    pressed = k * residual.inverse * (k * spectrum).sum(0)
    return tuple(torch.fft.irfftn(c, s=(n,) * 3, dim=SPACE) for c in (spectrum - pressed, pressed))


@pytest.mark.parametrize("strength", [2.0, 10.0])
def test_rate_of_constant_strain_is_exact(strength):
    """``-(nu + (c_s delta)^2 |S|) k^2 u``, in the published form and in ours, each with its own filter width."""
    u = beltrami(strength)
    assert torch.allclose(published().rate(u), -(NU + (C_S * DELTA) ** 2 * strength) * u, atol=1e-12 * strength)
    op = operators(grid("box"))
    closure = create("smagorinsky", grid=op.grid, nu=NU, options={"c_s": C_S})
    x, y, z = op.coordinates()
    ours = [strength * f + 0.0 * (x + y) for f in (torch.sin(z), torch.cos(z), 0.0 * z)]
    start = tuple(op.to_coefficients(f.transpose(0, 1).contiguous().transpose(0, 1)) for f in ours)
    residual = LesResidual(moving(Flow(op, NU, closure), start, 0.02), 0.02)
    delta = float(np.ravel(op.grid.delta)[0])
    for rate, f in zip(residual.rate(start), start, strict=True):
        assert torch.allclose(rate, -(NU + (C_S * delta) ** 2 * strength) * f, atol=1e-12 * strength)


def test_rate_is_ours_where_no_product_is_cut_off():
    """Rotational and flux form, projected: the same for a few modes, without a closure."""
    u, _ = noise()
    simulation = flow("box", 0.02, n=N, closure="none", nu=NU)
    rate = residual_of(simulation).rate(coefficients_of(simulation.operators, u))
    expected = coefficients_of(simulation.operators, published(c_s=0.0).rate(u))
    assert distance(rate, expected) < 1e-13 * max(float(c.abs().max()) for c in expected)


def test_vanishes_at_second_order_on_a_decaying_flow():
    """Beltrami flow without a closure decays by ``exp(-nu t)``; the residual is measured by the velocity."""
    errors = []
    for interval in (0.4, 0.2, 0.1):
        t = interval * torch.arange(5, dtype=torch.float64)
        frames = torch.exp(-0.5 * t)[:, None, None, None, None] * beltrami()
        loss = published(interval, nu=0.5, c_s=0.0).loss(frames)
        errors.append(float((loss / (frames[1:-1] ** 2).mean()) ** 0.5))
    assert orders(errors) == pytest.approx([2.0, 2.0], abs=0.02)


def test_steady_flows_in_turns_go_unseen():
    """Even frames are one steady flow, odd frames another: no residual at interior frames, and a large one of ours."""
    one, other = abc(1.0, 0.7, 0.4), abc(-0.3, 1.2, 0.9)
    frames = torch.stack([one, other] * 3)
    blind = published(nu=0.0, c_s=0.0)
    assert float(blind.loss(frames)) < 1e-26
    assert float((one - other).abs().max()) > 1.0
    simulation = flow("box", 0.02, n=N, closure="none", nu=0.0)
    ours = [coefficients_of(simulation.operators, f) for f in frames]
    for scheme in ("central", "one_sided", "midpoint", "runge_kutta"):
        sizes = residual_of(simulation, scheme).each(ours)
        assert float(sizes[0]) > 10.0
        assert float(sizes[-1]) > 10.0


def test_two_turbulent_flows_in_turns_go_unseen():
    """``u_n+1 = u_n-1 + 2 h F(u_n)`` from two unrelated fields: zero at interior frames, order one for ours."""
    blind, h = published(), 0.02
    frames = [noise(seed=101)[0], noise(seed=202)[0]]
    for _ in range(9):
        frames.append(frames[-2] + 2 * h * blind.rate(frames[-1]))
    stacked = torch.stack(frames)
    scale = float((blind.rate(frames[0]) ** 2).mean())
    assert float(blind.loss(stacked)) < 1e-24 * scale
    gap = (stacked[1::2] - stacked[:-1:2]) ** 2
    assert float(gap.mean()) > float((stacked**2).mean())  # neighbours are not even alike
    simulation = flow("box", h, n=N, nu=NU, c_s=C_S)
    ours = [coefficients_of(simulation.operators, f) for f in frames]
    for scheme in ("midpoint", "runge_kutta"):
        assert float(residual_of(simulation, scheme).each(ours).min()) > 5.0 * scale**0.5
    ends = residual_of(simulation, "central").each(ours)
    assert min(float(ends[0]), float(ends[-1])) > 5.0 * scale**0.5
    assert float(ends[1:-1].max()) < 0.3 * float(ends[0])  # central differences see it at the ends alone


@pytest.mark.parametrize(("strength", "deficit"), [(2.0, 0.317), (10.0, 0.177)])
def test_effect_of_the_swapped_constants(strength, deficit):
    """The released code passes nu and c_s^2 in each other's place: 32 to 18 % of the viscosity is missing (32^3)."""
    delta = LENGTH / 32
    u = beltrami(strength)
    right, swapped = (published(nu=nu, c_s=c_s, delta=delta) for nu, c_s in ((NU, C_S), (C_S**2, NU**0.5)))
    drained = [-float((u * residual.rate(u)).mean()) for residual in (right, swapped)]
    assert 1.0 - drained[1] / drained[0] == pytest.approx(deficit, abs=1e-3)


def test_effect_of_the_vanishing_divergence():
    """Forward transform with 1/n, inverse with 1/n again: the penalty of a field that is half a gradient is gone."""
    solenoidal, gradient = noise()
    frames = torch.stack([solenoidal + gradient] * 3)
    residual = published()
    k = residual.wavenumber
    modes = torch.fft.rfftn(frames[1:-1], dim=SPACE, norm="forward")
    released = torch.fft.irfftn(sum(1j * k[i] * modes[:, i] for i in range(3)), s=(N,) * 3, dim=SPACE)
    penalty, lost = (float((d**2).mean()) for d in (residual.divergence(frames), released))
    assert penalty > 0.1 * float((gradient**2).mean())
    assert lost / penalty == pytest.approx(N**-6, rel=1e-9)
    clean = float((residual.divergence(torch.stack([solenoidal] * 3)) ** 2).mean())
    assert clean < 1e-26 * penalty


def test_gradient_reaches_frames_and_constant():
    c_s = torch.tensor(C_S, dtype=torch.float64, requires_grad=True)
    frames = torch.stack([noise(seed=s)[0] for s in (1, 2, 3)]).requires_grad_()
    loss = published(c_s=c_s).loss(frames)
    loss.backward()
    step = 1e-6
    fixed = frames.detach()
    quotient = (published(c_s=C_S + step).loss(fixed) - published(c_s=C_S - step).loss(fixed)) / (2 * step)
    assert float(c_s.grad) == pytest.approx(float(quotient), rel=1e-6)
    assert all(float(g.abs().max()) > 0 for g in frames.grad)


def test_trajectory_of_the_solver_is_nearly_a_solution():
    """A smooth flow, without a closure: 4 % of du/dt is left by another de-aliasing and by time differences."""
    simulation = flow("box", 0.01, n=16, nu=0.2, closure="none")
    trajectory(simulation, 2, every=80)  # small scales die out
    resampler = Resampler(simulation.operators, network_grid(simulation.operators.grid))
    frames = [resampler.centred(Velocity(simulation.flow.strain, u)) for u in trajectory(simulation, 4)]
    values, residual = torch.stack(frames), published(0.01, nu=0.2, c_s=0.0, n=16)
    rate = residual.rate(values[1:-1])
    assert float((residual.momentum(values) ** 2).mean()) < 0.05**2 * float((rate**2).mean())
    assert float((residual.divergence(values) ** 2).mean()) < 1e-24

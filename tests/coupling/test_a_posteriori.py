"""The solver as a differentiable function: gradients by differences, over many steps, and learning through it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from closures.coupling import SubgridModel
from closures.coupling.resample import Resampler, network_grid
from closures.coupling.unrolled import Unrolled
from closures.coupling.zero_order_hold import STAGES
from closures.operators import build
from closures.operators.stress import COEFFICIENT
from closures.registry import registry
from closures.training.a_posteriori import APosteriori, profile_error, profiles
from closures.training.processes import ALONE, ProcessGroup
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.held_shells import HeldShells
from tests.closures.flows import make_operators
from tests.coupling.flows import NU, box, channel, flow, noise, smagorinsky_like, small
from tests.operators.fields import channel_domain, smooth

pytestmark = pytest.mark.gradients
GRIDS = {"channel": lambda: channel(8, 7, 6), "box": lambda: box(6)}


def learned(grid, network, dt=0.01, forcing=None, operators=None):
    """A flow with a network in it, built without gradients."""
    with torch.no_grad():
        model = SubgridModel(network, grid=grid, nu=NU, precision="float64", calls=STAGES)
        return flow(grid, model, operators, forcing=forcing, dt=dt)


def slope(function, weights, velocity, directions):
    """Derivative along `directions` by the gradient, and by central differences."""
    u = tuple(c.clone().requires_grad_() for c in velocity)
    gradients = torch.autograd.grad(function(u), [*weights, *u])
    exact = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    h, values = 1e-5, []
    with torch.no_grad():
        for step in (h, -2 * h):
            for w, d in zip(weights, directions[: len(weights)], strict=True):
                w.add_(step * d)
            shift = h if step > 0 else -h
            values.append(function(tuple(c + shift * d for c, d in zip(velocity, directions[-3:], strict=True))))
    return float(exact), float(values[0] - values[1]) / (2 * h)


@pytest.mark.parametrize("segment", [1, 3])
@pytest.mark.parametrize(("kind", "name"), [("channel", "tensor_basis"), ("channel", "cnn"), ("box", "tensor_basis")])
def test_gradient_through_five_steps(kind, name, segment):
    grid = GRIDS[kind]()
    network = small(name, scale=0.3).double()
    operators = make_operators(grid)
    forcing = HeldShells(operators, (0.02,)) if kind == "box" else None
    simulation = learned(grid, network, forcing=forcing, operators=operators)
    unrolled, weights = Unrolled(simulation, segment), list(network.parameters())
    aim = noise(operators, seed=9)

    def functional(u):
        return sum((a * b).sum() for a, b in zip(unrolled(u, 5), aim, strict=True))

    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    directions += [c.detach() for c in noise(operators, seed=11)]
    exact, by_differences = slope(functional, weights, simulation.velocity.coefficients, directions)
    assert abs(exact) > 1e-6
    assert exact == pytest.approx(by_differences, rel=1e-6)


def test_unrolled_steps_are_those_of_the_solver_and_the_simulation_stays_where_it_is():
    grid = GRIDS["channel"]()
    with torch.no_grad():
        straight = flow(grid, registry.create("dynamic_smagorinsky", grid=grid, nu=NU, options={"every": 2}))
        start = straight.velocity.coefficients
        path = list(Unrolled(straight, 2).path(start, 6, 2))
        assert straight.velocity.coefficients is start
        assert (straight.t, straight.step_count) == (0.0, 0)
        for expected in path:
            straight.step()
            straight.step()
            for a, b in zip(expected, straight.velocity.coefficients, strict=True):
                assert torch.equal(a, b)


def test_memory_of_the_model_is_carried_from_segment_to_segment():
    """With gradients recorded too: averages of the dynamic model are part of what is recomputed."""
    grid = GRIDS["channel"]()
    with torch.no_grad():
        simulation = flow(grid, registry.create("dynamic_smagorinsky", grid=grid, nu=NU, options={"every": 2}))
        start = simulation.velocity.coefficients
        expected = Unrolled(simulation)(start, 4)
    u = tuple(c.clone().requires_grad_() for c in start)
    found = Unrolled(simulation, 3)(u, 4)
    assert max(float((a - b).detach().abs().max()) for a, b in zip(expected, found, strict=True)) < 1e-13
    sum((c * c).sum() for c in found).backward()
    assert all(bool(torch.isfinite(c.grad).all()) and float(c.grad.abs().max()) > 0 for c in u)


def along(unrolled, weights, steps, seed=0):
    """Slopes of a functional of the velocity after some steps, by the gradient and by differences."""
    operators, start = unrolled.simulation.operators, unrolled.simulation.velocity.coefficients
    aim = noise(operators, seed=9)

    def functional(u):
        torch.manual_seed(seed)
        return sum((a * b).sum() for a, b in zip(unrolled(u, steps), aim, strict=True))

    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    return slope(functional, weights, start, [*directions, *(c.detach() for c in noise(operators, seed=11))])


def test_a_coefficient_that_is_used_again_is_differentiated_too():
    """Two steps, six calls, three evaluations: half of the stages act with the coefficient of an earlier velocity."""
    grid = GRIDS["channel"]()
    with torch.no_grad():
        model = registry.create("dynamic_smagorinsky", grid=grid, nu=NU, options={"every": 2, "c_s_max": 10.0})
        simulation = flow(grid, model, dt=0.1)
    exact, by_differences = along(Unrolled(simulation), [], 2)
    assert exact == pytest.approx(by_differences, rel=1e-6)


class Dropping(torch.nn.Module):
    """An eddy viscosity with a weight, absent at points drawn anew at each call."""

    kind, reach, grid_free, symmetries = "stress", 0, True, frozenset()

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, gradient, cells):
        return torch.nn.functional.dropout(self.weight * smagorinsky_like(4.0)(gradient, cells), 0.5)


def test_a_network_that_draws_is_computed_again_with_the_same_numbers():
    network = Dropping()
    simulation = learned(GRIDS["channel"](), network, dt=0.1)
    exact, by_differences = along(Unrolled(simulation), [network.weight], 2)
    assert exact == pytest.approx(by_differences, rel=1e-6)


def test_gradients_stay_finite_over_fifty_steps():
    grid = GRIDS["channel"]()
    network = build("tensor_basis", width=4, depth=1, tensors=4, backscatter=0.0).double()
    simulation = learned(grid, network, dt=0.02)
    end = Unrolled(simulation, 5)(simulation.velocity.coefficients, 50)
    sum((c * c).sum() for c in end).backward()
    gradients = [w.grad for w in network.parameters() if w.grad is not None]
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    assert max(float(g.abs().max()) for g in gradients) > 1e-8


def means(objective, batch):
    """Of what is measured, over the samples."""
    return {name: values.mean(dim=0) for name, values in objective.measure(batch, [0] * len(batch)).items()}


@pytest.mark.parametrize("loss", ["trajectory", "statistics"])
def test_a_model_is_learned_from_the_flow_it_makes(loss):
    """Windows made with c_s = 0.3; from c_s = 0.05 the loss falls by far and the coefficient goes the right way."""
    grid = GRIDS["channel"]()

    def objective(c_s):
        network = build("tensor_basis", width=2, depth=1, tensors=1, c_s=c_s).double()
        return APosteriori(learned(grid, network, dt=0.04), network, steps=2, loss=loss, segment=2)

    truth, student = objective(0.3), objective(0.05)
    with torch.no_grad():
        resampler = truth.frames.resampler
        velocity = Velocity(truth.unrolled.simulation.flow.strain, noise(resampler.operators))
        first = resampler.centred(velocity)
        batch = torch.cat([first[None], truth.path(first, 2)])[None]
        start = float(student.conclude(means(student, batch))["validation_loss"])
        assert float(truth.conclude(means(truth, batch))["validation_loss"]) < 1e-12
    bias = student.network.coefficients[-1].bias
    optimiser = torch.optim.Adam([bias], lr=0.02 / COEFFICIENT)
    for _ in range(10):
        optimiser.zero_grad()
        student(batch, [0]).backward()
        optimiser.step()
    with torch.no_grad():
        assert float(student.conclude(means(student, batch))["validation_loss"]) < 0.4 * start
    assert 0.09 < COEFFICIENT * float(bias.detach()) < 0.27  # 2 c_s^2: 0.18 is true, 0.005 was the start


def test_statistics_do_not_depend_on_how_frames_are_shared():
    """Two processes have half of the frames each: the gradients they average are those of one with all; and the
    validation loss of several batches is that of the whole set.
    """
    domain = channel_domain(6, 8, 5)
    frames, true = (torch.cat([smooth(domain, seed).double() for seed in seeds]) for seeds in (range(4), range(4, 8)))

    def slope(own, team):
        own = own.clone().requires_grad_()
        aims = profiles(true[team.rank :: team.size], team.mean)
        profile_error(profiles(own, team.mean), aims, domain).backward()
        return own.grad

    shared = [torch.empty(0), torch.empty(0)]
    meeting = threading.Barrier(2)

    class Half(ProcessGroup):
        def sum(self, values):
            shared[self.rank] = values
            meeting.wait(timeout=60)
            total = shared[0] + shared[1]
            meeting.wait(timeout=60)
            return total

    whole = slope(frames, ALONE)
    with ThreadPoolExecutor(2) as pool:
        halves = [pool.submit(slope, frames[rank::2], Half(rank, 2, torch.device("cpu"))) for rank in range(2)]
        found = [half.result() for half in halves]
    for rank in range(2):
        torch.testing.assert_close(found[rank] / 2, whole[rank::2], rtol=1e-9, atol=1e-12)


def test_validation_statistics_are_of_the_whole_set_however_it_is_cut():
    grid = GRIDS["channel"]()
    network = build("tensor_basis", width=2, depth=1, tensors=1, c_s=0.1).double()
    objective = APosteriori(learned(grid, network, dt=0.04), network, steps=1, loss="statistics")
    operators = objective.frames.resampler.operators
    with torch.no_grad():
        windows = []
        for seed in (3, 4, 5):
            velocity = Velocity(objective.unrolled.simulation.flow.strain, noise(operators, seed=seed))
            first = objective.frames.resampler.centred(velocity)
            windows.append(torch.stack([first, 1.1 * first]))
        batch = torch.stack(windows)
        at_once, direct = objective.conclude(means(objective, batch)), float(objective(batch, [0, 0, 0]))
        cut = [objective.measure(part, [0, 0]) for part in (batch[:2], batch[2:])]
        pooled = {name: torch.cat([part[name] for part in cut]).mean(dim=0) for name in cut[0]}
    assert at_once["validation_loss"] == pytest.approx(direct, rel=1e-9)
    assert objective.conclude(pooled)["validation_loss"] == pytest.approx(direct, rel=1e-9)


def test_a_window_starts_from_its_first_frame():
    """Centres to coefficients and back: exact, and free of divergence."""
    grid = channel(8, 16, 6)
    network = build("tensor_basis", width=2, depth=1).double()
    objective = APosteriori(learned(grid, network), network, steps=1)
    with torch.no_grad():
        simulation = objective.unrolled.simulation
        frame = objective.frames.resampler.centred(simulation.velocity)
        again = objective.frames.centred(objective.frames.start(frame))
        assert objective.frames.resampler.grid.shape == (8, 16, 6)
        assert float((again - frame).abs().max()) < 1e-12 * float(frame.abs().max())
        op = simulation.operators
        assert float(op.to_physical(op.divergence(objective.frames.start(frame))).abs().max()) < 1e-12


def test_statistics_do_not_see_when_and_where():
    """Frames in another order and shifted along x and z have the same profiles; another amplitude has not."""
    domain = channel_domain(6, 8, 5)
    frames = torch.cat([smooth(domain, seed) for seed in range(3)])
    moved = torch.roll(frames.flip(0), (2, 1), (2, 4))
    assert float(profile_error(profiles(moved), profiles(frames), domain)) < 1e-25
    assert float(profile_error(profiles(1.1 * frames), profiles(frames), domain)) == pytest.approx(
        0.5 * ((2 / 3 + share(frames, domain)) * 0.01 + 0.21**2 * stresses(frames, domain) + 0.01), rel=1e-6
    )


def share(frames, domain):
    """What the mean of the third component counts, measured by the largest: less than one third."""
    mean, _ = profiles(frames)
    squares = (mean**2 * domain.y.weights).sum(-1)
    return float((squares / torch.maximum(squares, 1e-2 * squares.max())).sum() / 3 - 2 / 3)


def stresses(frames, domain):
    """The same for the stresses."""
    _, tensor = profiles(frames)
    squares = (tensor**2 * domain.y.weights).sum(-1)
    return float((squares / torch.maximum(squares, 1e-2 * squares.max())).mean())


def test_what_cannot_be_unrolled_is_refused():
    with torch.no_grad(), pytest.raises(CaseError, match="needs a fixed step"):
        Unrolled(flow(channel(), None, dt=None))
    assert Resampler(make_operators(box()), network_grid(box())).grid.shape == (8, 8, 8)

"""What a network cannot get wrong: first frame, walls, divergence, mass flux; and the loop does the same."""

from __future__ import annotations

import math

import pytest
import torch

from closures.coupling.frames import Trajectory, unaveraging
from closures.coupling.guard import Guard, GuardTable
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import network_grid
from closures.coupling.unrolled import Unrolled
from closures.losses.relative_l2 import relative_l2
from closures.operators import Domain, build
from closures.operators.predictor import Predictor, Scaling
from closures.operators.spectral import along
from closures.training.objective import directions, mirrored, reflected
from closures.training.path_loss import PathLoss
from solver.errors import CaseError
from solver.flow.forcing import PressureGradient, bulk_velocity
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs
from tests.grids import distance, uneven, walls
from tests.losses.flows import flow, residual_of, trajectory
from tests.operators.fields import randomise

STEP = 0.02
SCALING = Scaling(target="increment", mean=(0.3, 0.0, 0.0), std=(0.3, 0.3, 0.3), change=(0.05, 0.05, 0.05))
PERIODIC = {"box": (True, True, True), "channel": (True, False, True), "duct": (True, False, False)}


def head(simulation, kind, name="fno", scale=0.6, seed=31, **arguments):
    """A small network with random weights in double precision; `scale` 0 leaves those it is born with."""
    sizes = {"width": 4, "modes": (2, 3, 2), "hidden": 5, "periodic": PERIODIC[kind]}
    torch.manual_seed(seed)
    network = build(name, **(sizes | arguments))
    network = randomise(network, seed, scale=scale) if scale else network
    return Trajectory(Predictor(network.double(), SCALING), simulation)


@pytest.mark.parametrize("kind", ["box", "channel", "duct"])
def test_path_is_a_trajectory_of_the_solver(kind):
    simulation = flow(kind, STEP)
    start = simulation.velocity.coefficients
    with torch.no_grad():
        op, path = simulation.operators, head(simulation, kind).path(start, 2)
    assert distance(path[0], start) == 0.0
    assert distance(path[1], start) > 1e-4
    for u in path[1:]:
        assert float(op.divergence(u).abs().max()) < 1e-12
        assert float(bulk_velocity(op, u[0])) == pytest.approx(float(bulk_velocity(op, start[0])), abs=1e-14)
        for axis in op.volume_axes:
            assert float(u[axis].select(axis - 3, -1).abs().max()) == 0.0  # the face of the upper wall


@pytest.mark.parametrize("kind", ["box", "channel", "duct"])
def test_velocity_of_the_solver_comes_back_from_cell_centres(kind):
    simulation = flow(kind, STEP)
    own = head(simulation, kind)
    frames = trajectory(simulation, 2, every=3)
    for u in frames:
        assert distance(own.start(own.centred(u)), u) < 1e-12


@pytest.mark.parametrize("line", [walls(7), walls(8), uneven(7, 1.0)], ids=["walls", "even walls", "odd period"])
def test_averages_are_undone(line):
    """Values on free faces, averaged to centres, unaveraged, and averaged to faces again."""
    n = line.points
    faces = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    if not line.periodic:
        faces[-1] = 0.0
    lower = torch.roll(faces, 1)
    centres = 0.5 * (faces + lower)
    found = torch.from_numpy(unaveraging(line)) @ centres
    again = 0.5 * (found + torch.roll(found, -1))
    if not line.periodic:
        again[-1] = 0.0
    assert torch.allclose(again, faces, atol=1e-11)


def test_acts_as_the_surrogate_of_the_time_loop(monkeypatch):
    """One step of the head and of `GuardedUpdate` with the same network; one rank has nothing to scatter."""
    monkeypatch.setattr(Slabs, "scatter_planes", lambda self, whole: whole, raising=False)
    simulation = flow("channel", STEP)
    own = head(simulation, "channel")
    grid = network_grid(simulation.operators.grid)
    field = GuardedUpdate(own.predictor, grid, Guard(GuardTable(), "test", "nothing"), largest=1e3, precision="float64")
    with torch.no_grad():
        inside = field(simulation.velocity, simulation.flow.solenoidal)
        assert distance(own.after(simulation.velocity.coefficients), inside) < 1e-12


def test_training_and_run_keep_the_flux_whatever_drives_the_flow(monkeypatch):
    """Also with a pressure gradient: momentum is the solver's affair."""
    monkeypatch.setattr(Slabs, "scatter_planes", lambda self, whole: whole, raising=False)
    simulation = flow("channel", STEP, driven="pressure_gradient")
    assert isinstance(simulation.forcing, PressureGradient)
    own = head(simulation, "channel")
    grid, start = network_grid(simulation.operators.grid), simulation.velocity.coefficients
    field = GuardedUpdate(own.predictor, grid, Guard(GuardTable(), "test", "nothing"), largest=1e3, precision="float64")
    with torch.no_grad():
        after = own.after(start)
        assert distance(after, field(simulation.velocity, simulation.flow.solenoidal)) < 1e-12
    before, now = (float(bulk_velocity(simulation.operators, u[0])) for u in (start, after))
    assert now == pytest.approx(before, abs=1e-14)


@pytest.mark.parametrize("kind", ["box", "channel"])
@pytest.mark.parametrize("scheme", ["midpoint", "runge_kutta"])
def test_gradient_reaches_every_weight(kind, scheme):
    """And along a random direction it is that of a difference quotient."""
    simulation = flow(kind, STEP)
    own = head(simulation, kind)
    objective = PathLoss(own, residual_of(simulation, scheme))
    window = own.values(trajectory(simulation, 3))
    loss = objective(window[None], [0])
    weights = list(objective.network.parameters())
    slopes = torch.autograd.grad(loss, weights)
    assert all(float(g.abs().max()) > 0 for g in slopes)
    generator = torch.Generator().manual_seed(12)
    direction = [torch.randn(w.shape, dtype=w.dtype, generator=generator) for w in weights]
    slope = sum(float((g * d).sum()) for g, d in zip(slopes, direction, strict=True))
    sides = []
    with torch.no_grad():
        for size in (1e-6, -2e-6):
            for w, d in zip(weights, direction, strict=True):
                w += size * d
            sides.append(float(objective(window[None], [0])))
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5)


def test_without_through_a_step_learns_from_its_own_pair():
    """The first frame's loss is the same either way; later steps no longer reach back."""
    simulation = flow("box", STEP)
    own, residual = head(simulation, "box"), residual_of(simulation)
    window = own.values(trajectory(simulation, 3))
    slopes = []
    for through in (True, False):
        objective = PathLoss(own, residual, through=through)
        slopes.append(torch.autograd.grad(objective(window[None], [0]), list(own.predictor.parameters())))
    assert max(distance([a], [b]) for a, b in zip(*slopes, strict=True)) > 1e-6


def test_hybrid_is_the_sum_of_both():
    simulation = flow("channel", STEP)
    own, residual = head(simulation, "channel"), residual_of(simulation)
    frames = trajectory(simulation, 3)
    window = own.values(frames)
    alone, both = (float(PathLoss(own, residual, data=data)(window[None], [0]).detach()) for data in (0.0, 2.5))
    answers = own.values(own.path(own.start(window[0]), 2))[1:]
    volumes = own.domain.volumes
    errors = [
        float((((a - b) ** 2).sum(0) * volumes).sum() / ((b**2).sum(0) * volumes).sum()) ** 0.5
        for a, b in zip(answers.detach(), window[1:], strict=True)
    ]
    assert both - alone == pytest.approx(2.5 * sum(errors) / 2, rel=1e-10)


def test_projected_labels_compare_what_the_surrogate_makes_of_an_answer():
    """The loss is blind to the part of an answer that the projection removes, where a plain one is not; the residual
    is measured but does not choose.
    """
    simulation = flow("box", STEP)
    own, residual = head(simulation, "box"), residual_of(simulation)
    window = own.values(trajectory(simulation, 3))
    objective = PathLoss(own, residual, equations=0.0, data=1.0)
    with torch.no_grad():
        found = float(objective(window[None, :2], [0]))
        domain, answer = own.domain, own.predictor(window[:1], own.domain)
        potential = torch.sin(domain.x.points * 2 * math.pi / domain.x.length)[:, None, None].expand(domain.shape)
        gradient = torch.stack([along(potential[None, None], domain.x.derivative, 0)[0, 0], *[0 * potential] * 2])
        plain = [float(relative_l2(a, window[1:2], domain)) for a in (answer, answer + gradient)]
        own.predictor.forward = lambda u, domain, seeds: answer + gradient
        moved = float(objective(window[None, :2], [0]))
        errors = objective.measure(window[None], [0])
    assert moved == pytest.approx(found, rel=1e-10)
    assert plain[1] > 1.1 * plain[0]
    assert list(errors)[:2] == ["validation_loss", "residual"]
    assert float(errors["residual"]) > 0


@pytest.mark.parametrize(("scale", "equations", "data"), [(0.0, 0.0, 1.0), (0.1, 1.0, 0.0)], ids=["labels", "none"])
def test_noise_on_the_first_frame_comes_from_the_seeds(scale, equations, data):
    simulation = flow("box", STEP)
    own, residual = head(simulation, "box", scale=scale), residual_of(simulation)
    window = own.values(trajectory(simulation, 2))[None]
    quiet, loud = (
        PathLoss(own, residual, equations=equations, data=data, noise=noise)
        for noise in (None, torch.full((3, 1, 1, 1), 0.1))
    )
    with torch.no_grad():
        found = [float(loss(window, seeds)) for loss, seeds in ((quiet, [1]), (loud, [1]), (loud, [1]), (loud, [2]))]
    assert found[1] == found[2]
    assert len(set(found)) == 3
    if data > 0:  # the labels stay; the equations hold beside them as well
        assert min(found[1], found[3]) > found[0] + 1e-3


@pytest.mark.parametrize(("kind", "d"), [("box", 0), ("box", 1), ("box", 2), ("channel", 1), ("channel", 2)])
def test_the_solver_takes_a_mirror_image_to_a_mirror_image(kind, d):
    """So what is learned from one is learned about the other; two steps, to round-off."""
    simulation = flow(kind, STEP)
    own, steps = head(simulation, kind), Unrolled(simulation)
    with torch.no_grad():
        u = own.centred(simulation.velocity.coefficients)
        image = reflected(u, d, own.domain)
        assert (image - u).abs().max() > 0.1
        assert torch.equal(reflected(image, d, own.domain), u)
        after, after_image = (own.centred(steps(own.start(values), 2)) for values in (u, image))
    torch.testing.assert_close(after_image, reflected(after, d, own.domain), rtol=0, atol=1e-12)


def test_whole_windows_are_reflected_as_their_seeds_fall():
    simulation = flow("channel", STEP)
    own = head(simulation, "channel")
    window = own.values(trajectory(simulation, 2))
    windows, seeds = torch.stack([window] * 16), range(16)
    once = mirrored(windows, seeds, (1, 2), own.domain)
    images = [window, *(reflected(window, d, own.domain) for d in (1, 2))]
    images.append(reflected(images[1], 2, own.domain))
    which = [[bool((w == image).all()) for image in images].index(True) for w in once]
    assert set(which) == {0, 1, 2, 3}
    assert torch.equal(mirrored(once, seeds, (1, 2), own.domain), windows)
    assert torch.equal(mirrored(windows, seeds, (), own.domain), windows)


def test_points_that_are_not_symmetric_have_no_mirror():
    domain = Domain.of(Grid(FourierAxis(8, 6.0), uneven(8, 2.0), FourierAxis(8, 3.0)))
    with pytest.raises(CaseError, match=r"\[loss\] mirrors = 'y'"):
        directions(("z", "y"), domain)
    assert directions(("z", "x"), domain) == [2, 0]


def test_labels_do_not_enter_the_loss():
    """But for the first frame, to the bit."""
    simulation = flow("channel", STEP)
    own = head(simulation, "channel")
    objective = PathLoss(own, residual_of(simulation))
    window = own.values(trajectory(simulation, 3))
    with torch.no_grad():
        found = [float(objective(w[None], [0])) for w in (window, torch.cat([window[:1], 0.0 * window[1:]]))]
        other = float(objective(torch.cat([1.1 * window[:1], window[1:]])[None], [0]))
    assert found[0] == found[1] != other


def test_measures_do_not_depend_on_labels_where_they_choose_weights():
    simulation = flow("box", STEP)
    own, residual = head(simulation, "box"), residual_of(simulation)
    window = own.values(trajectory(simulation, 3))
    changed = torch.cat([window[:1], 3.0 * window[1:]])
    objective = PathLoss(own, residual)
    with torch.no_grad():
        found, again = (objective.measure(w[None], [0]) for w in (window, changed))
    for name in ("validation_loss", "residual"):
        assert float(found[name]) == float(again[name])
    assert float(found["fluctuation_error"]) != float(again["fluctuation_error"])

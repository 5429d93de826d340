"""Small networks on disk and small flows that use them, for the tests of the time loop; not a test itself."""

from __future__ import annotations

import torch
from torch import nn

from closures.coupling.guard import Guard, GuardTable
from closures.coupling.resample import network_grid
from closures.coupling.surrogate import StateSurrogate
from closures.operators import Domain, artefact, build
from closures.operators.predictor import Scaling
from closures.registry import registry
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux
from solver.flow.initial import wall_turbulence
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid
from tests.closures.flows import make_operators
from tests.grids import moving
from tests.operators.fields import randomise

NU, BULK, DT = 2e-3, 1.0, 0.01
SCALING = Scaling(target="increment", mean=(0.6, 0.0, 0.0), std=(0.3, 0.1, 0.1), change=(0.02, 0.01, 0.01))
SMALL = {
    "tensor_basis": {"width": 5, "depth": 1},
    "split_stress": {"width": 5, "mean_width": 3},
    "cnn": {"width": 3, "depth": 1},
    "ifactformer_m": {"width": 6, "heads": 2, "multiplier": 2, "iterations": 2, "modes": 2},
    "differential": {"width": 5, "layers": 2, "lengths": (0.6, 0.1, 0.4), "gate": "tanh"},
    "fno": {"width": 4, "modes": (2, 3, 2), "layers": 2, "hidden": 5},
}


def channel(nx=10, ny=9, nz=8):
    """A channel of a few cells; products are formed on 3/2 times as many points as there are modes."""
    wall = NoSlip()
    y = FiniteVolumeAxis(stretched_faces(ny, 0.0, 2.0, 1.5), wall, wall)
    return Grid(FourierAxis(nx, 6.0), y, FourierAxis(nz, 3.0))


def box(n=8):
    """A periodic box."""
    return Grid(FourierAxis(n, 6.0), FourierAxis(n, 6.0), FourierAxis(n, 6.0))


def small(name, seed=21, scale=0.1, **changes):
    """A small network with random weights; `scale` 0 makes it answer zero."""
    network = build(name, **(SMALL[name] | changes))
    if scale:
        return randomise(network, seed, scale=scale)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    return network


def write(folder, name, grid=None, *, network=None, seed=21, scale=0.1, arguments=None, **about):
    """A small network on disk, trained (it says) on the points of `grid`; returns the folder."""
    arguments = arguments or {}
    network = network or small(name, seed, scale, **arguments)
    facts = {
        "scaling": SCALING if network.kind == "state" else None,
        "step": 0.0,
        "filter": "box",
        "grid": Domain.of(network_grid(grid)).describe() if grid else None,
        "nu": (1e-4, 1e-2),
        "trained_on": "a test",
        "data_sha256": None,
        "commit": None,
        "metrics": {},
        "licence": "BSD-3-Clause",
    }
    artefact.save(folder, network, name, SMALL.get(name, {}) | arguments, **(facts | about))
    return folder


def closure(name, folder, grid, **options):
    """What ``[closure] name = ..., artefact = ...`` makes."""
    return registry.create(name, grid=grid, nu=NU, options={"artefact": str(folder), **options})


def flow(grid, model, operators=None, forcing=None, dt=DT):
    """A turbulent-looking channel at constant mass flux, or a decaying box, with a fixed step."""
    operators = operators or make_operators(grid)
    if grid.is_channel:
        forcing = forcing or MassFlux(operators, BULK)
        velocity = wall_turbulence(operators, BULK, NU, 1.0, 73311)
    else:
        velocity = noise(operators)
    return moving(Flow(operators, NU, model, forcing), velocity, dt)


def noise(operators, seed=7):
    """Coefficients of smooth noise in all directions, of order one."""
    from tests.closures.flows import make_velocity, random_fields

    return make_velocity(operators, [0.3 * f for f in random_fields(operators.grid, seed)]).coefficients


def distance(a, b):
    """Largest difference of the coefficients of two simulations."""
    pairs = zip(a.velocity.coefficients, b.velocity.coefficients, strict=True)
    return max(float((f - g).abs().max()) for f, g in pairs)


class Rigged(nn.Module):
    """A stress network that answers what it is told to, without training."""

    kind, reach, grid_free, symmetries = "stress", 0, True, frozenset({"galilean", "shift"})

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def forward(self, gradient, cells):
        self.calls += 1
        return self.answer(gradient, cells)


class RiggedState(nn.Module):
    """A state network that answers what it is told to."""

    kind, grid_free, symmetries = "state", True, frozenset()

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def forward(self, field, domain):
        self.calls += 1
        return self.answer(field)


class Told:
    """In place of a network on the whole field: `answer` gives the coefficients of its velocity."""

    known = None

    def __init__(self, answer, **settings):
        self.answer, self.guard = answer, Guard(GuardTable(**settings), "told", "the solver")

    def prepare(self, operators):
        """It has no weights."""

    def __call__(self, velocity, project, seeds=()):
        return self.answer(velocity.coefficients)


def in_turns(plain, span, answer, between=0.0, **settings):
    """The flow of another simulation, from where that is, with a surrogate that is told its answers."""
    model = StateSurrogate("told", Told(answer, **settings), plain.closure, span=span, between=between)
    same = plain.flow
    flow = Flow(same.operators, same.nu, model, same.forcing, same.momentum, same.projection)
    return moving(flow, sample(plain.velocity.coefficients), plain.control.fixed)


def smagorinsky_like(sign):
    """``-sign 2 (0.1 delta)^2 |g| s_ij``: dissipation, or with the other sign the opposite."""

    def answer(gradient, cells):
        from closures.operators.stress import six, size, symmetric

        g = size(gradient)
        return -sign * six(symmetric(gradient)) * (0.01 * cells.delta**2 * g)[:, None]

    return answer


def sample(f):
    """A plain copy of coefficients."""
    return tuple(torch.clone(c) for c in f)

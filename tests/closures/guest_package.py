"""Closures as other people write them, good ones and bad ones; not a test itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from closures.algebraic.geometry import extended, filter_width
from closures.algebraic.invariants import strain_norm
from solver.case import plugins
from solver.flow.closure import EddyViscosity, SubgridForce, SubgridStress


class Mirror:
    """Reads the whole field: the strain rate in the opposite half counts, and so does that of the call before."""

    name, reach, slabs = "mirror", "global", ("before",)

    def __init__(self, *, grid, nu, strength: float = 0.02):
        self.shape, self.strength = grid.shape, strength

    def init(self, operators):
        return {"before": torch.zeros(self.shape, dtype=operators.dtype), "calls": torch.zeros(())}

    def __call__(self, velocity, t, state):
        s = strain_norm(velocity.gradient)
        seen = 0.5 * (s + s.flip(1)) + 0.1 * s.mean() + state["before"]
        nu_t = self.strength * filter_width(velocity.operators) ** 2 * seen
        return EddyViscosity(nu_t), {"before": 0.5 * s, "calls": state["calls"] + 1}


class Stresses(Mirror):
    """The same as a stress."""

    def __call__(self, velocity, t, state):
        term, after = super().__call__(velocity, t, state)
        return SubgridStress(tuple((n + 1) * term.nu_t for n in range(6))), after


class Forces(Mirror):
    """The same as a force."""

    def __call__(self, velocity, t, state):
        term, after = super().__call__(velocity, t, state)
        return SubgridForce(tuple(-(n + 1) * term.nu_t for n in range(3))), after


class Neighbours:
    """Reads two planes on either side of its own."""

    name, reach = "neighbours", 2

    def __init__(self, *, grid, nu):
        pass

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        operators = velocity.operators
        s = extended(strain_norm(velocity.gradient), operators, self.reach)
        mean = sum(s[:, k : k + operators.local_shape[1]] for k in range(5)) / 5
        return EddyViscosity(0.02 * filter_width(operators) ** 2 * mean), state


def edited(velocity):
    velocity.gradient[0][0].mul_(2.0)
    return EddyViscosity(velocity.gradient[0][0] ** 2)


def edited_behind_the_back(velocity):
    velocity.coefficients[0].numpy()[:] *= 1.1
    return EddyViscosity(velocity.gradient[0][0] ** 2)


def edited_coefficients(velocity):
    velocity.coefficients[0].add_(1.0)
    return EddyViscosity(velocity.gradient[0][0] ** 2)


def broken(velocity):
    return EddyViscosity(torch.ones(3, 4) @ torch.ones(5))


ANSWERS = {
    "good": lambda velocity: EddyViscosity(1e-3 * strain_norm(velocity.gradient)),
    "at_rest": lambda velocity: EddyViscosity(1e-3 + strain_norm(velocity.gradient)),
    "tensor": lambda velocity: velocity.gradient[0][0],
    "shape": lambda velocity: EddyViscosity(strain_norm(velocity.gradient)[1:]),
    "broadcast": lambda velocity: EddyViscosity(strain_norm(velocity.gradient).mean((0, 2), keepdim=True)),
    "single": lambda velocity: EddyViscosity(strain_norm(velocity.gradient).float()),
    "nan": lambda velocity: EddyViscosity(strain_norm(velocity.gradient) / 0.0 * 0.0),
    "five": lambda velocity: SubgridStress(velocity.gradient[0] + velocity.gradient[1][:2]),
    "array": lambda velocity: EddyViscosity(strain_norm(velocity.gradient).numpy()),
    "edited": edited,
    "edited_behind_the_back": edited_behind_the_back,
    "edited_coefficients": edited_coefficients,
    "broken": broken,
}


class Told:
    """Answers what it is told to."""

    name, reach = "told", 0

    def __init__(self, *, grid, nu, answer: str, weights: str = ""):
        self.answer = ANSWERS[answer]

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        return self.answer(velocity), state


class Alone(Told):
    """Forgets to give the state back."""

    def __call__(self, velocity, t, state):
        return self.answer(velocity)


class Number(Told):
    """Its state is no tensor."""

    def init(self, operators):
        return {"calls": 0}


class Clocked(Told):
    """Has a clock, as the guard of a corrector does."""

    name = "clocked"

    def init(self, operators):
        return {"clock": torch.zeros(())}


class Nameless:
    """No closure."""

    def __init__(self, *, grid, nu, **options):
        pass


class Half(Told):
    """A corrector that does not say when it wants to act."""

    def correct(self, velocity, t, step, state, project):
        return None, state


class Tired(Told):
    """Fails half-way, on every rank or on one."""

    def __init__(self, *, grid, nu, after: float = 0.5, rank: int = -1):
        self.answer, self.after, self.rank = ANSWERS["good"], after, rank

    def __call__(self, velocity, t, state):
        if t > self.after and self.rank in (-1, velocity.operators.decomposition.rank):
            raise RuntimeError("enough")
        return super().__call__(velocity, t, state)


class Growing(Told):
    """A corrector: everything but the mean grows."""

    facts: dict = {}  # noqa: RUF012 - as people write it

    def wait(self, t):
        return float("inf")

    def correct(self, velocity, t, step, state, project):
        u, v, w = velocity.coefficients
        return (u, 1.1 * v, 1.1 * w), state


class Whole(Growing):
    """A corrector that reads all of the field and gathers nothing."""

    reach = "global"


HERE = "tests.closures.guest_package"
CLASSES = (Mirror, Stresses, Forces, Neighbours, Told, Alone, Number, Clocked, Nameless, Half, Tired, Growing, Whole)
NAMES = {made.__name__.lower(): f"{HERE}:{made.__name__}" for made in CLASSES}


@contextmanager
def installed() -> Iterator[None]:
    """The package is installed, as far as the registry can tell."""
    made = [importlib.metadata.EntryPoint(name, value, "solver.closures") for name, value in NAMES.items()]
    before = plugins.entry_points
    plugins.entry_points = lambda group: made if group == "solver.closures" else []
    try:
        yield
    finally:
        plugins.entry_points = before

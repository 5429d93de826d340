"""The roles that a trained network can have, and its times: one table for recipes, cards and cases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """What a network is to the solver.

    Parameters
    ----------
    kind : of the operator, see `closures.operators.registry`.
    inputs : what it reads, as its card says.
    is_closure : whether a case names it in ``[closure]``.
    """

    kind: str
    inputs: str
    is_closure: bool = True


ROLES = {
    "subgrid_model": Role("stress", "velocity_gradient"),  # in the right-hand side
    "corrector": Role("state", "velocity"),  # after the solver's steps, at the time that they reached
    "surrogate": Role("state", "velocity"),  # in place of the solver's steps
    "preconditioner": Role("direction", "residual", is_closure=False),  # in the pressure solve
    "wall_model": Role("wall", "wall_sample", is_closure=False),  # in the flux through walls
}
INPUTS = {role.kind: role.inputs for role in ROLES.values()}


def role_of(inputs: str, step: float) -> str:
    """The name of the role of a network that reads `inputs` and whose answer is `step` further on in time."""
    found = [name for name, role in ROLES.items() if role.inputs == inputs]
    return found[0] if len(found) == 1 else "surrogate" if step > 0 else "corrector"


@dataclass(frozen=True)
class Rhythm:
    """When a network acts beside the solver, and over what time.

    Parameters
    ----------
    step : time from its input to its output; 0 for a corrector.
    interval : time from one answer to the next where solver and network take turns; 0 where they do not.
    solver_step : length of the solver's steps in between; 0 where there are none, or it is not known.
    """

    step: float
    interval: float = 0.0
    solver_step: float = 0.0

    @classmethod
    def in_turns(cls, interval: float, steps: int, ahead: float = 0.0) -> Rhythm:
        """The solver's `steps`, then the network over the time `ahead` that is left of the interval."""
        return cls(ahead, interval, (interval - ahead) / steps)

    @property
    def between(self) -> float:
        """Time of the solver from the end of one answer to the next; 0: never its turn."""
        return max(self.interval - self.step, 0.0)

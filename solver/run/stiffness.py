"""Whether molecular diffusion along y is worth being implicit in a run."""

from __future__ import annotations

from solver.case.case import Case
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.files.checkpoint_file import Saved
from solver.flow.implicit_diffusion import refusal
from solver.flow.time_step import StepControl

TURBULENT = ("wall_turbulence", "run")  # recipes; how a laminar flow comes to rest would be seen through long steps
WORTHWHILE = 1.5  # times the explicit step: an implicit stage has five products along y more, and four transposes
ATTRIBUTE = "implicit_diffusion"  # of a checkpoint


def is_implicit(case: Case, operators: Operators, velocity: Components, saved: Saved | None) -> bool:
    """What ``[time] implicit_diffusion`` comes to, the same on every rank; `velocity` is where the run begins.

    With "auto" a leg goes on as the `saved` one did, if it is of the same flow.
    """
    wanted, grid = case.time.implicit_diffusion, operators.grid
    if wanted != "auto":
        return wanted == "on"
    if saved is not None:
        return bool(saved.attributes.get(ATTRIBUTE, False))
    fixed = case.time.dt is not None or case.solids is not None or case.pressure.is_iterative
    if fixed or refusal(grid) or not grid.z.is_fourier or case.initial.kind not in TURBULENT:
        return False
    start = Velocity(VelocityGradient(operators), velocity)
    nu = max([case.flow.nu, *(case.flow.nu / scalar.prandtl for scalar in case.scalars)])
    explicit, implicit = (
        float(StepControl(operators, case.time.cfl, implicit=flag)(start, None, nu)) for flag in (False, True)
    )
    return implicit > WORTHWHILE * explicit

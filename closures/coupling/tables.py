"""What ``[closure]`` takes for a trained network, by its role."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from closures.coupling.guard import GuardTable
from closures.coupling.transfer import Precision, Wanted
from solver.case.table import Table


class NetworkTable(Table):
    """What every trained network takes in ``[closure]``, besides its name and ``artefact``."""

    precision: Precision = "float32"
    guard: GuardTable = GuardTable()


class SubgridTable(NetworkTable):
    """A subgrid model, asked once a step or at every stage of it.

    `fallback` acts, with `fallback_options`, where the guard overrules the network.
    """

    device: Wanted = "solver"
    form: Literal["stress", "eddy_viscosity"] = "stress"
    each: Literal["step", "stage"] = "step"
    fallback: str = "smagorinsky"
    fallback_options: dict[str, Any] = Field(default_factory=dict)


class CompanionTable(NetworkTable):
    """An operator on the whole field: `base` is the subgrid model of the solver's own steps.

    It acts from `start` on, by default from the time at which the flows begin that it was trained on. Of a network that
    draws its answers the mean of `draws` is taken, by default one; `seed` is that of the noise.
    """

    device: Wanted = "auto"
    base: str = "dynamic_smagorinsky"
    base_options: dict[str, Any] = Field(default_factory=dict)
    start: float | None = Field(default=None, ge=0)
    mass_flux: bool = True
    draws: int | None = Field(default=None, ge=1, le=1000)
    seed: int | None = Field(default=None, ge=0)


class CorrectorTable(CompanionTable):
    """A corrector: after `every` steps, or at multiples of `interval`; by default what it was trained for."""

    every: int | None = Field(default=None, ge=1)
    interval: float | None = Field(default=None, gt=0)


class SurrogateTable(CompanionTable):
    """A surrogate: `macro` steps in a row, then the solver for a time `between` (0: never its turn).

    By default `between` is what it was trained for.
    """

    macro: int = Field(default=1, ge=1)
    between: float | None = Field(default=None, ge=0)
    divergence_free: bool = True


TABLES: dict[str, type[NetworkTable]] = {
    "subgrid_model": SubgridTable,
    "corrector": CorrectorTable,
    "surrogate": SurrogateTable,
}

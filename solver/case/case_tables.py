"""The tables of a case file, but those of grid, initial field, solids and pressure, which have modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from solver.case.table import Table


class NoForcingTable(Table):
    """Nothing drives the flow."""

    kind: Literal["none"]


class MassFluxTable(Table):
    """Constant bulk velocity along x."""

    kind: Literal["mass_flux"]
    bulk_velocity: float = Field(description="mean of u over the volume; the pressure gradient follows")


class PressureGradientTable(Table):
    """Constant pressure gradient along x."""

    kind: Literal["pressure_gradient"]
    gradient: float = Field(description="``-dp/dx``, kinematic: an acceleration")


class HeldShellsTable(Table):
    """Kinetic energies at which the lowest wavenumber shells are held."""

    kind: Literal["held_shells"]
    energies: tuple[float, ...] = Field(
        min_length=1, strict=False, description="of the shells 1, 2, ...: energy a unit of mass"
    )


ForcingTable = Annotated[
    NoForcingTable | MassFluxTable | PressureGradientTable | HeldShellsTable, Field(discriminator="kind")
]


class FlowTable(Table):
    """``[flow]``: viscosity and what drives the flow."""

    nu: float = Field(ge=0, description="kinematic viscosity; with lengths and velocities of order one, 1 / Re")
    forcing: ForcingTable = Field(default=NoForcingTable(kind="none"), description="what drives it")


class ClosureTable(BaseModel):
    """``[closure]``: a registered name; every other key is an option of that closure, see `solver closures`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str = Field(default="none", description="a closure that `solver closures` lists")

    @property
    def options(self) -> dict[str, Any]:
        """What is handed to the closure's factory."""
        return dict(self.model_extra or {})


class TimeTable(Table):
    """``[time]``: when to stop and how far to step."""

    end: float = Field(gt=0, description="time at which the run ends")
    cfl: float = Field(default=1.2, gt=0, le=1.7, description="CFL number that dt keeps, unless `dt` is given")
    dt: float | None = Field(default=None, gt=0, description="fixed time step, in place of a CFL number")
    dt_max: float | None = Field(default=None, gt=0, description="largest time step")
    frame: float = Field(
        default=0.0,
        description="velocity along x of the frame in which advection is stepped; half of the fastest mean velocity "
        "makes the steps of a channel nearly twice as long",
    )
    implicit_diffusion: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="whether molecular diffusion along y is implicit, in channels and ducts; auto: in a turbulent "
        "channel whose time step it would make half as long again or more",
    )


class OutputTable(Table):
    """``[output]``: when files are written, at multiples of these; 0 is never."""

    every_steps: int = Field(default=10, ge=1, description="steps from row to row of timeseries.csv")
    checkpoint: float = Field(default=0.0, ge=0, description="time from checkpoint to checkpoint; one ends every run")
    snapshot: float = Field(default=0.0, ge=0, description="time from snapshot to snapshot of the fields")
    spectra: float = Field(default=0.0, ge=0, description="time from spectrum to spectrum of a box, in spectra.csv")
    spectra_at: tuple[float, ...] = Field(
        default=(), strict=False, description="heights y of the spectra of a channel; by default five, wall to core"
    )


class StatisticsTable(Table):
    """``[statistics]``: averages over time, in batches that give 95 % intervals; without this table there are none."""

    start: float = Field(ge=0, description="time at which averaging starts")
    every_steps: int = Field(default=10, ge=1, description="steps from sample to sample, about")
    batches: int = Field(default=20, ge=4, le=200, description="batches of time")


class ReferenceTable(Table):
    """``[reference]``: files beside the case that the run is compared with."""

    name: str = Field(description="name of the data, for tables and legends")
    filtered: str | None = Field(
        default=None,
        description="statistics of filtered DNS (`solver data statistics`), for --reference filtered-dns",
    )
    profiles: str | None = Field(default=None, description="profiles of a channel over the wall distance, wall units")
    section: str | None = Field(default=None, description="mean velocity over a quarter of a square duct, bulk units")
    spectra_x: str | None = Field(default=None, description="one-dimensional spectra along x of a channel")
    spectra_z: str | None = Field(default=None, description="one-dimensional spectra along z of a channel")
    k_budget: str | None = Field(default=None, description="budget of turbulent kinetic energy of a channel")
    dissipation: str | None = Field(default=None, description="decay of kinetic energy over time")
    spectra: str | None = Field(default=None, description="three-dimensional energy spectra of a box")
    cavity_u: str | None = Field(default=None, description="u along the vertical centre line of a cavity")
    cavity_v: str | None = Field(default=None, description="v along the horizontal centre line of a cavity")
    c_f: float | None = Field(default=None, description="friction coefficient, for the record")
    re_tau: float | None = Field(default=None, description="friction Reynolds number, for the record")

    @model_validator(mode="after")
    def _beside_the_case(self) -> ReferenceTable:
        for key, value in self.paths.items():
            if ".." in Path(value).parts:
                raise ValueError(f"'{key}' = '{value}' should lie beside the case: copy the file there")
        return self

    @property
    def paths(self) -> dict[str, str]:
        """The files given, as they are written in the case, by key."""
        return {key: value for key, value in self.model_dump().items() if isinstance(value, str) and key != "name"}

    def files(self, folder: Path) -> dict[str, Path]:
        """The files given, by key."""
        return {key: folder / value for key, value in self.paths.items()}


class RunTable(Table):
    """``[run]``: where and how precisely to compute."""

    # Data sets and trainings are known by all that their recipes say. Keys that came later are left out of it where
    # they are not set, or none of those made before could be gone on with.
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to compute; auto: a GPU if any")
    dtype: Literal["float64", "float32"] = Field(default="float64", description="precision of the solver")
    threads: int | None = Field(
        default=None,
        exclude_if=lambda threads: threads is None,
        ge=0,
        description="threads of a rank, for transforms and all that torch does; 0: the cores of its node over the "
        "ranks there; by default OMP_NUM_THREADS, or 1",
    )
    transforms: Literal["auto", "lines", "planes"] = Field(
        default="auto",
        exclude_if=lambda transforms: transforms == "auto",
        description="how x and z are transformed: `lines`, one after the other, or `planes`, both at once, by torch; "
        "auto: planes on a GPU; on a CPU lines, by ducc0",
    )
    graph: Literal["auto", "on", "off"] = Field(
        default="auto",
        exclude_if=lambda graph: graph == "auto",
        description="queue a step on a GPU as two CUDA graphs, not kernel by kernel; auto: where nothing within a step "
        "asks the host: one rank, the exact pressure, no model or an algebraic one",
    )
    fuse: Literal["auto", "on", "off"] = Field(
        default="auto", description="compile the pointwise kernels; auto: where the run is long enough to gain by it"
    )
    exchange: Literal["auto", "mpi", "device_mpi", "process_group"] = Field(
        default="auto",
        exclude_if=lambda exchange: exchange == "auto",
        description="how ranks exchange fields: MPI through the host, MPI of what is on a GPU, or a process group of "
        "torch (NCCL); auto: on GPUs MPI that can, else NCCL with a GPU for each rank; elsewhere MPI",
    )

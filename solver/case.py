"""A case file (TOML) checked once, at the door: frozen models, and one line naming key, file and remedy.

Lengths may be written as multiples of pi (``"4 pi"``, ``"2 pi / 3"``).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from solver.axis import Axis, Boundary, FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, Periodic, stretched_faces
from solver.errors import CaseError
from solver.grid import Grid

_MULTIPLE_OF_PI = re.compile(r"\s*([0-9.]*)\s*\*?\s*pi\s*(?:/\s*([0-9.]+))?\s*")


def _length(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _MULTIPLE_OF_PI.fullmatch(value)
    if match is None:
        raise ValueError("should be a number or a multiple of pi such as '4 pi' or '2 pi / 3'")
    return float(match[1] or 1.0) * np.pi / float(match[2] or 1.0)


Length = Annotated[float, BeforeValidator(_length), Field(gt=0)]
Coordinate = Annotated[float, BeforeValidator(_length)]


class Table(BaseModel):
    """Base of every table: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FourierTable(Table):
    """A periodic spectral direction."""

    kind: Literal["fourier"]
    n: int = Field(ge=1, le=100_000)
    length: Length
    dealias: Literal["3/2", "2/3"] = "3/2"

    def axis(self) -> Axis:
        """The axis it describes."""
        return FourierAxis(self.n, self.length, self.dealias)


class NoSlipTable(Table):
    """A wall, possibly moving in its own plane."""

    kind: Literal["no_slip"]
    velocity: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), strict=False)


def _boundary(value: Literal["periodic", "no_slip", "free_slip"] | NoSlipTable) -> Boundary:
    if isinstance(value, NoSlipTable):
        return NoSlip(value.velocity)
    return {"periodic": Periodic, "no_slip": NoSlip, "free_slip": FreeSlip}[value]()


class FiniteVolumeTable(Table):
    """A staggered direction between two ends; `stretching` clusters cells at both (tanh)."""

    kind: Literal["finite_volume"]
    n: int = Field(ge=2, le=100_000)
    start: Coordinate = 0.0
    end: Coordinate
    stretching: float = Field(default=0.0, ge=0, le=6)
    lower: Literal["periodic", "no_slip", "free_slip"] | NoSlipTable = "no_slip"
    upper: Literal["periodic", "no_slip", "free_slip"] | NoSlipTable = "no_slip"

    @model_validator(mode="after")
    def _ordered(self) -> FiniteVolumeTable:
        if not self.end > self.start:
            raise ValueError(f"'end' = {self.end:g} should be larger than 'start' = {self.start:g}")
        if (self.lower == "periodic") != (self.upper == "periodic"):
            raise ValueError("'periodic' should be given for both 'lower' and 'upper'")
        return self

    def axis(self) -> Axis:
        """The axis it describes."""
        faces = stretched_faces(self.n, self.start, self.end, self.stretching)
        return FiniteVolumeAxis(faces, _boundary(self.lower), _boundary(self.upper))


AxisTable = Annotated[FourierTable | FiniteVolumeTable, Field(discriminator="kind")]


class GridTable(Table):
    """``[grid]``: one table a direction."""

    x: AxisTable
    y: AxisTable
    z: AxisTable


class NoForcingTable(Table):
    """Nothing drives the flow."""

    kind: Literal["none"] = "none"


class MassFluxTable(Table):
    """Constant bulk velocity along x."""

    kind: Literal["mass_flux"]
    bulk_velocity: float


class PressureGradientTable(Table):
    """Constant ``-dp/dx`` (kinematic)."""

    kind: Literal["pressure_gradient"]
    gradient: float


class HeldShellsTable(Table):
    """Kinetic energies at which the lowest wavenumber shells are held."""

    kind: Literal["held_shells"]
    energies: tuple[float, ...] = Field(min_length=1, strict=False)


ForcingTable = Annotated[NoForcingTable | MassFluxTable | PressureGradientTable | HeldShellsTable, Field(discriminator="kind")]


class FlowTable(Table):
    """``[flow]``: viscosity and what drives the flow."""

    nu: float = Field(ge=0)
    forcing: ForcingTable = NoForcingTable()


class InitialTable(Table):
    """``[initial]``: a named recipe of `solver.initial` and its numbers."""

    kind: Literal["rest", "taylor_green", "wall_turbulence", "isotropic", "shear_layers", "run"]
    seed: int = Field(default=20261, ge=0)
    amplitude: float = Field(default=1.0, ge=0)
    peak_wavenumber: float = Field(default=4.0, gt=0)
    spectrum: str | None = None
    thickness: float = Field(default=1.0, gt=0)
    run: str | None = None


class ClosureTable(BaseModel):
    """``[closure]``: a registered name; every other key is an option of that closure."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str = "none"

    @property
    def options(self) -> dict[str, Any]:
        """What is handed to the closure's factory."""
        return dict(self.model_extra or {})


class TimeTable(Table):
    """``[time]``: when to stop and how far to step (``dt`` fixed, or chosen to keep ``cfl``)."""

    end: float = Field(gt=0)
    cfl: float = Field(default=1.2, gt=0, le=1.7)
    dt: float | None = Field(default=None, gt=0)
    dt_max: float | None = Field(default=None, gt=0)


class OutputTable(Table):
    """``[output]``: how often hooks act; times in flow units, `every_steps` in steps, 0 = never."""

    every_steps: int = Field(default=10, ge=1)
    checkpoint: float = Field(default=0.0, ge=0)
    snapshot: float = Field(default=0.0, ge=0)
    spectra: float = Field(default=0.0, ge=0)
    spectra_at: tuple[float, ...] = Field(default=(), strict=False)


class StatisticsTable(Table):
    """``[statistics]``: averaging starts at `start`; sampled every `every_steps` steps."""

    start: float = Field(ge=0)
    every_steps: int = Field(default=10, ge=1)
    batches: int = Field(default=20, ge=4, le=200)


class ReferenceTable(Table):
    """``[reference]``: files beside the case that the run is compared with."""

    name: str
    profiles: str | None = None
    spectra_x: str | None = None
    spectra_z: str | None = None
    k_budget: str | None = None
    dissipation: str | None = None
    spectra: str | None = None
    cavity_u: str | None = None
    cavity_v: str | None = None
    c_f: float | None = None
    re_tau: float | None = None

    def files(self, folder: Path) -> dict[str, Path]:
        """The files given, by key."""
        given = {key: value for key, value in self.model_dump().items() if isinstance(value, str) and key != "name"}
        return {key: folder / value for key, value in given.items()}


class RunTable(Table):
    """``[run]``: where and how precisely to compute."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float64", "float32"] = "float64"
    fuse: Literal["auto", "on", "off"] = "auto"


class Case(Table):
    """A flow, whole and valid."""

    title: str
    grid: GridTable
    flow: FlowTable
    initial: InitialTable
    time: TimeTable
    closure: ClosureTable = ClosureTable()
    output: OutputTable = OutputTable()
    statistics: StatisticsTable | None = None
    reference: ReferenceTable | None = None
    run: RunTable = RunTable()

    def build_grid(self) -> Grid:
        """The grid it describes; raises CaseError for impossible ones."""
        return Grid(self.grid.x.axis(), self.grid.y.axis(), self.grid.z.axis())


def load_case(path: Path, overrides: tuple[str, ...] = ()) -> tuple[Case, Path]:
    """Read `path` (a case folder or TOML file), apply ``key.path=value`` overrides, validate.

    Returns the case and the folder its reference files are relative to.

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value; one line.
    """
    file = path / "case.toml" if path.is_dir() else path
    if not file.is_file():
        near = difflib.get_close_matches(path.name, [p.parent.name for p in Path("cases").glob("*/case.toml")], 1)
        hint = f"; did you mean 'cases/{near[0]}'?" if near else "; give a folder that holds a case.toml"
        raise CaseError(f"{file}: no such case file{hint}")
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{file}: not valid TOML: {error}") from None
    for override in overrides:
        _apply_override(data, override)
    case = parse_case(data, str(file))
    if case.reference:
        for key, reference in case.reference.files(file.parent).items():
            if not reference.is_file():
                raise CaseError(f"{file}: [reference] {key} = '{reference.name}': no such file beside the case; remove the key or add the file")
    return case, file.parent


def parse_case(data: dict[str, Any], source: str) -> Case:
    """Validate a mapping; `source` is named in errors."""
    try:
        return Case.model_validate(data)
    except ValidationError as error:
        raise CaseError(f"{source}: {_explain(error, data)}") from None


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise CaseError(f"--set {override}: should read key.path=value, for example --set grid.y.n=64")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise CaseError(f"--set {override}: '{parent}' is a value, not a table")
    data[last] = value


def _explain(error: ValidationError, data: dict[str, Any]) -> str:
    """The first problem as one line: place, what is wrong, remedy."""
    problem = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
    place = [str(p) for p in problem["loc"] if p not in ("fourier", "finite_volume") or problem["loc"][0] != "grid"]
    place = [p for p in place if p in _keys(data) or p == place[-1]]
    *tables, key = place
    where = f"[{'.'.join(tables)}] " if tables else ""
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _known_keys(tables), 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(_known_keys(tables))}"
        return f"{where}unknown key '{key}'{hint}"
    if problem["type"] == "missing":
        return f"{where}missing key '{key}'"
    if problem["type"].startswith("union_tag"):
        return f"{where}{key}: {problem['msg'].replace('Input tag', 'kind').replace(' found using', ' of')}"
    return f"{where}{key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ').removeprefix('Input ')}"


def _keys(data: Any) -> set[str]:
    if not isinstance(data, dict):
        return set()
    return set(data) | {key for value in data.values() for key in _keys(value)}


def _known_keys(tables: list[str]) -> list[str]:
    models: list[type[BaseModel]] = [Case]
    for table in tables:
        models = [m for model in models if table in model.model_fields for m in _models_of(model.model_fields[table].annotation)]
    return sorted({key for model in models for key in model.model_fields})


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_of(part)]

"""A case file (TOML) checked once, at the door: frozen models, and one line naming key, file and remedy.

Lengths may be written as multiples of pi (``"4 pi"``, ``"2 pi / 3"``).
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from solver.case.case_tables import (
    ClosureTable,
    FlowTable,
    OutputTable,
    ReferenceTable,
    RunTable,
    StatisticsTable,
    TimeTable,
)
from solver.case.explain import explain
from solver.case.grid_tables import FourierTable, GridTable
from solver.case.initial_table import InitialTable
from solver.case.overrides import apply_override
from solver.case.paths import beside, case_path, shipped_cases
from solver.case.scalar_tables import ScalarTable, check_scalars
from solver.case.solid_tables import PressureTable, SolidsTable
from solver.case.table import Table
from solver.case.wall_table import WallModelTable
from solver.errors import CaseError
from solver.grid.grid import Grid
from solver.solids.mask import Solids


class Case(Table):
    """A flow, whole and valid."""

    title: str = Field(description="one line, for people")
    grid: GridTable
    flow: FlowTable
    initial: InitialTable
    time: TimeTable
    closure: ClosureTable = ClosureTable()
    wall_model: WallModelTable = WallModelTable()
    scalars: tuple[ScalarTable, ...] = Field(default=(), strict=False, description="what the flow carries")
    output: OutputTable = OutputTable()
    statistics: StatisticsTable | None = None
    reference: ReferenceTable | None = None
    solids: SolidsTable | None = None
    pressure: PressureTable = PressureTable()
    run: RunTable = RunTable()

    @model_validator(mode="after")
    def _averages_before_the_end(self) -> Case:
        start, end = self.statistics.start if self.statistics else 0.0, self.time.end
        if start >= end:
            raise ValueError(f"[statistics] start = {start:g} should be before [time] end = {end:g}")
        return self

    @model_validator(mode="after")
    def _cells_around_solids(self) -> Case:
        iterative = self.pressure.is_iterative
        if self.solids is None and not iterative:
            return self
        what = "[solids]" if self.solids is not None else f"[pressure] solver = '{self.pressure.solver}'"
        for name, axis in (("x", self.grid.x), ("y", self.grid.y), ("z", self.grid.z)):
            if isinstance(axis, FourierTable) and (name != "z" or axis.n > 1):
                plane = " (or n = 1 for a plane flow)" if name == "z" else ""
                raise ValueError(f"{what} needs cells along {name}: set [grid.{name}] kind = 'finite_volume'{plane}")
        if self.solids is not None and self.pressure.solver == "direct":
            raise ValueError("[pressure] solver = 'direct' knows no solids: use 'multigrid', 'box' or 'krylov'")
        return self

    @model_validator(mode="after")
    def _walls_to_model(self) -> Case:
        if not self.wall_model.acts:
            return self
        if self.solids is not None or self.pressure.is_iterative:
            what = "[solids]" if self.solids is not None else f"[pressure] solver = '{self.pressure.solver}'"
            raise ValueError(f"[wall_model] acts on the walls of channels and ducts alone, not with {what}: remove one")
        try:
            self.wall_model.check(self._grid())
        except CaseError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _scalars_to_carry(self) -> Case:
        if not self.scalars:
            return self
        try:
            around = self.solids is not None or self.pressure.is_iterative
            check_scalars(self.scalars, self._grid(), self.flow, self.wall_model.acts, around)
        except CaseError as error:
            raise ValueError(str(error)) from None
        return self

    def files(self, folder: Path) -> dict[str, Path]:
        """Every file beside the case that it names, by ``[table] key``."""
        found = {f"[reference] {k}": p for k, p in (self.reference.files(folder) if self.reference else {}).items()}
        if self.initial.spectrum is not None:
            found["[initial] spectrum"] = folder / self.initial.spectrum
        for scalar in self.scalars:
            found |= {f"[[scalars]] {scalar.name} {key}": folder / path for key, path in scalar.paths.items()}
        if self.solids is not None:
            found |= {f"[solids] {key}": folder / path for key, path in self.solids.paths.items()}
        return found

    def build_solids(self, grid: Grid, folder: Path) -> Solids | None:
        """The solids on a grid, None without; raises CaseError where they cannot be."""
        if self.solids is None:
            return None
        if grid.y.periodic and self.solids.stands:
            raise CaseError("[solids] close = 'ground' fills columns down to a floor: [grid.y] must not be periodic")
        return Solids.from_shapes(grid, [s.shape(folder) for s in self.solids.shapes])

    def build_grid(self) -> Grid:
        """The grid it describes; raises CaseError for impossible ones."""
        grid = self._grid()
        return grid.with_modelled_walls() if self.wall_model.acts else grid

    def _grid(self) -> Grid:
        return Grid(self.grid.x.axis(), self.grid.y.axis(), self.grid.z.axis())


def load_case(path: Path, overrides: tuple[str, ...] = (), closure: str | None = None) -> tuple[Case, Path]:
    """Read `path` (a case folder or TOML file, or the name of a case), apply ``key.path=value`` overrides, validate.

    A trained network that ``[closure]`` names lies beside the case, or in the working directory.
    Another `closure` than the case's starts from its own defaults; overrides come after it.

    Returns the case and the folder its reference files are relative to.

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value; one line.
    """
    path = case_path(path)
    file = path / "case.toml" if path.is_dir() else path
    data = _read(file, path.name)
    if closure is not None:
        given = data.get("closure")
        same = isinstance(given, dict) and given.get("name") == closure
        data["closure"] = given if same else {"name": closure}
    for override in sorted(overrides, key=lambda o: not o.startswith("initial.kind")):  # other keys build on the kind
        _apply_override(data, override)
    beside({key: data.get(key) for key in ("closure", "wall_model")}, ("artefact", "weights"), file.parent)
    case = _with_origin(parse_case(data, str(file)), file.parent)
    for key, needed in case.files(file.parent).items():
        if not needed.is_file():
            problem = f"{key} = '{needed.name}': no such file beside the case"
            raise CaseError(f"{file}: {problem}; remove the key or add the file")
    return case, file.parent


def _with_origin(case: Case, folder: Path) -> Case:
    """The case with the run it starts from as an absolute path: the file in its run folder is to be run as well."""
    if case.initial.run is None:
        return case
    beside = folder / case.initial.run
    origin = str((beside if beside.exists() else Path(case.initial.run)).resolve())
    return case.model_copy(update={"initial": case.initial.model_copy(update={"run": origin})})


def parse_case(data: dict[str, Any], source: str) -> Case:
    """Validate a mapping; `source` is named in errors.

    Raises
    ------
    CaseError : unknown key, wrong type or value; one line.
    """
    try:
        return Case.model_validate(data)
    except ValidationError as error:
        raise CaseError(f"{source}: {explain(error, Case, data)}") from None


def _read(file: Path, name: str) -> dict[str, Any]:
    """The mapping a TOML file holds; `name` is what the user called it."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        known = [*(path.parent.name for path in Path().glob("*/case.toml")), *shipped_cases()]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else "give a folder with a case.toml, or a name of `solver cases`"
        raise CaseError(f"{file}: no such case file; {hint}") from None
    except OSError as error:
        raise CaseError(f"{file}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{file}: not valid TOML: {error}") from None


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Apply one; another recipe of the initial field starts from its own defaults."""
    initial = data.get("initial")
    before = initial.get("kind") if isinstance(initial, dict) else None
    apply_override(data, override)
    if override.partition("=")[0].strip() == "initial.kind" and data["initial"]["kind"] != before:
        data["initial"] = {name: value for name, value in data["initial"].items() if name in ("seed", "kind")}

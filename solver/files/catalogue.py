"""The cases that come with the solver: what flow each is, and a copy of one as the beginning of another."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from solver.case.case import Case, load_case
from solver.case.case_tables import MassFluxTable, PressureGradientTable
from solver.case.paths import PACKAGE, case_path, shipped_cases
from solver.errors import CaseError, RunFolderError
from solver.files.folder import write_json
from solver.grid.axis import FiniteVolumeAxis, NoSlip
from solver.grid.grid import Grid

SECONDS = PACKAGE / "cases" / "seconds.toml"
HINT = "#:schema"  # by which editors find a schema, in the first line of a TOML file
SCHEMA = "case.schema.json"


def listed() -> list[dict[str, str]]:
    """A row for each shipped case: name, flow, Reynolds number, grid, reference, core seconds, title."""
    seconds = tomllib.loads(SECONDS.read_text(encoding="utf-8"))
    return [row(name, load_case(folder)[0], seconds.get(name)) for name, folder in shipped_cases().items()]


def row(name: str, case: Case, seconds: float | None) -> dict[str, str]:
    """What one line says of a case."""
    grid = case.build_grid()
    return {
        "case": name,
        "flow": flow_of(case, grid),
        "Re": f"{reynolds(case, grid):.0f}" if case.flow.nu else "",
        "grid": "x".join(str(axis.n) for axis in (case.grid.x, case.grid.y, case.grid.z)),
        "reference": case.reference.name if case.reference else "",
        "core s": "" if seconds is None else f"{seconds:.0f}",
        "title": case.title,
    }


def flow_of(case: Case, grid: Grid) -> str:
    """In a word."""
    cells = "".join("F" if axis.is_fourier else "c" for axis in grid.axes)
    if case.solids is not None:
        return "solids"
    return {"FFF": "box", "FcF": "channel", "Fcc": "duct"}.get(cells, "open" if grid.is_open else "cavity")


def reynolds(case: Case, grid: Grid) -> float:
    """Between walls ``2 h U_b / nu``, or ``u_tau h / nu`` where the pressure gradient is given; else ``U L / nu``.

    h is half the height, U the speed of a wall or of the stream and L the size of a cavity or the length of
    ``[solids.coefficients]``; where the case names none of them they are its units, one.
    """
    nu, drive, y = case.flow.nu, case.flow.forcing, grid.y
    if case.solids is not None and case.solids.coefficients is not None:
        return case.solids.coefficients.velocity * case.solids.coefficients.length / nu
    if case.solids is None and grid.x.is_fourier and isinstance(y, FiniteVolumeAxis):
        half = 0.5 * y.length
        if isinstance(drive, MassFluxTable):
            return 2 * half * abs(drive.bulk_velocity) / nu
        if isinstance(drive, PressureGradientTable):
            return math.sqrt(abs(drive.gradient) * half) * half / nu
    if case.solids is None and isinstance(y, FiniteVolumeAxis):
        speeds = [abs(end.velocity[0]) for end in (y.lower, y.upper) if isinstance(end, NoSlip)]
        return (max(speeds, default=0.0) or 1.0) * y.length / nu
    return 1 / nu


def copy_case(origin: Path, folder: Path, schema: Mapping[str, object] | None = None) -> list[Path]:
    """Copy a case, with the files beside it that it names, into a new folder; returns what was written there.

    Parameters
    ----------
    origin : case folder, TOML file, or the name of a shipped case.
    folder : is made; nothing may be there but an empty folder.
    schema : of cases, written beside the copy, whose first line then tells editors of it.

    Raises
    ------
    CaseError : there is no such case, or it is not valid.
    RunFolderError : the folder exists, or cannot be written.
    """
    case, beside = load_case(origin)
    found = case_path(origin)
    text = (found / "case.toml" if found.is_dir() else found).read_text(encoding="utf-8")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder}: exists: choose another name, or remove it first")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "case"
            made.mkdir()
            for name in _named(case, beside):
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (beside / name).is_dir() else shutil.copyfile
                copy(beside / name, made / name)
            if schema is not None:
                write_json(made / SCHEMA, schema)
                text = f"{HINT} ./{SCHEMA}\n" + re.sub(rf"\A{HINT}[^\n]*\n", "", text)
            (made / "case.toml").write_text(text, encoding="utf-8")
            os.rename(made, folder)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror}): choose another place") from None
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _named(case: Case, beside: Path) -> list[Path]:
    """Files and trained networks beside a case that it names, relative to its folder."""
    if case.initial.run is not None and Path(case.initial.run).is_relative_to(beside.resolve()):
        raise CaseError(f"[initial] run = '{case.initial.run}' lies in the folder of the case: runs are not copied")
    paths = [*case.files(beside).values()]
    options = case.closure.options
    paths += [Path(str(options[key])) for key in ("artefact", "weights") if key in options]
    base = beside.resolve()
    inside = (path.resolve() for path in paths)
    names = [path.relative_to(base) for path in inside if path.is_relative_to(base) and path.exists()]
    return list(dict.fromkeys(names))

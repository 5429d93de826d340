"""A run folder as a tree of xarray data sets, with units and intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solver.analysis.moments import NAMES
from solver.errors import FeatureUnavailable, RunFolderError
from solver.figures.results import Results, read_table
from solver.files.hdf5 import open_hdf5

if TYPE_CHECKING:
    import xarray

    Table = dict[str, np.ndarray]

WALL = {  # of profiles.csv; L and T are length and time of the case
    "y": "h",
    "y_plus": "nu/u_tau",
    "uv_plus": "u_tau^2",
    "tau_sgs": "u_tau^2",
    "nu_t_plus": "nu",
    "sgs_share": "1",
    "sgs_work_mean": "u_tau^4/nu",
    "sgs_work_fluctuation": "u_tau^4/nu",
    "u_centreline": "L T^-1",
    "v_centreline": "L T^-1",
    "x": "L",
}
SERIES = {
    "step": "1",
    "time": "T",
    "dt": "T",
    "cfl": "1",
    "kinetic_energy": "L^2 T^-2",
    "dissipation": "L^2 T^-3",
    "sgs_dissipation": "L^2 T^-3",
    "max_divergence": "T^-1",
    "forcing": "L T^-2",
    "bulk_velocity": "L T^-1",
    "max_velocity": "L T^-1",
    "u_tau": "L T^-1",
}
INTERVAL = "_ci95"


def open_run(folder: str | Path) -> xarray.DataTree:
    """What a run has found so far, by names: no field, no file stays open.

    Parameters
    ----------
    folder : a run folder; one whose run has not ended has what it has written.

    Returns
    -------
    xarray.DataTree : ``series`` over ``time``; ``profiles`` and ``budget`` over ``y_plus`` (one a wall where two
        differ, ``profiles_lower``); ``spectra`` over ``k`` and, in a channel, ``direction`` and ``y``, in a box
        ``time``; ``means``, the raw averages of ``statistics.h5`` over ``y`` and ``z``. A group is there if the run has
        written it. Each variable has ``units``; ``f_ci95`` is the 95 % half width of ``f``, and its
        ``ancillary_variables`` says so (CF conventions 1.11, section 3.4). Attributes are the numbers and words of
        ``summary.json``.

    Raises
    ------
    RunFolderError : no run, or a damaged one.
    FeatureUnavailable : xarray is not installed.

    Examples
    --------
    >>> run = open_run("runs/channel180_coarse-wale-1f0c7a52")  # doctest: +SKIP
    >>> run["profiles/u_plus"].sel(y_plus=15, method="nearest")  # doctest: +SKIP
    """
    try:
        import xarray
    except ImportError:
        raise FeatureUnavailable("open_run needs xarray: pip install xarray") from None
    folder = Path(folder)
    if not (folder / "provenance.json").is_file():
        raise RunFolderError(f"{folder}: no run folder: give one that `solver run` has made, see `solver runs`")
    summary = Results(folder, {}).summary
    groups: dict[str, xarray.Dataset] = {}
    for path in sorted(folder.glob("*.csv")):
        if not (table := read_table(path)) or not len(next(iter(table.values()))):
            continue
        kind = path.stem.partition("_")[0]
        if kind == "timeseries":
            groups["series"] = _along(table, "time", SERIES)
        elif kind in ("profiles", "budget"):
            along = next((name for name in ("y_plus", "y") if name in table), "")
            units = WALL if kind == "profiles" else dict.fromkeys(table, "u_tau^4/nu") | {"y_plus": "nu/u_tau"}
            groups[path.stem] = _along(table, along, units)
        elif kind == "spectra":
            groups[path.stem] = _spectra(table)
    if (folder / "statistics.h5").is_file():
        groups["means"] = _means(folder / "statistics.h5")
    root = xarray.Dataset(attrs=dict(_flat(summary)))
    return xarray.DataTree.from_dict({"/": root, **groups})


def _along(table: Table, along: str, units: Mapping[str, str]) -> xarray.Dataset:
    """Columns over one of them; where it is not known in a row, or none is named, over the rows' numbers."""
    import xarray

    dimension = along if along and np.isfinite(table[along]).all() else "row"
    found = {name: (dimension, column, _about(name, table, units)) for name, column in table.items()}
    return xarray.Dataset(found).set_coords([name for name in ("time", "y", "y_plus", "step") if name in found])


def _about(name: str, table: Table, units: Mapping[str, str]) -> dict[str, str]:
    plain = name.removesuffix(INTERVAL)
    about = {"units": units.get(plain, "u_tau" if plain.endswith("_plus") else "1")}
    if plain != name:
        about["long_name"] = f"95 % half width of {plain}"
    elif name + INTERVAL in table:
        about["ancillary_variables"] = name + INTERVAL
    return about


def _spectra(table: Table) -> xarray.Dataset:
    """The long table by its keys: what it does not have is NaN."""
    import xarray

    keys = [name for name in ("direction", "time", "y", "k") if name in table]
    lines, places = zip(*(np.unique(table[name], return_inverse=True) for name in keys), strict=True)
    found = {}
    for name in table.keys() - set(keys):
        values = np.full([len(line) for line in lines], np.nan)
        values[tuple(places)] = table[name]
        units = "L^2 T^-2" if "direction" in keys else "L^3 T^-2"  # of a mode, of a wavenumber
        found[name] = (keys, values, {"units": units})
    of_scales = {"time": "T", "y": "L", "k": "L^-1"}
    scales = {name: (name, line, {"units": of_scales.get(name, "1")}) for name, line in zip(keys, lines, strict=True)}
    return xarray.Dataset(found, scales)


def _means(path: Path) -> xarray.Dataset:
    import xarray

    try:
        with open_hdf5(path) as file:
            scales = {name: (name, file[name][()], {"units": "L"}) for name in "yz"}
            names = [name for name in NAMES if name in file]
            found = {name: (("y", "z"), file[name][()], {"units": _units(name)}) for name in names}
            about = {name: float(file.attrs[name]) for name in ("averaging_time", "nu")}
    except (OSError, KeyError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}): run the case again") from None
    return xarray.Dataset(found, scales, about)


def _units(name: str) -> str:
    """Of a raw moment, by its name."""
    if name.startswith("d"):  # a squared gradient
        return "T^-2"
    known = {"p": "L^2 T^-2", "nu_t": "L^2 T^-1", "force_x": "L T^-2", "eps_sgs": "L^2 T^-3", "pv": "L^3 T^-3"}
    powers = 3 if name == "tau_u" else 2 if "_" in name else len(name)
    return known.get(name, "L T^-1" if powers == 1 else f"L^{powers} T^-{powers}")


def _flat(summary: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Numbers and words of nested tables, by paths with dots; attributes hold no tables."""
    found: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if isinstance(value, dict):
            found += _flat(value, f"{above}{name}.")
        elif value is not None:
            found.append((above + name, json.dumps(value) if isinstance(value, list) else value))
    return found

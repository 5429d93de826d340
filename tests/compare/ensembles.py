"""Run folders whose truth is known: a channel made of a published table, a bias and correlated noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
from scipy.signal import lfilter

from solver.analysis.moments import INDEX, NAMES
from solver.analysis.reference import ChannelReference
from solver.case.case import load_case
from solver.files.folder import to_toml
from solver.files.reference_files import read_reference

ROOT = Path(__file__).parents[2]
CASE = ROOT / "cases" / "channel180_coarse"
TABLE = CASE / "reference" / "channel_mkm180.csv"
BATCHES = 20
AVERAGED = 400.0  # time units


def ar1(rng: np.random.Generator, phi: float, shape: tuple[int, ...]) -> np.ndarray:
    """Stationary AR(1) series of unit variance along the last axis: ``x_n = phi x_{n-1} + noise``."""
    x = rng.standard_normal(shape) * np.sqrt(1 - phi**2)
    x[..., 0] /= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], x, axis=-1)


def moments(seed: int, bias: dict[str, float], noise: float = 0.05) -> np.ndarray:
    """Batch means ``(BATCHES, len(NAMES), ny, 1)``: the table, each fluctuation times ``1 + bias``, and noise.

    The noise is smooth across the channel and correlated from batch to batch (phi = 0.15); U has a tenth of it. A
    subgrid stress comes on top, with the share ``bias["sgs_share"]`` of all turbulent shear.
    """
    case, _ = load_case(CASE)
    y = case.build_grid().y.centres
    y_over_h = np.minimum(y, 2 - y)
    table = ChannelReference(read_reference(TABLE))
    u_tau = table.re_tau * case.flow.nu
    sign = np.where(y < 1, 1.0, -1.0)
    rng = np.random.default_rng(seed)
    found = np.zeros((BATCHES, len(NAMES), len(y), 1))
    waves = np.cos(np.outer(np.arange(3), np.pi * y_over_h)) / np.sqrt(3)
    u = table.profile("u_mean", y_over_h) * u_tau * (1 + bias.get("u_mean", 0.0) * y_over_h)
    u = u * (1 + 0.1 * noise * ar1(rng, 0.15, (3, BATCHES)).T @ waves)
    found[:, INDEX["u"], :, 0] = u
    stresses = {f"{c}{c}": ((1 + bias.get(f"{c}_rms", 0.0)) * table.profile(f"{c}_rms", y_over_h)) ** 2 for c in "uvw"}
    stresses["uv"] = (1 + bias.get("uv", 0.0)) * table.profile("uv", y_over_h) * sign
    for name, stress in stresses.items():
        mean = u**2 if name == "uu" else 0.0
        factor = 1 + noise * ar1(rng, 0.15, (3, BATCHES)).T @ waves
        found[:, INDEX[name], :, 0] = mean + u_tau**2 * stress * factor
    share = bias.get("sgs_share", 0.0)
    found[:, INDEX["tau_xy"]] = share / (1 - share) * found[:, INDEX["uv"]]
    faces = 0.5 * (found[:, INDEX["tau_xy"], 1:] + found[:, INDEX["tau_xy"], :-1])
    found[:, INDEX["sgs_flux_xy"], :-1] = faces
    found[:, INDEX["dudx_dudx"]], found[:, INDEX["eps_sgs"]] = 1e-4, share * 1e-4
    return found


def write_run(
    folder: Path,
    closure: str,
    seed: int,
    bias: dict[str, float] | None = None,
    status: str = "finished",
    noise: float = 0.05,
    statistics: bool = True,
    overrides: tuple[str, ...] = (),
    seconds_per_step: float = 0.01,
) -> Path:
    """A run folder of `CASE` with such statistics; what it cost is made up."""
    case, _ = load_case(CASE, (f"initial.seed={seed}", *overrides), closure)
    shutil.copytree(CASE / "reference", folder / "reference")
    (folder / "case.toml").write_text(to_toml(case.model_dump(exclude_none=True)))
    weights = np.full(BATCHES, AVERAGED / BATCHES)
    means = moments(seed + sum(map(ord, closure)), bias or {}, noise)
    if statistics:
        with h5py.File(folder / "statistics.h5", "w") as file:
            file["batches/span"] = [200.0, weights[0]]
            file.attrs["names"] = list(NAMES)
            file["batches/weights"] = weights
            file["batches/sums"] = means * weights[:, None, None, None]
    summary = {
        "status": status,
        "case": "channel180_coarse",
        "closure": closure,
        "grid": [48, 32, 24],
        "ranks": 1,
        "threads": 1,
        "device": "cpu",
        "steps": 4000 if status == "finished" else 700,
        "time": 600.0 if status == "finished" else 103.5,
        "wall_seconds": 4000 * seconds_per_step,
        "seconds_per_step": seconds_per_step,
        "closure_fraction": 0.0 if closure == "none" else 0.3,
        "guard_interventions": 0,
        "max_divergence": 1e-14,
        "averaging_time": AVERAGED,
        "re_bulk": 5600.0,
        "re_tau": 178.12,
        "u_tau": 0.0425,
        "bulk_velocity": 2 / 3,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    facts = {"commit": "0123456789abcdef", "dirty": False, "ranks": 1, "threads": 1, "command": f"solver run {CASE}"}
    (folder / "provenance.json").write_text(json.dumps(facts | {"versions": {"numpy": np.__version__}}))
    return folder

"""What the averages of a square duct become: the stress along its walls, a quarter of its section, and errors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from solver.analysis.batch_means import BatchMeans
from solver.analysis.duct import Duct
from solver.analysis.duct_reference import ERRORS, DuctReference, errors
from solver.case.case_tables import ReferenceTable
from solver.files.folder import write_table


def write_section(
    folder: Path, reference: ReferenceTable | None, origin: Path, duct: Duct, means: BatchMeans
) -> dict[str, Any]:
    """Write ``wall_stress.csv`` and ``section.csv``; what the summary says of them, against the table in `origin`.

    Root only.
    """
    stress, width = means.estimate(duct.wall_stress)
    columns = {"z_over_h": duct.places, "tau_over_mean": stress, "tau_over_mean_ci95": width}
    write_table(folder / "wall_stress.csv", columns)
    y, z = (f.ravel() for f in np.meshgrid(duct.places, duct.places, indexing="ij"))
    quarter = duct.quarter(means.mean).reshape(3, -1)
    write_table(folder / "section.csv", {"y_over_h": y, "z_over_h": z} | dict(zip("UVW", quarter, strict=True)))
    flow, flow_width = means.estimate(duct.secondary_flow)
    told: dict[str, Any] = {"secondary_flow": float(flow[0]), "ci95": {"secondary_flow": float(flow_width[0])}}
    if reference is not None and reference.section is not None:
        told |= _compared(duct, DuctReference.read(origin / reference.section), reference.name, means)
    return {"section": told}


def _compared(duct: Duct, target: DuctReference, name: str, means: BatchMeans) -> dict[str, Any]:
    value, width = means.estimate(partial(errors, duct, target))
    found = {"reference": name} | dict(zip(ERRORS, map(float, value), strict=True))
    known = {"c_f": target.c_f, "secondary_flow": target.secondary_flow, "re_bulk": target.re_bulk}
    return {
        "errors": found,
        "errors_ci95": dict(zip(ERRORS, map(float, width), strict=True)),
        "reference_values": known,
    }

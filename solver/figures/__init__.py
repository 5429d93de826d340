"""Figures of a run folder: profiles, spectra, histories and budgets against reference data, and vortices.

`draw` writes what the run folder has data for; `view` draws the 3-D structures of the latest snapshot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from solver.errors import FeatureUnavailable
from solver.figures import channel, duct, plane_spectra, profiles, scalars, series, shell_spectra, solids, style
from solver.figures.results import Results
from solver.figures.vortices import view

__all__ = ["draw", "view"]
log = logging.getLogger("solver")

# Each returns None when the run has no data for it. Two may share a name when no run has both.
FIGURES = (
    ("profiles", channel.plot_profiles),
    ("profiles", profiles.plot_profiles),
    ("cavity", profiles.plot_cavity),
    ("spectra", plane_spectra.plot_spectra),
    ("spectra", shell_spectra.plot_spectra),
    ("timeseries", series.plot_history),
    ("dissipation", series.plot_dissipation),
    ("budget", channel.plot_budget),
    ("scalars", scalars.plot_scalars),
    ("section", duct.plot_section),
    ("solids", solids.plot_solids),
)


def draw(
    run: Path,
    reference: Mapping[str, Path] = MappingProxyType({}),
    kinds: Sequence[str] = ("png",),
    say: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Write `figures/*.png` of a run folder and return their paths.

    Each picture is written whole or not at all. A picture without data is skipped; so is, with a warning, the
    3-D one on a machine that cannot draw it.

    Parameters
    ----------
    run : run folder.
    reference : tables by role: "profiles", "spectra_x", "spectra_z", "k_budget" (channel), "scalar NAME" and
        "scalar NAME flux", "section" (square duct), "dissipation" (Taylor-Green),
        "cavity_u", "cavity_v", "spectra" (box). Without one the run is drawn alone.
    kinds : of files, "png" and "pdf"; the picture in three dimensions is a PNG.
    say : is told each file once it is written; a sheet takes seconds.
    """
    results = Results(Path(run), reference)
    folder = results.run / "figures"
    written: list[Path] = []

    def add(path: Path) -> None:
        written.append(path)
        if say is not None:
            say(path)

    for name, plot in FIGURES:
        with style.paper(), np.errstate(over="ignore"):  # the warning below says it once
            try:
                if (figure := plot(results)) is not None:
                    for kind in kinds:
                        add(style.save(figure, folder / f"{name}.{kind}"))
            except (ValueError, OverflowError):
                if not results.is_out_of_bounds:
                    raise
                log.warning("no %s.png: a table holds infinite values: repair it, or run the case again", name)
    try:
        picture = view(results.run)
    except FeatureUnavailable as reason:
        log.warning("no vortices.png: %s", reason)
    else:
        if picture:
            add(picture)
    return written

"""How a flow has held that a surrogate steps: what the time series had after its first and after its last steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

QUANTITIES = {
    "fluctuation_energy": "energy of fluctuations",
    "momentum_imbalance": "momentum of the mean flow off by",
    "residual_trust": "residual of the equations",
    "familiarity": "distance from known flows",
}
SHARE = 5  # means are over the first and the last of so many parts of the macro steps


def stability(series: Path) -> dict[str, dict[str, float]]:
    """Of each of `QUANTITIES` in a ``timeseries.csv`` the mean at ``first``, at ``last``, and the ``largest``.

    Rows where the solver made the step are left out; empty where fewer than ten are left.
    """
    table = np.genfromtxt(series, delimiter=",", names=True, ndmin=1)
    names = table.dtype.names or ()
    acted = table[np.isfinite(table["residual_trust"])] if "residual_trust" in names else table[:0]
    part = len(acted) // SHARE
    if part < 2:
        return {}
    return {
        name: {
            "first": float(acted[name][:part].mean()),
            "last": float(acted[name][-part:].mean()),
            "largest": float(acted[name].max()),
        }
        for name in QUANTITIES
        if name in names
    }


def in_words(found: dict[str, dict[str, float]]) -> str:
    """One line; "" for nothing."""
    told = [
        f"{QUANTITIES[name]} {of['first']:.3g} -> {of['last']:.3g} (at most {of['largest']:.3g})"
        for name, of in found.items()
    ]
    return f"macro steps, first and last fifth: {'; '.join(told)}" if told else ""

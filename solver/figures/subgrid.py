"""What the subgrid stress of a channel carries and drains, plane by plane."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from solver.figures.results import Table, half_width
from solver.figures.style import BLUE, GREEN, GREY, VERMILLION, curve, headroom

SHARE = r"$\langle\tau_{12}\rangle/(\langle u'v'\rangle+\langle\tau_{12}\rangle)$"
WORKS = (
    ("sgs_work_mean", r"$-\langle\tau_{12}\rangle\,\mathrm{d}U/\mathrm{d}y$", BLUE),
    ("sgs_work_fluctuation", r"$-\langle\tau_{ij}'s_{ij}'\rangle$", VERMILLION),
)
NEAR_CENTRE = 0.9  # of the height: beyond, shear stresses are sampling error over sampling error


def has_subgrid(profiles: Table) -> bool:
    """Whether a closure did anything in the run of these profiles."""
    return any(np.any(np.nan_to_num(profiles[name])) for name, *_ in WORKS if name in profiles)


def plot_share(axes: Axes, profiles: Table) -> None:
    """Draw the share of the subgrid in the turbulent shear stress, and nu_t/nu if there is any."""
    y_plus = profiles["y_plus"]
    seen = y_plus < NEAR_CENTRE * y_plus[-1]
    width = half_width(profiles, "sgs_share")
    band = None if width is None else width[seen]
    curve(axes, y_plus[seen], profiles["sgs_share"][seen], band, color=GREEN, label=SHARE)
    axes.set(xlim=(0, y_plus[-1]), xlabel="$y^+$", ylabel="subgrid share of turbulent shear")
    headroom(axes)
    handles, labels = axes.get_legend_handles_labels()
    nu_t = profiles.get("nu_t_plus")
    if nu_t is not None and nu_t.any():
        right = axes.twinx()
        axes.tick_params(right=False, which="both")
        curve(right, y_plus, nu_t, half_width(profiles, "nu_t_plus"), color=GREY, linestyle="--", label=r"$\nu_t/\nu$")
        right.set_ylabel(r"$\langle\nu_t\rangle/\nu$")
        right.set_ylim(bottom=min(0.0, float(nu_t.min())))
        headroom(right)
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    axes.legend(handles, labels, loc="upper right")


def plot_work(axes: Axes, profiles: Table) -> None:
    """Draw the energy that the subgrid stress drains from the mean flow and from the fluctuations."""
    axes.axhline(0, color="black", linewidth=0.5)
    for name, label, colour in WORKS:
        curve(axes, profiles["y_plus"], profiles[name], half_width(profiles, name), color=colour, label=label)
    axes.set(
        xscale="log",
        xlim=(1, 1.1 * profiles["y_plus"][-1]),
        xlabel="$y^+$",
        ylabel=r"subgrid work  [$u_\tau^4/\nu$]",
    )
    headroom(axes)
    axes.legend(loc="upper right")

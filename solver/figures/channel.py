"""Channel statistics against DNS in wall units: mean velocity, rms, shear-stress balance, energy budget."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.figures.results import Results, Table, half_width
from solver.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, curve, points, reference_key, sheet
from solver.figures.subgrid import has_subgrid, plot_share, plot_work

COMPONENTS = (("u", BLUE, "o"), ("v", VERMILLION, "s"), ("w", GREEN, "^"))
KAPPA, INTERCEPT = 0.4, 5.5  # the log law drawn by Kim, Moin & Moser (1987) at this Reynolds number
SPACING = 0.035  # of reference symbols, as a fraction of the panel's diagonal

# column of budget.csv, columns of the DNS table that make it up, label, colour, marker
BUDGET = (
    ("production", ("production",), "production", BLUE, "o"),
    ("dissipation", ("dissipation",), "dissipation", VERMILLION, "s"),
    ("turbulent_transport", ("turbulent_diffusion",), "turbulent transport", GREEN, "^"),
    ("viscous_diffusion", ("viscous_diffusion",), "viscous diffusion", PURPLE, "D"),
    ("pressure", ("pressure_diffusion", "pressure_strain"), "pressure", ORANGE, "v"),
    ("sgs", (), "subgrid", SKY, ""),
    ("residual", (), "residual", GREY, ""),
)


def plot_profiles(results: Results) -> Figure | None:
    """Return mean velocity, rms, shear stress and its balance over the half channel; None for other flows.

    With a closure also what its stress carries and drains. A table of one row or two has no slopes.
    """
    profiles = results.table("profiles")
    if profiles is None or not {"y_plus", "u_plus"} <= profiles.keys() or len(profiles["y_plus"]) < 3:
        return None
    dns = results.reference_table("profiles")
    modelled = has_subgrid(profiles)
    figure, panels = sheet(3, 2, height=8.2) if modelled else sheet(2, 2, height=5.6)
    mean, rms, shear, balance = panels.flat[:4]
    _mean_velocity(mean, profiles, dns, results.citation("profiles") if dns else "")
    _fluctuations(rms, profiles, dns)
    _shear_stress(shear, profiles, dns)
    _stress_balance(balance, profiles, results.summary.get("re_tau"))
    if modelled:
        share, work = panels.flat[4:]
        plot_share(share, profiles)
        plot_work(work, profiles)
    return figure


def plot_budget(results: Results) -> Figure | None:
    """Return the budget of the turbulent kinetic energy in wall units (terms over u_tau^4 / nu), or None."""
    budget = results.table("budget")
    if budget is None or "y_plus" not in budget:
        return None
    dns = results.reference_table("k_budget")
    figure, ((axes,),) = sheet(1, 1, height=4.1, width=5.6)
    axes.axhline(0, color="black", linewidth=0.5)
    for name, parts, label, colour, marker in BUDGET:
        if name in budget:
            curve(axes, budget["y_plus"], budget[name], half_width(budget, name), color=colour, label=label)
        if dns and parts:
            points(axes, dns["y_plus"], np.sum([dns[part] for part in parts], axis=0), marker, every=SPACING)
    if dns:
        reference_key(axes, results.citation("k_budget"))
    axes.set(
        xscale="log",
        xlim=(1, 1.1 * budget["y_plus"].max()),
        xlabel="$y^+$",
        ylabel=r"gain and loss of $k$  [$u_\tau^4/\nu$]",
    )
    figure.legend(loc="outside upper center", ncols=4, columnspacing=1.2)
    return figure


def shear_stresses(profiles: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the viscous, resolved and subgrid parts of the mean shear stress, each over u_tau^2, positive.

    dU+/dy+ is the second-order difference on the stretched grid, with U = 0 at the wall as one more point;
    the resolved part is -uv+ and the subgrid part -tau_sgs (wall units; zero when the table has none).
    """
    y_plus, u_plus = profiles["y_plus"], profiles["u_plus"]
    if y_plus[0] > 0:
        gradient = np.gradient(np.r_[0, u_plus], np.r_[0, y_plus], edge_order=2)[1:]
    else:
        gradient = np.gradient(u_plus, y_plus, edge_order=2)
    return gradient, -profiles["uv_plus"], -profiles.get("tau_sgs", np.zeros_like(y_plus))


def _mean_velocity(axes: Axes, profiles: Table, dns: Table | None, citation: str) -> None:
    y_plus = profiles["y_plus"]
    sublayer, log_layer = np.geomspace(0.5, 11, 50), np.geomspace(8, y_plus[-1], 50)
    axes.plot(sublayer, sublayer, "--", color=GREY, linewidth=0.8)
    axes.plot(
        log_layer,
        np.log(log_layer) / KAPPA + INTERCEPT,
        "--",
        color=GREY,
        linewidth=0.8,
        label=rf"$U^+=y^+$;  $\ln(y^+)/{KAPPA}+{INTERCEPT}$",
    )
    curve(axes, y_plus, profiles["u_plus"], half_width(profiles, "u_plus"), color=BLUE, label="this run")
    if dns:
        points(axes, dns["y_plus"], dns["U_plus"], label=citation, every=SPACING)
    axes.set(
        xscale="log",
        xlim=(0.5, 1.15 * y_plus[-1]),
        ylim=(0, 1.2 * profiles["u_plus"].max()),
        xlabel="$y^+$",
        ylabel="$U^+$",
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left")


def _fluctuations(axes: Axes, profiles: Table, dns: Table | None) -> None:
    for name, colour, marker in COMPONENTS:
        column = f"{name}_rms_plus"
        if column in profiles:
            curve(
                axes,
                profiles["y_plus"],
                profiles[column],
                half_width(profiles, column),
                color=colour,
                label=rf"${name}_{{\mathrm{{rms}}}}^+$",
            )
        if dns:
            values = dns[column] if column in dns else np.sqrt(np.maximum(dns[f"{name}{name}_plus"], 0.0))  # round-off
            points(axes, dns["y_plus"], values, marker, every=SPACING)
    axes.set(
        xlim=(0, profiles["y_plus"][-1]),
        xlabel="$y^+$",
        ylabel=r"$u_{\mathrm{rms}}^+,\ v_{\mathrm{rms}}^+,\ w_{\mathrm{rms}}^+$",
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")


def _shear_stress(axes: Axes, profiles: Table, dns: Table | None) -> None:
    curve(axes, profiles["y_plus"], -profiles["uv_plus"], half_width(profiles, "uv_plus"), color=BLUE)
    if dns:
        points(axes, dns["y_plus"], -dns["uv_plus"], every=SPACING)
    axes.set(xlim=(0, profiles["y_plus"][-1]), xlabel="$y^+$", ylabel=r"$-\langle u'v'\rangle^+$")
    axes.set_ylim(bottom=0)


def _stress_balance(axes: Axes, profiles: Table, re_tau: float | None) -> None:
    viscous, resolved, subgrid = shear_stresses(profiles)
    y_plus = profiles["y_plus"]
    for stress, colour, label in (
        (viscous, VERMILLION, r"viscous  $\mathrm{d}U^+/\mathrm{d}y^+$"),
        (resolved, BLUE, r"resolved  $-\langle u'v'\rangle^+$"),
        (subgrid, GREEN, r"subgrid  $-\langle\tau_{12}\rangle^+$"),
        (viscous + resolved + subgrid, "black", "total"),
    ):
        curve(axes, y_plus, stress, color=colour, label=label)
    if re_tau:
        axes.plot([0, re_tau], [1, 0], "--", color=GREY, linewidth=0.9, label="$1-y/h$", zorder=3)
    axes.set(xlim=(0, re_tau or y_plus[-1]), ylim=(0, 1.1), xlabel="$y^+$", ylabel=r"shear stress  [$u_\tau^2$]")
    axes.legend(loc="upper right")

"""The figure of docs/splitting_the_stress.md, from the filtered direct simulation that judges the coarse case.

python scripts/splitting.py            writes docs/images/splitting_the_stress.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from solver.figures.style import BLUE, DPI, GREEN, ORANGE, PAPER, VERMILLION, WIDTH
from solver.files.hdf5 import open_hdf5

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "cases/channel180_coarse/reference/filtered_dns.h5"
FIGURE = ROOT / "docs/images/splitting_the_stress.png"
WIDTH_ACROSS = 4 * np.pi / 3 / 15  # of a retained mode along z


def half_channel(path: Path = REFERENCE) -> dict[str, np.ndarray]:
    """Mean over trajectories, batches and both halves, in wall units; ``slope`` is dU+/dy+."""
    with open_hdf5(path) as file:
        names = [name.decode() for name in file["dimensions/moment"][:]]
        raw = dict(zip(names, file["statistics/moments"][:].mean((0, 1)), strict=True))
        wall, y, nu = float(file["statistics/wall_stress"][:].mean()), file["dimensions/y"][:], float(file.attrs["nu"])
    n, u_tau = len(y) // 2, np.sqrt(wall)
    odd = {"tau_xy", "uv"}
    m = {name: 0.5 * (f[:n] + (-1 if name in odd else 1) * f[::-1][:n]) / wall for name, f in raw.items()}
    u, y_plus = m.pop("u") * u_tau, y[:n] * u_tau / nu
    slope = np.gradient(np.append(-u[0], u), np.append(-y_plus[0], y_plus))[1:]
    return m | {"y_plus": y_plus, "slope": slope, "across": np.array(WIDTH_ACROSS * u_tau / nu)}


def mixing_length_stress(
    m: dict[str, np.ndarray], a: float = 0.58, b: float = 0.217, power: float = 0.42
) -> np.ndarray:
    """``-tau_xy`` of the mean by the formula of `two_part`, in wall units."""
    van_driest = 0.41 * m["y_plus"] * (1 - np.exp(-m["y_plus"] / 26))
    near, far = a * (m["across"] / 50) ** power * van_driest, b * m["across"]
    return (near**-4 + far**-4) ** -0.5 * m["slope"] ** 2


def draw(path: Path) -> None:
    """Shares of the shear stress, anisotropy, and what one viscosity would have to be."""
    m = half_channel()
    shear, normal = -m["tau_xy"], np.stack([m["tau_xx"], m["tau_yy"], m["tau_zz"]])
    with plt.rc_context(PAPER):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 2.5), layout="constrained")
        left.plot(m["y_plus"], -m["uv"], color=BLUE, label="resolved")
        left.plot(m["y_plus"], shear, color=VERMILLION, label="subgrid")
        left.plot(m["y_plus"], mixing_length_stress(m), "--", color=VERMILLION, label="mixing length")
        left.plot(m["y_plus"], m["slope"], color="0.6", label="viscous")
        left.set_ylabel(r"shear stress / $\tau_w$")
        for share, colour, name in zip(normal / (0.5 * normal.sum(0)), (BLUE, VERMILLION, GREEN), "xyz", strict=True):
            middle.plot(m["y_plus"], share, color=colour, label=rf"$\tau_{{{name}{name}}}$")
        middle.axhline(2 / 3, color="0.6", lw=0.8, ls=":")
        middle.set_ylabel(r"normal stress / $k_{sgs}$")
        right.plot(m["y_plus"], shear / m["slope"], color=ORANGE)
        right.set_ylabel(r"$-\tau_{xy} / (\nu\, dU/dy)$")
        for axes in (left, middle, right):
            axes.set_xscale("log")
            axes.set_xlim(3, 182)
            axes.set_ylim(0)
            axes.set_xlabel(r"$y^+$")
        left.set_ylim(0, 1)
        left.legend()
        middle.legend()
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FIGURE)
    draw(parser.parse_args().out)

"""What the scales that a filter keeps exchange with those that it takes out, plane by plane between walls.

The subgrid stress works on the filtered flow: ``-tau_ij S_ij`` leaves it, of which ``-<tau_ij><S_ij>`` is taken from
the mean flow and the rest, ``-<tau_ij' S_ij'>``, from the fluctuations. Stored are the means of strain, of its squares
and of its products with the stress, component by component: they are linear in time, so both parts, and what viscosity
dissipates (``2 nu <S_ij S_ij>``), follow from any average of them (`split_work`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from closures.data.commutator import PAIRS
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Velocity
from solver.observers.spectra import plane_spectra

COMPONENTS = tuple("xyz"[i] + "xyz"[j] for i, j in PAIRS)  # xx yy zz xy xz yz
EXCHANGE = (
    *(f"s_{c}" for c in COMPONENTS),
    *(f"s_{c}_s_{c}" for c in COMPONENTS),
    *(f"tau_{c}_s_{c}" for c in COMPONENTS),
)
SPECTRA = ("E_uu", "E_vv", "E_ww", "E_uv", "work")  # the last one is -tau_ij' S_ij'
ODD_IN_HEIGHT = np.array([-1.0 if name == "E_uv" else 1.0 for name in SPECTRA])  # sign as seen from the other wall
TWICE = np.array([1.0 if i == j else 2.0 for i, j in PAIRS])  # off-diagonal components count twice in tau_ij S_ij


def strain_rate(filtered: Velocity) -> list[Tensor]:
    """Six coefficient fields ``S_ij = (d_j u_i + d_i u_j) / 2`` at cell centres, in the order of `PAIRS`, 1/time."""
    g = filtered.gradient
    return [filtered.operators.to_coefficients(0.5 * (g[i][j] + g[j][i])) for i, j in PAIRS]


def exchange(filtered: Velocity, centred: list[Tensor], tau: list[Tensor]) -> dict[str, np.ndarray]:
    """Rows of a file: `EXCHANGE` of each plane, and `SPECTRA` over kx and kz, one-sided, in single precision.

    Parameters
    ----------
    filtered : velocity on the coarse grid of a channel.
    centred : its coefficients at cell centres.
    tau : coefficients of the subgrid stress, in the order of `PAIRS`.
    """
    op, s = filtered.operators, strain_rate(filtered)
    products = [_plane_product(op, f, f) for f in s] + [_plane_product(op, t, f) for t, f in zip(tau, s, strict=True)]
    means = torch.stack([_plane_mean(f) for f in s] + products)
    u, v, w = centred
    along_x, along_z = zip(*(plane_spectra(op, a, b) for a, b in ((u, u), (v, v), (w, w), (u, v))), strict=True)
    work = [plane_spectra(op, -float(n) * t, f) for n, t, f in zip(TWICE, tau, s, strict=True)]
    of_x = torch.stack([*along_x, torch.stack([x for x, _ in work]).sum(0)])
    of_z = torch.stack([*along_z, torch.stack([z for _, z in work]).sum(0)])
    return {
        "statistics/exchange": means.cpu().double().numpy(),
        "statistics/spectra_x": of_x.cpu().float().numpy(),
        "statistics/spectra_z": of_z.cpu().float().numpy(),
    }


def split_work(moments: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the subgrid stress takes from the mean flow and from the fluctuations, velocity^2 / time, each like a row.

    Parameters
    ----------
    moments : means of `EXCHANGE` and of ``tau_xx`` .. ``tau_yz`` by name, over whatever time.
    """
    mean = -sum(n * moments[f"tau_{c}"] * moments[f"s_{c}"] for n, c in zip(TWICE, COMPONENTS, strict=True))
    whole = -sum(n * moments[f"tau_{c}_s_{c}"] for n, c in zip(TWICE, COMPONENTS, strict=True))
    return np.asarray(mean), np.asarray(whole - mean)


def _plane_mean(f: Tensor) -> Tensor:
    return f[0, 0, :, 0]


def _plane_product(op: Operators, a: Tensor, b: Tensor) -> Tensor:
    """Mean of ``a b`` over each plane: that of the fluctuations, and of the means."""
    return plane_spectra(op, a, b)[0].sum(0) + _plane_mean(a) * _plane_mean(b)

"""Gaussian random fields on the unit box, periodic, sampled at cell centres: one function at any resolution.

Covariance ``sigma^2 (-lap + tau^2)^-alpha`` with ``sigma = tau^(alpha - d/2)``: the convention of Li et al. (2021),
"Fourier neural operator", arXiv 2010.08895, which Wang et al. (2024), arXiv 2401.09516, keep.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft


def gaussian_field(rng: np.random.Generator, shape: tuple[int, ...], alpha: float, tau: float) -> np.ndarray:
    """One realisation ``(*shape)`` with zero mean over the box.

    ``f(x) = sum_k sqrt(2) sigma (4 pi^2 |k|^2 + tau^2)^(-alpha/2) Re(c_k exp(2 pi i k.x))``, ``c_k`` complex
    normal with ``E |c_k|^2 = 1``, over ``k != 0``, ``|k_i| < n_i / 2``. The coefficients are drawn shell by shell, so
    a finer grid of the same proportions adds modes to the same function.

    Parameters
    ----------
    rng : source of the coefficients; it alone decides the field.
    shape : cells along each axis; values sit at ``(i + 1/2) / n``.
    alpha : smoothness; the field has about ``alpha - d/2`` derivatives.
    tau : inverse correlation length.
    """
    order, amplitude = _modes(shape, alpha, tau)
    noise = rng.standard_normal((order.size, 2)).view(np.complex128)[:, 0]
    coefficients = np.zeros(amplitude.shape, np.complex128)
    coefficients.ravel()[order] = noise
    coefficients *= amplitude
    field: np.ndarray = scipy.fft.irfftn(coefficients, s=shape, norm="forward", overwrite_x=True)
    return field


@cache
def _modes(shape: tuple[int, ...], alpha: float, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions of the kept modes, innermost shell first, and their amplitudes with the half-cell phase."""
    lines = [np.fft.fftfreq(n, 1 / n) for n in shape[:-1]] + [np.arange(shape[-1] // 2 + 1.0)]
    k = np.meshgrid(*lines, indexing="ij", sparse=True)
    shell = np.zeros(tuple(line.size for line in lines))
    for component in k:
        shell = np.maximum(shell, np.abs(component))
    inside = shell > 0
    for component, n in zip(k, shape, strict=True):
        inside = inside & (2 * np.abs(component) < n)
    keys = [np.broadcast_to(component, shell.shape)[inside] for component in reversed(k)]
    kept = np.flatnonzero(inside)[np.lexsort((*keys, shell[inside]))]
    square = np.zeros(shell.shape)
    turn = np.zeros(shell.shape)
    for component, n in zip(k, shape, strict=True):
        square = square + component**2
        turn = turn + component / n
    sigma = tau ** (alpha - len(shape) / 2)
    size = sigma * (4 * np.pi**2 * square + tau**2) ** (-alpha / 2)
    # irfftn adds the mirror image of every mode but those of the plane k = 0, which holds both k and -k itself
    size[..., 0] *= np.sqrt(2)
    return kept, size * np.exp(1j * np.pi * turn) / np.sqrt(2)

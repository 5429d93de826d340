"""Ensemble Kalman inversion: fitting what a long run answers, without a gradient of it.

Iglesias, Law & Stuart 2013 (Inverse Problems 29, 045001); the deterministic update is the ensemble transform filter of
Bishop, Etherton & Majumdar 2001 (Mon. Wea. Rev. 129, 420), the length of a step that of Iglesias & Yang 2021 (Inverse
Problems 37, 025008). The statistics of turbulence are noisy functions of a closure's weights, and their gradient grows
without bound along a trajectory; an ensemble needs neither the gradient nor exact values.
"""

from __future__ import annotations

import numpy as np

from solver.grid.axis import Array


def update(parameters: Array, outputs: Array, target: Array, tolerance: Array, step: float) -> Array:
    """The ensemble after a step of pseudo-time.

    It is exact where outputs are linear in the parameters: after a total time of one, mean and covariance are those of
    the Gaussian posterior whose prior has the mean and covariance of the first ensemble.

    Parameters
    ----------
    parameters : (members, p).
    outputs : (members, m), what each member answers.
    target, tolerance : (m,), what it should be, and the standard deviation it may be off by.
    step : of pseudo-time.

    Returns
    -------
    Array : (members, p), the parameters after it.
    """
    root = np.sqrt(len(parameters) - 1)
    mean, centre = parameters.mean(0), outputs.mean(0)
    anomalies = (parameters - mean) / root
    noise = tolerance / np.sqrt(step)
    spread = (outputs - centre) / (root * noise)
    values, vectors = np.linalg.eigh(spread @ spread.T)
    values = 1.0 + np.maximum(values, 0.0)
    gain = vectors @ ((vectors.T @ (spread @ ((target - centre) / noise))) / values)
    shrunk = (vectors / np.sqrt(values)) @ vectors.T @ anomalies
    moved: Array = mean + gain @ anomalies + root * shrunk
    return moved


def misfits(outputs: Array, target: Array, tolerance: Array) -> Array:
    """Half the squared deviation of each member in units of the tolerance, (members,)."""
    halves: Array = 0.5 * (((outputs - target) / tolerance) ** 2).sum(1)
    return halves


def longest_step(found: Array, count: int, left: float) -> float:
    """As far as the outputs can be trusted to be linear, and no farther than `left`.

    The data misfit controller: over a step the likelihood tells as much as `count` observations that are just met.

    Parameters
    ----------
    found : `misfits` of the members.
    count : of independent observations.
    """
    with np.errstate(divide="ignore"):
        return float(min(max(count / (2 * found.mean()), np.sqrt(count / (2 * found.var()))), left))

"""Matrices that take a column of values from fine cells between walls to coarse ones.

Faces of the two may lie anywhere: within a fine cell u and w are constant and v is linear, as its divergence says.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from solver.grid.axis import Array, FiniteVolumeAxis

Vertical = Literal["face", "volume", "sample"]  # see `closures.data.filters`


def centre_matrix(fine: FiniteVolumeAxis, coarse: FiniteVolumeAxis, vertical: Vertical) -> Array:
    """From values at the fine centres to values at the coarse ones, (coarse n, fine n).

    Examples
    --------
    >>> from solver.grid.axis import NoSlip, stretched_faces
    >>> fine, coarse = (FiniteVolumeAxis(stretched_faces(n, 0.0, 2.0, 0.0), NoSlip(), NoSlip()) for n in (4, 2))
    >>> centre_matrix(fine, coarse, "volume")
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]])
    """
    if vertical == "sample":
        return _interpolation(fine.centres, coarse.centres)
    upper = np.minimum(fine.faces[None, 1:], coarse.faces[1:, None])
    lower = np.maximum(fine.faces[None, :-1], coarse.faces[:-1, None])
    shared = np.maximum(upper - lower, 0.0)
    shared[shared < 1e-12 * fine.length] = 0.0  # faces that coincide but for round-off
    weights: Array = shared / shared.sum(axis=1, keepdims=True)
    return weights


def face_matrix(fine: FiniteVolumeAxis, coarse: FiniteVolumeAxis, vertical: Vertical) -> Array:
    """From values at the fine upper faces to values at the coarse upper faces, zero on the lower wall."""
    if vertical != "volume":
        return _interpolation(fine.faces, coarse.faces[1:])[:, 1:]
    ends = _integral(fine.faces, coarse.centres)
    matrix = np.zeros((coarse.n, fine.n))  # the last row is the wall
    matrix[:-1] = (np.diff(ends, axis=0) / np.diff(coarse.centres)[:, None])[:, 1:]
    return matrix


def _interpolation(source: Array, target: Array) -> Array:
    """Linear interpolation; an identity where the points coincide."""
    place = np.clip(np.searchsorted(source, target) - 1, 0, len(source) - 2)
    share = (target - source[place]) / np.diff(source)[place]
    near = np.abs(share - np.rint(share)) < 1e-9
    share = np.where(near, np.rint(share), share)
    matrix = np.zeros((len(target), len(source)))
    rows = np.arange(len(target))
    matrix[rows, place] = 1.0 - share
    matrix[rows, place + 1] += share
    return matrix


def _integral(points: Array, ends: Array) -> Array:
    """Weights of the integral from the first point to each of the `ends` of a function linear between `points`."""
    gaps = np.diff(points)
    share = np.clip((ends[:, None] - points[None, :-1]) / gaps, 0.0, 1.0)
    weights = np.zeros((len(ends), len(points)))
    weights[:, :-1] += gaps * (share - 0.5 * share**2)
    weights[:, 1:] += gaps * 0.5 * share**2
    return weights

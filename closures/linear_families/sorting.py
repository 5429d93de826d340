"""The order in which a sequence of systems is solved: neighbours should be alike.

Wang et al. (2024), arXiv 2401.09516, Algorithm 1 and appendix E.2.2. Their algorithm starts its search from a fixed
distance, so that among samples further apart it would repeat a stale choice; here the search has no such bound.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import scipy.fft

Sorting = Literal["none", "greedy", "grouped", "fft"]
SORTINGS = get_args(Sorting)
GROUP = 1000
MODES = 12


def likeness_vectors(samples: list[np.ndarray], sorting: Sorting) -> np.ndarray:
    """The vectors whose distances are compared, ``(samples, length)``.

    For "fft" the low modes of every field, `MODES` along each axis, scaled so that distances are those of the fields
    without their fine structure; for the others the fields as they are.
    """
    if sorting == "fft" and samples[0].ndim > 1:
        return np.stack([low_modes(field) for field in samples])
    return np.stack([field.ravel() for field in samples])


def low_modes(field: np.ndarray) -> np.ndarray:
    """Cosine coefficients with index below `MODES` along every axis, orthonormal."""
    modes = scipy.fft.dctn(field, norm="ortho")
    low: np.ndarray = modes[tuple(slice(min(MODES, n)) for n in field.shape)].ravel()
    return low


def path(vectors: np.ndarray, sorting: Sorting) -> np.ndarray:
    """A permutation of the samples, beginning with the first.

    greedy : always the nearest that is left.
    grouped : the samples cut into groups of at most `GROUP` along their first principal directions, greedy inside.
    fft : greedy, on `likeness_vectors` that are short; beyond `GROUP` samples also grouped.
    none : as drawn.
    """
    samples = len(vectors)
    if sorting == "none" or samples < 3:
        return np.arange(samples)
    if sorting == "greedy" or (sorting == "fft" and samples <= GROUP):
        return greedy(vectors, np.arange(samples), 0)
    order: list[int] = []
    groups = _groups(vectors, np.arange(samples))
    for group in sorted(groups, key=lambda g: 0 not in g):  # the group of the first sample comes first, others as cut
        start = int(group[np.argmin(_square_distances(vectors[group], vectors[order[-1]]))]) if order else 0
        order.extend(greedy(vectors, group, start))
    return np.array(order)


def greedy(vectors: np.ndarray, members: np.ndarray, start: int) -> np.ndarray:
    """Nearest neighbours from `start` through `members`, ``O(len(members)^2)`` after one matrix product."""
    x = vectors[members] - vectors[members].mean(axis=0)
    gram = x @ x.T
    squares = np.diag(gram)
    free = np.ones(len(members), bool)
    at = int(np.flatnonzero(members == start)[0])
    order = [at]
    for _ in range(len(members) - 1):
        free[at] = False
        distance = np.where(free, squares - 2 * gram[at], np.inf)
        at = int(np.argmin(distance))
        order.append(at)
    return members[order]


def _groups(vectors: np.ndarray, members: np.ndarray) -> list[np.ndarray]:
    """Halve at the median along the widest direction until groups are small enough; neighbours stay neighbours."""
    if len(members) <= GROUP:
        return [members]
    x = vectors[members] - vectors[members].mean(axis=0)
    direction = x[np.argmax(np.linalg.norm(x, axis=1))]
    for _ in range(10):  # power iteration: a direction of large variance is all that is needed
        direction = x.T @ (x @ direction)
        direction /= np.linalg.norm(direction)
    ranked = members[np.argsort(x @ direction, kind="stable")]
    half = len(ranked) // 2
    return [*_groups(vectors, np.sort(ranked[:half])), *_groups(vectors, np.sort(ranked[half:]))]


def _square_distances(vectors: np.ndarray, point: np.ndarray) -> np.ndarray:
    squares: np.ndarray = ((vectors - point) ** 2).sum(axis=1)
    return squares

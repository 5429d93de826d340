"""Systems for the tests of `closures.linear_families.sequences`: small, and the published Darcy family."""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve

from closures.linear_families.darcy import Darcy
from closures.linear_families.generate import parameters_of
from closures.linear_families.helmholtz import Helmholtz
from closures.linear_families.sequences.system import System
from closures.linear_families.sorting import likeness_vectors, path

SEED = 314_159
needs_petsc = pytest.mark.skipif(importlib.util.find_spec("petsc4py") is None, reason="petsc4py is not installed")


def exact(system: System) -> np.ndarray:
    """The solution by a direct solver."""
    return spsolve(system.matrix.tocsc(), system.rhs)


def relative_error(x: np.ndarray, system: System) -> float:
    """Against the direct solver."""
    truth = exact(system)
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth))


def convection(n: int = 24, speed: float = 40.0) -> System:
    """A nonsymmetric matrix: diffusion and central convection along x on an n x n grid."""
    rng = np.random.default_rng(SEED)
    a = Darcy((n, n)).system({"permeability": np.ones((n, n))}).matrix.tolil()
    drift = 0.5 * speed * n
    for row in range(n * n):
        if row >= n:
            a[row, row - n] -= drift
        if row + n < n * n:
            a[row, row + n] += drift
    return System(csr_array(a.tocsr()), rng.standard_normal(n * n))


@cache
def darcy_sequence(n: int = 100, pool: int = 60) -> tuple[System, ...]:
    """Darcy systems sorted greedily out of `pool` samples."""
    family = Darcy((n, n))
    drawn = [parameters_of(family, SEED, i) for i in range(pool)]
    order = path(likeness_vectors([family.likeness(p) for p in drawn], "greedy"), "greedy")
    return tuple(family.system(drawn[i]) for i in order)


def sweep(n: int = 40, count: int = 6) -> list[System]:
    """Indefinite Helmholtz systems of one medium and slowly growing wave number."""
    family = Helmholtz((n, n), (20.0, 21.0), "wave_number", media=1)
    medium = family.draw(np.random.default_rng(SEED))["wave_number"]
    medium = medium / medium.mean()
    return [
        family.system({"stiffness": np.array(1.0), "wave_number": k * medium}) for k in np.linspace(20, 20.5, count)
    ]


def inclusions(n: int = 40, count: int = 8) -> list[System]:
    """Darcy systems with nine blocks that conduct 10^4 times better, at the same places in all."""
    family, systems = Darcy((n, n)), []
    inside = np.zeros((n, n), bool)
    for i in range(3):
        for j in range(3):
            inside[n // 8 + i * n // 3 :, n // 8 + j * n // 3 :][:3, :3] = True
    for i in range(count):
        k = parameters_of(family, SEED, i)["permeability"]
        systems.append(family.system({"permeability": np.where(inside, 1e4 * k, k)}))
    return systems

"""Spherical wavenumber shells of a box: one definition for spectra, initial fields and forcing.

Shell s holds the modes with ``s - 1/2 <= |k| / width < s + 1/2``; the width is the smallest wavenumber of the box, that
of its longest side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.grid.axis import Array
from solver.grid.grid import Grid


def shell_width(grid: Grid) -> float:
    """Wavenumbers from one shell to the next."""
    return 2 * np.pi / max(axis.length for axis in grid.axes)


def shell_wavenumbers(grid: Grid) -> Array:
    """The wavenumber in the middle of each shell, 0 first, up to the shell of the highest mode."""
    corner = np.sqrt(sum(np.abs(k).max() ** 2 for k in grid.wavenumbers.values()))
    width = shell_width(grid)
    return np.asarray(width * np.arange(int(corner / width + 0.5) + 1))


def shell_numbers(operators: Operators) -> Tensor:
    """The shell of every mode of this rank."""
    return (operators.squared_wavenumber.sqrt() / shell_width(operators.grid) + 0.5).floor().long()


def shell_energies(operators: Operators, velocity: Components) -> Array:
    """Kinetic energy in each shell, over all ranks."""
    shell = shell_numbers(operators)
    density = 0.5 * sum(((c**2).sum(0) for c in velocity), start=operators.tensor(0.0)) * operators.mode_weight
    count = int(operators.decomposition.max(shell.max().double())) + 1
    energies = torch.zeros(count, dtype=operators.dtype, device=operators.device)
    energies.index_add_(0, shell.reshape(-1), density.expand(shell.shape).reshape(-1))
    return operators.decomposition.sum(energies).cpu().double().numpy()

"""From what ``[pressure] artefact`` names to a method on one pressure problem."""

from __future__ import annotations

import difflib
import math
from pathlib import Path

import numpy as np
from torch import Tensor

from closures.operators import artefact, shipped
from closures.operators.artefact import CARD, ArtefactError
from closures.pressure_nets.directions import ConjugateDirections, Direction, NetworkDirection
from closures.pressure_nets.learned_multigrid_file import SMOOTHING, read_smoothing
from solver.errors import CaseError
from solver.pressure.learned import Learned
from solver.pressure.multigrid import CUBES, Multigrid, MultigridPressure, choose_degree
from solver.pressure.poisson import Poisson

CUBIC = 1e-6  # how far the sides of a cell may differ for a network that knows cubes only


class Homogeneous:
    """A direction of unit residuals as a preconditioner of any: ``z = |r| N(r / |r|)``, so ``z(a r) = a z(r)``.

    Collective: the norm, and a network, which gathers the residual and evaluates the whole box on every rank.
    """

    def __init__(self, poisson: Poisson, direction: Direction) -> None:
        self.layout, self.direction = poisson.layout, direction

    def __call__(self, residual: Tensor) -> Tensor:
        """Flat error of a flat residual; zero of zero, and not a number of what is none."""
        norm = self.layout.norm(residual)
        if norm == 0.0 or not math.isfinite(norm):
            return residual * norm
        return self.direction(residual / norm) * norm


def folders() -> dict[str, Path]:
    """What is shipped for the pressure, by name."""
    cards, tables = (sorted(shipped.PRETRAINED.glob(f"*/{file}")) for file in (CARD, SMOOTHING))
    return {file.parent.name: file.parent for file in (*filter(_is_ours, cards), *tables)}


def _is_ours(card: Path) -> bool:
    """Of this role; a damaged one is refused when it is used, not when it is looked at."""
    try:
        return artefact.read_card(card).role == "preconditioner"
    except ArtefactError:
        return False


def assemble(name: str, beside: Path, poisson: Poisson) -> Learned:
    """The artefact called `name`, shipped or a folder relative to `beside`, on a problem.

    A network sees cells of one size in every direction, as in training. The learned smoother of multigrid does not care
    about cells that are nearly cubes.

    Raises
    ------
    CaseError : there is no such artefact, it has another role, or the grid is not one it can act on.
    ArtefactError : it is damaged.
    """
    folder = _folder(name, beside)
    if (folder / SMOOTHING).is_file():
        return _multigrid(name, folder, poisson)
    found = artefact.load(folder)
    if found.card.role != "preconditioner":
        raise CaseError(
            f"[pressure] artefact = '{name}': {folder} holds a {found.card.role.replace('_', ' ')} "
            f"('{found.card.architecture}'), not a preconditioner: use one that 'solver train npsdo_32' makes"
        )
    if found.card.arguments.get("dimensions", 3) != 3:
        raise CaseError(f"[pressure] artefact = '{name}': a network of plane flows, which have no use for it here")
    _check_cubes(name, poisson)
    direction = NetworkDirection(poisson, found.network)
    return Learned(
        name, Homogeneous(poisson, direction), lambda tolerance: ConjugateDirections(poisson, direction, tolerance)
    )


def _multigrid(name: str, folder: Path, poisson: Poisson) -> Learned:
    if choose_degree(poisson.grid.axes) != CUBES:
        raise CaseError(
            f"[pressure] artefact = '{name}': learned on cubes, but cells here are stretched, which asks for another "
            "smoother: use solver = 'multigrid', or a coarser stretching of [grid]"
        )
    cycle = Multigrid(poisson, smoothing=read_smoothing(folder))
    return Learned(name, cycle, lambda tolerance: MultigridPressure(poisson, tolerance, preconditioner=cycle))


def _folder(name: str, beside: Path) -> Path:
    known = folders()
    folder = known.get(name, beside / name)
    if (folder / CARD).is_file() or (folder / SMOOTHING).is_file():
        return folder
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean '{near[0]}'?" if near else f"shipped are {', '.join(known) or 'none'}"
    raise CaseError(f"[pressure] artefact = '{name}': no such folder with {CARD} beside the case; {remedy}")


def _check_cubes(name: str, poisson: Poisson) -> None:
    widths = [np.asarray(axis.width) for axis in poisson.grid.axes if axis.points > 1]
    least, greatest = min(w.min() for w in widths), max(w.max() for w in widths)
    if greatest > (1 + CUBIC) * least:
        raise CaseError(
            f"[pressure] artefact = '{name}': a network knows cubes only, but cells here have sides from {least:.4g} "
            f"to {greatest:.4g}: make them equal in [grid], or use solver = 'multigrid'"
        )

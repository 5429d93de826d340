"""The learned numbers of a V-cycle on disk: one readable file, ``smoothing.toml``, with where they come from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from closures.operators.artefact import ArtefactError
from solver.case.explain import explain
from solver.case.table import Table
from solver.errors import CaseError
from solver.files.folder import to_toml, write_text
from solver.pressure.smoothing import Smoothing

SMOOTHING = "smoothing.toml"
DIGITS = 5
Row = Annotated[tuple[float, ...], Field(strict=False)]
Rows = Annotated[tuple[Row, ...], Field(strict=False)]


class SmoothingCard(Table):
    """``smoothing.toml``: the numbers of each level from the finest on, and what they were learned from.

    `metrics` are logarithms of what one iteration leaves of the residual, on geometries that were not trained on:
    ``untuned`` of the Chebyshev cycle of the same degree, ``learned`` of these numbers.
    """

    title: str
    weights: Rows
    momenta: Rows
    coarse: Row
    damping: Rows = ()
    trained_on: str
    commit: str | None = None
    licence: str
    metrics: dict[str, float]

    def smoothing(self) -> tuple[Smoothing, ...]:
        """Raises CaseError or ValueError if the rows do not make levels."""
        damping = self.damping or (None,) * len(self.coarse)
        rows = zip(self.weights, self.momenta, self.coarse, damping, strict=True)
        return tuple(Smoothing(*row) for row in rows)


def write_smoothing(folder: Path, smoothing: tuple[Smoothing, ...], **about: object) -> SmoothingCard:
    """Write the numbers, rounded to `DIGITS` decimals, and the facts about them."""

    def rounded(row: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(round(v, DIGITS) for v in row)

    columns: dict[str, object] = {
        "weights": tuple(rounded(s.weights) for s in smoothing),
        "momenta": tuple(rounded(s.momenta) for s in smoothing),
        "coarse": rounded(tuple(s.coarse for s in smoothing)),
        "damping": tuple(rounded(s.damping) for s in smoothing if s.damping),
    }
    card = SmoothingCard.model_validate({**columns, **about})
    card.smoothing()  # rounding must not have broken it
    write_text(folder / SMOOTHING, to_toml(card.model_dump(exclude_defaults=True)))
    return card


def read_smoothing(folder: Path) -> tuple[Smoothing, ...]:
    """The numbers of each level from the finest on.

    Raises
    ------
    ArtefactError : the file cannot be read, or its numbers do not make a positive definite cycle.
    """
    file = folder / SMOOTHING
    data: dict[str, object] = {}
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        return SmoothingCard.model_validate(data).smoothing()
    except ValidationError as error:
        raise ArtefactError(f"{file}: {explain(error, SmoothingCard, data)}") from None
    except (OSError, ValueError, CaseError) as error:
        raise ArtefactError(f"{file}: cannot be used ({error})") from None

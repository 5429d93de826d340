"""The recipe of a network for the pressure equation: which matrices it learns from, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from closures.training.tables import CardTable, LoopTable, OperatorTable, OptimiserTable
from solver.case.table import Table, refuse_idle


class MatricesTable(Table):
    """``[matrices]``: closed cubes of `cells`^3, the first one empty, the others with random bodies.

    A sample is a group of residuals of one geometry.

    Parameters
    ----------
    cells : along each side.
    geometries : that are trained on.
    source : residuals are combinations of Ritz vectors (see `ritz`), or white noise, which goes with several
        `directions`.
    start : of the weights; ``classical``: see `starts`.
    directions : of a search, see `LineSearch`.
    vectors : Ritz vectors that are combined.
    amplified : lower share of them that is enlarged.
    group : residuals of a sample.
    samples : of an epoch.
    validation : samples that judge it, of geometries that are not trained on.
    seed : of the geometries and residuals.
    """

    cells: int = Field(default=32, ge=8, le=256)
    geometries: int = Field(default=8, ge=1, le=1000)
    source: Literal["ritz", "noise"] = "ritz"
    start: Literal["random", "classical"] = "random"
    directions: int = Field(default=1, ge=1, le=50)
    vectors: int = Field(default=300, ge=10, le=10_000)
    amplified: float = Field(default=0.55, ge=0, le=1)
    group: int = Field(default=16, ge=1)
    samples: int = Field(ge=1)
    validation: int = Field(default=8, ge=1)
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> MatricesTable:
        refuse_idle(self, dict.fromkeys(("vectors", "amplified"), "source = 'noise'") if self.source == "noise" else {})
        return self


class MatrixRecipe(Table):
    """How one network is trained on matrices.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    matrices: MatricesTable
    operator: OperatorTable
    optimiser: OptimiserTable = OptimiserTable()
    loop: LoopTable
    card: CardTable

"""A recipe for a family of linear problems (TOML): checked once, at the door, like a case.

Errors are one line with key, file and remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from closures.data import recipe_file
from closures.linear_families.darcy import Darcy
from closures.linear_families.family import Family
from closures.linear_families.helmholtz import Helmholtz
from closures.linear_families.poisson import Poisson
from closures.linear_families.sequences.methods import RECYCLING, method
from closures.linear_families.sorting import Sorting
from closures.linear_families.thermal import Thermal
from solver.case.explain import explain
from solver.case.table import Table, refuse_idle
from solver.errors import CaseError

AUTO = "auto"
Cells = Annotated[int, Field(ge=4, le=4096)]
Shape = Annotated[tuple[Cells, ...], Field(min_length=2, max_length=3, strict=False)]


class DarcyTable(Table):
    """``-div(K grad p) = 1``, K the exponential of a random field.

    Parameters
    ----------
    shape : cells in each direction, two or three numbers.
    alpha : smoothness of the field, see `closures.linear_families.random_fields`.
    tau : its inverse correlation length.
    """

    kind: Literal["darcy"]
    shape: Shape
    alpha: float = Field(default=2.5, gt=1.5, le=10)
    tau: float = Field(default=7.0, gt=0, le=100)

    def build(self) -> Family:
        """The family it describes."""
        return Darcy(self.shape, self.alpha, self.tau)


class PoissonTable(Table):
    """``-lap u = f``, f and the values on the sides random Chebyshev sums.

    Parameters
    ----------
    shape : cells in each direction, two or three numbers.
    """

    kind: Literal["poisson"]
    shape: Shape

    def build(self) -> Family:
        """The family it describes."""
        return Poisson(self.shape)


class HelmholtzTable(Table):
    """``-div(K grad u) - k^2 u = 1``, K or k a random field.

    Parameters
    ----------
    shape : cells in each direction, two or three numbers.
    wave_number : the range of k, or of its scale.
    medium : which of them is the exponential of a random field.
    contrast : factor of the field in that exponent.
    media : how many different fields there are; 0 is one for every sample.
    alpha : smoothness of the field, see `closures.linear_families.random_fields`.
    tau : its inverse correlation length.
    """

    kind: Literal["helmholtz"]
    shape: Shape
    wave_number: tuple[float, float] = Field(default=(0.0, 1.0), strict=False)
    medium: Literal["coefficient", "wave_number"] = "coefficient"
    contrast: float = Field(default=1.0, ge=0, le=5)
    media: int = Field(default=0, ge=0)
    alpha: float = Field(default=2.5, gt=1.5, le=10)
    tau: float = Field(default=7.0, gt=0, le=100)

    @field_validator("wave_number")
    @classmethod
    def _a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("should be two numbers, the lower one first, not negative")
        return value

    def build(self) -> Family:
        """The family it describes."""
        options = (self.wave_number, self.medium, self.contrast, self.alpha, self.tau, self.media)
        return Helmholtz(self.shape, *options)


class ThermalTable(Table):
    """Heat in a block with a slot.

    Parameters
    ----------
    shape : cells in each direction, two or three numbers.
    right : what is prescribed on the right.
    """

    kind: Literal["thermal"]
    shape: Shape
    right: Literal["temperature", "flux"] = "temperature"

    def build(self) -> Family:
        """The family it describes."""
        return Thermal(self.shape, self.right)


FamilyTable = Annotated[DarcyTable | PoissonTable | HelmholtzTable | ThermalTable, Field(discriminator="kind")]


class SolveTable(Table):
    """``[solve]``: how the systems are solved, and how well.

    Parameters
    ----------
    method : as `solver bench linear` has them, for example ``skr+icc``; auto is the best known for the family.
    tolerance : residual relative to the source.
    subspace, recycle : of GCRO-DR: its dimension, and how much of it goes on to the next system.
    """

    method: str = AUTO
    tolerance: float = Field(default=1e-8, gt=0, lt=1)
    subspace: int = Field(default=40, ge=2, le=1000)
    recycle: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _part_of_the_subspace(self) -> SolveTable:
        if self.recycle >= self.subspace:
            raise ValueError(f"'recycle' = {self.recycle} should be less than 'subspace' = {self.subspace}")
        return self

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != AUTO:
            try:
                method(value)
            except CaseError as error:
                raise ValueError(str(error)) from None
        return value


class FarmTable(Table):
    """``[farm]``: samples are solved in batches; what is recycled lives as long as its batch.

    Parameters
    ----------
    batch : samples of a batch.
    sorting : order in which they are solved, see `closures.linear_families.sorting`.
    """

    batch: int = Field(default=50, ge=1)
    sorting: Sorting = "greedy"


class Recipe(Table):
    """A data set, whole and valid.

    Parameters
    ----------
    title : one line, for people.
    seed : of all that is random.
    samples : how many systems are solved.
    family : the equation and what is random in it; its `kind` says which.
    """

    title: str
    seed: int = Field(ge=0)
    samples: int = Field(ge=1)
    family: FamilyTable
    solve: SolveTable = SolveTable()
    farm: FarmTable = FarmTable()


def load_recipe(
    path: Path, samples: int | None = None, method_name: str | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """Read `path`, or the shipped recipe of that name; `samples` and `method_name` override it, as `overrides` do.

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value; one line.
    """
    data, source = recipe_file.read(path, overrides)
    if samples is not None:
        data["samples"] = samples
    if method_name is None:
        recipe = parse_recipe(data, source)
        _refuse_idle(recipe, source)
        return recipe
    solve = data.setdefault("solve", {})
    if isinstance(solve, dict):
        solve["method"] = method_name
    return parse_recipe(data, source)


def _refuse_idle(recipe: Recipe, source: str) -> None:
    """Raises CaseError for keys that the recipe's own method has no use for; another may be tried by ``--method``."""
    name = recipe.family.build().default_method if recipe.solve.method == AUTO else recipe.solve.method
    chosen, why = method(name), f"[solve] method = '{name}'"
    keeps = {"recycle": chosen.krylov in RECYCLING, "subspace": chosen.guess or chosen.krylov in {*RECYCLING} - {"rcg"}}
    try:
        refuse_idle(recipe.solve, {key: why for key, used in keeps.items() if not used})
        refuse_idle(recipe.farm, {} if chosen.sorts else {"sorting": why})
    except ValueError as error:
        raise CaseError(f"{source}: {error}") from None


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Validate a mapping; `source` is named in errors.

    Raises
    ------
    CaseError : unknown key, wrong type or value; one line.
    """
    try:
        recipe = Recipe.model_validate(data)
        recipe.family.build()
    except ValidationError as error:
        raise CaseError(f"{source}: {explain(error, Recipe, data)}") from None
    except CaseError as error:
        raise CaseError(f"{source}: {error}") from None
    return recipe

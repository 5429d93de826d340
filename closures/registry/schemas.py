"""The kinds of TOML files there are, the tables that check each, and the names that editors may offer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pydantic import BaseModel

from solver.case.schema import Known, schema

KINDS: dict[str, tuple[str, ...]] = {
    "case": ("solver.case.case:Case",),
    "data": (
        "closures.data.recipe:FlowRecipe",
        "closures.data.grids:GridsRecipe",
        "closures.linear_families.recipe:Recipe",
    ),
    "training": (
        "closures.training.recipe:Recipe",
        "closures.training.through_solver:SolverRecipe",
        "closures.training.ensemble_recipe:EnsembleRecipe",
        "closures.training.a_priori_recipe:APrioriRecipe",
        "closures.training.pressure_recipe:MatrixRecipe",
        "closures.training.learned_multigrid:MultigridRecipe",
        "closures.training.wall_recipe:WallRecipe",
        "closures.training.familiar_flows:FamiliarityRecipe",
    ),
}


def models(kind: str) -> list[type[BaseModel]]:
    """The tables at the top of a file of a kind; of several, one has to fit."""
    pairs = (place.split(":") for place in KINDS[kind])
    return [getattr(import_module(module), name) for module, name in pairs]


def schema_of(kind: str, names: bool = True) -> dict[str, Any]:
    """The JSON schema of a file of a kind, a key of `KINDS`; with or without the `names` that are installed here."""
    tops = models(kind)
    what = "a case" if kind == "case" else f"a recipe of {kind}"
    return schema(tops, f"les-solver: {what}", _known(kind) if names else None)


def _known(kind: str) -> Known:
    """Names of closures, networks and losses, other packages' included: those that are installed now."""
    from closures.operators import registry as operators

    if kind == "case":
        from closures.operators.shipped import with_artefact
        from closures.registry import registry, wall_models

        return {
            ("ClosureTable", "name"): [*registry.names(), *with_artefact()],
            ("WallModelTable", "name"): ["none", *wall_models.names(), *operators.WALLS],
        }
    if kind == "training":
        from closures.losses import registry as losses
        from closures.registry.sets import DATA_SETS

        return {
            ("OperatorTable", "name"): [*operators.names(), *operators.DIRECTIONS, *operators.WALLS],
            ("LossTable", "kind"): [*losses.LOSSES.names(), *losses.WITH_CASE],
            ("LossTable", "norm"): ["volume", *losses.LOSSES.names()],
            ("DataTable", "name"): DATA_SETS.names(),
        }
    return {}

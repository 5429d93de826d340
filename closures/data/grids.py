"""A recipe file of flows: one filtered set, or several that share a direct simulation, one for each coarse grid.

Where the file has one ``[coarse]`` table it is one recipe, nameless. Where it lists grids (``[[coarse]]``) it is one
recipe for each entry, under the name of its grid: what the file says of the flow, with the grid, the filter and the
store of the entry. So each member of such a set is what a recipe of that grid alone would make.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from closures.data import recipe_file
from closures.data.recipe import CoarseTable, FlowRecipe, FlowTables, held_out, parse_flow_recipe
from solver.case.explain import explain
from solver.errors import CaseError

Recipes = dict[str, FlowRecipe]


class GridsRecipe(FlowTables):
    """A recipe that lists its grids."""

    coarse: Annotated[tuple[CoarseTable, ...], Field(strict=False, min_length=1)]


def is_flow_recipe(path: Path) -> bool:
    """Whether a recipe is about flows: it has a ``[sampling]`` table. False where it cannot be read."""
    try:
        return "sampling" in recipe_file.read(path)[0]
    except CaseError:
        return False


def load_flow_recipes(path: Path, trajectories: int | None = None, overrides: Sequence[str] = ()) -> Recipes:
    """Read `path`, or the shipped recipe of that name, by the names of its grids.

    `trajectories` replaces its number, `overrides` keys of it (``key.path=value``).

    Raises
    ------
    CaseError : missing file, TOML syntax, unknown key, wrong type or value, grids without a filter or two of the same
        name; one line.
    """
    data, source = recipe_file.read(path, overrides)
    if trajectories is not None:
        whole, left = data.get("trajectories"), trajectories - 1
        data["trajectories"] = trajectories
        for key in ("test", "valid"):
            kept = data.get(key)
            if isinstance(whole, int) and isinstance(kept, int) and 0 <= kept < whole:
                data[key] = held_out(kept, whole, trajectories, left)
                left -= data[key]
    if not isinstance(data.get("coarse"), list):
        return {"": parse_flow_recipe(data, source)}
    return _members(data, source)


def _members(data: dict[str, Any], source: str) -> Recipes:
    found: Recipes = {}
    for number, entry in enumerate(data["coarse"], 1):
        where = f"{source}: [[coarse]] number {number}"
        try:
            table = CoarseTable.model_validate(entry)
        except ValidationError as error:
            told = entry if isinstance(entry, dict) else {}
            raise CaseError(f"{where}: {explain(error, CoarseTable, told)}") from None
        if table.title in found:
            raise CaseError(f"{where}: another grid has the name '{table.title}' too: give one of them another 'name'")
        found[table.title] = parse_flow_recipe(_member(data, entry, table), f"{where} ('{table.title}')")
    if not found:
        raise CaseError(f"{source}: coarse = []: give at least one grid")
    return found


def _member(data: dict[str, Any], entry: dict[str, Any], table: CoarseTable) -> dict[str, Any]:
    """The recipe file of one grid alone."""
    if table.n is not None and isinstance(data.get("grid"), dict):
        points = zip("xyz", table.n, strict=True)
        coarse = {d: {**data["grid"][d], "n": n} for d, n in points if isinstance(data["grid"].get(d), dict)}
    else:
        coarse = {d: entry[d] for d in "xyz" if d in entry}
    own = {key: entry[key] for key in ("filter", "store") if key in entry}
    return data | {"coarse": coarse} | own

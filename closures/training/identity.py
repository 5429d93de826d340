"""What a stored training must have been made with to be gone on with: the recipe, the data, the case as it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from closures.training.begin import weights_of
from solver.case.case import Case

CHANGE_NO_RESULT: dict[str, Any] = {
    "title": True,
    "card": True,
    "data": {"file", "workers"},
    "loop": {"device", "checkpoint_seconds", "epochs"},  # epochs are compared by `closures.training.state`
}
HOW = {"device", "fuse", "exchange", "threads", "graph", "transforms"}  # of [run]: round-off at the most
PHYSICS = {"grid", "flow", "closure", "solids", "pressure", "time", "run"}


def identity_of(recipe: BaseModel, *known: object) -> str:
    """The checksum of a recipe, but for what changes no result, and of all that it only names."""
    text = json.dumps([recipe.model_dump(mode="json", exclude=CHANGE_NO_RESULT), *known], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def content_of(case: Case) -> dict[str, Any]:
    """What of a case a training depends on, as plain values; of a trained network in it, its weights.

    Raises
    ------
    ArtefactError : there is no such network.
    """
    found = case.model_dump(mode="json", include=PHYSICS, exclude={"time": {"end"}, "run": HOW})
    folder = found["closure"].get("artefact")
    return found | ({"artefact": weights_of(str(folder))} if folder is not None else {})

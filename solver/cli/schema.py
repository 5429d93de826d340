"""``solver schema``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from solver.errors import CaseError
from solver.terminal import console


def schema(kind: Annotated[str, typer.Argument(metavar="case|data|training", help="what kind of file")]) -> None:
    """Print the JSON schema of a case or a recipe, for editors: solver schema case > case.schema.json."""
    from closures.registry.schemas import KINDS, schema_of

    if kind not in KINDS:
        raise CaseError(f"solver schema {kind}: should be one of {', '.join(KINDS)}")
    console().print(json.dumps(schema_of(kind), indent=2, ensure_ascii=False))

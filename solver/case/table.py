"""What every table of a case file has in common, and lengths written as multiples of pi."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler

_MULTIPLE_OF_PI = re.compile(r"\s*([0-9.]*)\s*\*?\s*pi\s*(?:/\s*([0-9.]+))?\s*")
AS_TEXT = {"type": "string", "pattern": f"^{_MULTIPLE_OF_PI.pattern}$", "description": "a multiple of pi: '4 pi / 3'"}


def _length(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _MULTIPLE_OF_PI.fullmatch(value)
    try:
        factor, divisor = (float(part or 1.0) for part in match.groups()) if match else (0.0, 0.0)
    except ValueError:  # 1.2.3
        divisor = 0.0
    if divisor == 0:
        raise ValueError("should be a number or a multiple of pi such as '4 pi' or '2 pi / 3'")
    return factor * np.pi / divisor


class _OrText:
    """Tells JSON schemas that a number may be written as a multiple of pi."""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), AS_TEXT]}


LONGEST = 1e12  # or, of its inverse, shortest: squares of wavenumbers have to be numbers in single precision too
Length = Annotated[float, Field(ge=1 / LONGEST, le=LONGEST), BeforeValidator(_length), _OrText()]
Coordinate = Annotated[float, Field(ge=-LONGEST, le=LONGEST), BeforeValidator(_length), _OrText()]


class Table(BaseModel):
    """Base of every table: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def refuse_idle(table: Table, idle: Mapping[str, str]) -> None:
    """Raises ValueError if a key of `idle`, which says what it does nothing with, is not as it is by default."""
    for key in sorted(idle):
        if getattr(table, key) != type(table).model_fields[key].default:
            raise ValueError(f"{key}: does nothing with {idle[key]}: remove it")

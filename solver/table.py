"""What every table of a case file has in common, and lengths written as multiples of pi."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_MULTIPLE_OF_PI = re.compile(r"\s*([0-9.]*)\s*\*?\s*pi\s*(?:/\s*([0-9.]+))?\s*")


def _length(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _MULTIPLE_OF_PI.fullmatch(value)
    if match is None or float(match[2] or 1.0) == 0:
        raise ValueError("should be a number or a multiple of pi such as '4 pi' or '2 pi / 3'")
    return float(match[1] or 1.0) * np.pi / float(match[2] or 1.0)


Length = Annotated[float, BeforeValidator(_length), Field(gt=0)]
Coordinate = Annotated[float, BeforeValidator(_length)]


class Table(BaseModel):
    """Base of every table: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def refuse_idle(table: Table, idle: Mapping[str, str]) -> None:
    """Raises ValueError if a key of `idle`, which says what it does nothing with, is not as it is by default."""
    for key in sorted(idle):
        if getattr(table, key) != type(table).model_fields[key].default:
            raise ValueError(f"{key}: does nothing with {idle[key]}: remove it")

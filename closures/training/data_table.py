"""``[data]`` of a recipe: which trajectories a network learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from closures.data.sets import Source, open_set
from closures.registry.sets import FILE
from solver.case.table import Table


class SetTable(Table):
    """``[data]``: trajectories, of a file or of another package.

    Parameters
    ----------
    name : ``file``, or the name of a data set of another package, see `closures.registry.sets`.
    file : beside the recipe or in the working directory.
    options : arguments of the data set that `name` names.
    """

    name: str = Field(default=FILE, exclude_if=lambda name: name == FILE)
    file: str | None = None
    options: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda options: not options)

    @property
    def is_given(self) -> bool:
        """Whether there is a data set."""
        return self.file is not None or self.name != FILE

    def open(self, replaced: Path | None = None) -> Source:
        """The trajectories; those of the file `replaced` in their place. Raises CaseError as `open_set` does."""
        if replaced is not None:
            return open_set(FILE, replaced, {})
        return open_set(self.name, Path(self.file) if self.file is not None else None, self.options)

    @model_validator(mode="after")
    def _is_one(self) -> SetTable:
        if self.file is not None and self.name != FILE:
            raise ValueError(f"file: does nothing with name = '{self.name}': remove one")
        if self.options and self.name == FILE:
            raise ValueError("options: are those of a data set by name, a file has none: remove them")
        return self


class DataTable(SetTable):
    """``[data]``: trajectories, and how they are cut into windows.

    Only the loss ``les_residual`` does without them: it can draw fields from the solver (`FieldsTable`).

    Parameters
    ----------
    stride : frames in the file from one frame of a window to the next.
    apart : frames in the file from the beginning of one window to that of the next.
    validation : share of the trajectories that choose the best weights, of those that the file does not keep for tests.
    workers : processes that load data.
    """

    stride: int = Field(default=1, ge=1)
    apart: int = Field(default=1, ge=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    workers: int = Field(default=0, ge=0, le=64)

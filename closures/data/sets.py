"""The data set that a recipe names: a folder of trajectories, or one of another package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from closures.data.windows import Trajectories, TrajectoryFiles
from closures.operators.domain import Domain
from closures.registry.sets import DATA_SETS, FILE
from solver.errors import CaseError

NEEDED = ("domain", "step", "shape", "read")


class Source(Trajectories, Protocol):
    """Trajectories, and what a card says of them."""

    nu: np.ndarray  # viscosity of every trajectory, or of all; 0 where it is not known
    attributes: dict[str, Any]  # ``filter``: how they were filtered

    @property
    def sha256(self) -> str:
        """Checksum of the content."""
        ...


def open_set(name: str, file: Path | None, options: Mapping[str, Any]) -> Source:
    """The trajectories called `name`, of a `file` (or folder), or of another package made with `options`.

    Raises
    ------
    CaseError : unknown name or option, or what it names is no data set; the file is missing or damaged.
    """
    DATA_SETS.require(name)
    if name == FILE:
        if file is None:
            raise CaseError("[data] file: give a file of trajectories, or the name of a data set")
        return TrajectoryFiles(file)
    return _Foreign(name, DATA_SETS.make(name, options))


class _Foreign:
    """A data set of another package; what it does not say of itself has a default, what it gives is checked."""

    def __init__(self, name: str, made: Any) -> None:
        self.name, self.made = name, made
        for attribute in NEEDED:
            if not hasattr(made, attribute):
                missing = f"lacks the attribute '{attribute}': see docs/add_a_dataset.md"
                raise CaseError(f"[data] {DATA_SETS.origin(name)} {missing}")
        self.domain: Domain = made.domain
        self.step, self.start = float(made.step), float(getattr(made, "start", 0.0))
        self.shape = tuple(made.shape)
        self.valid, self.test = (tuple(getattr(made, kept, ())) for kept in ("valid", "test"))
        self.nu = np.atleast_1d(np.asarray(getattr(made, "nu", 0.0), dtype=np.float64))
        self.attributes: dict[str, Any] = dict(getattr(made, "attributes", {}))
        expected = (*self.domain.shape, 3)
        if len(self.shape) != 6 or self.shape[2:] != expected:
            wanted = f"(n_traj, n_steps, {', '.join(map(str, expected))})"
            raise CaseError(f"[data] {DATA_SETS.origin(name)} has shape {self.shape}, expected {wanted}")

    def read(self, trajectory: int, frames: slice) -> np.ndarray:
        """See `Trajectories`."""
        with DATA_SETS.blaming(self.name, f"cannot read trajectory {trajectory}"):
            found = np.asarray(self.made.read(trajectory, frames))
        count = len(range(*frames.indices(self.shape[1])))
        if found.shape != (count, *self.shape[2:]):
            expected = f"expected {(count, *self.shape[2:])}"
            raise CaseError(f"[data] {DATA_SETS.origin(self.name)} reads frames of shape {found.shape}, {expected}")
        return found

    @cached_property
    def sha256(self) -> str:
        """Of all frames, unless it has a checksum of its own."""
        if own := getattr(self.made, "sha256", None):
            return str(own)
        found = hashlib.sha256()
        for trajectory in range(self.shape[0]):
            found.update(np.ascontiguousarray(self.read(trajectory, slice(None)), dtype=np.float32).tobytes())
        return found.hexdigest()

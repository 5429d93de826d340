"""Where the training of an ensemble stands, as one file: whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from closures.training.state import FILE, FORMAT, load
from solver.files.folder import write_atomically
from solver.grid.axis import Array

Velocity = tuple[Array, ...]


@dataclass(frozen=True)
class Ensemble:
    """Networks, the flows they are in, and how far the inversion has come.

    Parameters
    ----------
    parameters : (members, p), the weights in one row.
    velocities : coefficients of the three components in each flow, one flow after the other, for each member.
    time : pseudo-time; the posterior is reached at one.
    history : a row of each iteration.
    """

    parameters: Array
    velocities: tuple[Velocity, ...]
    iteration: int = 0
    time: float = 0.0
    history: tuple[dict[str, float], ...] = ()


def write_state(folder: Path, identity: str, ensemble: Ensemble) -> None:
    """Replace the state in `folder`."""
    arrays = {"parameters": ensemble.parameters}
    for number, velocity in enumerate(ensemble.velocities):
        arrays |= {f"velocity/{number}/{i}": np.ascontiguousarray(c) for i, c in enumerate(velocity)}
    progress = {"format": FORMAT, "identity": identity, "iteration": ensemble.iteration, "time": ensemble.time}
    header = {"progress": json.dumps(progress | {"history": ensemble.history})}
    write_atomically(folder / FILE, lambda target: save_file(arrays, target, metadata=header))


def read_state(folder: Path, identity: str) -> Ensemble | None:
    """The state in `folder`, None if there is none.

    Raises
    ------
    RunFolderError : see `closures.training.state.load`.
    """
    found = load(folder, identity)
    if found is None:
        return None
    header, tensors = found
    parameters = tensors["parameters"].numpy()
    count = (len(tensors) - 1) // len(parameters)  # three for each flow
    velocities = tuple(
        tuple(tensors[f"velocity/{number}/{i}"].numpy() for i in range(count)) for number in range(len(parameters))
    )
    return Ensemble(parameters, velocities, header["iteration"], header["time"], tuple(header["history"]))

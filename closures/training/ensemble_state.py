"""Where the training of an ensemble stands, as one file: whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from closures.training.state import FILE, FORMAT
from solver.axis import Array
from solver.errors import RunFolderError
from solver.rundir import write_atomically

Velocity = tuple[Array, ...]


@dataclass(frozen=True)
class Ensemble:
    """Networks, the flows they are in, and how far the inversion has come.

    Parameters
    ----------
    parameters : (members, p), the weights in one row.
    velocities : coefficients of the three components, for each member.
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
    RunFolderError : it is damaged, or of another recipe, data set or version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            progress = json.loads(file.metadata()["progress"])
            parameters = file.get_tensor("parameters")
            names = [[f"velocity/{n}/{i}" for i in range(3)] for n in range(len(parameters))]
            velocities = tuple(tuple(file.get_tensor(name) for name in one) for one in names)
        found = progress["format"], progress["identity"]
        iteration, time, history = int(progress["iteration"]), float(progress["time"]), tuple(progress["history"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path}: damaged training state ({error}): remove it to begin again") from None
    if found != (FORMAT, identity):
        raise RunFolderError(
            f"{path}: belongs to another recipe, data file or version: choose another --out, or remove it"
        )
    return Ensemble(parameters, velocities, iteration, time, history)

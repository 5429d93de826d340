"""An array that takes long to make: made once by the root process, kept beside the training, read by all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from closures.training.processes import ProcessGroup
from solver.errors import RunFolderError
from solver.files.folder import write_atomically


def kept(path: Path, identity: str, make: Callable[[], np.ndarray], processes: ProcessGroup) -> np.ndarray:
    """What `path` holds, or else what `make` returns, which it holds from then on (collective).

    Raises
    ------
    RunFolderError : `path` is damaged, or holds what was made with another `identity`, or cannot be written.
    """
    if processes.is_root and not path.exists():
        arrays = {"values": np.ascontiguousarray(make())}
        write_atomically(path, lambda target: save_file(arrays, target, metadata={"identity": identity}))
    processes.wait()
    try:
        with safe_open(path, framework="numpy") as file:
            found, values = file.metadata()["identity"], file.get_tensor("values")
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: damaged fields ({error}): remove the file to make them again") from None
    if found != identity:
        raise RunFolderError(
            f"{path}: fields of another case, recipe or data file: choose another --out, or remove the file"
        )
    return np.asarray(values)

"""What a training needs to continue to the bit: one safetensors file with a JSON header, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from solver.errors import RunFolderError
from solver.files.folder import write_atomically

FORMAT = 1
FILE = "state.safetensors"
PARTS = ("model", "best", "average", "optimiser", "feed")


@dataclass
class Progress:
    """Where a training of `epochs` stands. Randomness is a function of seed and step, so the step is all of it."""

    identity: str
    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    best: float = float("inf")
    best_epoch: int = -1
    done: bool = False
    seconds: float = 0.0
    epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    feed: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def write(
    folder: Path,
    progress: Progress,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    parts: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Replace the state in `folder`; `parts` are tensors beside the model and the moments of its weights."""
    tensors = {f"{part}/{name}": t for part, found in parts.items() for name, t in found.items()}
    tensors |= {f"model/{name}": t for name, t in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": t for name, t in moments.items()}
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    header = {"progress": json.dumps(asdict(progress))}
    write_atomically(folder / FILE, lambda target: save_file(flat, target, metadata=header))


def load(folder: Path, identity: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The header and the tensors of the state in `folder`; None if there is none.

    Raises
    ------
    RunFolderError : it is damaged, or of another recipe, data set or version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        found = header["format"], header["identity"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path}: damaged training state ({error}): remove it to begin again") from None
    if found != (FORMAT, identity):
        raise RunFolderError(
            f"{path}: belongs to another recipe, data file or version: choose another --out, or remove it"
        )
    return header, tensors


def read(
    folder: Path, identity: str, epochs: int, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Progress, dict[str, dict[str, Tensor]]] | None:
    """Fill `model` and `optimiser`, and return the progress and all parts of the state; None if there is no state.

    A training that is done goes on where `epochs` are more than it was asked for: at the rate that the longer schedule
    has there.

    Raises
    ------
    RunFolderError : see `load`; or it is in the middle of another number of epochs, on which the rates so far depend.
    """
    found = load(folder, identity)
    if found is None:
        return None
    header, tensors = found
    if header["epochs"] != epochs and not (header["done"] and epochs > header["epochs"]):
        raise RunFolderError(
            f"{folder / FILE}: of {header['epochs']} epochs, not {epochs}: finish it with those, then ask for more, "
            "or choose another --out"
        )
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor
    if moments:
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    longer = {"epochs": epochs, "done": header["done"] and epochs == header["epochs"]}
    return Progress(**header | longer), parts

"""Trained networks for other programs: ONNX, or a program of ``torch.export``, on one grid.

What enters and leaves has a name, a shape and a unit, which are in the file beside the card of the network.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from closures.algebraic.geometry import filter_width, wall_distance, walls
from closures.coupling.resample import network_grid
from closures.operators.artefact import Artefact, ArtefactError, check_domain, load
from closures.operators.domain import Domain
from closures.operators.noise import draws
from closures.operators.stress import Cells
from solver.discretisation.calculus import Operators
from solver.errors import FeatureUnavailable
from solver.files.folder import write_atomically
from solver.grid.grid import Grid
from solver.parallel import ranks
from solver.parallel.slabs import Slabs

REAL = ("differential", "ifactformer_m", "ifactformer_o", "tensor_basis", "cnn")  # what ONNX has the arithmetic for
PREFIX = "les_solver."  # of our keys in files
PLACE = "at cell centres, indices x, y (normal to walls), z"


@dataclass(frozen=True)
class Port:
    """What enters or leaves: a field by name, with its shape, its unit, and what its indices are."""

    name: str
    shape: tuple[int, ...]
    unit: str
    meaning: str


class OnGrid(nn.Module):
    """A network and the grid it acts on: one field in, one out.

    Parameters
    ----------
    network : called with a field and what it knows of the grid.
    place : a `Domain`, or `Cells`.
    entering, leaving : what the fields are.
    """

    def __init__(self, network: nn.Module, place: Domain | Cells, entering: Port, leaving: Port) -> None:
        super().__init__()
        self.network, self.place, self.entering, self.leaving = network, place, entering, leaving

    def forward(self, field: Tensor) -> Tensor:
        """Of the shapes of `entering` and `leaving`."""
        answer: Tensor = self.network(field, self.place)
        return answer


def export(folder: Path, grid: Grid, nu: float, out: Path, overwrite: bool = False) -> None:
    """Write the network of an artefact as it acts on a grid.

    Parameters
    ----------
    folder : with card and weights.
    grid : of a case.
    nu : its viscosity, which subgrid models read.
    out : file to write; its suffix is one of `WRITERS`.
    overwrite : replace `out`.

    Raises
    ------
    ArtefactError : the network cannot be read, cannot act on this grid, or cannot be written in this format; `out`
        exists.
    FeatureUnavailable : onnx or onnxscript is not installed.
    """
    if out.suffix.lower() not in WRITERS:
        raise ArtefactError(f"--out {out}: a network is written as {' or '.join(WRITERS)}: give such a name")
    if out.exists() and not overwrite:
        raise ArtefactError(f"--out {out}: exists: choose another name or add --overwrite")
    artefact = load(folder)
    module = on_grid(artefact, grid, nu, folder)
    about = {
        "card": json.dumps(artefact.card.model_dump()),
        "inputs": json.dumps([asdict(module.entering)]),
        "outputs": json.dumps([asdict(module.leaving)]),
    }
    program = traced(module, artefact.card.architecture, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[out.suffix.lower()](program, module, {PREFIX + key: text for key, text in about.items()}, out)


def on_grid(artefact: Artefact, grid: Grid, nu: float, folder: Path) -> OnGrid:
    """The network with the points that it sees of `grid` in the time loop; raises ArtefactError."""
    if artefact.card.inputs == "residual":
        raise ArtefactError(f"{folder}: a preconditioner acts inside a pressure solver and is not exported")
    if artefact.card.inputs == "velocity_gradient":
        return _stress_model(artefact, grid, nu, folder)
    if draws(artefact.network):
        raise ArtefactError(f"{folder}: draws its answers, with seeds that are no field: it is not exported")
    domain = Domain.of(network_grid(grid))
    check_domain(artefact, domain, folder)
    step, shape, unit = artefact.card.step, (1, 3, *domain.shape), "velocity of the case"
    after = f"{step:g} units of time later" if step else "corrected"
    entering = Port("velocity", shape, unit, f"u, v, w {PLACE}")
    leaving = Port("velocity_after", shape, unit, f"u, v, w {PLACE}, {after}")
    return OnGrid(artefact.predictor(), domain, entering, leaving).eval()


def _stress_model(artefact: Artefact, grid: Grid, nu: float, folder: Path) -> OnGrid:
    if getattr(artefact.network, "splits", False):
        raise ArtefactError(
            f"{folder}: '{artefact.card.architecture}' also reads the mean flow along walls, which is more than one "
            "field: it is not exported; tensor_basis and cnn are"
        )
    check_domain(artefact, Domain.of(grid), folder, named=Domain.of(network_grid(grid)))
    slabs = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, ranks.alone())
    operators = Operators(grid, slabs, torch.device("cpu"), torch.float32)
    x, y, z = (axis.periodic for axis in grid.axes)
    cells = Cells(filter_width(operators), nu, wall_distance(operators) if walls(grid) else None, (x, y, z))
    entering = Port("velocity_gradient", (1, 3, 3, *grid.shape), "1 / time", f"entry i, j is d u_i / d x_j, {PLACE}")
    leaving = Port("tau", (1, 6, *grid.shape), "velocity^2", f"subgrid stress xx yy zz xy xz yz, {PLACE}")
    return OnGrid(artefact.network, cells, entering, leaving).eval()


def traced(module: OnGrid, architecture: str, folder: Path) -> torch.export.ExportedProgram:
    """The program of a module for one shape; raises ArtefactError where torch cannot follow it."""
    weights = next(module.parameters(), torch.zeros(1))
    example = torch.zeros(module.entering.shape, dtype=weights.dtype)
    with torch.no_grad():
        module(example)  # what networks keep of a grid has to be there before it is followed
        try:
            return torch.export.export(module, (example,))
        except Exception as error:  # torch has many kinds
            reason = " ".join(str(error).split())[:120]
            can = ", ".join(REAL)
            raise ArtefactError(
                f"{folder}: torch.export cannot follow '{architecture}' ({reason}): it can follow {can}"
            ) from error


def is_complex(program: torch.export.ExportedProgram) -> bool:
    """Whether anything in it, or in its parts, is a complex number."""
    parts = (part for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule))
    values = (node.meta.get("val") for part in parts for node in part.graph.nodes)
    return any(isinstance(value, Tensor) and value.is_complex() for value in values)


def _write_program(program: Any, _: OnGrid, about: dict[str, str], out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights on other devices
        torch.export.save(program, made := io.BytesIO(), extra_files=about)
    write_atomically(out, lambda target: target.write_bytes(made.getbuffer()))


def _write_onnx(program: Any, module: OnGrid, about: dict[str, str], out: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise FeatureUnavailable(
            f"{out}: ONNX is written by two packages, those of the extra 'export' of les-solver: install it"
        ) from error
    if is_complex(program):
        raise ArtefactError(
            f"--out {out}: the network multiplies complex Fourier coefficients, and ONNX has no complex numbers: write "
            f"a .pt2, or use one of {', '.join(REAL)}"
        )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # what else is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=[module.entering.name],
            output_names=[module.leaving.name],
            dynamo=True,
            verbose=False,
        )
    made.model.metadata_props.update(about)
    write_atomically(out, lambda target: made.save(target))


WRITERS: dict[str, Callable[[Any, OnGrid, dict[str, str], Path], None]] = {
    ".onnx": _write_onnx,
    ".pt2": _write_program,
}

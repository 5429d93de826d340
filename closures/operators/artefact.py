"""A trained network on disk: ``weights.safetensors`` and ``card.json`` in one folder.

Loading never executes anything: weights are read as plain numbers and must have the names and shapes that the card's
architecture says; whatever is wrong is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from closures.operators import Domain, build, names, package, validated
from closures.operators.domain import same
from closures.operators.predictor import Predictor, Scaling
from closures.operators.role import INPUTS, Rhythm, role_of
from solver.case.explain import explain
from solver.case.table import LONGEST
from solver.errors import SolverError
from solver.files.folder import write_atomically, write_json

log = logging.getLogger("solver")
FORMAT = 1
WEIGHTS, CARD, FAMILIAR = "weights.safetensors", "card.json", "familiar.safetensors"
LARGEST_CARD = 4 * 2**20
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch.save, pickle.dump


class ArtefactError(SolverError):
    """A trained network cannot be used: the message names the file and what is wrong with it."""


class _Line(BaseModel):
    """One direction of `Domain.describe`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    length: float = Field(gt=0)
    periodic: bool
    points: list[float] = Field(min_length=1)


class _Lines(BaseModel):
    """`Domain.describe`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    x: _Line
    y: _Line
    z: _Line


class Card(BaseModel):
    """What a network is, what it was trained on, and what it is worth.

    Parameters
    ----------
    architecture, arguments : for `closures.operators.build`.
    package : name and version of the package that the architecture comes from, if it is another one.
    inputs : what it reads.
    scaling : units of a state operator; None for stress models, which carry their own.
    step : time between its input and its output; 0 for stress models, and for correctors, which stay where they are.
    interval : time from one answer to the next that it was trained for in turns with the solver; 0 if there is none.
    solver_step : length of the solver's steps between its answers in training; 0 if it had none, or it is not known.
    start : time in its flow from which on it acts unless it is told otherwise: where its data begin.
    largest_answer : greatest norm of an answer on the training data, the measure of `closures.coupling.guard`.
    filter : how the training data were filtered.
    grid : `Domain.describe` of the training data.
    nu : least and greatest viscosity of the training data.
    metrics : errors on the validation trajectories.
    familiar_sha256 : checksum of what it knows of flows, `closures.coupling.familiarity`; None where it says nothing.
    stream : of one that was trained while the solver ran, what it saw: samples, flows that were lost, labels that were
        refused, and of energy, friction velocity and viscosity mean, deviation, least and greatest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    format: int = FORMAT
    architecture: str
    arguments: dict[str, Any]
    package: str | None = None
    parameters: int = Field(ge=0)
    inputs: Literal["velocity", "velocity_gradient", "residual", "wall_sample"]
    scaling: Scaling | None
    step: float = Field(ge=0, le=LONGEST)
    interval: float = Field(default=0.0, ge=0, le=LONGEST)
    solver_step: float = Field(default=0.0, ge=0, le=LONGEST)
    start: float = Field(default=0.0, ge=0, le=LONGEST)
    largest_answer: float | None = Field(default=None, gt=0)
    filter: str
    grid: dict[str, Any] | None
    nu: tuple[float, float] = Field(strict=False)
    trained_on: str
    data_sha256: str | None
    weights_sha256: str
    commit: str | None
    metrics: dict[str, float]
    stream: dict[str, float] = Field(default_factory=dict, exclude_if=lambda stream: not stream)
    licence: str
    familiar_sha256: str | None = None

    @field_validator("grid")
    @classmethod
    def _described(cls, grid: dict[str, Any] | None) -> dict[str, Any] | None:
        """The grid as it is, once it has been looked at."""
        if grid is not None:
            _Lines.model_validate(grid)
        return grid

    @property
    def role(self) -> str:
        """How it acts: in the time loop or at walls (`closures.coupling`), or in the pressure solve
        (`closures.pressure_nets`).
        """
        return role_of(self.inputs, self.step)

    @property
    def rhythm(self) -> Rhythm:
        """When it acts beside the solver."""
        return Rhythm(self.step, self.interval, self.solver_step)

    def __str__(self) -> str:
        what = self.role.replace("_", " ")
        return f"{what} ({self.architecture}, {self.parameters} parameters), trained on {self.trained_on}"


@dataclass(frozen=True)
class Artefact:
    """A card and its network, in evaluation mode and without gradients."""

    card: Card
    network: nn.Module

    def predictor(self) -> Predictor:
        """The network with its units; an ArtefactError, if it models a stress."""
        if self.card.scaling is None:
            raise ArtefactError(f"'{self.card.architecture}' models a stress: it cannot step a velocity")
        return Predictor(self.network, self.card.scaling)


def save(folder: Path, network: nn.Module, architecture: str, arguments: dict[str, Any], **about: Any) -> Card:
    """Write `network`; `about` are the fields of `Card` that cannot be read off it.

    Raises
    ------
    ArtefactError : a weight is not finite, or `about` is incomplete.
    RunFolderError : the folder cannot be written.
    """
    weights = {name: w.detach().cpu().contiguous() for name, w in network.state_dict().items()}
    _check_finite(weights, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, lambda target: save_file(weights, target))
    (folder / FAMILIAR).unlink(missing_ok=True)  # other weights knew those flows
    fields = {
        "architecture": architecture,
        "arguments": validated(architecture, arguments),
        "package": getattr(network, "package", None) or package(architecture),
        "parameters": sum(w.numel() for w in weights.values()),
        "inputs": INPUTS[str(network.kind)],
        "weights_sha256": digest(folder / WEIGHTS),
        **about,
    }
    try:
        card = Card(**fields)
    except ValidationError as error:
        raise ArtefactError(f"{folder / CARD}: {explain(error, Card, fields)}") from None
    write_json(folder / CARD, card.model_dump())
    return card


def load(folder: Path, domain: Domain | None = None) -> Artefact:
    """Read a network; with a `domain`, check that it can act there, and say so if that is not where it was trained.

    Raises
    ------
    ArtefactError : a file is missing, truncated, damaged, foreign or a pickle; weights have other names, shapes or
        types than the architecture, or are not finite; another format version; the network is bound to another grid.
    CaseError : the card names an architecture or arguments that do not exist.
    """
    card = read_card(folder / CARD)
    if card.package is not None and card.architecture not in names():
        raise ArtefactError(
            f"{folder / CARD}: the architecture '{card.architecture}' is that of the package {card.package}: install it"
        )
    arguments = validated(card.architecture, card.arguments)
    if card.inputs == "velocity" and arguments.get("channels", 3) != 3:
        raise ArtefactError(f"{folder / CARD}: channels = {arguments['channels']}: a velocity has 3")
    try:
        with torch.device("meta"):  # a card may ask for more memory than there is: shapes first
            network = build(card.architecture, **arguments)
    except (RuntimeError, OverflowError) as error:
        raise ArtefactError(f"{folder / CARD}: [arguments] cannot be built: {str(error).splitlines()[0]}") from None
    weights = _read_weights(folder / WEIGHTS, network.state_dict())
    if digest(folder / WEIGHTS) != card.weights_sha256:
        raise ArtefactError(f"{folder / WEIGHTS}: not the weights its card describes (checksum): copy both files again")
    _check_finite(weights, folder)
    if card.package is not None:  # what another package computes in its constructor has to be computed
        network = build(card.architecture, **arguments)
    network.load_state_dict(weights, assign=True)
    artefact = Artefact(card, network.eval().requires_grad_(False))
    if domain is not None:
        check_domain(artefact, domain, folder)
    return artefact


def check_domain(artefact: Artefact, domain: Domain, folder: Path, named: Domain | None = None) -> None:
    """Whether `artefact` may act on `domain`: logs that it is adapted, or raises ArtefactError.

    `named` is the grid as its case names it, by modes and cells, where the network sees the more points on which
    products of the same modes are formed: one trained on these or on those is at home.
    """
    trained = artefact.card.grid
    named = named or domain
    if trained is None or same(trained, domain.describe()) or same(trained, named.describe()):
        return
    there = " x ".join(str(len(trained[name]["points"])) for name in "xyz")
    periodic = tuple(trained[name]["periodic"] for name in "xyz")
    here = " x ".join(map(str, named.shape))
    if artefact.network.kind == "state" and periodic != domain.periodic:
        raise ArtefactError(
            f"{folder}: trained where x, y, z are periodic = {periodic}, this case has {domain.periodic}"
        )
    if not artefact.network.grid_free:
        raise ArtefactError(
            f"{folder}: '{artefact.card.architecture}' is bound to its grid of {there} points, this case has {here} "
            "or other coordinates: use that grid, or a network whose variant is not 'published'"
        )
    log.warning("%s: trained on %s points, adapted to this grid of %s: watch its errors", folder, there, here)


def read_card(path: Path) -> Card:
    """A card, checked; raises ArtefactError."""
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise ArtefactError(f"{path}: larger than {LARGEST_CARD} bytes: not a card")
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file: a trained network is a folder with {CARD} and {WEIGHTS}") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: cannot be read ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise ArtefactError(f"{path}: format {found}, this version reads {FORMAT}: train again, or use that version")
    try:
        return Card.model_validate(data)
    except ValidationError as error:
        raise ArtefactError(f"{path}: {explain(error, Card, data)}") from None


def _read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, if they are those expected; shapes are compared before anything is read."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] != b"{" and start.startswith(PICKLES):  # eight bytes of length, which may look like one, then JSON
            raise ArtefactError(f"{path}: a pickle, which could run code when opened: only safetensors are read")
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            _compare("lacks", set(expected) - found, path)
            _compare("has the unknown", found - set(expected), path)
            for name, tensor in expected.items():
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    raise ArtefactError(f"{path}: '{name}' has shape {shape}, the card's network {tuple(tensor.shape)}")
            weights = {name: file.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file beside {CARD}: copy both") from None
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: truncated, damaged or not a safetensors file ({error})") from None
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise ArtefactError(f"{path}: '{name}' holds {tensor.dtype}, weights are floating-point numbers")
    return weights


def _compare(verb: str, names: set[str], path: Path) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ArtefactError(f"{path}: {verb} tensor '{min(names)}'{more}: weights of another network than the card's")


def _check_finite(weights: Mapping[str, Tensor], folder: Path) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtefactError(f"{folder}: weight '{name}' is not finite: the training had diverged")


def digest(path: Path) -> str:
    """SHA-256 of a file; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

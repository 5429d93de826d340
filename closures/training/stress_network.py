"""A model of the stress before and after its training: first weights, and its largest answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from closures.coupling.frames import Frames
from closures.coupling.strength import stress_size
from closures.coupling.subgrid_model import SubgridModel
from closures.data.sets import Source
from closures.operators import build
from closures.training.begin import take_weights
from closures.training.tables import OperatorTable
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError


def first_guess(operator: OperatorTable, begin: str | None, table: str) -> nn.Module:
    """The network before training: new, or with the weights of the artefact in the folder `begin`.

    `table` is where the recipe names it, for messages.

    Raises
    ------
    CaseError : the network steps a velocity.
    """
    network = build(operator.name, **operator.arguments)
    if network.kind != "stress":
        raise CaseError(f"[operator] '{operator.name}' steps a velocity: the solver trains models of the stress")
    if begin is not None:
        take_weights(network, operator.name, begin, table)
    return network


def role(frames: Frames, source: Source) -> dict[str, Any]:
    """What the card of a model of the stress in the simulation of `frames` says of its role; `source` has its data."""
    model = frames.simulation.closure
    assert isinstance(model, SubgridModel)
    return {"scaling": None, "step": 0.0, "largest_answer": largest_answer(model, frames, source) or None}


@torch.no_grad()
def largest_answer(model: SubgridModel, flow: Frames, source: Source, frames: int = 8) -> float:
    """The greatest norm of the model's stress on some frames of every trajectory, as the guard measures it."""
    found = [0.0]
    for trajectory in range(source.shape[0]):
        for frame in torch.linspace(0, source.shape[1] - 1, min(frames, source.shape[1])).int().tolist():
            u = torch.from_numpy(source.read(trajectory, slice(frame, frame + 1))[0]).movedim(-1, 0)
            velocity = Velocity(flow.simulation.flow.strain, flow.start(u))
            found.append(stress_size(model.evaluate(model.features(velocity), velocity.operators), velocity))
    return max(found)

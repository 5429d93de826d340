"""Training that begins with the weights of an artefact."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from closures.operators import artefact
from closures.operators.artefact import Card
from closures.operators.noise import draws
from solver.errors import CaseError


def take_weights(network: nn.Module, name: str, folder: str, table: str) -> Card:
    """Give `network`, built as `name`, the weights of the artefact in `folder`; its card.

    A network that draws may begin with one that does not: what it makes of its noise is then its own.

    `table` is where the recipe names the folder, for messages.

    Raises
    ------
    CaseError : the artefact is of another architecture or size.
    """
    found = artefact.load(Path(folder))
    if found.card.architecture != name:
        raise CaseError(f"{table} begin = '{folder}': holds '{found.card.architecture}'")
    own = network.state_dict() if draws(network) and not draws(found.network) else {}
    try:
        network.load_state_dict(own | found.network.state_dict())
    except RuntimeError:
        raise CaseError(f"{table} begin = '{folder}': its arguments are not those of [operator]") from None
    return found.card


def weights_of(folder: str) -> str:
    """The checksum of the weights in an artefact's folder; raises ArtefactError."""
    return artefact.read_card(Path(folder) / artefact.CARD).weights_sha256

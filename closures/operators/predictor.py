"""A state operator with its units: velocity in, next velocity out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from closures.operators.domain import Domain
from closures.operators.spectral import along
from solver.errors import CaseError

Limit = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=1)]], Field(strict=False)]


class Scaling(BaseModel):
    """Numbers that make a velocity dimensionless and give the answer its size, one a component.

    ``state``: the network's answer is the next field, in units of `std` about `mean`. ``increment``: it is the change
    over the step, in units of `change`; a network that answers zero then predicts a frozen field.

    Parameters
    ----------
    target, mean, std, change : see above.
    drift : distance along x by which the field is carried on before the network sees it: a network that answers zero
        predicts a flow that is frozen in a frame which moves so far in a step, and its waves pass it by more slowly.
    limits : of the growth of energies in the flow, see `closures.operators.energy_fixer`, which hold behind the
        projection; empty: there are none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    target: Literal["state", "increment"]
    mean: tuple[float, float, float] = Field(strict=False)
    std: tuple[float, float, float] = Field(strict=False)
    change: tuple[float, float, float] = Field(strict=False)
    drift: float = Field(default=0.0, exclude_if=lambda drift: drift == 0)
    limits: tuple[Limit, ...] = Field(default=(), strict=False, exclude_if=lambda limits: not limits)


class Predictor(nn.Module):
    """``u(t + step) = network((u - mean) / std)`` in the units of `scaling`.

    The scaling is part of the card and not of the weights: it has no buffers, so the weights are the network's alone.
    """

    def __init__(self, network: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.network, self.scaling = network, scaling
        self._units: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def units(self, like: Tensor) -> Tensor:
        """Mean, std and change of the scaling, (3, 1, 3, 1, 1, 1), where and of what type `like` is; sent once."""
        key = like.device, like.dtype
        if key not in self._units:
            values = [self.scaling.mean, self.scaling.std, self.scaling.change]
            self._units[key] = torch.tensor(values, dtype=like.dtype, device=like.device).reshape(3, 1, 3, 1, 1, 1)
        return self._units[key]

    def forward(self, velocity: Tensor, domain: Domain, seeds: Sequence[int] = ()) -> Tensor:
        """``(batch, 3, nx, ny, nz)`` at cell centres, velocity; the same one step later.

        `seeds`, one a field, are those of a network that draws (`closures.operators.noise`); without them it draws
        nothing.
        """
        mean, std, change = self.units(velocity)
        carried = drifted(velocity, domain, self.scaling.drift)
        seen = (carried - mean) / std
        answer: Tensor = self.network(seen, domain, seeds) if seeds else self.network(seen, domain)
        answer = answer.to(velocity.dtype)
        after: Tensor = carried + change * answer if self.scaling.target == "increment" else mean + std * answer
        return after


def drifted(field: Tensor, domain: Domain, distance: float) -> Tensor:
    """`field` (batch, channels, nx, ny, nz) carried on along x, an evenly spaced period, exactly.

    The Nyquist mode, of unknown phase, stays where it is. Raises CaseError for another direction x.
    """
    if distance == 0:
        return field
    if not domain.x.is_spectral:
        raise CaseError("[loss] frame: x is no evenly spaced period: leave it out")
    return field + along(field, domain.x.sent(domain.x.carried_on(distance), field), 0)

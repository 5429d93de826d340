"""Fourier neural operator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn.functional import gelu

from closures.operators.domain import Domain
from closures.operators.pointwise import Channelwise, check_kind, perceptron, with_wall_coordinates
from closures.operators.spectral import SpectralConvolution


def one_a_direction(value: Any) -> Any:
    """Raises ValueError if there are not three values."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("should be three values, one a direction")
    return value


Count = Annotated[int, Field(ge=1, le=4096)]
Modes = Annotated[tuple[Count, Count, Count], Field(strict=False), BeforeValidator(one_a_direction)]
Periodicity = Annotated[tuple[bool, bool, bool], Field(strict=False), BeforeValidator(one_a_direction)]
CHANNEL_PERIODICITY = (True, False, True)


class FNO(nn.Module):
    """``v <- gelu(W v + F^-1 (R . F v))``, the last layer without gelu (Li et al. 2021, ICLR).

    Parameters
    ----------
    channels : of the field, in and out.
    width : channels between.
    modes : retained modes per direction: K of ``-K .. K`` where periodic, the number of polynomials between walls.
    layers : number of Fourier layers, each with its own weights.
    hidden : channels inside the pointwise maps at both ends.
    periodic : which directions are periodic.
    """

    kind: Literal["state"] = "state"
    grid_free = True
    symmetries = frozenset({"shift"})

    def __init__(
        self,
        *,
        channels: Count = 3,
        width: Count = 40,
        modes: Modes = (8, 12, 6),
        layers: Annotated[int, Field(ge=1, le=64)] = 4,
        hidden: Count = 128,
        periodic: Periodicity = CHANNEL_PERIODICITY,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.lift = perceptron(channels + periodic.count(False), hidden, width)
        kernels = [SpectralConvolution(width, modes, periodic) for _ in range(layers)]
        self.kernels, self.reach = nn.ModuleList(kernels), kernels[0].reach
        self.local = nn.ModuleList(Channelwise(width, width) for _ in range(layers))
        self.project = perceptron(width, hidden, channels)

    def forward(self, field: Tensor, domain: Domain) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to a field on the same points."""
        check_kind(self.periodic, domain)
        v = self.lift(with_wall_coordinates(field, domain))
        for i, (kernel, local) in enumerate(zip(self.kernels, self.local, strict=True)):
            v = kernel(v, domain) + local(v)
            v = gelu(v) if i < len(self.kernels) - 1 else v
        found: Tensor = self.project(v)
        return found

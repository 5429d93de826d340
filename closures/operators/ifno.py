"""Implicit Fourier neural operator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu

from closures.operators.domain import Domain
from closures.operators.fno import CHANNEL_PERIODICITY, Count, Modes, Periodicity
from closures.operators.implicit import walk
from closures.operators.pointwise import Channelwise, check_kind, perceptron, with_wall_coordinates
from closures.operators.spectral import SpectralConvolution


class IFNO(nn.Module):
    """``v <- v + gelu(W v + F^-1 (R . F v)) / L`` with the same W and R each time, the last without gelu.

    You, Zhang, Ross, Lee & Yu 2022 (Comput. Methods Appl. Mech. Eng. 398, 115296). The parameters are those
    of `FNO`; `iterations` is L.
    """

    kind: Literal["state"] = "state"
    grid_free = True
    symmetries = frozenset({"shift"})

    def __init__(
        self,
        *,
        channels: Count = 3,
        width: Count = 64,
        modes: Modes = (8, 12, 6),
        iterations: Annotated[int, Field(ge=1, le=256)] = 10,
        hidden: Count = 128,
        periodic: Periodicity = CHANNEL_PERIODICITY,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.iterations, self.recompute = iterations, recompute
        self.lift = perceptron(channels + periodic.count(False), hidden, width)
        self.kernel = SpectralConvolution(width, modes, periodic)
        self.reach, self.local = self.kernel.reach, Channelwise(width, width)
        self.project = perceptron(width, hidden, channels)

    def forward(self, field: Tensor, domain: Domain) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to a field on the same points."""
        check_kind(self.periodic, domain)

        def block(v: Tensor, last: bool) -> Tensor:
            total = self.kernel(v, domain) + self.local(v)
            return total if last else gelu(total)

        v = self.lift(with_wall_coordinates(field, domain))
        found: Tensor = self.project(walk(v, block, self.iterations, self.recompute))
        return found

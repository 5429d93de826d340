"""Differential neural operator: products of fields and first derivatives, as the equations of motion have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closures.operators.domain import Domain
from closures.operators.fno import CHANNEL_PERIODICITY, Count, Periodicity
from closures.operators.noise import white_noise
from closures.operators.pointwise import Channelwise, check_kind
from closures.operators.products import (
    Lengths,
    dealiased_product,
    pointwise_product,
    with_derivatives,
    with_walls,
    without_walls,
)

FAINT = 0.05  # size of the noise before anything is learned, in units of the features


class DifferentialOperator(nn.Module):
    """``v <- v + (A v + sum_d A_d l_d d_d v) g(B v + sum_d B_d l_d d_d v)``, from a linear map of the field and to one.

    Derivatives along the axes are the localised differential kernels of Liu-Schiaffini, Berner, Bonev, Kurth,
    Azizzadenesheli & Anandkumar 2024 (ICML, arXiv 2402.16845); their product is the gate of Dauphin, Fan, Auli &
    Grangier 2017 (ICML). With a linear g one layer holds ``u_j d_j u_i`` exactly, at all amplitudes and with as many
    weights on every grid; a Fourier operator has to find the same derivative mode by mode.

    Parameters
    ----------
    channels : of the field, in and out.
    width : channels between.
    layers : number of products.
    lengths : l_d, near the smallest spacing of the points it is made for, which make derivatives dimensionless: with
        more, the derivatives of products next to a wall would dwarf all else.
    gate : g, ``linear`` or, for long steps and deep networks, whose powers would grow without bound, ``tanh``.
    dealias : what products fold back along periods is taken out, see `dealiased_product`.
    no_slip : walls count as points where the field is zero, so that derivatives next to them know it.
    polynomials : of the coordinate across walls that the network is told, 1 up to this degree.
    periodic : which directions are periodic.
    noise : channels of white noise (`closures.operators.noise.white_noise` with the density of `lengths`) that enter
        every feature before the first product, with an amplitude that is learned as a polynomial across walls: the
        answer is then one of many. Without seeds nothing is drawn.
    """

    kind: Literal["state"] = "state"
    grid_free = True
    symmetries = frozenset({"shift"})
    reach = 0  # derivatives bring their own neighbours

    def __init__(
        self,
        *,
        channels: Count = 3,
        width: Count = 16,
        layers: Annotated[int, Field(ge=1, le=64)] = 2,
        lengths: Lengths = (0.4, 0.02, 0.26),
        gate: Literal["linear", "tanh"] = "linear",
        dealias: bool = True,
        no_slip: bool = False,
        polynomials: Annotated[int, Field(ge=0, le=64)] = 8,
        periodic: Periodicity = CHANNEL_PERIODICITY,
        noise: Annotated[int, Field(ge=0, le=64)] = 0,
    ) -> None:
        super().__init__()
        self.periodic, self.lengths, self.polynomials = periodic, lengths, polynomials
        self.dealias, self.no_slip = dealias, no_slip
        self.gate = torch.tanh if gate == "tanh" else nn.Identity()
        self.lift = Channelwise(channels + polynomials * periodic.count(False), width)
        self.factors = nn.ModuleList(Channelwise(4 * width, 2 * width) for _ in range(layers))
        self.project = Channelwise(4 * width, channels)
        nn.init.zeros_(self.project.weight)  # products of products are large before they are learned: begin with none
        self.noise, self.stochastic = noise, noise > 0
        if noise:  # drawn last, so that all other weights begin as they do without
            amplitudes = torch.zeros(1 + polynomials * periodic.count(False), width, noise)
            amplitudes[0].normal_(std=FAINT * noise**-0.5)
            self.amplitudes = nn.Parameter(amplitudes)

    def forward(self, field: Tensor, domain: Domain, seeds: Sequence[int] = ()) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to a field on the same points; with `seeds`, one a field, a drawn one."""
        check_kind(self.periodic, domain)
        noise = white_noise(seeds, self.noise, domain, self.lengths, field) if self.noise and seeds else None
        if self.no_slip:
            noise = noise if noise is None else with_walls(noise, domain)[0]
            field, domain = with_walls(field, domain)
        v = self.lift(self.with_positions(field, domain))
        if noise is not None:
            v = v + self.entered(noise, domain)
        for factors in self.factors:
            v = v + self.product(factors(with_derivatives(v, domain, self.lengths)), domain)
        change = self.project(with_derivatives(v, domain, self.lengths))
        return without_walls(change, domain) if self.no_slip else change

    def product(self, factors: Tensor, domain: Domain) -> Tensor:
        """Of the two halves of the channels of `factors`, the second behind the gate."""
        if self.dealias:
            return dealiased_product(factors, self.gate, domain)
        return pointwise_product(factors, self.gate)

    def with_positions(self, field: Tensor, domain: Domain) -> Tensor:
        """``field`` and the polynomials of each direction between walls, of unit mean square."""
        known = self.positions(field, domain)
        return torch.cat([field, *(one.expand(len(field), -1, *field.shape[2:]) for one in known)], dim=1)

    def positions(self, field: Tensor, domain: Domain) -> list[Tensor]:
        """Those polynomials, (polynomials, nx, ny, nz) with ones but for their own direction."""
        found = []
        for d, line in enumerate(domain.lines):
            if not line.periodic:
                count = min(self.polynomials + 1, line.within)
                values = line.sent(line.polynomials(count), field)[:, 1:].T
                known = field.new_zeros((self.polynomials, line.n))  # a grid too coarse for some has zeros there
                known[: len(values)] = values
                found.append(known.reshape([self.polynomials, *(line.n if k == d else 1 for k in range(3))]))
        return found

    def entered(self, noise: Tensor, domain: Domain) -> Tensor:
        """What `noise` (batch, noise, nx, ny, nz) is to the features, (batch, width, nx, ny, nz)."""
        constant, *across = self.amplitudes.split([1, *[self.polynomials] * self.periodic.count(False)])
        parts = [constant[0, :, :, None, None, None]]
        for weights, known in zip(across, self.positions(noise, domain), strict=True):
            parts.append(torch.einsum("pwn,pxyz->wnxyz", weights, known))
        amplitudes = sum(parts[1:], parts[0])
        found: Tensor = amplitudes[:, 0] * noise[:, None, 0]
        for n in range(1, self.noise):
            found = found + amplitudes[:, n] * noise[:, None, n]
        return found

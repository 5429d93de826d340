"""Products of fields and first derivatives at points, in which nothing folds back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn.functional import pad

from closures.operators.domain import Domain
from closures.operators.fno import one_a_direction
from closures.operators.spectral import along

Length = Annotated[float, Field(gt=0)]
Lengths = Annotated[tuple[Length, Length, Length], Field(strict=False), BeforeValidator(one_a_direction)]


def with_derivatives(v: Tensor, domain: Domain, lengths: Lengths) -> Tensor:
    """``v`` (batch, channels, nx, ny, nz) and its derivatives times `lengths`: four times the channels."""
    matrices = (size * line.sent(line.derivative, v) for size, line in zip(lengths, domain.lines, strict=True))
    return torch.cat([v, *(along(v, matrix, d) for d, matrix in enumerate(matrices))], dim=1)


def pointwise_product(factors: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
    """``a gate(b)`` of the two halves of the channels of `factors`."""
    a, b = factors.chunk(2, dim=1)
    return a * gate(b)


def dealiased_product(factors: Tensor, gate: Callable[[Tensor], Tensor], domain: Domain) -> Tensor:
    """The mean of `pointwise_product` at the points and halfway between them along all periods.

    Modes that fold back an odd number of times have the opposite sign there (Patterson & Orszag 1971, Phys. Fluids 14,
    2538).
    """
    shifts = {d: line.sent(line.half_shift, factors) for d, line in enumerate(domain.lines) if line.is_spectral}
    here = pointwise_product(factors, gate)
    if not shifts:
        return here
    for d, shift in shifts.items():
        factors = along(factors, shift, d)
    between = pointwise_product(factors, gate)
    for d, shift in shifts.items():
        between = along(between, shift.T, d)
    return 0.5 * (here + between)


def with_walls(field: Tensor, domain: Domain) -> tuple[Tensor, Domain]:
    """``field``, zero on walls, and the domain whose points they are as well."""
    walled = [not line.periodic for line in domain.lines]
    lines = (line.with_ends if w else line for line, w in zip(domain.lines, walled, strict=True))
    return pad(field, [int(w) for w in reversed(walled) for _ in range(2)]), Domain(*lines)


def without_walls(field: Tensor, domain: Domain) -> Tensor:
    """The values between the walls of a field on a domain `with_walls`."""
    inside = (slice(None) if line.periodic else slice(1, -1) for line in domain.lines)
    return field[(..., *inside)]

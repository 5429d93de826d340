"""Products of fields and first derivatives at points, in which nothing folds back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    found = [v]
    for d, (size, line) in enumerate(zip(lengths, domain.lines, strict=True)):
        matrix = size * line.sent(line.derivative, v)
        found.append(line.across(line.extended(v), partial(along, matrix=matrix, direction=d)))
    return torch.cat(found, dim=1)


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
        factors = domain.lines[d].across(factors, partial(along, matrix=shift, direction=d))
    between = pointwise_product(factors, gate)
    for d, shift in shifts.items():
        between = domain.lines[d].across(between, partial(along, matrix=shift.T, direction=d))
    return 0.5 * (here + between)


def with_walls(field: Tensor, domain: Domain) -> tuple[Tensor, Domain]:
    """``field``, zero on walls, and the domain whose points they are as well."""
    lines = (line if line.periodic else line.with_ends for line in domain.lines)
    return pad(field, [w for line in reversed(domain.lines) for w in line.walls]), Domain(*lines)


def without_walls(field: Tensor, domain: Domain) -> Tensor:
    """The values between the walls of a field on a domain `with_walls`."""
    for d, line in enumerate(domain.lines):
        lower, upper = line.walls
        field = field.narrow(d - 3, lower, line.n - lower - upper)
    return field

"""Networks that begin as classical preconditioners: training then improves on a method that works.

A deep direction network begins as a two-grid cycle (`two_grid`). A rectifier carries a signed field exactly as a pair
of channels, ``x = relu(x) - relu(-x)``, and the skip of a `Block` adds to both, so two convolutions are one sweep.
A geometry-aware network begins as a sum of smoothers over levels (Bramble, Pasciak & Xu 1990, Math. Comp. 55, 1-22).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from closures.pressure_nets.conjugate_net import Block, ConjugateDirectionNet
from closures.pressure_nets.cosines import fitted
from closures.pressure_nets.ends import Convolution
from closures.pressure_nets.geometry_net import NEIGHBOURS, Blend, GeometryNet, VaryingStencil
from closures.pressure_nets.two_grid import MATRIX, Kernels, stencil
from solver.errors import CaseError

RESIDUAL, SOLUTION, DEFECT = 0, 1, 2  # the signed fields of the cycle: right-hand side, iterate, what is left
INNER = 0  # between the two convolutions of a block
SIGNED = 6  # channels that they take; the others are free to learn
QUIET = 0.1  # of the usual first weights, for free channels
CENTRE = NEIGHBOURS // 2
IDENTITY = (1.0, 0.0, 0.0, 0.0)
SIDE = 0.125  # weight of a neighbour in the smoother, in each direction
DAMPING = 0.16  # of a smoother on its level, near 1 / 6
BOTTOM = 0.6  # of the coarsest, which has to stand for all that are coarser
TYPICAL = 16  # cells a side of a level that can teach
GROWTH = 3.0  # from level to level: the inverse matrix grows by 4, of which finer levels contribute a part


def begin(network: nn.Module, cells: int) -> None:
    """Set the weights of a network of this package to its classical start, to be trained on boxes of ``cells^3``.

    Raises
    ------
    CaseError : there is none for this network, or it leaves nothing to learn from such small boxes.
    """
    if isinstance(network, ConjugateDirectionNet) and isinstance(network.pool, nn.AvgPool3d):
        embed(network, fitted(len(network.after), len(network.coarse)))
    elif isinstance(network, GeometryNet):
        multilevel(network, cells)
    else:
        raise CaseError("[operator] only networks in three dimensions have a classical start: set start = 'random'")
    if not any(p.requires_grad for p in network.parameters()):
        raise CaseError(f"[matrices] cells = {cells}: a classical start learns from {TYPICAL} or more: use more cells")


# -- deep conjugate directions ------------------------------------------------------------------------------------


@torch.no_grad()
def embed(network: ConjugateDirectionNet, kernels: Kernels) -> None:
    """Weights with which `network` is `two_grid` with these kernels, where convolutions mirror at walls.

    Free channels are filled with small weights and read by none of the cycle's, so that they can learn. Biases stay
    zero, and are not trained: the direction then scales with the residual, whose entries shrink as grids grow.
    """
    first, *more = kernels.smoothers
    identity, matrix = first.new_tensor(IDENTITY), first.new_tensor(MATRIX)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):  # project, too
            module.weight.mul_(QUIET)
            module.weight[:SIGNED] = 0.0
            assert module.bias is not None
            module.bias.zero_().requires_grad_(False)
    network.lift.weight[0, 0] = stencil(identity)
    for field, kernel in ((RESIDUAL, identity), (SOLUTION, first)):
        network.entry.weight[2 * field, 0] = stencil(kernel)
        network.entry.weight[2 * field + 1, 0] = -stencil(kernel)
    defect: list[tuple[int, int, Tensor]] = [(INNER, RESIDUAL, identity), (INNER, SOLUTION, -matrix)]
    for block, smoother in zip(_blocks(network.before), more, strict=True):
        _connect(block.first, defect)
        _connect(block.second, [(SOLUTION, INNER, smoother)])
    _connect(network.last, [(RESIDUAL, RESIDUAL, identity), (SOLUTION, SOLUTION, identity)])
    _connect(network.last, [(DEFECT, RESIDUAL, identity), (DEFECT, SOLUTION, -matrix)])
    for k, (block, (operator, correction)) in enumerate(zip(_blocks(network.coarse), kernels.coarse, strict=True)):
        if k == 0:  # what was pooled of the fine right-hand side and iterate must not come back up: take it off
            _connect(block.first, [(INNER, DEFECT, operator), (1, SOLUTION, identity), (2, RESIDUAL, identity)])
            _connect(block.second, [(SOLUTION, 1, -identity), (RESIDUAL, 2, -identity)])
        else:
            _connect(block.first, [(INNER, DEFECT, identity), (INNER, SOLUTION, -operator)])
        _connect(block.second, [(SOLUTION, INNER, correction)])
    for block, smoother in zip(_blocks(network.after), kernels.smoothers, strict=True):
        _connect(block.first, defect)
        _connect(block.second, [(SOLUTION, INNER, smoother)])
    network.project.weight.zero_()
    network.project.weight[0, 2 * SOLUTION] = 1.0
    network.project.weight[0, 2 * SOLUTION + 1] = -1.0


def _blocks(blocks: nn.ModuleList) -> Sequence[Block]:
    return cast(Sequence[Block], blocks)


def _connect(convolution: Convolution, wires: list[tuple[int, int, Tensor]]) -> None:
    """Add ``out += kernel * in`` for signed fields (out, in, kernel)."""
    for out, source, kernel in wires:
        weights = stencil(kernel).to(convolution.weight)
        for i in (0, 1):
            for j in (0, 1):
                convolution.weight[2 * out + i, 2 * source + j] += weights if i == j else -weights


# -- geometry-aware V-cycle ---------------------------------------------------------------------------------------


@torch.no_grad()
def multilevel(network: GeometryNet, cells: int) -> None:
    """Weights with which `network` adds up smoothers of all levels, each mirrored at walls and solids.

    Levels that have fewer than `TYPICAL` cells a side in the boxes of training are not trained: they would learn the
    few walls there are, and fail in larger boxes.
    """
    smooth = _product(SIDE)
    for reader in cast(Sequence[VaryingStencil], network.before):
        _mirrored(reader, smooth)
    for reader in cast(Sequence[VaryingStencil], network.after):
        _mirrored(reader, _product(0.0))
    _mirrored(network.bottom, BOTTOM * smooth)
    for blends, value in ((network.kept, DAMPING), (network.added, GROWTH)):
        for blend in cast(Sequence[Blend], blends):
            _constant(blend, value)
    network.bottom.requires_grad_(cells >> network.levels >= TYPICAL)
    for modules in (network.before, network.after, network.kept, network.added):
        for level, module in enumerate(modules):
            module.requires_grad_(cells >> level >= TYPICAL)


def _product(side: float) -> Tensor:
    """``(side, 1 - 2 side, side)`` in each direction, (3, 3, 3)."""
    line = torch.tensor([side, 1 - 2 * side, side])
    return line[:, None, None] * line[None, :, None] * line[None, None, :]


def _mirrored(reader: VaryingStencil, kernel: Tensor) -> None:
    """Between fluid cells the kernel; what it would read in a solid it reads in the cell itself.

    For an image f of ones and zeros ``K_d(x) = k_d (f(x) + f(x + d) - 1)`` and
    ``K_0(x) = k_0 + sum_d k_d (1 - f(x + d))``: symmetric in the fluid, and linear in the image, as the reader is.
    """
    weight, bias = reader.weights.weight, reader.weights.bias
    assert bias is not None
    weight.zero_()
    bias[CENTRE] = kernel.sum()
    for d in range(NEIGHBOURS):
        at = (d // 9, d // 3 % 3, d % 3)
        if d == CENTRE:
            continue
        bias[d] = -kernel[at]
        for channel in (1, 2):  # fluid, and not solid
            weight[d, channel, 1, 1, 1] += 0.5 * kernel[at]
            weight[(d, channel, *at)] += 0.5 * kernel[at]
            weight[(CENTRE, channel, *at)] -= 0.5 * kernel[at]


def _constant(blend: Blend, value: float) -> None:
    blend.weights.weight.zero_()
    assert blend.weights.bias is not None
    blend.weights.bias.fill_(value)

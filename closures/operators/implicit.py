"""One block applied many times with shared weights: an explicit Euler walk through a learned flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def walk(v: Tensor, block: Callable[[Tensor, bool], Tensor], iterations: int, recompute: bool) -> Tensor:
    """``v <- v + block(v, last) / L`` for l = 1 .. L, as in `IFNO` and `IFactFormer`.

    With `recompute` each block's inner values are computed again in the backward pass instead of being kept:
    memory then grows with one field per iteration and not with all of the block's.
    """
    recompute = recompute and torch.is_grad_enabled()
    for i in range(iterations):
        last = i == iterations - 1
        change = checkpoint(block, v, last, use_reentrant=False) if recompute else block(v, last)
        v = torch.add(v, change, alpha=1.0 / iterations)
    return v

"""When two results are the same.

To the bit (`torch.equal`, ``== 0.0``): the same code on the same arrays in the same memory layout on the same number of
ranks, a copy, a file read back, an answer that was refused. Whatever the processor, its kernels repeat themselves.

To round-off: another layout, batch, order of a sum, number of ranks or kernel. `ROUND_OFF` is relative to the largest
entry and holds for results of a few hundred operations; tests of longer chains name a tolerance of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUND_OFF = {torch.float64: 1e-13, torch.float32: 3e-6}


def assert_round_off(found: Tensor, expected: Tensor, operations: float = 1.0) -> None:
    """Two tensors differ by round-off of their precision; `operations` in units of a few hundred."""
    assert found.dtype == expected.dtype
    tolerance = operations * ROUND_OFF[found.dtype] * float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)

"""What a process sets up at its start."""

from __future__ import annotations

import torch

from solver.run.machine import prepare_process


def test_single_precision_has_all_its_bits():
    """A GPU would multiply float32 with ten bits of mantissa: a network that answers otherwise than on CPU."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    prepare_process()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32

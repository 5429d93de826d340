"""The transforms that a step is measured by are transforms, and of as many points as the field has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.run import limit
from solver.run.limit import FieldTransforms, MinimalStage
from tests.grids import GRIDS, operators

FOURIER = [name for name, grid in GRIDS.items() if grid.x.is_fourier]


@pytest.mark.parametrize("name", FOURIER)
@pytest.mark.parametrize("slab", [7, limit.SLAB_POINTS])
def test_there_and_back_is_where_one_was(name, slab, monkeypatch):
    """Of small slabs as of one that is the whole field; and what is transformed has the size of the field."""
    monkeypatch.setattr(limit, "SLAB_POINTS", slab)
    op = operators(name)
    found = FieldTransforms(op)
    values = found.values.clone()
    found.forward()
    axes = {1: np.fft.rfft, 2: np.fft.rfft2}[len(found.axes)]
    shape = values.shape[1:] if len(found.axes) == 2 else values.shape[1:2]
    wanted = axes(values.numpy(), axis=1) if len(found.axes) == 1 else axes(values.numpy(), axes=(1, 2))
    np.testing.assert_allclose(found.spectrum.numpy(), wanted / np.prod(shape), atol=1e-14)
    found.inverse()
    torch.testing.assert_close(found.values, values, rtol=0, atol=1e-13)
    points = int(np.prod(op.local_shape))
    assert points <= found.slabs * values.numel() < points + op.local_shape[1] * values[0].numel()
    assert (found.blocks > 0) == op.grid.y.is_fourier


@pytest.mark.parametrize("name", ["channel", "box"])
def test_a_minimal_stage_has_its_transforms_and_products(name, monkeypatch):
    counted = {"forward": 0, "inverse": 0}
    for method in counted:
        monkeypatch.setattr(
            FieldTransforms, method, lambda self, method=method: counted.update({method: counted[method] + 1})
        )
    stage = MinimalStage(operators(name))
    stage()
    assert counted == {"forward": 5 if name == "box" else 6, "inverse": 3}
    columns = 0 if name == "box" else stage.products * stage.block.shape[1]
    cx, _, cz = operators(name).grid.coefficient_shape
    assert columns >= (0 if name == "box" else 2 * cx * cz)

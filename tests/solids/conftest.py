"""Flows around solids run as production does: no gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def production_mode(gradient_mode: None) -> Iterator[None]:
    with torch.no_grad():
        yield

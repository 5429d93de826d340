"""Physics tests run as production does: no gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.physics import dns


@pytest.fixture(autouse=True)
def production_mode(gradient_mode: None) -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def means() -> np.ndarray:
    """Raw moments a run would have accumulated had it been the DNS."""
    return dns.moments()

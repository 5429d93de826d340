"""Numerics tests run without gradients and on one thread; ``@pytest.mark.gradients`` opts out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

NUMERICS = {"unit", "identities", "convergence", "parallel", "pressure"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gradients: records gradients (others run under no_grad)")


@pytest.fixture(autouse=True)
def gradient_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """No gradients in the numerics folders unless a test is marked; other folders decide for themselves."""
    torch.set_num_threads(1)
    quiet = request.path.parent.name in NUMERICS and request.node.get_closest_marker("gradients") is None
    with torch.set_grad_enabled(not quiet):
        yield

"""Numerics tests run without gradients and on one thread; ``@pytest.mark.gradients`` opts out.

``HYPOTHESIS_PROFILE=many pytest tests/properties`` draws a thousand examples of each property, anew every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

NUMERICS = {"unit", "identities", "convergence", "parallel", "pressure", "properties", "gpu"}

# What hypothesis draws is the same every time, unless a profile with more examples is asked for.
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "print_blob": True}
settings.register_profile("few", settings(max_examples=25, derandomize=True, **QUIET))
settings.register_profile("many", settings(max_examples=1000, **QUIET))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gradients: records gradients (others run under no_grad)")


@pytest.fixture(autouse=True)
def gradient_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """No gradients in the numerics folders unless a test is marked; other folders decide for themselves."""
    torch.set_num_threads(1)
    quiet = request.path.parent.name in NUMERICS and request.node.get_closest_marker("gradients") is None
    with torch.set_grad_enabled(not quiet):
        yield

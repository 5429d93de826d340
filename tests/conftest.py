"""Numerics tests run without gradients and on one thread; ``@pytest.mark.gradients`` opts out.

``HYPOTHESIS_PROFILE=many pytest tests/properties`` draws a thousand examples of each property, anew every time.
"""

from __future__ import annotations

import os
import shutil
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
    config.addinivalue_line("markers", "ranks: starts several; skipped without mpirun")
    config.addinivalue_line("markers", "gradients: records gradients (others run under no_grad)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several ranks are slow, and need mpirun.

    With workers (``-n 2 --dist loadgroup``) a file stays on one; slow tests that share no fixture go to any.
    """
    for item in items:
        if item.get_closest_marker("ranks") is not None:
            item.add_marker(pytest.mark.slow)
            if shutil.which("mpirun") is None:
                item.add_marker(pytest.mark.skip(reason="mpirun is not installed"))
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        found = item._fixtureinfo.name2fixturedefs.values()
        shared = any(definitions[-1].scope == "module" for definitions in found)
        if shared or item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def gradient_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """No gradients in the numerics folders unless a test is marked; other folders decide for themselves."""
    torch.set_num_threads(1)
    quiet = request.path.parent.name in NUMERICS and request.node.get_closest_marker("gradients") is None
    with torch.set_grad_enabled(not quiet):
        yield

"""Every test here runs in a fork: torch keeps a device for good, and then autograd works in no fork of later tests."""

from __future__ import annotations

import os
import pickle
import traceback

import pytest
import torch._dynamo  # noqa: F401  every call of a mode asks for it; imported once, before the forks


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Call the test in a child and say here how it ended."""
    names = pyfuncitem._fixtureinfo.argnames
    read, write = os.pipe()
    if not (child := os.fork()):
        said = ""
        try:
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        except BaseException:
            said = traceback.format_exc()
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(said, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told:
        pytest.fail(f"the child ended with status {status}", pytrace=False)
    if said := pickle.loads(told):
        pytest.fail(said, pytrace=False)
    return True

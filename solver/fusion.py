"""Fused pointwise kernels: `torch.compile` where a compiler is at hand and the run is long enough to pay for it.

A method marked ``@fused`` is an ordinary pure function of tensors. `enable()` makes marked methods compile on
first use; until then, and wherever a gradient is recorded, they run as plain torch and give the same numbers.
"""

from __future__ import annotations

import functools
import shutil
import types
from collections.abc import Callable
from typing import Any

import torch

_state = {"enabled": False}


def compiler_available() -> bool:
    """Whether torch.compile can produce CPU code here."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def enable(flag: bool = True) -> None:
    """Compile marked methods from now on (or stop doing so)."""
    _state["enabled"] = flag


def is_enabled() -> bool:
    """Whether marked methods compile."""
    return _state["enabled"]


def _private_copy(function: Callable[..., Any], owner: object) -> Callable[..., Any]:
    """`function` bound to `owner` with a code object of its own: torch.compile keeps its cache by code object."""
    assert isinstance(function, types.FunctionType)
    code = function.__code__.replace()
    copy = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    return types.MethodType(copy, owner)


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a pure pointwise method for fusion."""
    name = f"_fused_{function.__name__}"

    @functools.wraps(function)
    def call(self: Any, *args: Any) -> Any:
        if not _state["enabled"] or torch.is_grad_enabled():
            return function(self, *args)
        compiled = self.__dict__.get(name)
        if compiled is None:
            compiled = self.__dict__[name] = torch.compile(_private_copy(function, self), dynamic=False)
        return compiled(*args)

    return call

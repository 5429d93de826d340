"""Fused pointwise kernels: `torch.compile` where a compiler is at hand and the run is long enough to pay for it.

A method marked ``@fused`` is an ordinary pure function of tensors. `enable()` makes marked methods compile on
first use; until then, and wherever a gradient is recorded, they run as plain torch and give the same numbers but for
round-off. So they do from the first kernel on that the compiler refuses.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import shutil
import time
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("solver")
_state = {"enabled": False}
_spent = {"seconds": 0.0}


def compiler_available(device: str = "cpu") -> bool:
    """Whether torch.compile can produce code for a ``cpu`` (by a C++ compiler) or for ``cuda`` (by Triton) here."""
    if device != "cpu":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def enable(flag: bool = True) -> None:
    """Compile marked methods from now on (or stop doing so)."""
    _state["enabled"] = flag


def is_enabled() -> bool:
    """Whether marked methods compile."""
    return _state["enabled"]


def compile_seconds() -> float:
    """What first calls have taken in this process so far."""
    return _spent["seconds"]


def _private_copy(function: Callable[..., Any], owner: object) -> Callable[..., Any]:
    """`function` bound to `owner` with a code object of its own: torch.compile keeps its cache by code object."""
    assert isinstance(function, types.FunctionType)
    code = function.__code__.replace()
    copy = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    return types.MethodType(copy, owner)


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a pure pointwise method for fusion.

    One specialisation is compiled for each signature of the arguments, and the guards of torch.compile are left out:
    on a slab of a small grid they take longer than the kernel. What a method reads from `self` must not change.
    """
    name = f"_fused_{function.__name__}"

    @functools.wraps(function)
    def call(self: Any, *args: Any) -> Any:
        if not _state["enabled"] or torch.is_grad_enabled():
            return function(self, *args)
        known = self.__dict__.setdefault(name, {})
        key = signature(args, {})
        compiled = known.get(key)
        if compiled is not None:
            return compiled(*args)
        start, before = time.perf_counter(), _spent["seconds"]
        unguarded: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        known[key] = torch.compile(_private_copy(function, self), dynamic=False, options=unguarded)
        try:
            result = known[key](*args)
        except RuntimeError as error:  # what torch raises has no common class; a fault of the method itself comes again
            del known[key]
            result = function(self, *args)
            enable(False)
            log.warning("kernels stay plain torch: %s is not compiled: %s", function.__name__, first_line(error))
        _spent["seconds"] = before + time.perf_counter() - start  # what was compiled inside is part of it
        return result

    return call


def first_line(error: Exception) -> str:
    """What an error says before its details."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def signature(value: Any, storages: dict[int, int]) -> Any:
    """What compiled code relies on: layout, type and aliasing of tensors, values of scalars, kinds of other objects.

    An object that is not a container says by its attribute `signature` which others are interchangeable with it.
    """
    if isinstance(value, Tensor):
        storage = storages.setdefault(value.untyped_storage().data_ptr(), len(storages))
        return value.shape, value.stride(), value.dtype, storage
    if isinstance(value, list | tuple):
        return tuple([signature(item, storages) for item in value])
    if isinstance(value, dict):
        return tuple([(key, signature(item, storages)) for key, item in value.items()])
    return value if value is None or isinstance(value, bool | int | float | str) else value.signature

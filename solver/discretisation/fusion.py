"""Fused pointwise kernels: torch's compiler where it can produce code and the run is long enough to pay for it.

A method marked ``@fused`` is an ordinary pure function of tensors. `enable()` makes marked methods compile on
first use; until then, and wherever a gradient is recorded, they run as plain torch and give the same numbers but for
round-off. So they do from the first kernel on that the compiler refuses. First calls can be put off (`gathering`).
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import logging
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

log = logging.getLogger("solver")
Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass
class Compiling:
    """Whether marked methods compile, the seconds that it has taken in this process so far, and what is put off."""

    enabled: bool = False
    seconds: float = 0.0
    gathered: dict[Hashable, FirstCall] | None = None  # by owner, method and structure


compiling = Compiling()


def compiler_available(device: str = "cpu") -> bool:
    """Whether torch.compile can produce code for a ``cpu`` (by a C++ compiler) or for ``cuda`` (by Triton) here."""
    if device != "cpu":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def enable(flag: bool = True) -> None:
    """Compile marked methods from now on (or stop doing so)."""
    compiling.enabled = flag


def is_enabled() -> bool:
    """Whether marked methods compile."""
    return compiling.enabled


def fused(function: Method) -> Method:
    """Mark a pointwise method for fusion.

    It is traced, and one kernel compiled, for each structure of its arguments: `structure` says what that is. What it
    reads from `self`, tensors included, must not change; an argument that it writes to shares no memory with others.
    """
    name = f"_fused_{function.__name__}"

    @functools.wraps(function)
    def call(self: Any, *args: Any) -> Any:
        if not compiling.enabled or torch.is_grad_enabled():
            return function(self, *args)
        tensors: list[Tensor] = []
        key = structure(args, tensors)
        kernels = self.__dict__.setdefault(name, {})
        kernel = kernels.get(key)  # once: to hash the structure takes as long as a small kernel
        if kernel is None:
            first = FirstCall(function, name, key, self, args, tensors)
            if compiling.gathered is not None:
                return first.put_off(args)
            first.compile()
            kernel = kernels.get(key)
        return function(self, *args) if kernel is None else kernel(tensors)

    return cast("Method", call)


class Layout(NamedTuple):
    """All that a kernel knows of a tensor."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, t: Tensor) -> Layout:
        """That of `t`."""
        return cls(t.shape, t.stride(), t.dtype, t.device)

    def empty(self, device: torch.device | str | None = None) -> Tensor:
        """A tensor like that, there or on another device."""
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device or self.device)


class FirstCall:
    """A call for which there is no kernel yet; of its arguments it keeps no more than the kernel knows."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        key: Hashable,
        owner: Any,
        args: tuple[Any, ...],
        tensors: list[Tensor],
    ) -> None:
        self.function, self.name, self.key, self.owner = function, name, key, owner
        self.layouts = [Layout.of(t) for t in tensors]
        self.args = rebuilt(args, iter([layout.empty("meta") for layout in self.layouts]))

    def put_off(self, args: tuple[Any, ...]) -> Any:
        """The result by plain torch; the kernel is made when what is gathered is."""
        assert compiling.gathered is not None
        compiling.gathered[id(self.owner), self.name, self.key] = self
        with _plainly():
            return self.function(self.owner, *args)

    def compile(self) -> None:
        """Make the kernel; if the compiler refuses, kernels are plain torch from now on."""
        start, before = time.perf_counter(), compiling.seconds
        try:
            with _cycles_kept():
                kernel = Kernel(self.function, self.owner, self.args, self.layouts)
            self.owner.__dict__[self.name][self.key] = kernel
        except Exception as error:  # what compilers raise has no common class; a fault of the method comes again
            enable(False)
            log.warning("kernels stay plain torch: %s is not compiled: %s", self.function.__name__, first_line(error))
        compiling.seconds = before + time.perf_counter() - start


@contextmanager
def gathering() -> Iterator[list[FirstCall]]:
    """What would be compiled within is done by plain torch, and is in the list that is given, afterwards."""
    found: list[FirstCall] = []
    compiling.gathered = {}
    try:
        yield found
    finally:
        found += compiling.gathered.values()
        compiling.gathered = None


class Kernel:
    """A method compiled for arguments of one structure: a function of the tensors in them.

    The graph is handed to the compiler directly: what `torch.compile` does at each call to make sure that it applies
    takes longer than the kernel on the grids of large-eddy simulations. It is traced with tensors that have no values:
    a trace keeps every intermediate result, which would be some hundred fields of the size of the flow.
    """

    def __init__(
        self, function: Callable[..., Any], owner: Any, args: tuple[Any, ...], layouts: Sequence[Layout]
    ) -> None:
        def flat(*leaves: Tensor) -> list[Tensor]:
            with _plainly():
                found = function(owner, *rebuilt(args, iter(leaves)))
            results: list[Tensor] = []
            self.result = outline(found, results)
            return results

        from torch import _inductor  # here, since it takes a second and runs that do not compile need it not
        from torch._guards import TracingContext, tracing
        from torch._subclasses import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        fake = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True, allow_non_fake_inputs=True)
        with fake:
            like = [layout.empty() for layout in layouts]
            graph = make_fx(flat, _allow_non_fake_inputs=True)(*like)  # not fake: the tensors of the owner
        # a tracing context with shapes of its own: without one the compiler neither looks into its cache nor fills it
        with tracing(TracingContext(fake)):
            self.compiled = _inductor.compile(graph, list(like), {"joint_graph_constant_folding": False})

    def __call__(self, tensors: list[Tensor]) -> Any:
        """The result for such tensors."""
        return filled(self.result, self.compiled(*tensors))


@contextmanager
def _cycles_kept() -> Iterator[None]:
    """Cycles of objects are collected afterwards: to search takes a fifth of the time in which a compiler is loaded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _plainly() -> Iterator[None]:
    """Methods that a marked method calls are a part of its kernel."""
    enabled, compiling.enabled = compiling.enabled, False
    try:
        yield
    finally:
        compiling.enabled = enabled


def first_line(error: Exception) -> str:
    """What an error says before its details."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def structure(value: Any, tensors: list[Tensor]) -> Hashable:
    """What a kernel relies on in its arguments: layout and type of tensors, values of all else; the tensors are listed.

    An object that is no container has a method `tensors`, an attribute `signature`, which says with what others it may
    be interchanged, and `with_tensors`, which gives the same object with others.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple([structure(item, tensors) for item in value])
    if isinstance(value, dict):
        return tuple([(key, structure(item, tensors)) for key, item in value.items()])
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.signature, structure(value.tensors(), tensors)


def rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same arguments with other tensors, in the order in which `structure` lists them."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, list | tuple):
        return type(value)([rebuilt(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: rebuilt(item, tensors) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.with_tensors(rebuilt(value.tensors(), tensors))


def outline(value: Any, tensors: list[Tensor]) -> Any:
    """A result with the positions of its tensors among `tensors`, to which they are added, in their place."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return len(tensors) - 1
    return None if value is None else type(value)([outline(item, tensors) for item in value])


def filled(shape: Any, tensors: Sequence[Tensor]) -> Any:
    """The result that has this outline."""
    if isinstance(shape, int):
        return tensors[shape]
    return None if shape is None else type(shape)([filled(item, tensors) for item in shape])

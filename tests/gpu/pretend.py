"""A pretend GPU: tensors that say they live on ``pretend:0``, hold memory of the CPU, and refuse to mix with others.

What a real one would be asked for is counted while `counted` is on: kernels and the bytes that they read and write,
copies from the host, reads by the host, and waits, with the line of this project that asked. A read that blocks, a
wait for the device, and an event that is waited for before anything was queued behind it empty the queue: these are the
waits. A read through an event that lies behind is free.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.backend_registration as registration
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from solver.discretisation import fusion

NAME = "pretend"
ROOT = str(Path(__file__).parents[2])
NO_KERNEL = {"empty", "empty_strided", "new_empty", "new_empty_strided", "empty_like", "detach", "alias", "lift_fresh"}
OVERWRITING = {"copy_", "fill_", "zero_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Mixed(RuntimeError):
    """An operation on tensors of the CPU and of the device."""


@dataclass
class Tally:
    """What was asked of the device, by the line of the project that asked."""

    kernels: int = 0
    bytes: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def totals(self) -> dict[str, int]:
        """Copies from the host, reads by the host and waits."""
        return {"sent": self.sent.total(), "read": self.read.total(), "waits": self.waits.total()}

    def __str__(self) -> str:
        return "; ".join(f"{n}: {dict(getattr(self, n))}" for n in ("sent", "read", "waits") if getattr(self, n))


class NotOfAGraph(RuntimeError):
    """Something that the host waits for, sends or is told while kernels are recorded."""


_counting: list[Tally] = []
_tape: list[Queued] | None = None  # what is being recorded
_queued = [0]  # kernels since the process began


def _count(what: str) -> None:
    if _tape is not None:
        raise NotOfAGraph(f"{what} at {_asker()}")
    for tally in _counting:
        getattr(tally, what)[_asker()] += 1


def _asker() -> str:
    """The innermost line of the project, tests apart."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith((f"{ROOT}/solver/", f"{ROOT}/closures/")):
            return f"{file[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests"


@contextmanager
def counted() -> Iterator[Tally]:
    """Count what is asked of the device."""
    tally = Tally()
    _counting.append(tally)
    try:
        yield tally
    finally:
        _counting.remove(tally)


class OnDevice(Tensor):
    """A tensor of the device; `raw` is what it holds."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> OnDevice:
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset()}
        f = torch.Tensor._make_wrapper_subclass(cls, raw.size(), dtype=raw.dtype, device=device(), **layout)
        f.raw = raw
        return f

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        _count("read"), _count("waits")
        return self.raw.tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError("a tensor of the device has no numpy view: use .cpu() first")

    __array__ = numpy

    def __repr__(self, **_) -> str:
        return f"OnDevice({self.raw})"


class _Everywhere(TorchDispatchMode):
    """Sees factories too, whose arguments are no tensors."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@dataclass
class Queued:
    """A kernel that was recorded, with the memory it reads and writes."""

    func: Any
    args: tuple
    kwargs: dict[str, Any]
    result: Any

    def written(self) -> list[Tensor]:
        """Its results, those arguments apart that it writes to."""
        given = {id(f) for f in _tensors((self.args, self.kwargs))}
        return [f for f in _tensors(self.result) if id(f) not in given]

    def again(self) -> None:
        """Run it, into the same memory."""
        found = self.func(*self.args, **self.kwargs)
        given = {id(f) for f in _tensors((self.args, self.kwargs))}
        for old, new in zip(_tensors(self.result), _tensors(found), strict=True):
            if id(old) not in given:
                old.copy_(new)


class Recorder:
    """Graphs of the device, as `solver.flow.graph.CudaRecorder` makes them of a GPU.

    A recorded kernel reads and writes the same memory at each replay, and no Python runs: what was a number of the host
    stays what it was. Nothing that was computed while recording is left. `NotOfAGraph` is raised where the host waits,
    sends or reads then.
    """

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, parts: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """See `solver.flow.graph.Recorder`."""
        global _tape
        for part in parts:  # constants and the like
            part()
        replays = []
        for part in parts:
            _tape = tape = []
            try:
                part()
            finally:
                _tape = None
            replays.append(partial(self.replay, tape))
        self.recordings += 1
        for queued in [queued for replay in replays for queued in replay.args[0]]:
            for f in queued.written():
                if f.is_floating_point() or f.is_complex():
                    f.fill_(math.nan)
        return replays

    @staticmethod
    def replay(tape: list[Queued]) -> None:
        """Queue all of it, by one call."""
        _launch(0)
        for queued in tape:
            queued.again()


def _launch(moved: int) -> None:
    """Queue a kernel that reads and writes so many bytes."""
    _queued[0] += 1
    for tally in _counting:
        tally.kernels += 1
        tally.bytes += moved


def _size(value: Any) -> int:
    """Bytes in memory of the tensors among arguments or results."""
    sizes = [(f.shape, f.stride(), f.element_size()) for f in _tensors(value)]
    return sum(math.prod(n for n, s in zip(shape, stride, strict=True) if s) * one for shape, stride, one in sizes)


def _moved_by(name: str, args: tuple, result: Any) -> int:
    """What a kernel reads and writes; a transform also what torch does around cuFFT (aten, SpectralOps.cpp).

    It goes through memory once a dimension. torch copies a field whose transformed dimensions are not its last, copies
    what it transforms to real values, and multiplies by 1/n in a pass of its own.
    """
    if not name.startswith("_fft_"):
        return _size(args[1:] if name in OVERWRITING else args) + _size(result)
    f, dims, normalization = args[:3]
    within = 2 * (len(dims) - 1) * max(_size(f), _size(result))
    last = sorted(d % f.dim() for d in dims) == list(range(f.dim() - len(dims), f.dim()))
    copies = 2 * _size(f) * ((not (last and f.is_contiguous())) + (name == "_fft_c2r"))
    return _size(f) + _size(result) + within + copies + (2 * _size(result) if normalization else 0)


class OneKernel:
    """In place of `fusion.Kernel`: what a compiled method reads and writes, by plain torch."""

    def __init__(self, function: Callable[..., Any], owner: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        self.function, self.owner, self.args = function, owner, args

    def __call__(self, tensors: list[Tensor]) -> Any:
        """The result for such tensors."""
        uncounted, _counting[:] = _counting[:], []
        with fusion._plainly():
            result = self.function(self.owner, *fusion.rebuilt(self.args, iter(tensors)))
        _counting[:] = uncounted
        _launch(_size(tensors) + _size(result))
        return result


@contextmanager
def compiled() -> Iterator[None]:
    """Methods that are marked to be fused count as one kernel each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion, "Kernel", OneKernel)
        patch.setattr(fusion.compiling, "enabled", True)
        yield


def _kind(wanted: Any) -> str | None:
    return None if wanted is None else torch.device(wanted).type


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = list(_tensors((args, kwargs)))
    ours = [a for a in tensors if isinstance(a, OnDevice)]
    theirs = [a for a in tensors if not isinstance(a, OnDevice)]
    name, target = func.overloadpacket.__name__, _kind(kwargs.get("device"))
    if not ours and target != NAME:
        return func(*args, **kwargs)
    if name == "_local_scalar_dense":
        _count("read"), _count("waits")
        return func(ours[0].raw)
    home = _moved(name, args, kwargs, ours, theirs, target)
    plain = dict(kwargs, device=torch.device("cpu")) if "device" in kwargs else kwargs
    known = {id(f.raw): f for f in ours}
    result = func(*_mapped(_bare, args), **_mapped(_bare, plain))
    if home:
        return result
    if not (func.is_view or name in NO_KERNEL):
        _launch(_moved_by(name, args, result))
        if _tape is not None:
            _tape.append(Queued(func, _mapped(_bare, args), _mapped(_bare, plain), result))
    # an argument that was written to is itself
    return _mapped(lambda f: known[id(f)] if id(f) in known else OnDevice(f), result)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those among arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Arguments or results with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(change, item) for key, item in value.items()}
    return type(value)([_mapped(change, item) for item in value]) if type(value) in (list, tuple) else value


def _bare(f: Tensor) -> Tensor:
    return f.raw if isinstance(f, OnDevice) else f


def _moved(name: str, args: tuple, kwargs: dict[str, Any], ours: list, theirs: list, target: str | None) -> bool:
    """Count copies between host and device; True if the result is the host's."""
    if name == "_to_copy" and ours and target == "cpu":
        _count("read")
        if not kwargs.get("non_blocking"):
            _count("waits")
        return True
    if name == "copy_" and ours and theirs and not isinstance(args[0], OnDevice):
        _count("read")
        if not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
            _count("waits")
        return True
    if (name == "_to_copy" and theirs) or (name == "copy_" and ours and theirs):
        _count("sent")
    elif ours and any(f.dim() for f in theirs):
        if name not in INDEXING:
            raise Mixed(f"{name}: tensors of the CPU and of the device, {[tuple(f.shape) for f in theirs]}")
        _count("sent")
    return False


class Event:
    """A mark in the queue, with the time at which it was set."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at, self.seconds = -1, 0.0

    def record(self) -> None:
        """Set it."""
        if _tape is not None:
            raise NotOfAGraph(f"an event at {_asker()}")
        self.at, self.seconds = _queued[0], time.perf_counter()

    def query(self) -> bool:
        """Whether the device has passed it: not before something else was queued."""
        return _queued[0] > self.at

    def synchronize(self) -> None:
        """Wait for it; free if the device has more to do."""
        if not self.query():
            _count("waits")

    def elapsed_time(self, later: Event) -> float:
        """Milliseconds to another event."""
        return 1e3 * (later.seconds - self.seconds)


class _Module(registration._DummyBackendModule):
    """What torch calls the module of the device: ``torch.cuda`` of a real one."""

    Event = Event

    @staticmethod
    def synchronize(device: object = None) -> None:
        """Wait for everything."""
        _count("waits")

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        """What autocast may choose."""
        return [torch.bfloat16, torch.float16]


@cache
def device() -> torch.device:
    """The device."""
    return torch.device(NAME, 0)


def _register() -> None:
    if torch._C._get_privateuse1_backend_name() != NAME:
        registration._setup_privateuseone_for_python_backend(NAME, _Module())


def _through(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and torch.as_tensor hide from modes: they fill a tensor of the CPU, which is then sent."""

    def through(data: Any, *args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, OnDevice):
            return data.to(device=data.device if device is None else device, dtype=dtype or data.dtype)
        if _kind(device) == NAME:
            return make(data, *args, dtype=dtype, **kwargs).to(device)
        return make(data, *args, dtype=dtype, device=device, **kwargs)

    return through


def _new_tensor(self: Tensor, data: Any, **kwargs: Any) -> Tensor:
    return torch.tensor(data, **({"dtype": self.dtype, "device": self.device} | kwargs))


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The device, as long as the context lasts."""
    _register()
    kept = (
        torch.tensor,
        torch.as_tensor,
        torch.Tensor.new_tensor,
        torch.__future__.get_overwrite_module_params_on_conversion(),
    )
    torch.tensor, torch.as_tensor, torch.Tensor.new_tensor = _through(kept[0]), _through(kept[1]), _new_tensor
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Everywhere():
            yield device()
    finally:
        torch.tensor, torch.as_tensor, torch.Tensor.new_tensor = kept[:3]
        torch.__future__.set_overwrite_module_params_on_conversion(kept[3])

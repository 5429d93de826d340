"""Any ``torch.nn.Module`` of an installed package as a state operator: models of ``neuraloperator``, for instance.

Code comes from what is installed, weights from safetensors. A file may name a class; the class has to be in an
installed distribution and to derive from ``torch.nn.Module``, and is called with numbers, texts, lists and tables.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import packages_distributions, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from closures.operators.domain import Domain
from solver.errors import CaseError


class InstalledModule(nn.Module):
    """Hands the field to a module that knows nothing of domains: ``(batch, 3, nx, ny, nz)`` to the same shape.

    All weights are real here, as optimisers, changes of precision and safetensors want them: those that are complex
    there are pairs, and complex again when the module is called.

    Parameters
    ----------
    of : ``"package.module:Class"``, of an installed package.
    arguments : of the class, by name.
    grid_free : whether its weights mean something on other grids of the same kind; only its author knows.

    Raises
    ------
    CaseError : no such class in an installed package, or it cannot be made of these arguments.
    """

    kind, symmetries = "state", frozenset[str]()

    def __init__(self, *, of: str, arguments: dict[str, Any] | None = None, grid_free: bool = False) -> None:
        super().__init__()
        found, self.package = _installed(of)
        try:
            network = found(**(arguments or {}))
        except Exception as error:  # another package fails as it likes
            raise CaseError(f"[operator] of = '{of}' cannot be made: {_reason(error)}") from error
        self.grid_free, self.of = grid_free, of
        self._network = (network,)  # out of torch's sight: its weights are those below
        self._complex: set[str] = {name for name, w in network.named_parameters() if w.is_complex()}
        kept = set(network.state_dict())
        for name, weight in network.named_parameters():
            self.register_parameter(_key(name), nn.Parameter(_real(weight.detach()), weight.requires_grad))
        for name, buffer in network.named_buffers():
            if name in kept and not buffer.is_floating_point():
                raise CaseError(f"[operator] of = '{of}': '{name}' holds {buffer.dtype}, weights are floating-point")
            self.register_buffer(_key(name), buffer, persistent=name in kept)

    def forward(self, field: Tensor, domain: Domain) -> Tensor:
        """``(batch, 3, nx, ny, nz)`` to a field on the same points.

        Raises
        ------
        CaseError : the answer has another shape.
        """
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        named = {_name(key): self._theirs(_name(key), tensor) for key, tensor in tensors.items()}
        answer = functional_call(self._network[0], named, (field,))
        if not isinstance(answer, Tensor) or answer.shape != field.shape:
            shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise CaseError(
                f"[operator] of = '{self.of}' answers {shape} to {tuple(field.shape)}: it should be the same"
            )
        return answer

    def train(self, mode: bool = True) -> InstalledModule:
        """Of both."""
        self._network[0].train(mode)
        return super().train(mode)

    def take(self, weights: Mapping[str, Tensor]) -> InstalledModule:
        """Weights as the module itself names them, as in a published ``.safetensors``.

        Raises
        ------
        CaseError : names or shapes are others.
        """
        ours = {_key(name): _real(w) for name, w in weights.items()}
        try:
            self.load_state_dict(ours)
        except RuntimeError as error:
            raise CaseError(f"[operator] of = '{self.of}': weights of another network: {_reason(error)}") from None
        return self

    def _theirs(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self._complex:
            return tensor
        real = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
        return torch.view_as_complex(real)


def _installed(of: str) -> tuple[type[nn.Module], str]:
    """The class, and name and version of its distribution."""
    path, _, name = of.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in path.split("."))):
        raise CaseError(f"[operator] of = '{of}': name it as 'package.module:Class'")
    top = path.partition(".")[0]
    distributions = [] if top in sys.stdlib_module_names else packages_distributions().get(top, [])
    if not distributions:
        raise CaseError(f"[operator] of = '{of}': no installed package has '{top}': pip install it (-e . for your own)")
    try:
        found = getattr(import_module(path), name)
    except Exception as error:  # another package fails as it likes
        raise CaseError(f"[operator] of = '{of}' cannot be imported: {_reason(error)}") from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise CaseError(f"[operator] of = '{of}' is no class derived from torch.nn.Module")
    return found, f"{distributions[0]} {version(distributions[0])}"


def _real(weight: Tensor) -> Tensor:
    return torch.view_as_real(weight).clone() if weight.is_complex() else weight


def _key(name: str) -> str:
    """A name of theirs as one of ours: torch allows no dots in it."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

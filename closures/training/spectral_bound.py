"""Linear maps that may not magnify by more than a bound, while they are trained; afterwards they are plain weights.

A bound on the spectral norm of each linear map (Miyato, Kataoka, Koyama & Yoshida 2018, ICLR, arXiv 1802.05957) bounds
how fast errors may grow from step to step. Their largest singular value is followed by power iteration, one a step of
the optimiser; what is folded in the end, or sent out on the way, is held below the bound by a decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from closures.operators.spectral import SpectralConvolution
from solver.errors import CaseError

LINEAR = (nn.Linear, nn.modules.conv._ConvNd, SpectralConvolution)
LEAST = 1e-30  # a map that begins at zero magnifies nothing
FIRST = 30  # iterations before the first step: from a random vector to the largest singular value


class SpectralBound(nn.Module):
    """``W min(1, bound / s)`` with s the largest singular value of W: within the bound W is what it was, to the bit.

    A convolution of n points magnifies by the root of n times as much as its matrix at the most, and that is bounded;
    of a Fourier convolution the matrix of each mode is.

    Parameters
    ----------
    layer : whose weight it is.
    bound : greatest s.
    """

    right: Tensor

    def __init__(self, layer: nn.Module, bound: float) -> None:
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]  # see `LINEAR`
        self.modes, self.bound = isinstance(layer, SpectralConvolution), bound
        self.taps = weight[0, 0].numel() if isinstance(layer, nn.modules.conv._ConvNd) else 1
        matrices = self.matrices(weight.detach())
        drawn = torch.randn(matrices[..., 0, :].shape, generator=torch.Generator().manual_seed(weight.numel()))
        self.register_buffer("right", _real(drawn.to(matrices)))
        for _ in range(FIRST):
            self.iterate(weight)

    def matrices(self, weight: Tensor) -> Tensor:
        """(..., rows, columns), one or one a mode."""
        return torch.view_as_complex(weight).flatten(2).movedim(-1, 0) if self.modes else weight.flatten(1)

    def _after(self, matrices: Tensor) -> Tensor:
        """The vectors of the last iteration, multiplied."""
        found: Tensor = matrices @ self._right[..., None]
        return found

    @property
    def _right(self) -> Tensor:
        return torch.view_as_complex(self.right) if self.modes else self.right

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One power iteration on a weight."""
        matrices = self.matrices(weight.detach())
        further = (matrices.mH @ self._after(matrices))[..., 0]
        moved = further.abs().amax(-1, keepdim=True) > 0  # a map that is zero has no direction of its own
        right = torch.where(moved, nn.functional.normalize(further, dim=-1, eps=LEAST), self._right)
        self.right.copy_(_real(right))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer has: while it is trained by the last iteration, else to round-off."""
        followed = torch.linalg.vector_norm(self._after(self.matrices(weight)), dim=(-2, -1))
        return self.within(weight, followed if self.training else self.exact(weight))

    def exact(self, weight: Tensor) -> Tensor:
        """Its largest singular value, by decomposition."""
        found: Tensor = torch.linalg.matrix_norm(self.matrices(weight), 2)
        return found

    def within(self, weight: Tensor, largest: Tensor) -> Tensor:
        """The weight scaled down to the bound, if its largest singular value is beyond it."""
        share = (self.bound / (self.taps**0.5 * largest).clamp_min(LEAST)).clamp_max(1.0)
        found: Tensor = weight.flatten(2, -2) * share[:, None] if self.modes else weight * share
        return found.reshape(weight.shape)


def _real(values: Tensor) -> Tensor:
    """As a state is stored."""
    return torch.view_as_real(values) if values.is_complex() else values


def bound_all(network: nn.Module, bound: float) -> None:
    """Bound every linear map of a network from now on; 0: none.

    Raises
    ------
    CaseError : it has none.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, LINEAR)] if bound else []
    if bound and not layers:
        raise CaseError("[optimiser] spectral_norm: this network has no linear maps of ours to bound: leave it out")
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", SpectralBound(layer, bound))


def _bounds(network: nn.Module) -> Iterator[tuple[str, nn.Module, SpectralBound, Tensor]]:
    """Name and layer of each that is bounded, its bound, and its weight without it."""
    for name, layer in list(network.named_modules()):
        kept = getattr(layer, "parametrizations", {})
        if "weight" in kept and isinstance(kept["weight"][0], SpectralBound):
            yield name, layer, kept["weight"][0], kept["weight"].original


def follow(network: nn.Module) -> None:
    """One power iteration on every bounded layer."""
    for *_, bound, weight in _bounds(network):
        bound.iterate(weight)


def fold(network: nn.Module) -> nn.Module:
    """The network, its layers as they were before `bound_all`, with weights within the bounds."""
    for _, layer, bound, _ in list(_bounds(network)):
        bound.eval()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network


@torch.no_grad()
def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the state that the network has once it is folded; it goes on as it is."""
    found = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
    for name, _, bound, weight in _bounds(network):
        start = f"{name}." if name else ""
        found = {key: value for key, value in found.items() if not key.startswith(f"{start}parametrizations.weight.")}
        found[f"{start}weight"] = bound.within(weight, bound.exact(weight)).detach().clone()
    return found

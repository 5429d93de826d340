"""Test-time refinement: for one flow at hand the last spectral layer is trained on, on the residual alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from closures.coupling.head import Head
from closures.losses.les_residual import LesResidual
from closures.operators.predictor import Predictor
from closures.operators.spectral import SpectralConvolution
from solver.discretisation.calculus import Components
from solver.errors import CaseError


@dataclass(frozen=True)
class Refined:
    """The predictor for this flow, and the residual before every iteration and, last, of what is returned."""

    predictor: Predictor
    history: list[float]


def refine(head: Head, residual: LesResidual, start: Components, steps: int, iterations: int, rate: float) -> Refined:
    """Fine-tune a copy of the network on the path that it takes from `start`; the network itself stays as it is.

    The idea is Spectral-Refiner's (Cao, Brarda, Li & Xia 2025, ICLR, arXiv 2405.17211): everything but the last
    spectral convolution is frozen. Its release takes the time derivative from a solver step that starts in the
    predicted frame itself, so that any field has a vanishing residual, and a norm that is not H^-1; here the derivative
    is that of the trajectory, and the norm that of `residual`: give it ``h_minus_1``. Advection makes the loss quartic
    in the weights, so nothing says that it is convex: the best weights met are returned, at worst those it began with.

    Parameters
    ----------
    head, residual : as for training.
    start, steps : the first frame, and how many follow.
    iterations, rate : of Adam, with a cosine to zero.

    Raises
    ------
    CaseError : the network has no spectral convolution.
    """
    predictor = Predictor(copy.deepcopy(head.predictor.network), head.predictor.scaling)
    layer = last_spectral_layer(predictor.network)
    predictor.requires_grad_(False)
    layer.requires_grad_(True)
    own = Head(predictor, head.simulation, head.half_precision)
    optimiser = torch.optim.Adam(layer.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(iterations, 1))
    history: list[float] = []
    best, kept = float("inf"), _copied(layer)
    with torch.enable_grad():
        for iteration in range(iterations + 1):
            loss: Tensor = residual.relative(own.path(start, steps))
            history.append(float(loss.detach()))
            if history[-1] < best:
                best, kept = history[-1], _copied(layer)
            if iteration < iterations:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    layer.load_state_dict(kept)
    return Refined(predictor.eval().requires_grad_(False), [*history[:-1], best])


def last_spectral_layer(network: nn.Module) -> SpectralConvolution:
    """The last spectral convolution of a network; raises CaseError if there is none."""
    layers = [module for module in network.modules() if isinstance(module, SpectralConvolution)]
    if not layers:
        raise CaseError(f"[operator] {type(network).__name__} has no spectral layer to refine: use 'fno' or 'ifno'")
    return layers[-1]


def _copied(layer: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in layer.state_dict().items()}

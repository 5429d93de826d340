"""Convolution by multiplying modes: Fourier along periodic directions, orthonormal polynomials between walls."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from closures.operators.domain import Domain, Line
from closures.operators.slab_line import PeriodSlab, SlabLine
from solver.errors import CaseError


class ModewiseProduct(Function):
    """``boxyz = sum_i bixyz ioxyz``: at every mode a small matrix times a small vector.

    Weights are read once, in the order they are stored in. As batched matrix products they would be transposed first,
    and each product is too small to pay: eight times as slow in training with 24 channels and 4851 modes.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, spectrum: Tensor, weight: Tensor) -> Tensor:
        """``(batch, in, modes ...)`` and ``(in, out, modes ...)`` to ``(batch, out, modes ...)``, complex."""
        ctx.save_for_backward(spectrum, weight)
        result = spectrum[:, 0, None] * weight[0]
        for i in range(1, len(weight)):
            result.addcmul_(spectrum[:, i, None], weight[i])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """With respect to both."""
        spectrum, weight = ctx.saved_tensors
        of_spectrum, of_weight = ctx.needs_input_grad
        vectors = matrices = None
        if of_spectrum:  # conj(conj(slope) weight), the weights as they are
            conjugate = slope.conj().resolve_conj()
            vectors = conjugate[:, None, 0] * weight[:, 0]
            for o in range(1, weight.shape[1]):
                vectors.addcmul_(conjugate[:, None, o], weight[:, o])
            vectors.conj_physical_()
        if of_weight:  # row by row: a row stays in cache while the batch is summed
            conjugate, matrices = spectrum.conj().resolve_conj(), torch.empty_like(weight)
            for i, row in enumerate(matrices):
                torch.mul(conjugate[0, i], slope[0], out=row)
                for b in range(1, len(slope)):
                    row.addcmul_(conjugate[b, i], slope[b])
        return vectors, matrices


class HalfSpectrum(Function):
    """``rfftn`` over the number of points, with a real transform as its gradient.

    The gradient that torch has for it fills in the other half of the spectrum, transforms all of it, and hands back
    every second number of the result, which slows whatever reads it.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, dims: list[int]) -> Tensor:
        """A real field to its complex coefficients along `dims`, the last of them halved."""
        ctx.dims, ctx.sizes = dims, [f.shape[d] for d in dims]
        spectrum: Tensor = torch.fft.rfftn(f, dim=dims, norm="forward")
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        """With respect to the field; contiguous."""
        slope = slope.clone()
        slope.narrow(ctx.dims[-1], 1, (ctx.sizes[-1] - 1) // 2).mul_(0.5)  # the inverse counts their mirror images too
        return torch.fft.irfftn(slope, s=ctx.sizes, dim=ctx.dims).contiguous(), None


class SpectralConvolution(nn.Module):
    """``F^-1 (R . F v)`` with one full matrix R per retained mode.

    Where a rank has some planes of y, modes along y are sums over ranks, taken once x and z have few modes left, and
    what they become is known from them on every plane: no column is brought together.

    Along a periodic direction the modes are ``-K .. K`` of the Fourier series, along the others the first M discrete
    orthonormal polynomials (`Line.polynomials`): a Fourier transform across walls would see a jump there, and one
    over the index would see another function on another stretching. Coefficients are those of the function, not of
    the array, so the operator does not change with the resolution. A grid too coarse for some modes drops them.

    Parameters
    ----------
    width : channels in and out.
    modes : K or M of each direction.
    periodic : which directions are periodic; at least one.

    Raises
    ------
    CaseError : no direction is periodic.
    """

    def __init__(self, width: int, modes: tuple[int, int, int], periodic: tuple[bool, bool, bool]) -> None:
        super().__init__()
        if not any(periodic):
            raise CaseError("[operator] a Fourier operator needs a periodic direction: use 'ifactformer_m'")
        self.modes, self.periodic = modes, periodic
        self.fourier = [d for d in range(3) if periodic[d]]
        counts = [2 * m + 1 if p else m for m, p in zip(modes, periodic, strict=True)]
        counts[self.halved] = modes[self.halved] + 1  # a real field: half the modes say all
        self.weight = nn.Parameter(torch.empty(width, width, *counts, 2))  # real and imaginary part last
        nn.init.normal_(self.weight, std=(2 * width) ** -0.5)

    @property
    def reach(self) -> int | Literal["global"]:
        """0, though every point hears of all others: see the class. ``"global"`` if half of the modes of y say all."""
        return "global" if self.halved == 1 else 0

    @property
    def halved(self) -> int:
        """The direction whose spectrum is stored as a half: the last periodic one."""
        return self.fourier[-1]

    def forward(self, v: Tensor, domain: Domain) -> Tensor:
        """``(batch, width, nx, ny, nz)`` to the same, on a domain of the right kind; in the type of the weights."""
        with torch.autocast(v.device.type, enabled=False):  # half precision has no transforms worth having
            v = v.to(self.weight.dtype)
            weight = torch.view_as_complex(self.weight)
            coefficients, cut = v, domain.y.complete is not domain.y
            within = [d for d in range(3) if not (cut and d == 1)]  # directions that are here as a whole
            for d in within:
                if not self.periodic[d]:
                    line = domain.lines[d]
                    count = min(self.modes[d], line.n)
                    basis = line.sent(line.polynomials(count), v) * line.sent(line.weights, v)[:, None]
                    coefficients = along(coefficients, basis.T, d)
                    weight = weight.narrow(2 + d, 0, count)
            fourier = [d for d in self.fourier if d in within]
            dims = [2 + d for d in fourier]
            spectrum: Tensor = HalfSpectrum.apply(coefficients, dims)  # type: ignore[no-untyped-call]  # torch's
            kept = {d: self._kept(d, domain.shape[d], v.device) for d in fourier}
            for d, (own, theirs) in kept.items():
                spectrum = spectrum.index_select(2 + d, theirs)
                weight = weight.index_select(2 + d, own) if len(own) < weight.shape[2 + d] else weight
            if cut:
                there, back, own = self._between_slabs(domain.y, spectrum)
                spectrum = domain.y.total(torch.view_as_real(along(spectrum, there, 1)).contiguous())
                spectrum = torch.view_as_complex(spectrum)
                weight = weight.index_select(3, own) if len(own) < weight.shape[3] else weight
            product: Tensor = ModewiseProduct.apply(spectrum, weight)  # type: ignore[no-untyped-call]  # torch's
            if cut:
                product = along(product, back, 1)
            for d, (_, theirs) in kept.items():
                n = domain.shape[d] // 2 + 1 if d == self.halved else domain.shape[d]
                shape = [n if k == 2 + d else size for k, size in enumerate(product.shape)]
                product = product.new_zeros(shape).index_copy(2 + d, theirs, product)
            sizes = [domain.shape[d] for d in fourier]
            result: Tensor = torch.fft.irfftn(product, s=sizes, dim=dims, norm="forward")
            for d in within:
                if not self.periodic[d]:
                    line = domain.lines[d]
                    result = along(result, line.sent(line.polynomials(min(self.modes[d], line.n)), v), d)
            return result.contiguous()  # transforms leave an order of their own, which slows what follows

    def _between_slabs(self, line: Line, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The matrices from these planes of y to their part of the modes and from the modes to the planes, complex; and
        where the modes are found in the weights.
        """
        assert isinstance(line, SlabLine | PeriodSlab)
        known = line.__dict__.setdefault("_between_slabs", {})
        key = self.modes[1], like.device, like.dtype
        if key not in known:
            n = line.whole.n
            if self.periodic[1]:
                own, theirs = self._kept(1, n, torch.device("cpu"))
                places = torch.arange(line.own.start, line.own.stop, dtype=torch.float64)
                back = torch.exp(2j * math.pi / n * places[:, None] * theirs)
                there = back.conj().T / n
            else:
                own = torch.arange(min(self.modes[1], n))
                back = line.polynomials(len(own))
                there = (back * line.weights.to(back)[:, None]).T
            known[key] = there.to(like).contiguous(), back.to(like).contiguous(), own.to(like.device)
        found: tuple[Tensor, Tensor, Tensor] = known[key]
        return found

    def _kept(self, d: int, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where the modes that both have are found in the weights and in a spectrum of n points."""
        highest = min(self.modes[d], (n - 1) // 2)  # never the Nyquist mode: its phase is not known
        index = torch.arange(highest + 1, device=device)
        if d == self.halved:
            return index, index
        negative = torch.arange(-highest, 0, device=device)
        return torch.cat([index, negative + 2 * self.modes[d] + 1]), torch.cat([index, negative + n])


def along(f: Tensor, matrix: Tensor, direction: int) -> Tensor:
    """``matrix`` (rows, n) applied along one direction of (batch, channels, nx, ny, nz); contiguous."""
    if direction == 2:
        return f @ matrix.T
    behind = 3 + direction
    product: Tensor = (matrix @ f.flatten(behind)).unflatten(behind, f.shape[behind:])
    return product

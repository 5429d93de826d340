"""What a stage cannot do without, at its fastest: transforms and matrix products of slabs that stay in cache."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import ducc0
import numpy as np
import torch

from solver.discretisation.calculus import Operators
from solver.discretisation.fft_torch import TorchEngine
from solver.errors import CaseError

SLAB_POINTS = 32_768  # of a slab: half a megabyte in double precision, with its spectrum
TEN = 10  # transforms of a field in a stage of a channel on a stretched grid


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of a call, work on a device included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


class FieldTransforms:
    """Real transforms of one field, on this rank's share of its points: one slab is transformed again and again.

    Within planes along the Fourier axes among x and z; along y, where that is one, of columns. A processor has the slab
    in its cache; on a GPU it is the whole field.

    Raises
    ------
    CaseError : x is no Fourier axis.
    """

    def __init__(self, operators: Operators) -> None:
        grid, (nx, ny, nz) = operators.grid, operators.local_shape
        if not grid.x.is_fourier:
            raise CaseError("a grid without Fourier axes has no transforms to compare a step with")
        self.on_cpu = operators.device.type == "cpu"
        self.axes = (1, 2) if grid.z.is_fourier else (1,)
        self.last = (nx, nz)[len(self.axes) - 1]
        self.slabs = math.ceil(ny * nx * nz / SLAB_POINTS) if self.on_cpu else 1
        self.slabs = min(self.slabs, ny)
        planes = math.ceil(ny / self.slabs)
        self.values = torch.rand((planes, nx, nz), dtype=operators.dtype, device=operators.device)
        self.spectrum = TorchEngine.rfftn(self.values, self.axes)
        self.columns: torch.Tensor | None = None
        self.blocks = 0
        if grid.y.is_fourier:
            lines = math.ceil(nx * (nz // 2 + 1) / operators.decomposition.size)
            self.blocks = min(math.ceil(lines * grid.y.points / SLAB_POINTS), lines) if self.on_cpu else 1
            size = (grid.y.points, math.ceil(lines / self.blocks))
            self.columns = torch.zeros(size, dtype=self.spectrum.dtype, device=operators.device)

    def forward(self) -> None:
        """To the spectrum."""
        threads = torch.get_num_threads()
        for _ in range(self.slabs):
            if self.on_cpu:
                ducc0.fft.r2c(self.values.numpy(), axes=self.axes, inorm=2, out=self.spectrum.numpy(), nthreads=threads)
            else:
                TorchEngine.rfftn(self.values, self.axes)
        self._along_y(forward=True)

    def inverse(self) -> None:
        """Back to values."""
        threads = torch.get_num_threads()
        self._along_y(forward=False)
        for _ in range(self.slabs):
            if self.on_cpu:
                spectrum, values = self.spectrum.numpy(), self.values.numpy()
                ducc0.fft.c2r(spectrum, axes=self.axes, lastsize=self.last, forward=False, out=values, nthreads=threads)
            else:
                TorchEngine.irfftn(self.spectrum, self.last, self.axes)

    def _along_y(self, forward: bool) -> None:
        threads = torch.get_num_threads()
        for _ in range(self.blocks):
            assert self.columns is not None
            if self.on_cpu:
                columns = self.columns.numpy()
                ducc0.fft.c2c(
                    columns, axes=(0,), forward=forward, inorm=2 if forward else 0, out=columns, nthreads=threads
                )
            else:
                (torch.fft.fft if forward else torch.fft.ifft)(self.columns, dim=0, norm="forward")


class MinimalStage:
    """Three inverse transforms, six forward ones (five with three Fourier axes), and the products of the pressure in y.

    Complete and contiguous, without truncation; the product with the eigenvectors of y is taken there and back, of
    blocks of columns that stay in cache.
    """

    def __init__(self, operators: Operators) -> None:
        self.transforms, grid = FieldTransforms(operators), operators.grid
        self.forward = 5 if grid.y.is_fourier else 6
        self.products = 0
        if not grid.y.is_fourier:
            cx, cy, cz = grid.coefficient_shape
            columns = operators.transform.parts * math.ceil(cx / operators.decomposition.size) * cz
            width = max(SLAB_POINTS // cy, 1) if self.transforms.on_cpu else columns
            self.products = math.ceil(columns / width)
            both = torch.rand((cy, cy + min(width, columns)), dtype=operators.dtype, device=operators.device)
            self.matrix, self.block = both[:, :cy].contiguous(), both[:, cy:].contiguous()

    def __call__(self) -> None:
        """Once."""
        for _ in range(3):
            self.transforms.inverse()
        for _ in range(self.forward):
            self.transforms.forward()
        for _ in range(2 * self.products):
            torch.matmul(self.matrix, self.block)


def fft_limit(operators: Operators, repeats: int = 7) -> float:
    """Median seconds of a `MinimalStage`; nan for a grid without Fourier axes."""
    if not operators.grid.x.is_fourier:
        return float("nan")
    stage = MinimalStage(operators)
    stage()
    return statistics.median(seconds(stage) for _ in range(repeats))


def ten_transforms(transforms: FieldTransforms, repeats: int = 7) -> float:
    """Median seconds of ten transforms of a field, half of them forward: by what machines are compared."""
    pairs = [seconds(transforms.forward) + seconds(transforms.inverse) for _ in range(repeats)]
    return TEN / 2 * float(np.median(pairs))

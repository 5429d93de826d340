"""How a box goes on beyond its ends, and convolutions that read it there."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

from closures.pressure_nets.products import convolve

Ends = tuple[bool, ...]  # for each axis, whether it is periodic: else it ends in walls
OPEN: Ends = (False, False, False)
Beyond = Literal["zeros", "mirror"]  # nothing, or the image of the cell at the wall: no gradient


def extended(f: Tensor, periodic: Ends, walls: Beyond = "mirror") -> Tensor:
    """`f` (batch, channels, nx, ny[, nz]) with one more cell at both ends of every axis."""
    for mode in ("circular", "replicate" if walls == "mirror" else "constant"):
        widths = [int(periodic[d] == (mode == "circular")) for d in range(f.ndim - 2)]
        if any(widths):
            f = pad(f, [w for width in reversed(widths) for w in (width, width)], mode=mode)
    return f


class Convolution3d(nn.Conv3d):
    """A 3^3 convolution that keeps the shape, whatever the box ends in."""

    def __init__(self, inputs: int, outputs: int, walls: Beyond) -> None:
        super().__init__(inputs, outputs, 3)
        self.walls = walls

    def forward(self, f: Tensor, periodic: Ends = OPEN) -> Tensor:
        """Shape kept, but for the channels."""
        wide = extended(f, periodic, self.walls)
        if f.device.type != "cpu" or self.bias is None:
            return conv3d(wide, self.weight, self.bias)
        return convolve(wide, self.weight) + self.bias.view(-1, 1, 1, 1)


class Convolution2d(nn.Conv2d):
    """A 3^2 convolution that keeps the shape."""

    def __init__(self, inputs: int, outputs: int, walls: Beyond) -> None:
        super().__init__(inputs, outputs, 3)
        self.walls = walls

    def forward(self, f: Tensor, periodic: Ends = OPEN) -> Tensor:
        """Shape kept, but for the channels."""
        found: Tensor = self._conv_forward(extended(f, periodic, self.walls), self.weight, self.bias)
        return found


Convolution = Convolution3d | Convolution2d

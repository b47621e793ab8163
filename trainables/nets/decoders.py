"""Decoders from a representation back to what was encoded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImageDecoder(nn.Module):
    """(B, D) -> (B, C, H, W): a linear layer to `width` x 4 x 4, then doublings until the larger side is reached.

    A doubling is nearest-neighbour upsampling, a 3x3 convolution that halves the channels (at least 16), batch norm and
    ReLU; a last 3x3 convolution gives the channels, and what is larger than the image is cut around its centre. This
    project's own, after the sketch for DUET's reconstructions (linear to 256x4x4, then upsampling blocks).
    """

    LEAST = 16  # channels

    def __init__(self, d_in: int, shape: tuple[int, ...], width: int = 256) -> None:
        super().__init__()
        self.shape = shape
        self.start = nn.Linear(d_in, width * 16)
        blocks: list[nn.Module] = []
        side = 4
        while side < max(shape[1:]):
            out = max(self.LEAST, width // 2)
            blocks += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(width, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            width, side = out, 2 * side
        self.blocks = nn.Sequential(*blocks)
        self.end = nn.Conv2d(width, shape[0], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Images of `shape`."""
        x: Tensor = self.end(self.blocks(F.relu(self.start(z)).unflatten(1, (-1, 4, 4))))
        height, width = self.shape[1:]
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        return x[..., top : top + height, left : left + width]


class LinearDecoder(nn.Module):
    """(B, D) -> (B, *shape) by one linear layer: what can be read without any computation."""

    def __init__(self, d_in: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(d_in, int(torch.Size(shape).numel()))

    def forward(self, z: Tensor) -> Tensor:
        """Items of `shape`, of any number of axes."""
        flat: Tensor = self.linear(z)
        return flat.unflatten(1, self.shape)


class GridDecoder(nn.Module):
    """Latents of the patches of an image (B, rows x columns, C) -> (B, channels, side, side) in (-1, 1).

    Transposed convolutions of kernel 4 with ReLU between them, tanh, and adaptive average pooling to the side: of 7 x 7
    patches 84 pixels are made, and 64 kept. Source: the vision decoder of Smooth InfoMax (Denoodt, de Boer, Oramas,
    ECML PKDD 2025, arXiv 2408.12936), which has 3 channels.
    """

    STEPS = ((1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (2, 1), (2, 1))  # stride, padding
    WIDTHS = (128, 128, 64, 64, 32)

    def __init__(self, d_in: int, grid: tuple[int, int], channels: int = 3, side: int = 64) -> None:
        super().__init__()
        self.grid, self.side = grid, side
        widths = (d_in, d_in, *self.WIDTHS, channels)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(widths[i], widths[i + 1], 4, stride, padding)
            for i, (stride, padding) in enumerate(self.STEPS)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images."""
        x = z.transpose(1, 2).unflatten(2, self.grid)
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x if number == 0 else F.relu(x))
        return F.adaptive_avg_pool2d(x.tanh(), self.side)

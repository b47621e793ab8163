"""A gated PixelCNN over a grid of latents: the context of a cell sees the rows above it and its own.

Sources: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", NeurIPS 2016, arXiv 1606.05328; in
the form of the vision baseline of Greedy InfoMax (Löwe, O'Connor, Veeling, NeurIPS 2019, arXiv 1905.11786).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedLayer(nn.Module):
    """Vertical and horizontal stack (B, C, H, W) each -> the same; a gate is tanh(first C) sigmoid(last C).

    The vertical convolution is 3x3 without the row below, the horizontal one 1x3; the horizontal stack is given the
    vertical one before that has its residual. The first layer has no residuals; behind the last one nothing reads the
    vertical stack, so it has no vertical one.
    """

    mask: Tensor

    def __init__(self, channels: int, first: bool, last: bool) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.vertical_residual = None if first or last else nn.Conv2d(channels, 2 * channels, 1)
        self.horizontal_residual = not first
        self.out = nn.Conv2d(channels, channels, 1)
        mask = torch.ones(1, 1, 3, 1)
        mask[:, :, 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks."""
        vertical = F.conv2d(v, self.vertical.weight * self.mask, self.vertical.bias, padding=1)
        horizontal = self.out(_gated(self.horizontal(h) + self.down(vertical)))
        if self.vertical_residual is not None:
            vertical = vertical + self.vertical_residual(v)
        return _gated(vertical), horizontal + h if self.horizontal_residual else horizontal


class PixelCNN(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): gated layers, then a 1x1 convolution of the horizontal stack."""

    def __init__(self, channels: int, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedLayer(channels, i == 0, i == layers - 1) for i in range(layers))
        self.close = nn.Conv2d(channels, channels, 1)

    def horizontal(self, x: Tensor) -> Tensor:
        """The horizontal stack behind the last layer."""
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """The context."""
        out: Tensor = self.close(self.horizontal(x))
        return out


def _gated(x: Tensor) -> Tensor:
    signal, gate = x.chunk(2, dim=1)
    return signal.tanh() * gate.sigmoid()

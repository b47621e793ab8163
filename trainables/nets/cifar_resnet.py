"""Residual networks for small images (He et al. 2015, arXiv 1512.03385, section 4.2), in the widths that DUET uses.

| preset                      | stem | stages        | shortcut | features | input      |
|-----------------------------|------|---------------|----------|----------|------------|
| cifar10_resnet{depth}        | 64   | 128, 256, 512 | B        | 512      | any        |
| lifted_cifar10_resnet{depth} | 64   | 128, 256, 512 | B        | 512      | 54 channels |
| narrow_cifar10_resnet{depth} | 16   | 16, 32, 64    | A        | 64       | any        |

depth = 6 n + 2 with n >= 1 blocks a stage: 8, 14, 20, 32, 44, 56, 110, 1202, ...
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.config import ConfigError

Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, the new channels zero, half of them on each side."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """conv3x3(stride)-BN-ReLU-conv3x3-BN, plus shortcut, then ReLU; no biases."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, shortcut: Shortcut = "B") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = (
                PadShortcut(c_in, c_out, stride)
                if shortcut == "A"
                else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
            )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Stem, three stages of n = (depth - 2) / 6 blocks with `width`, 2 `width`, 4 `width` channels, mean, final BN.

    Convolutions start Kaiming-normal (fan-in, ReLU gain), normalisations at weight 1 and bias 0, the last one of a
    block included.

    Attributes:
        features: length of the output vector, 4 `width`.
    """

    def __init__(
        self,
        depth: int,
        width: int = 128,
        stem: int = 64,
        in_channels: int = 3,
        shortcut: Shortcut = "B",
        final_norm: bool = True,
    ) -> None:
        """Build.

        Raises:
            ConfigError: a depth that is not 6 n + 2.
        """
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError(f"encoder depth {depth}: must be 6 n + 2, such as 8, 14, 20, 32, 44, 56 or 110")
        blocks = (depth - 2) // 6
        self.features = 4 * width
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.final_bn: nn.Module = nn.BatchNorm1d(self.features) if final_norm else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, H, W) -> (B, features)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.final_bn(x.mean((2, 3)))


def _stage(c_in: int, c_out: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(c_in, c_out, stride, shortcut)
    return nn.Sequential(first, *[BasicBlock(c_out, c_out, 1, shortcut) for _ in range(blocks - 1)])

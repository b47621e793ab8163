"""Residual networks over overlapping patches of an image, in modules: the vision networks of GIM and SIM.

Blocks are pre-activated and have no batch norm. Every module looks at each patch alone; its latent is the mean of the
patch's feature map, through linear heads, at the patch's place in the grid. The next module reads the feature maps, not
the latent: heads lie beside the trunk.

Sources: Löwe, O'Connor, Veeling, NeurIPS 2019, arXiv 1905.11786; Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv
2408.12936; He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.nets.latent import Heads, Latent, Unit
from trainables.nets.pixelcnn import PixelCNN


class Block(nn.Module):
    """relu - 3x3 - relu - 3x3, or relu - 1x1 - relu - 3x3 - relu - 1x1 to four times the planes, plus a shortcut.

    (B, c, h, w) -> (B, planes or 4 planes, h / stride, w / stride). The shortcut is x, or where size or width change a
    strided 1x1 convolution of relu(x).
    """

    def __init__(self, c_in: int, planes: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.c_out = 4 * planes if bottleneck else planes
        if bottleneck:
            self.conv1 = nn.Conv2d(c_in, planes, 1)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1)
            self.conv3: nn.Conv2d | None = nn.Conv2d(planes, self.c_out, 1)
        else:
            self.conv1 = nn.Conv2d(c_in, planes, 3, stride, padding=1)
            self.conv2 = nn.Conv2d(planes, planes, 3, padding=1)
            self.conv3 = None
        changes = stride != 1 or c_in != self.c_out
        self.shortcut = nn.Conv2d(c_in, self.c_out, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """The sum of branch and shortcut, without activation."""
        a = F.relu(x)
        branch = self.conv2(F.relu(self.conv1(a)))
        if self.conv3 is not None:
            branch = self.conv3(F.relu(branch))
        out: Tensor = branch + (x if self.shortcut is None else self.shortcut(a))
        return out


class PatchUnit(Unit):
    """Stages of a residual network on every patch: images for the first unit, else feature maps (B P, c, h, w)."""

    grid: tuple[int, int]

    def __init__(
        self, c_in: int, stem: int, stages: Sequence[tuple[int, int, int]], bottleneck: bool, probabilistic: bool,
        grid: tuple[int, int], patch: int, step: int, context_layers: int = 0,
    ) -> None:  # fmt: skip
        """Build.

        Args:
            stem: channels of the 5x5 convolution in front; 0 = none, this is not the first unit.
            stages: (planes, blocks, stride of the first block) of each.
            context_layers: of the PixelCNN that makes the context; 0 = the latent is its own context.
        """
        super().__init__()
        self.grid, self.patch, self.step = grid, patch, step
        self.stem = nn.Conv2d(c_in, stem, 5, padding=2) if stem else None
        width, blocks = stem or c_in, []
        for planes, count, stride in stages:
            for number in range(count):
                blocks.append(Block(width, planes, stride if number == 0 else 1, bottleneck))
                width = blocks[-1].c_out
        self.blocks = nn.Sequential(*blocks)
        self.heads = Heads(width, 1, probabilistic)
        self.predicts = PixelCNN(width, context_layers) if context_layers else None
        self.width = self.context_width = width
        self.probabilistic = probabilistic

    def forward(self, x: Tensor) -> Latent:
        """The latent at every place of the grid, and the feature maps."""
        if self.stem is not None:
            x = self.stem(cut_patches(x, self.patch, self.step))
        features = self.blocks(x)
        pooled = features.mean((2, 3)).unflatten(0, (-1, math.prod(self.grid)))  # (B, P, C)
        mean, logvar = self.heads(pooled.transpose(1, 2))
        return Latent(mean, logvar, features)

    def context(self, z: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, C)."""
        if self.predicts is None:
            return z
        found: Tensor = self.predicts(z.transpose(1, 2).unflatten(2, self.grid))
        return found.flatten(2).transpose(1, 2)

    def onward(self, latent: Latent, z: Tensor) -> Tensor:
        """The feature maps."""
        assert latent.features is not None
        return latent.features

    def delta_orthogonal(self) -> None:
        """Start the trunk, and the last layer of the context, with delta-orthogonal weights."""
        convolutions = [*self.blocks.modules(), self.stem, None if self.predicts is None else self.predicts.close]
        for module in convolutions:
            if isinstance(module, nn.Conv2d):
                delta_orthogonal_(module.weight, math.sqrt(2))


def cut_patches(x: Tensor, size: int, step: int) -> Tensor:
    """(B, C, H, W) -> (B P, C, size, size): squares every `step` pixels, item by item, row by row."""
    cut = x.unfold(2, size, step).unfold(3, size, step)  # (B, C, rows, columns, size, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


@torch.no_grad()
def delta_orthogonal_(weight: Tensor, gain: float) -> Tensor:
    """A convolution's weight (out, in, k, k), k odd: zero, but the centre tap is `gain` times a (semi-)orthogonal map.

    Such a layer keeps the norm of its input where out >= in; where channels are lost, that of what it keeps. Source:
    Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs", ICML 2018, arXiv 1806.05393.
    """
    centre = nn.init.orthogonal_(torch.empty_like(weight[:, :, 0, 0]), gain)
    weight.zero_()
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = centre
    return weight

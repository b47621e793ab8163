"""The ResNets of SIE and VICReg, which are not torchvision's.

Strides are padded on one side: the stem by 2 left and top and 3 right and bottom, every other 3x3 with stride 2 by 1
right and bottom; a BasicBlock has its stride on the second convolution; the first block of every stage, the first one
too, has a 1x1 shortcut with batch norm; nothing comes after the mean over space.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385; as used by
Garrido, Najman, LeCun, "Self-Supervised Learning of Split Invariant Equivariant Representations", ICML 2023, arXiv
2302.10283. Names of weights are the usual ones, so that published checkpoints can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.config import ConfigError

LOWEST = -1e4  # what pads the maximum
STEP = 32  # an image's side is a multiple of it: elsewhere strided branch and shortcut round differently


class Block(nn.Module):
    """A residual block: (B, c, h, w) -> (B, planes * expansion, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: bool, final_relu: bool) -> None:
        super().__init__()
        self.stride, self.final_relu = stride, final_relu
        self.downsample: nn.Module | None = None
        if shortcut:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of branch and shortcut, through a ReLU unless the net ends here without one."""
        out = self.branch(x) + (x if self.downsample is None else self.downsample(x))
        return F.relu(out) if self.final_relu else out

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the shortcut."""
        raise NotImplementedError


class BasicBlock(Block):
    """3x3 - BN - ReLU - 3x3 with the stride - BN."""

    def __init__(self, c_in: int, planes: int, stride: int, inner: int, groups: int, first: bool, relu: bool) -> None:
        super().__init__(c_in, planes, stride, first, relu)
        self.conv1 = nn.Conv2d(c_in, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)

    def branch(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, planes, h / stride, w / stride)."""
        x = F.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(_pad(x, self.stride)))
        return out


class Bottleneck(Block):
    """1x1 - BN - ReLU - 3x3 with the stride, in groups - BN - ReLU - 1x1 to four times the planes - BN."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int, inner: int, groups: int, first: bool, relu: bool) -> None:
        super().__init__(c_in, 4 * planes, stride, first, relu)
        self.conv1 = nn.Conv2d(c_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = _conv3x3(inner, inner, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)

    def branch(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 4 planes, h / stride, w / stride)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(_pad(x, self.stride))))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class PaddedResNet(nn.Module):
    """(B, C, S, S) -> (B, features), S a multiple of 32.

    Attributes:
        features: 8 `width` times 1 or 4, times `widen_end`.
    """

    def __init__(
        self, blocks: Sequence[int], bottleneck: bool, width: int = 64, base_width: int = 64, groups: int = 1,
        widen_end: float = 1.0, final_relu: bool = True, in_channels: int = 3,
    ) -> None:  # fmt: skip
        """`blocks` of each of the four stages; `base_width` and `groups` of the 3x3 inside a bottleneck."""
        super().__init__()
        kind: type[BasicBlock] | type[Bottleneck] = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c_in = width
        for stage, count in enumerate(blocks):
            last = stage == len(blocks) - 1
            planes = int(width * 2**stage * (widen_end if last else 1))
            inner = int(planes * base_width / 64) * groups
            made = []
            for number in range(count):
                ends = last and count > 1 and number == count - 1
                stride = 2 if stage and not number else 1
                made.append(kind(c_in, planes, stride, inner, groups, not number, final_relu or not ends))
                c_in = planes * kind.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.features, self.stages = c_in, len(blocks)
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Block):  # each block starts as its shortcut
                nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)  # type: ignore[arg-type, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, S, S) -> (B, features)."""
        x = F.relu(self.bn1(self.conv1(F.pad(x, (2, 3, 2, 3)))))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=LOWEST), 3, stride=2)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean((2, 3))


class SplitPathways(nn.Module):
    """Two nets side by side, one for each part: (B, C, S, S) -> (B, features), the invariant one first."""

    def __init__(self, invariant: PaddedResNet, equivariant: PaddedResNet) -> None:
        super().__init__()
        self.backbone_inv, self.backbone_equi = invariant, equivariant
        self.features = invariant.features + equivariant.features

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, S, S) -> (B, features)."""
        return torch.cat([self.backbone_inv(x), self.backbone_equi(x)], dim=1)


def _conv3x3(c_in: int, c_out: int, stride: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1 if stride == 1 else 0, groups=groups, bias=False)


def _pad(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else F.pad(x, (0, 1, 0, 1))


BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
DEEP = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
NARROW = ((50, 2), (50, 4), (101, 2), (200, 2))  # depth, times the width inside a bottleneck
WIDE = ((50, 2), (50, 4), (50, 5), (200, 2), (200, 3), (200, 4))  # depth, times the width of every stage
GROUPED = ((50, 4), (101, 8), (101, 16), (101, 32))  # depth, width of each of 32 groups
# name -> options; the depth says how many blocks
PRESETS: dict[str, dict[str, float]] = {
    **{f"resnet{depth}": {"depth": depth} for depth in (18, 34, *DEEP)},
    **{f"narrow_resnet{depth}w{k}": {"depth": depth, "base_width": 64 * k} for depth, k in NARROW},
    **{f"resnet{depth}w{k}": {"depth": depth, "width": 64 * k} for depth, k in WIDE},
    **{f"resnext{depth}_32x{w}d": {"depth": depth, "groups": 32, "base_width": w} for depth, w in GROUPED},
    "small_resnet10": {"depth": 10, "width": 16},
    "resnet18_wide_end": {"depth": 18, "widen_end": 4},
    "resnet18_small_end": {"depth": 18, "widen_end": 0.5},
    "resnet18_no_relu": {"depth": 18, "final_relu": False},
    "resnet18_split_pathways": {"depth": 18, "widen_end": 0.5, "towers": 2},
}  # fmt: skip


def build(preset: str, shape: tuple[int, ...], **options: float) -> PaddedResNet | SplitPathways:
    """A preset for images of `shape` (C, S, S), some of its options replaced.

    Raises:
        ConfigError: the shape does not suit, or there are no such blocks.
    """
    if len(shape) != 3 or any(side % STEP for side in shape[1:]):
        raise ConfigError(f"encoder {preset}: takes images whose sides are multiples of {STEP}, the data have {shape}")
    chosen = {**PRESETS[preset], **options}
    towers, depth = int(chosen.pop("towers", 1)), int(chosen.pop("depth"))
    depths = {**BASIC, **DEEP}
    if depth not in depths:
        raise ConfigError(f"encoder {preset}: depth must be one of {', '.join(map(str, depths))} (got {depth})")
    blocks = depths[depth]
    idle = [name for name, used in (
        ("base_width", depth in DEEP), ("groups", depth in DEEP), ("final_relu", blocks[-1] > 1),
    ) if name in chosen and not used]  # fmt: skip
    if idle:
        raise ConfigError(f"encoder {preset}: {idle[0]}: a ResNet-{depth} has nothing that it could change")
    if int(chosen.get("width", 64) * 2 ** (len(blocks) - 1) * chosen.get("widen_end", 1)) < 1:
        raise ConfigError(f"encoder {preset}: widen_end: leaves the last stage no channels")
    made = [PaddedResNet(blocks, depth in DEEP, in_channels=shape[0], **chosen) for _ in range(towers)]  # type: ignore[arg-type]
    return made[0] if towers == 1 else SplitPathways(made[0], made[1])

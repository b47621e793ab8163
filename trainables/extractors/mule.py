"""MULE's encoder, SF-NFNet-F0: a slow and a fast path over a mel spectrogram, without batch norm in their blocks.

Spectrogram: 96 bands up to 8 kHz, windows of 400 in a transform of 2048, every 160 samples at 16 kHz, dB. Each path has
a stem of four convolutions and four stages of residual blocks. Before each stage the fast path is brought to the slow
one's rate and width and laid behind it in time. The feature is the mean of both over time and frequency through a
scaled GELU, 1536 + 192 dimensions; with `project` three layers more, 512.

Weights of a convolution are standardised per output channel and scaled by 1 / sqrt(fan-in). Names of the tensors of a
block, of a convolution and of the fusion are the published ones; those of the whole are this file's.

Sources: McCallum et al., "Supervised and Unsupervised Learning of Audio Representations for Music Understanding", ISMIR
2022, arXiv 2210.03799 (MULE); Wang et al., ICASSP 2022, arXiv 2111.12124 (SF-NFNet); Brock et al., ICML 2021, arXiv
2102.06171 (NFNet).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors._mel import mel
from trainables.extractors.base import SoundExtractor

RATE, HOP, WINDOW, SIZE, BANDS = 16_000, 160, 400, 2048, 96
ALPHA, GELU = 0.2, 1.7015043497
STRIDES = (1, 2, 2, 2)  # of the first block of each stage, in frequency
DROP = 0.1  # of stochastic depth at the last block, in training
Pair = tuple[int, int]
# out channels per unit of width, kernel, stride, padding
SLOW_STEM: tuple[tuple[int, Pair, Pair, Pair], ...] = (
    (1, (3, 1), (2, 8), (1, 0)), (2, (3, 1), (1, 1), (1, 0)), (4, (3, 1), (1, 1), (1, 0)), (8, (3, 3), (2, 2), (1, 1)),
)  # fmt: skip
FAST_STEM: tuple[tuple[int, Pair, Pair, Pair], ...] = (
    (1, (3, 3), (2, 2), (1, 1)), (2, (3, 3), (1, 1), (1, 1)), (4, (3, 3), (1, 1), (1, 1)), (8, (3, 3), (2, 2), (1, 1)),
)  # fmt: skip
Four = tuple[int, int, int, int]


class Options(Config):
    """Its sizes; the defaults are those of F0."""

    depths: Four = Field((1, 2, 6, 3), description="blocks of each stage")
    slow: Four = Field((256, 512, 1536, 1536), description="channels of each stage of the slow path")
    fast: Four = Field((32, 64, 192, 192), description="of the fast path")
    stem: int = Field(
        16, ge=1, description="channels of the slow path's first convolution; its last has 8 times as many"
    )
    fast_stem: int = Field(2, ge=1, description="of the fast path")
    group: int = Field(128, ge=1, description="channels of a group inside the blocks of the slow path")
    fast_group: int = Field(16, ge=1, description="of the fast path")
    project: bool = Field(False, description="three layers more, the last of 512 dimensions")


class WSConv(nn.Module):
    """A convolution with standardised weights, without bias."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        groups: int = 1,
        around: Pair = (0, 0),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, around, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C', F', T')."""
        w = self.conv.weight
        variance, mean = torch.var_mean(w, (1, 2, 3), keepdim=True)
        scale = (variance * w[0].numel()).clamp_min(1e-4).rsqrt()
        conv = self.conv
        return F.conv2d(x, (w - mean) * scale, None, conv.stride, conv.padding, groups=conv.groups)  # type: ignore[arg-type]


class Scale(nn.Module):
    """Times a number, one that is learned or a constant."""

    def __init__(self, value: float, learned: bool = False) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.tensor(value), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        """Of every element."""
        return x * self.scalar


class Excite(nn.Module):
    """Squeeze and excite: a factor for each channel out of the means of all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> the same."""
        factor: Tensor = self.fc(x.mean((2, 3)))
        return x * factor[:, :, None, None]


class Dropped(nn.Module):
    """Stochastic depth: in training the residual of an item is left out with a probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> the same."""
        if not self.training or not self.probability:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.probability
        return x * kept / (1 - self.probability)


class Block(nn.Module):
    """A residual block; a stage's first one (`first`) changes width and frequencies, in its shortcut too."""

    def __init__(
        self, c_in: int, c_out: int, stride: int, group: int, beta: float, first: bool, drop: float = 0.0
    ) -> None:
        super().__init__()
        half = c_out // 2
        groups = max(1, half // group)
        self.first = first
        self.input_layers = nn.Sequential(nn.ReLU(), Scale(beta))
        self.residual_path = nn.Sequential(
            WSConv(c_in, half), WSConv(half, half, (1, 3), (stride, 1), groups, (0, 1)),
            WSConv(half, half, (3, 1), (1, 1), groups, (1, 0)), WSConv(half, c_out), Excite(c_out),
            Scale(0.0, learned=True), Scale(ALPHA), Dropped(drop),
        )  # fmt: skip
        self.skip_path = nn.Sequential(
            nn.AvgPool2d((stride, 1)) if stride > 1 else nn.Identity(), WSConv(c_in, c_out) if first else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C', F / stride, T)."""
        z = self.input_layers(x)
        skip = self.skip_path(z if self.first else x)
        for number, layer in enumerate(self.residual_path):
            z = F.relu(layer(z)) if number < 3 else layer(z)
        found: Tensor = skip + z
        return found


class Fusion(nn.Module):
    """The fast path at the slow one's rate and width, behind the slow one in time."""

    def __init__(self, fast: int, slow: int) -> None:
        super().__init__()
        self.conv1 = WSConv(fast, fast, (1, 7), (1, 4))
        self.conv2 = WSConv(fast, slow)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """(B, C, F, T) and (B, c, F, t) -> (B, C, F, T + (t - 7) / 4 + 1)."""
        return torch.cat([slow, F.relu(self.conv2(F.relu(self.conv1(fast))))], -1)


class Mule(SoundExtractor):
    """Part "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        if any(width % 2 for width in (*cfg.slow, *cfg.fast)):
            raise ConfigError(f"method.slow: widths should be even (got {cfg.slow} and {cfg.fast})")
        self.at_least(4 * 7 * HOP)  # so many frames are left for the fusion
        self.slow_stem, self.fast_stem = _stem(cfg.stem, SLOW_STEM), _stem(cfg.fast_stem, FAST_STEM)
        before = zip((8 * cfg.fast_stem, *cfg.fast), (8 * cfg.stem, *cfg.slow), strict=False)
        self.fusions = nn.ModuleList([Fusion(fast, slow) for fast, slow in list(before)[:4]])
        self.slow_stages = _stages(cfg.depths, 8 * cfg.stem, cfg.slow, cfg.group)
        self.fast_stages = _stages(cfg.depths, 8 * cfg.fast_stem, cfg.fast, cfg.fast_group)
        width = cfg.slow[-1] + cfg.fast[-1]
        wide = [width, width, width, 512] if cfg.project else []
        layers = [nn.Linear(i, o, bias=False) for i, o in pairwise(wide)]
        self.projection = nn.ModuleList(layers)
        self.parts = {"all": 512 if cfg.project else width}

    def original(self, name: str) -> str | None:
        """The projection of a file is left out where none is asked for."""
        return None if name.startswith("projection.") and not self.cfg.project else name

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        power = mel(self.heard(x), RATE, SIZE, WINDOW, HOP, BANDS, 8000.0)
        seen = 10 * power.clamp_min(1e-10).log10()[:, None]
        slow, fast = self.slow_stem(seen), self.fast_stem(seen)
        for fuse, one, other in zip(self.fusions, self.slow_stages, self.fast_stages, strict=True):
            slow, fast = one(fuse(slow, fast)), other(fast)
        z = torch.cat([GELU * F.gelu(path.mean((2, 3))) for path in (slow, fast)], 1)
        for layer in self.projection:
            z = F.relu(layer(z))
        return {"all": z}


def _stem(unit: int, layers: tuple[tuple[int, Pair, Pair, Pair], ...]) -> nn.Sequential:
    made: list[nn.Module] = []
    c_in = 1
    for factor, kernel, stride, around in layers:
        made += [nn.Conv2d(c_in, factor * unit, kernel, stride, around), nn.BatchNorm2d(factor * unit), nn.ReLU()]
        c_in = factor * unit
    return nn.Sequential(*made)


def _stages(depths: Four, c_in: int, widths: Four, group: int) -> nn.ModuleList:
    """Stages of blocks; what enters a block is scaled by the deviation that is expected of it."""
    stages, number = nn.ModuleList(), 0
    for stage, (depth, width, stride) in enumerate(zip(depths, widths, STRIDES, strict=True)):
        expected, blocks = (math.sqrt(1 + ALPHA**2) if stage else 1.0), []
        for place in range(depth):
            drop, step = DROP * number / sum(depths), stride if place == 0 else 1
            blocks.append(Block(c_in, width, step, group, 1 / expected, place == 0, drop))
            expected, c_in, number = math.sqrt(expected**2 + ALPHA**2), width, number + 1
        stages.append(nn.Sequential(*blocks))
    return stages


METHOD = Mule

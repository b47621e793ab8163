"""The short-chunk CNN: seven blocks on a mel spectrogram in dB, the maximum over time.

Mel spectrogram: 128 bands up to 8 kHz, 512/256 samples at 16 kHz, power, dB with a floor of -100, one batch norm over
all. Blocks: 3x3 convolution, batch norm, ReLU, maximum of 2x2. What is said of tags (`tags`) comes of two layers more.

Source: Won, Ferraro, Bogdanov, Serra, "Evaluation of CNN-based Automatic Music Tagging Models", SMC 2020, arXiv
2006.00751.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config
from trainables.extractors._mel import mel
from trainables.extractors.base import SoundExtractor

RATE, WINDOW, HOP, MELS = 16_000, 512, 256, 128
WIDTHS = (1, 1, 2, 2, 2, 2, 4)


class Options(Config):
    """Its sizes; the defaults are the published ones."""

    channels: int = Field(128, ge=1, description="of the first block; the last has four times as many")
    tags: int = Field(50, ge=1, description="that the head has been trained on; no feature depends on it")


class Layer(nn.Module):
    """A block, (B, C, h, w) -> (B, C', h / 2, w / 2)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, batch norm, ReLU, maximum."""
        return F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)


class ShortChunk(SoundExtractor):
    """Part "all" (B, 4 channels)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        self.at_least(HOP * 2 ** len(WIDTHS))  # one cell is left of it
        widths = [1, *(cfg.channels * factor for factor in WIDTHS)]
        self.spec_bn = nn.BatchNorm2d(1)
        for number, (c_in, c_out) in enumerate(pairwise(widths), 1):
            setattr(self, f"layer{number}", Layer(c_in, c_out))
        self.dense1, self.bn = nn.Linear(widths[-1], widths[-1]), nn.BatchNorm1d(widths[-1])
        self.dense2 = nn.Linear(widths[-1], cfg.tags)
        self.parts = {"all": widths[-1]}

    def original(self, name: str) -> str | None:
        """The published names, with or without those of the constants of the spectrogram."""
        return None if name.split(".")[0] in ("spec", "to_db") else name

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        z = self.spec_bn(decibels(self.heard(x))[:, None])
        for number in range(1, len(WIDTHS) + 1):
            z = getattr(self, f"layer{number}")(z)
        return {"all": z.squeeze(2).amax(-1)}

    def tagged(self, features: Tensor) -> Tensor:
        """Probabilities of the tags (B, tags), of features (B, D) in eval mode."""
        return torch.sigmoid(self.dense2(F.relu(self.bn(self.dense1(features)))))


def decibels(x: Tensor) -> Tensor:
    """Sound (B, T) at 16 kHz -> (B, 128, frames)."""
    return mel(x, RATE, WINDOW, WINDOW, HOP, MELS, 8000.0).clamp_min(1e-10).log10() * 10


METHOD = ShortChunk

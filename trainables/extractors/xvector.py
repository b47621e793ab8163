"""x-vectors: a network of time delays on a filter bank, mean and deviation over time, a linear map.

Filter bank: 24 triangles on the mel scale, 25/10 ms, Hamming, power in dB, at most 80 below an item's loudest, less
each band's mean over time. Layers: convolution, leaky ReLU (0.01), batch norm; their ends are mirrored, so that a frame
stays a frame. The layout of files is speechbrain's.

Source: Snyder et al., "X-vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config
from trainables.extractors.base import SoundExtractor

RATE, HOP, WINDOW = 16_000, 160, 400
LAYERS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))  # kernel and dilation
EPS = 1e-5  # added to deviations


class Options(Config):
    """The network; the defaults are speechbrain's."""

    mels: int = Field(24, ge=1, description="bands of the filter bank")
    widths: tuple[int, int, int, int, int] = Field((512, 512, 512, 512, 1500), description="channels of the layers")
    features: int = Field(512, ge=1, description="dimensions of the embedding")


class XVector(SoundExtractor):
    """Part "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        self.at_least(20 * HOP)
        ins = (cfg.mels, *cfg.widths[:-1])
        pairs = list(zip(ins, cfg.widths, LAYERS, strict=True))
        self.convs = nn.ModuleList([nn.Conv1d(i, o, kernel, dilation=wide) for i, o, (kernel, wide) in pairs])
        self.norms = nn.ModuleList([nn.BatchNorm1d(o) for o in cfg.widths])
        self.linear = nn.Linear(2 * cfg.widths[-1], cfg.features)
        self.parts = {"all": cfg.features}

    def original(self, name: str) -> str | None:
        """Names of speechbrain: `blocks.` convolution, activation, norm, five times, statistics, linear map."""
        head, _, rest = name.partition(".")
        number, _, rest = rest.partition(".")
        if head != "blocks" or not number.isdigit():
            return name
        place, kind = divmod(int(number), 3)
        end = rest.rpartition(".")[2]
        if place == len(LAYERS):
            return f"linear.{end}"
        return f"{'norms' if kind == 2 else 'convs'}.{place}.{end}"

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        z = self.bands(self.heard(x))
        for convolution, norm, (kernel, dilation) in zip(self.convs, self.norms, LAYERS, strict=True):
            around = dilation * (kernel - 1) // 2
            z = norm(F.leaky_relu(convolution(F.pad(z, (around, around), mode="reflect")), 0.01))
        return {"all": self.linear(torch.cat([z.mean(2), z.std(2) + EPS], 1))}

    def bands(self, x: Tensor) -> Tensor:
        """Sound (B, T) -> (B, mels, frames)."""
        window = torch.hamming_window(WINDOW, device=x.device)
        spectrum = torch.stft(x, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        decibels = 10 * (triangles(self.cfg.mels).to(x.device).T @ power).clamp_min(1e-10).log10()
        decibels = torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 80)
        return decibels - decibels.mean(2, keepdim=True)


def triangles(count: int) -> Tensor:
    """(frequencies, count): symmetric ones as wide as the step below their centre, on the mel scale of HTK."""
    top = 2595 * torch.log10(torch.tensor(1 + RATE / 2 / 700))
    hz = 700 * (10 ** (torch.linspace(0, float(top), count + 2) / 2595) - 1)
    wide, centre = hz.diff()[:-1], hz[1:-1]
    slope = (torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None] - centre) / wide
    return torch.minimum(slope + 1, 1 - slope).clamp_min(0)


METHOD = XVector

"""M2D: a ViT on chunks of a log-mel spectrogram; the patches of one time step, stacked, are a frame.

Spectrogram: 80 bands from 50 Hz to 8 kHz, 25/10 ms at 16 kHz, natural logarithm, standardised with the training's mean
and deviation. Chunks have as many frames as the table of positions; the last is filled with zeros to whole patches and
has the table's beginning. The class token is dropped.

Source: Niizumi et al., "Masked Modeling Duo", ICASSP 2023, arXiv 2210.14648. Layout of files: the published one, which
is timm's; what predicts masked patches is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors._mel import mel
from trainables.extractors.base import SoundExtractor
from trainables.extractors.vit import translated
from trainables.nets.vit import VisionTransformer

RATE, HOP, WINDOW = 16_000, 160, 400
STATISTICS = (-7.1, 4.2)


class Options(Config):
    """The network; the defaults are those of the published base model."""

    bands: int = Field(80, ge=1, description="of the spectrogram")
    chunk: int = Field(608, ge=1, description="frames of the spectrogram that are encoded at once")
    patch: int = Field(16, ge=1, description="bands of a patch")
    step: int | None = Field(None, ge=1, description="frames of a patch; None = as many as bands")
    width: int = Field(768, ge=1, description="channels of a token")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="of attention")
    hidden: int = Field(3072, ge=1, description="units between the two layers of a block's network")


class M2D(SoundExtractor):
    """Part "all" (B, D rows), rows = patches of a time step; `frames` gives them at every time."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    norm_stats: Tensor

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        self.step = cfg.step or cfg.patch
        if cfg.bands % cfg.patch or cfg.chunk % self.step:
            raise ConfigError(
                f"method.patch: {cfg.patch} and {self.step} should divide bands {cfg.bands} and chunk {cfg.chunk}"
            )
        self.at_least(WINDOW)
        self.rows = cfg.bands // cfg.patch
        self.net = VisionTransformer(
            (self.rows, cfg.chunk // self.step), (cfg.patch, self.step), cfg.width, cfg.depth, cfg.heads, cfg.hidden,
            channels=1,
        )  # fmt: skip
        self.register_buffer("norm_stats", torch.tensor(STATISTICS))
        self.parts = {"all": self.rows * cfg.width}
        whole, rest = divmod(1 + self.length // HOP, cfg.chunk)
        self.places = {"all": (whole * (cfg.chunk // self.step) + -(-rest // self.step),)}

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published names; a file without statistics of the spectrogram has the usual ones."""
        statistics = given.get("norm_stats", torch.tensor(STATISTICS))
        rest = translated({name: value for name, value in given.items() if name != "norm_stats"})
        return {**rest, "norm_stats": statistics}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.frames(x)["all"].mean(1)}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Stacked patches of every time step, (B, L, D); nothing is drawn."""
        power = mel(self.heard(x), RATE, WINDOW, WINDOW, HOP, self.cfg.bands, 8000.0, 50.0, "slaney")
        mean, deviation = self.norm_stats
        return {"all": self.stacked((((power + torch.finfo(power.dtype).eps).log() - mean) / deviation)[:, None])}

    def stacked(self, seen: Tensor) -> Tensor:
        """A standardised spectrogram (B, 1, bands, frames) -> (B, L, rows D)."""
        found = []
        for chunk in seen.split(self.cfg.chunk, -1):
            chunk = F.pad(chunk, (0, -chunk.shape[-1] % self.step))
            tokens = self.net(chunk, cut=True)[:, 1:]  # by rows, then by time
            found.append(tokens.unflatten(1, (self.rows, -1)).transpose(1, 2).flatten(2))
        return torch.cat(found, 1)


METHOD = M2D

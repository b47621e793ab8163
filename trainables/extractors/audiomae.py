"""AudioMAE: a ViT on Kaldi's filter bank of ten seconds, the mean over its patches.

Filter bank: 128 bands, 25/10 ms at 16 kHz, Hanning, without dither, as HTK has it; filled with zeros or cut to 1024
frames, then (x + 4.2677393) / (2 4.5689974), the statistics of AudioSet. Layouts of files that are read: the published
one, which is timm's with a decoder that is left out, and the same with the prefix `encoder.`.

Source: Huang et al., "Masked Autoencoders that Listen", NeurIPS 2022, arXiv 2207.06405.
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
from trainables.extractors.base import SoundExtractor
from trainables.extractors.vit import translated
from trainables.nets.vit import VisionTransformer

RATE, BANDS, PATCH = 16_000, 128, 16
MEAN, DEVIATION = -4.2677393, 4.5689974


class Options(Config):
    """The network; the defaults are those of the published base model."""

    frames: int = Field(1024, ge=16, multiple_of=PATCH, description="of the filter bank, 10 ms each")
    width: int = Field(768, ge=1, description="channels of a token")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="of attention")
    hidden: int = Field(3072, ge=1, description="units between the two layers of a block's network")


class AudioMAE(SoundExtractor):
    """Part "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        if cfg.width % cfg.heads:
            raise ConfigError(f"method.heads: should divide the width of {cfg.width} (got {cfg.heads})")
        self.at_least(400)
        self.net = VisionTransformer(
            (cfg.frames // PATCH, BANDS // PATCH), (PATCH, PATCH), cfg.width, cfg.depth, cfg.heads, cfg.hidden,
            channels=1,
        )  # fmt: skip
        self.parts = {"all": cfg.width}

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of timm, with or without a prefix."""
        inside = any(name.startswith("encoder.blocks.") for name in given)
        return translated({name.removeprefix("encoder.") if inside else name: value for name, value in given.items()})

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        seen = torch.stack([standardised(one, self.cfg.frames) for one in self.heard(x)])
        return {"all": self.net(seen[:, None])[:, 1:].mean(1)}


def standardised(x: Tensor, frames: int) -> Tensor:
    """Sound (T,) at 16 kHz -> (frames, 128)."""
    from torchaudio.compliance.kaldi import fbank  # takes seconds to import

    bank = fbank(
        x[None], htk_compat=True, sample_frequency=RATE, use_energy=False, window_type="hanning", num_mel_bins=BANDS,
        dither=0.0, frame_shift=10.0,
    )[:frames]  # fmt: skip
    return (F.pad(bank, (0, 0, 0, frames - len(bank))) - MEAN) / (2 * DEVIATION)


METHOD = AudioMAE

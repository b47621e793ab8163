"""The sound tower of LAION's CLAP, HTSAT-base, projected to the space it shares with text; needs `transformers`.

Ten seconds at 48 kHz, which a shorter item is repeated to as often as it fits, with silence behind; 64 mel bands from
50 Hz to 14 kHz, windows of 1024 every 480 samples, dB. The layout of files is that of the library transformers; the
tower of text is left out.

Source: Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", ICASSP 2023, arXiv 2211.06687.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors._mel import mel
from trainables.extractors.base import SoundExtractor, needs

RATE, HOP, WINDOW, BANDS, SECONDS = 48_000, 480, 1024, 64, 10
LEFT_OUT = ("text_model", "text_projection", "logit_scale_a", "logit_scale_t")
CONSTANT = "relative_position_index"
Four = tuple[int, int, int, int]


class Options(Config):
    """Its sizes; the defaults are those of HTSAT-base."""

    width: int = Field(128, ge=8, description="channels of the first stage; the last has 8 times as many")
    depths: Four = Field((2, 2, 12, 2), description="blocks of each stage")
    heads: Four = Field((4, 8, 16, 32), description="of attention in each stage")
    features: int = Field(512, ge=1, description="dimensions of the shared space")


class Clap(SoundExtractor):
    """Part "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        transformers = needs("transformers", "CLAP")
        if self.length > SECONDS * RATE:
            raise ConfigError(f"CLAP: hears {SECONDS} s, the data's items are of {self.length / RATE:.2f} s")
        self.at_least(WINDOW)
        config = transformers.ClapAudioConfig(
            patch_embeds_hidden_size=cfg.width, hidden_size=8 * cfg.width, depths=list(cfg.depths),
            num_attention_heads=list(cfg.heads), projection_dim=cfg.features, num_mel_bins=BANDS,
        )  # fmt: skip
        self.net = transformers.ClapAudioModelWithProjection(config)
        self.parts = {"all": cfg.features}

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file holds but constants, which are the network's own."""
        own = {name.removeprefix("net."): value for name, value in self.state_dict().items() if name.endswith(CONSTANT)}
        return {**{name: value for name, value in given.items() if not name.endswith(CONSTANT)}, **own}

    def original(self, name: str) -> str | None:
        """Names of the library transformers."""
        return None if name.split(".")[0] in LEFT_OUT else f"net.{name}"

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.net(input_features=bands(self.heard(x))).audio_embeds}


def bands(x: Tensor) -> Tensor:
    """Sound (B, T) at 48 kHz -> (B, 1, frames, 64)."""
    longest = SECONDS * RATE
    x = x.repeat(1, max(1, longest // x.shape[1]))
    power = mel(F.pad(x, (0, longest - x.shape[1])), RATE, WINDOW, WINDOW, HOP, BANDS, 14_000.0, 50.0, "slaney")
    return 10 * power.clamp_min(1e-10).log10().transpose(1, 2)[:, None]


METHOD = Clap

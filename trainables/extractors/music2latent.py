"""The encoder of Music2Latent, its latents or the features before its bottleneck; needs the package `music2latent`.

The network and what it sees, complex spectra every 512 samples at 44.1 kHz with a compressed magnitude, are the
package's; its weights are read by ours, which runs nothing that a file holds, and never fetched. The decoder of a file
is left out.

Source: Pasini, Lattner, Fazekas, "Music2Latent: Consistency Autoencoders for Latent Audio Compression", ISMIR 2024,
arXiv 2408.06500.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config
from trainables.extractors.base import SoundExtractor, needs

RATE, HOP, STEP = 44_100, 512, 8  # STEP: spectra of a latent
SCALE = 0.06  # of latents, whose deviation is 1 then
LATENT, FEATURES = 64, 8192


class Options(Config):
    """What of it."""

    features: bool = Field(False, description="those before the bottleneck (8192), not latents (64)")


class Music2Latent(SoundExtractor):
    """Part "all" (B, D); `frames` gives it at every time."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        needs("music2latent", "Music2Latent")
        from music2latent.models import Encoder

        self.at_least((STEP + 3) * HOP)
        self.count = (self.length - 3 * HOP) // HOP // STEP
        self.encoder = Encoder()
        self.parts = {"all": FEATURES if cfg.features else LATENT}
        self.places = {"all": (self.count,)}

    def original(self, name: str) -> str | None:
        """Names of the package, whose decoder is left out."""
        return name if name.startswith("encoder.") else None

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.frames(x)["all"].mean(1)}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Latents at every time, (B, L, D); nothing is drawn."""
        from music2latent.audio import to_representation_encoder

        heard = self.heard(x)
        whole = (heard.shape[1] - 3 * HOP) // HOP // STEP * HOP * STEP + 3 * HOP
        found = self.encoder(to_representation_encoder(heard[:, :whole]), extract_features=self.cfg.features)
        return {"all": (found if self.cfg.features else found / SCALE).transpose(1, 2)}


METHOD = Music2Latent

"""wav2vec 2.0 and its kin (HuBERT, UniSpeech-SAT, MERT): the last layer of the transformer, its mean over time.

The network is torchaudio's: seven convolutions, a frame every 320 samples, then transformer layers. Layouts of files
that are read: torchaudio's, and that of the library transformers, with or without the head of a fine-tuning.

Sources: Baevski et al., NeurIPS 2020, arXiv 2006.11477 (wav2vec 2.0); Hsu et al., TASLP 2021, arXiv 2106.07447
(HuBERT); Chen et al., ICASSP 2022, arXiv 2110.05752 (UniSpeech-SAT); Li et al., ICLR 2024, arXiv 2306.00107 (MERT).
"""

from __future__ import annotations

import re
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors.base import SoundExtractor

CONVOLUTIONS = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]  # kernel and stride
LEFT_OUT = re.compile(
    r"^(aux|lm_head|quantizer|project_q|project_hid|final_proj|classifier|projector|speaker_proj|label_embeddings"
    r"_concat|layer_norm_for_extract)\.|(^|\.)(masked_spec_embed|mask_embedding|label_embs_concat)$"
)
PREFIX = re.compile(r"^(wav2vec2|hubert|unispeech_sat|unispeech|model)\.")
POSITIONS = "encoder.transformer.pos_conv_embed.conv."
WEIGHT_NORM = {"weight_g": "original0", "weight_v": "original1"}


class Options(Config):
    """Which network; the defaults are those of the base models."""

    rate: int = Field(16_000, ge=1, description="Hz that it was trained at (MERT: 24,000)")
    channels: int = Field(512, ge=1, description="of the convolutions")
    width: int = Field(768, ge=1, description="channels of a frame")
    depth: int = Field(12, ge=1, description="layers of the transformer")
    heads: int = Field(12, ge=1, description="of attention")
    hidden: int = Field(3072, ge=1, description="units between the two layers of a layer's network")
    normalise: bool = Field(False, description="items less their mean, over their deviation (UniSpeech-SAT, MERT: on)")


class Wav2Vec2(SoundExtractor):
    """Part "all" (B, D); `frames` gives the last layer at every time."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, cfg.rate)
        from torchaudio.models import wav2vec2_model  # takes seconds to import

        if cfg.width % cfg.heads or cfg.width % 16:
            raise ConfigError(f"method.width: should be a multiple of 16 and of the heads (got {cfg.width})")
        self.net = wav2vec2_model(
            extractor_mode="group_norm", extractor_conv_bias=False,
            extractor_conv_layer_config=[(cfg.channels, *one) for one in CONVOLUTIONS], encoder_embed_dim=cfg.width,
            encoder_projection_dropout=0.0, encoder_pos_conv_kernel=128, encoder_pos_conv_groups=16,
            encoder_num_layers=cfg.depth, encoder_num_heads=cfg.heads, encoder_attention_dropout=0.0,
            encoder_ff_interm_features=cfg.hidden, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0,
            encoder_layer_norm_first=False, encoder_layer_drop=0.0, aux_num_out=None,
        )  # fmt: skip
        self.at_least(400)
        self.parts, self.places = {"all": cfg.width}, {"all": (_frames(self.length),)}

    def original(self, name: str) -> str | None:
        """Names of torchaudio, or of the library transformers."""
        name = PREFIX.sub("", name)
        if LEFT_OUT.search(name):
            return None
        if name.startswith("feature_projection."):
            name = f"encoder.{name}"
        elif name.startswith("encoder.") and name.split(".")[1] in ("layers", "layer_norm", "pos_conv_embed"):
            name = f"encoder.transformer.{name.removeprefix('encoder.')}"
        end = name.removeprefix(POSITIONS)
        return f"net.{POSITIONS}parametrizations.weight.{WEIGHT_NORM[end]}" if end in WEIGHT_NORM else f"net.{name}"

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.frames(x)["all"].mean(1)}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The last layer, (B, L, D); nothing is drawn."""
        heard = self.heard(x)
        if self.cfg.normalise:
            heard = F.layer_norm(heard, heard.shape[-1:], eps=1e-7)
        return {"all": self.net.extract_features(heard)[0][-1]}


def _frames(samples: int) -> int:
    for kernel, stride in CONVOLUTIONS:
        samples = (samples - kernel) // stride + 1
    return samples


METHOD = Wav2Vec2

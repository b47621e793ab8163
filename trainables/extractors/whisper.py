"""Whisper's encoder: its frames that belong to the item, their mean over time.

A log-mel spectrogram of the item, followed by silence up to 30 s, two convolutions, a frame every 320 samples, sines as
positions, transformer blocks. Layouts of files that are read: OpenAI's and that of the library transformers; the
decoder is left out.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023, arXiv 2212.04356.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors._mel import bank
from trainables.extractors.base import SoundExtractor
from trainables.extractors.vit import merged
from trainables.nets.vit import Block

RATE, HOP, WINDOW, MELS = 16_000, 160, 400, 80
TRANSLATION = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^model\.", ""),
        (r"^encoder\.(positional_embedding|embed_positions\.weight)$", "pos_embed"),
        (r"^encoder\.(blocks|layers)\.(\d+)\.", r"blocks.\2."),
        (r"\.(attn_ln|self_attn_layer_norm)\.", ".norm1."),
        (r"\.(mlp_ln|final_layer_norm)\.", ".norm2."),
        (r"\.(?:attn|self_attn)\.(?:(q)uery|(k)ey|(v)alue|(q)_proj|(k)_proj|(v)_proj)\.", r".attn.\1\2\3\4\5\6."),
        (r"\.(attn\.out|self_attn\.out_proj)\.", ".attn.proj."),
        (r"\.(mlp\.0|fc1)\.", ".mlp.fc1."),
        (r"\.(mlp\.2|fc2)\.", ".mlp.fc2."),
        (r"^encoder\.(ln_post|layer_norm)\.", "norm."),
        (r"^encoder\.", ""),
    )
]


class Options(Config):
    """Which size; the defaults are those of `small`."""

    width: int = Field(768, ge=2, description="channels of a frame")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="of attention")
    seconds: float = Field(30.0, gt=0, le=30, description="to which silence lengthens an item")


class Whisper(SoundExtractor):
    """Part "all" (B, D); `frames` gives the encoder's at every time of the item."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        self.heard_at_once = int(cfg.seconds * RATE) // (2 * HOP) * 2 * HOP
        if self.length > self.heard_at_once:
            raise ConfigError(f"Whisper: hears {cfg.seconds:g} s, the data's items are of {self.length / RATE:.2f} s")
        if cfg.width % cfg.heads or cfg.width % 2:
            raise ConfigError(f"method.width: should be even and a multiple of the heads (got {cfg.width})")
        self.conv1 = nn.Conv1d(MELS, cfg.width, 3, padding=1)
        self.conv2 = nn.Conv1d(cfg.width, cfg.width, 3, stride=2, padding=1)
        self.pos_embed = nn.Parameter(sines(self.heard_at_once // (2 * HOP), cfg.width))
        self.blocks = nn.Sequential(*[Block(cfg.width, cfg.heads, 4 * cfg.width, 1e-5) for _ in range(cfg.depth)])
        self.norm = nn.LayerNorm(cfg.width)
        self.parts = {"all": cfg.width}
        self.places = {"all": (-(-self.length // (2 * HOP)),)}

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encoder of a file of either layout by our names; keys of attention have no bias there."""
        found: dict[str, Tensor] = {}
        for name, value in given.items():
            name = name.removeprefix("model.")
            if name.startswith("encoder."):
                for pattern, ours in TRANSLATION:
                    name = pattern.sub(ours, name)
                found[name] = value
            elif name.split(".")[0] not in ("decoder", "proj_out"):
                found[name] = value  # has no place, which is said
        return merged(found, without_bias="k")

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.frames(x)["all"].mean(1)}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The encoder's frames, (B, L, D); nothing is drawn."""
        heard = self.heard(x)
        count = -(-heard.shape[1] // (2 * HOP))
        mel = log_mel(F.pad(heard, (0, self.heard_at_once - heard.shape[1])))
        z = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2) + self.pos_embed
        return {"all": self.norm(self.blocks(z))[:, :count]}


def log_mel(x: Tensor) -> Tensor:
    """Sound (B, T) -> (B, 80, T / 160): decades of power, at most 8 below an item's loudest, then (x + 4) / 4."""
    spectrum = torch.stft(x, WINDOW, HOP, window=torch.hann_window(WINDOW, device=x.device), return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    decades = (bank(RATE, WINDOW, MELS, 0.0, RATE / 2, "slaney").to(x.device) @ power).clamp_min(1e-10).log10()
    return (torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8) + 4) / 4


def sines(length: int, width: int) -> Tensor:
    """Positions (length, width): sines of periods from 2 pi to 20,000 pi, then their cosines."""
    rates = torch.exp(-torch.log(torch.tensor(10_000.0)) / max(width // 2 - 1, 1) * torch.arange(width // 2))
    phase = torch.arange(length)[:, None] * rates
    return torch.cat([phase.sin(), phase.cos()], 1)


METHOD = Whisper

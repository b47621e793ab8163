"""PESTO: which pitch, of every frame of a constant-Q transform; the mean of its activations over time.

The transform's bins are a third of a semitone; of 296, 16 at each end are left out. A frame, in dB, goes through a
layer norm, convolutions over bins, and a map whose rows are shifted copies of one another, to a softmax over 384
pitches, which are then rolled by a shift that was calibrated on known pitches.

Source: Riou, Lattner, Hadjeres, Peeters, "PESTO: Pitch Estimation with Self-supervised Transposition-equivariant
Objective", ISMIR 2023, arXiv 2309.02265. Layout of files: the published one; its constants and its confidence are left
out. Between the second convolution and the next there is no activation, as in the published network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config
from trainables.extractors.base import SoundExtractor

RATE, PER_SEMITONE, LOWEST = 22_050, 3, 27.5
LEAK, EPS = 0.3, 1.19e-7


class Options(Config):
    """Its sizes; the defaults are the published ones."""

    bins: int = Field(296, ge=34, description="of the transform, from 27.5 Hz on")
    crop: int = Field(16, ge=0, description="bins left out at each end")
    widths: tuple[int, ...] = Field((40, 30, 30, 10, 3), min_length=2, description="channels of the convolutions")
    kernel: int = Field(15, ge=1, description="bins that the first two convolutions see, odd")
    pitches: int = Field(384, ge=1, description="dimensions of the output")
    further: int = Field(1, ge=0, description="convolutions of the width of the first behind it")
    residual: bool = Field(True, description="these are added to what they see")
    leak: float = Field(LEAK, ge=0, description="slope of the activations below 0")


class Encoder(nn.Module):
    """Bins (N, 1, F) -> probabilities of pitches (N, pitches)."""

    def __init__(
        self,
        bins: int,
        widths: tuple[int, ...],
        kernel: int,
        pitches: int,
        further: int = 1,
        residual: bool = True,
        leak: float = LEAK,
    ) -> None:
        """Build; see `Options`."""
        super().__init__()
        self.pitches, self.residual = pitches, residual
        self.layernorm = nn.LayerNorm([1, bins])
        self.conv1 = nn.Sequential(nn.Conv1d(1, widths[0], kernel, padding=kernel // 2), nn.LeakyReLU(leak))
        self.prefilt_layers = nn.ModuleList(
            [nn.Conv1d(widths[0], widths[0], kernel, padding=kernel // 2) for _ in range(further)]
        )
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(widths):  # as published, with places of dropout between
            layers += [nn.Conv1d(c_in, c_out, 1), nn.LeakyReLU(leak), nn.Identity()]
        self.conv_layers = nn.Sequential(*layers[:-1])
        self.fc = nn.Conv1d(1, 1, bins * widths[-1] + pitches - 1, padding=pitches - 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of every frame for itself."""
        x = self.conv1(self.layernorm(x))
        for layer in self.prefilt_layers:
            x = x + layer(x) if self.residual else layer(x)
        return self.fc(self.conv_layers(x).flatten(1)[:, None])[:, 0].softmax(-1)


class Pesto(SoundExtractor):
    """Part "all" (B, pitches); `frames` gives them at every time."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    shift: Tensor

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec, RATE)
        self.hop = int(0.01 * RATE + 0.5)
        self.encoder = Encoder(
            cfg.bins - 2 * cfg.crop, cfg.widths, cfg.kernel, cfg.pitches, cfg.further, cfg.residual, cfg.leak
        )
        self.register_buffer("shift", torch.zeros(()))
        lowest = LOWEST / 2 ** ((PER_SEMITONE - 1) / (24 * PER_SEMITONE))  # bins are centred on their semitone
        self.octaves = constant_q(RATE, lowest, cfg.bins, PER_SEMITONE)
        self.at_least(self.octaves[0].cosines.shape[-1] // 2 + 1)  # ends are mirrored
        self.parts, self.places = {"all": cfg.pitches}, {"all": (1 + self.length // self.hop,)}

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published names; an encoder alone has no shift."""
        found = {name: value for name, value in given.items() if name.split(".")[0] not in LEFT_OUT}
        if "shift" not in found:
            found["shift"] = torch.zeros(())
        return {name: value.reshape(()) if name == "shift" else value for name, value in found.items()}

    def original(self, name: str) -> str | None:
        """An encoder's names, with or without the prefix."""
        return name if name == "shift" or name.startswith("encoder.") else f"encoder.{name}"

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 1, T) -> "all" (B, D)."""
        return {"all": self.frames(x)["all"].mean(1)}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Activations of pitches at every time, (B, L, D); nothing is drawn."""
        real, imaginary = transform(self.heard(x), self.octaves, self.hop)
        bins = decibels(real, imaginary).transpose(1, 2)
        bins = bins[..., self.cfg.crop : bins.shape[-1] - self.cfg.crop]
        found = self.encoder(bins.flatten(0, 1)[:, None]).unflatten(0, bins.shape[:2])
        return {"all": found.roll(-round(float(self.shift) * PER_SEMITONE), -1)}


LEFT_OUT = ("preprocessor", "confidence", "reduction", "cqt")


@dataclass(frozen=True)
class Octave:
    """Cosines and sines of an octave's bins under a Hann window, (bins, 1, n), and the root of each one's length."""

    cosines: Tensor
    sines: Tensor
    roots: Tensor


def constant_q(rate: int, lowest: float, bins: int, per_semitone: int) -> list[Octave]:
    """Windows that hold the same number of periods and sum to 1, in the middle of n samples; n halves each octave."""
    per_octave = 12 * per_semitone
    with torch.device("cpu"):  # constants, also where a method is built on the meta device
        frequencies = lowest * 2 ** (torch.arange(bins, dtype=torch.float64) / per_octave)
        return [_octave(rate, some, 1 / (2 ** (1 / per_octave) - 1)) for some in frequencies.split(per_octave)]


def _octave(rate: int, frequencies: Tensor, quality: float) -> Octave:
    lengths = [math.ceil(quality * rate / float(one)) for one in frequencies]
    size = 2 ** math.ceil(math.log2(max(lengths)))
    windows = torch.zeros(len(lengths), size, dtype=torch.float64)
    for row, length in enumerate(lengths):
        begin = (size - length) // 2
        hann = torch.hann_window(length, dtype=torch.float64)
        windows[row, begin : begin + length] = hann / hann.sum()
    phase = 2 * torch.pi * frequencies[:, None] / rate * (torch.arange(size) - size // 2)
    cosines, sines = ((windows * wave)[:, None].float() for wave in (phase.cos(), phase.sin()))
    return Octave(cosines, sines, torch.tensor(lengths).float().sqrt()[:, None])


def transform(x: Tensor, octaves: list[Octave], hop: int) -> tuple[Tensor, Tensor]:
    """Sound (B, T), whose ends are mirrored, -> real and imaginary parts (B, bins, frames)."""
    around = octaves[0].cosines.shape[-1] // 2
    padded, real, imaginary = F.pad(x[:, None], (around, around), mode="reflect"), [], []
    for octave in octaves:
        left = around - octave.cosines.shape[-1] // 2
        seen, roots = padded[..., left : padded.shape[-1] - left], octave.roots.to(x.device)
        real.append(F.conv1d(seen, octave.cosines.to(x.device), stride=hop) * roots)
        imaginary.append(-F.conv1d(seen, octave.sines.to(x.device), stride=hop) * roots)
    return torch.cat(real, 1), torch.cat(imaginary, 1)


def decibels(real: Tensor, imaginary: Tensor) -> Tensor:
    """Of the magnitude, with a floor."""
    return 20 * torch.hypot(real, imaginary).clamp_min(EPS).log10()


METHOD = Pesto

"""Noise under sound (C, T), batched with one draw per sample; evaluations are clean.

Source: Denoodt et al., "Smooth InfoMax", ECML PKDD 2025; recordings such as MUSAN's (Snyder et al., arXiv 1510.08484).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets import _parts, _sound
from datasets._sound import Pieces
from datasets.base import DataError
from datasets.config import Config, ConfigError
from datasets.memory import cached
from datasets.synth import speech
from datasets.transforms.base import Shape, Transform, bernoulli

BABBLE_SECONDS, TALKERS = 32, 8  # of the noise that is there without files
MOST = 60  # dB between signal and noise, either way


class SoundTransform(Transform):
    """A transform of (C, T)."""

    usable = False  # of noise there is nothing to be equivariant to

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if len(shape) != 2:
            raise ConfigError(f"views.tx: '{self.code}' needs sound (C, T), the data have items of {shape}")

    def unit(self, p: Tensor) -> Tensor:
        """The strength itself."""
        return p[:, :1]


class WhiteOptions(Config):
    """Options of white noise."""

    level: float = Field(0.005, ge=0, le=1, description="deviation; sound is in [-1, 1] (published: 0.005)")
    probability: float = Field(1, ge=0, le=1, description="of being applied, per sample")


class WhiteNoise(SoundTransform):
    """`whi`: white noise, x + level n, n ~ N(0, 1). Parameters: the level, then n for each sample of the sound."""

    code = "whi"
    Config = WhiteOptions

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.dims = 1 + shape[0] * shape[1]
        self.identity = (0.0,) * self.dims

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 1 + C T)."""
        applied = bernoulli(n, self.cfg.probability, rng)[:, None] * self.cfg.level
        return torch.cat([applied, torch.randn(n, self.dims - 1, generator=rng)], 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """x + level n."""
        p = p.to(x)
        return x + p[:, :1, None] * p[:, 1:].reshape(x.shape)

    def at(self, strength: float, n: int) -> Tensor:
        """A level, with noise that is always the same.

        Raises:
            ConfigError: it is negative.
        """
        if strength < 0:
            raise ConfigError(f"strengths: '{self.code}' has no negative deviation (got {strength:g})")
        noise = torch.randn(n, self.dims - 1, generator=torch.Generator().manual_seed(0))
        return torch.cat([torch.full((n, 1), float(strength)), noise], 1)


class BackgroundOptions(Config):
    """Options of background noise."""

    folder: str = Field("", description="absolute path of a folder of WAV or FLAC files (MUSAN); '' = made-up babble")
    snr_min: int = Field(0, ge=-MOST, le=MOST, description="dB of the signal over the noise, least (published: 0)")
    snr_max: int = Field(15, ge=-MOST, le=MOST, description="dB, most; whole numbers, each as likely (published: 15)")
    probability: float = Field(1, ge=0, le=1, description="of being applied, per sample")
    rate: int = Field(_sound.RATE, ge=1000, le=96_000, description="Hz of the data, to which the noise is brought")


class BackgroundNoise(SoundTransform):
    """`bac`: recorded noise at s dB, (10^(s / 20) |n| / |x| x + n) / 2 with Euclidean norms.

    Parameters: s, the number of a recording, the place in it as a share, mask. A recording is drawn among those longer
    than the sound.
    """

    code = "bac"
    Config = BackgroundOptions
    dims = 4
    masked = True
    identity = (0.0, 0.0, 0.0, 0.0)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if cfg.snr_min > cfg.snr_max:
            raise ConfigError(f"views.options.bac: snr_min {cfg.snr_min} is above snr_max {cfg.snr_max}")
        every = noises(cfg.folder, cfg.rate)
        self.noise = every.take(np.flatnonzero(every.count > shape[1]))
        if len(self.noise) == 0:
            where = cfg.folder or "the made-up babble"
            raise ConfigError(f"views.options.bac: no recording in {where} is longer than items of {shape[1]} samples")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 4)."""
        snr = torch.randint(self.cfg.snr_min, self.cfg.snr_max + 1, (n,), generator=rng)
        number = torch.randint(len(self.noise), (n,), generator=rng)
        place = torch.rand(n, generator=rng)
        return torch.stack([snr, number, place, bernoulli(n, self.cfg.probability, rng)], 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """The mean of both, where the mask is 1; what is read of the noise is looked up where p lies."""
        rows = (p[:, -1] > 0).nonzero()[:, 0]
        if len(rows) == 0:
            return x
        snr, number, place, _ = p[rows].double().cpu().numpy().T
        recording = number.astype(np.int64)
        start = (place * (self.noise.count[recording] - x.shape[-1])).astype(np.int64)
        noise = torch.from_numpy(self.noise.windows(recording, start, x.shape[-1])).to(x) / _sound.SCALE
        here = rows.to(x.device)
        chosen = x.index_select(0, here)
        return x.index_copy(0, here, mix(chosen, noise[:, None].expand_as(chosen), torch.from_numpy(snr)))

    def at(self, strength: float, n: int) -> Tensor:
        """A signal-to-noise ratio in dB, with noise that is always the same.

        Raises:
            ConfigError: it is beyond what the options allow.
        """
        if abs(strength) > MOST:
            raise ConfigError(f"strengths: '{self.code}' is of -{MOST} to {MOST} dB (got {strength:g})")
        p = self.sample(n, torch.Generator().manual_seed(0))
        p[:, 0], p[:, 3] = strength, 1
        return p


def mix(x: Tensor, noise: Tensor, snr: Tensor) -> Tensor:
    """x and noise (n, C, T) at snr (n,) dB: the signal brought to its level over the noise, then the mean of both."""
    norm_x, norm_n = (v.flatten(1).norm(dim=1).view(-1, 1, 1) for v in (x, noise))
    ratio = torch.where(norm_x > 0, norm_n / norm_x, 0)  # silence stays silence
    return (10 ** (snr.to(x).view(-1, 1, 1) / 20) * ratio * x + noise) / 2


@cache
def noises(folder: str, rate: int) -> Pieces:
    """The recordings of a folder and of those below it, or half a minute of artificial talkers.

    Raises:
        ConfigError: there is no such folder, or no recording in it that can be read.
    """
    if not folder:
        key = _parts.key("babble", speech.VERSION, [], BABBLE_SECONDS, TALKERS)
        return Pieces.of(cached(key, lambda: _sound.joined([_sound.to_int16(babble())])).arrays)
    path = Path(folder)
    if not path.is_absolute() or not path.is_dir():
        raise ConfigError(f"views.options.bac.folder: should be the absolute path of a folder (got '{folder}')")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise ConfigError(f"views.options.bac.folder: no WAV or FLAC file in {folder}")
    try:
        key = _parts.key("noise", _sound.VERSION, files, rate)
        return Pieces.of(_sound.packed(key, files, "take fewer recordings", rate).arrays)
    except DataError as error:
        raise ConfigError(f"views.options.bac.folder: {error}") from None


def babble() -> Tensor:
    """(T,) several artificial talkers at once, each saying words of their own."""
    words = BABBLE_SECONDS * speech.RATE // speech.LENGTH
    chosen = np.random.default_rng(0).integers(len(speech.WORDS), size=TALKERS * words)
    said = torch.from_numpy(speech.speak(chosen, np.arange(len(chosen)), seed=1).x).reshape(TALKERS, -1)
    shifted = [row.roll(talker * speech.LENGTH // TALKERS) for talker, row in enumerate(said)]
    return torch.stack(shifted).sum(0) / TALKERS**0.5 / 2

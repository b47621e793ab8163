"""Pitch, tempo and noise of sound (C, T), each moved by one number over a range.

Source: Plachouras et al., IJCNN 2025, arXiv 2505.06224. Quarters of a range have the unit of the whole range. A seed
stands behind the number where more is drawn than that: as a share in [0, 1), of 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.config import Config, ConfigError
from datasets.transforms.audio import SoundTransform
from datasets.transforms.base import Shape
from datasets.transforms.ranged import Ranged, RangeOptions

WINDOW = 2048  # samples of a time stretch's frames, at most; a quarter of it is the step
SEEDS = 2**24  # numbers in [0, 1) that float32 tells apart
BLOCK = 2**19  # samples whose pitch is shifted at once
SLOWEST = 64 * 32  # Hz, a step of one sample between the frames of a pitch shift


class RateOptions(RangeOptions):
    """Options of a transform that needs to know the sample rate."""

    rate: int | None = Field(None, ge=1000, le=384_000, description="Hz; none = the data's")


class SoundFactor(Ranged, SoundTransform):
    """A transform of sound with one number."""

    usable = True

    def known_rate(self) -> int:
        """The sample rate in Hz.

        Raises:
            ConfigError: neither the options nor the data say it.
        """
        if self.cfg.rate is None:
            raise ConfigError(
                f"views.tx: '{self.code}' needs the sample rate, which the data do not tell; "
                f"set views.options.{self.code}.rate"
            )
        return int(self.cfg.rate)


def seeds(p: Tensor) -> Iterator[torch.Generator]:
    """A generator for each share (n,)."""
    for share in p.tolist():
        yield torch.Generator().manual_seed(int(share * SEEDS))


def noisy(x: Tensor, white: Tensor, snr: Tensor) -> Tensor:
    """x (n, C, T) with white noise (n, S) under it, repeated after S samples, at snr (n,) dB."""
    level = x.square().mean((1, 2)).sqrt() / 10 ** (snr / 20)
    white = white / (white.square().mean(1, keepdim=True).sqrt() + 1e-8)
    place = torch.arange(x.shape[-1], device=x.device) % white.shape[1]
    return x + (level[:, None] * white[:, place])[:, None]


class NoiseRatio(SoundFactor):
    """`white_noise_snr`: white noise at -30 to 50 dB, one second of it over and over; unit 1 is the loudest.

    Parameters: the ratio, a seed. The identity is what is hardly heard.
    """

    code = "white_noise_snr"
    Config: ClassVar[type[Config]] = RateOptions
    dims = 2
    full = (-30.0, 50.0)
    identity = (50.0, 0.0)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.rate = self.known_rate()

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """x and the noise of each seed."""
        if len(x) == 0:
            return x.clone()
        white = torch.stack([torch.randn(self.rate, generator=generator) for generator in seeds(p[:, 1])])
        return noisy(x, white.to(x), p[:, 0].to(x))

    def unit(self, p: Tensor) -> Tensor:
        """0 at 50 dB, 1 at -30 dB."""
        return 1 - super().unit(p)


@cache
def ratios(rate: int, low: float, high: float) -> tuple[Fraction, ...]:
    """Ratios of pitches in [low, high] that take little time: of divisors of the sample rate, without 1."""
    divisors = [d for d in range(2, rate + 1) if rate % d == 0]
    found = {Fraction(a, b) for a, b in product(divisors, divisors) if a != b}
    return tuple(sorted(ratio for ratio in found if low <= ratio <= high))


def shifted(x: Tensor, ratio: Fraction, rate: int) -> Tensor:
    """x (n, C, T) with pitches times `ratio`, as long as it was: slowed down by a phase vocoder, then resampled."""
    from torchaudio.functional import resample  # takes seconds to import

    samples, frame = x.shape[-1], rate // 64
    flat = x.reshape(-1, samples)
    slow = stretch(flat, float(1 / ratio), torch.ones(frame, dtype=x.dtype, device=x.device), frame // 32)
    y = resample(slow, rate, int(rate / ratio))[:, :samples]
    return F.pad(y, (0, samples - y.shape[-1])).reshape(x.shape)


def stretch(x: Tensor, speed: float, window: Tensor, step: int, length: int | None = None) -> Tensor:
    """x (n, T) played at `speed` with its pitch kept, by a phase vocoder over frames of the window's size."""
    from torchaudio.functional import phase_vocoder

    frame = len(window)
    spectrum = torch.stft(x, frame, step, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * step, spectrum.shape[-2], dtype=x.dtype, device=x.device)[:, None]
    return torch.istft(phase_vocoder(spectrum, speed, advance), frame, step, window=window, length=length)


class PitchShift(SoundFactor):
    """`pitch_shift`: pitch times 0.5 to 2, of ratios that suit the sample rate (14 at 16 kHz), each as likely.

    Quarters are of 6 semitones each. A ratio of 1 is never drawn.
    """

    code = "pitch_shift"
    Config: ClassVar[type[Config]] = RateOptions
    factor = "pitch"
    full = (0.5, 2.0)
    identity = (1.0,)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.rate = self.known_rate()
        if self.rate < SLOWEST:
            raise ConfigError(f"views.tx: 'pitch_shift' needs {SLOWEST:,} Hz or more, the data have {self.rate:,}")
        self.ratios = ratios(self.rate, *self.range)
        if not self.ratios:
            raise ConfigError(f"views.tx: 'pitch_shift' has no ratio for a sample rate of {self.rate} Hz in this range")
        if shape[1] <= self.rate // 128:
            raise ConfigError(
                f"views.tx: 'pitch_shift' needs more than {self.rate // 128} samples at {self.rate} Hz, "
                f"the data have items of {shape}"
            )

    @classmethod
    def part(cls, name: str) -> tuple[float, float]:
        """Lowest and highest ratio; quarters are even in semitones."""
        low, high = ((ratio - cls.full[0]) / (cls.full[1] - cls.full[0]) for ratio in super().part(name))
        return 2 ** (2 * low - 1), 2 ** (2 * high - 1)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 1)."""
        table = torch.tensor([float(ratio) for ratio in self.ratios])
        return table[torch.randint(len(table), (n,), generator=rng)][:, None]

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """Items of one ratio together."""
        y = x.clone()
        block = max(1, BLOCK // (x.shape[1] * x.shape[2]))
        for number in p[:, 0].unique().tolist():
            if number == 1:
                continue
            for rows in (p[:, 0] == number).nonzero()[:, 0].to(x.device).split(block):
                y[rows] = shifted(x[rows], self._ratio(number), self.rate)
        return y

    def at(self, strength: float, n: int) -> Tensor:
        """One of the ratios of the whole range.

        Raises:
            ConfigError: another one.
        """
        return super().at(1.0 if strength == 1 else float(self._ratio(strength)), n)

    def _ratio(self, number: float) -> Fraction:
        every = ratios(self.rate, *self.full)
        nearest = min(every, key=lambda ratio: abs(ratio - number))
        if abs(nearest - number) > 1e-3:
            known = ", ".join(map(str, every))
            raise ConfigError(f"transform 'pitch_shift': no ratio {number:g} at {self.rate} Hz; known: {known}")
        return nearest


def aligned(x: Tensor, length: int, share: float) -> Tensor:
    """x (C, m) brought to `length`: a part of it, or with its own beginning put before and its own end behind.

    So silence is no trace of what was done. Where the part begins, or how much comes before, is `share` of the room.
    """
    have = x.shape[-1]
    room = abs(length - have)
    first = int(share * room)
    if have >= length:
        return x[..., first : first + length]
    before = torch.arange(first, device=x.device) % have
    behind = torch.arange(have - (room - first), have, device=x.device) % have
    return torch.cat([x[..., before], x, x[..., behind]], -1)


class TimeStretch(SoundFactor):
    """`time_stretch`: played at 0.5 to 2 times the tempo with its pitch kept, and as long as it was.

    Parameters: the tempo; where the sound is cut, or how much of it is put before, as a share.
    """

    code = "time_stretch"
    factor = "wps"
    dims = 2
    full = (0.5, 2.0)
    identity = (1.0, 0.0)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if shape[1] < 8:
            raise ConfigError(f"views.tx: 'time_stretch' needs 8 samples or more, the data have items of {shape}")

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """Item by item, since each has its own length in between."""
        samples = x.shape[-1]
        frame = min(WINDOW, 1 << (samples.bit_length() - 1))
        window = torch.hann_window(frame, dtype=x.dtype, device=x.device)
        y = x.clone()
        for row, (speed, share) in enumerate(p.tolist()):
            if speed != 1:
                made = stretch(x[row], speed, window, frame // 4, round(samples / speed))
                y[row] = aligned(made, samples, share)
        return y

"""Losses between waveforms (B, 1, T), prediction first: of samples, of spectra, of mel spectra in decibel, and sums.

    mse             mean (x' - x)^2
    spectral        mean squared difference of |STFT|^2; n_fft 1024, hop n_fft / 4
    fft             mean ||X'| - |X|| + mean |arg X' - arg X| of the real Fourier transform under a window as long as
                    the signal; phases are not wrapped
    mel             mean squared difference of 10 log10 max(1e-10, mel power); n_fft 4096, hop n_fft / 2, 128 bands
    mse_spectral, mse_fft, mse_mel      mse + weight times the other

Windows are periodic Hann, short-time transforms centred with reflected ends. In these units mel is of the order 10^2,
in dB^2, where mse is 10^-2: the weight is worth a search. Bands are HTK's between 0 and half the rate, each of area 1
(Slaney's norm). Source: Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv 2408.12936, whose code numbers them 0 to 6 in
the order of `LOSSES`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from datasets.config import ConfigError
from trainables.losses.precision import full_precision

LOSSES = ("mse", "spectral", "mse_spectral", "fft", "mse_fft", "mel", "mse_mel")
FLOOR = 1e-10  # of mel power, -100 dB


def sound_loss(
    prediction: Tensor, target: Tensor, name: str, weight: float = 1.0, rate: int = 16_000, n_fft: int | None = None
) -> Tensor:
    """One of `LOSSES`, a scalar.

    Args:
        weight: of the second term of a sum. rate: in Hz, of the mel bands. n_fft: in place of 1024, of mel 4096.

    Raises:
        ConfigError: there is no such loss, or the sounds are too short for its windows.
    """
    return sound_losses(prediction, target, name, weight, rate, n_fft).mean()


@full_precision
def sound_losses(
    prediction: Tensor, target: Tensor, name: str, weight: float = 1.0, rate: int = 16_000, n_fft: int | None = None
) -> Tensor:
    """`sound_loss` of each item: (B,)."""
    if name not in LOSSES:
        raise ConfigError(f"loss '{name}': must be one of {', '.join(LOSSES)}")
    if name == "mse":
        return _squares(prediction, target)
    if name.startswith("mse_"):
        other = sound_losses(prediction, target, name.removeprefix("mse_"), weight, rate, n_fft)
        return _squares(prediction, target) + weight * other
    if name == "fft":
        return _fft(prediction, target)
    if name == "spectral":
        size = n_fft or 1024
        powers = [power_spectrum(x, size, size // 4) for x in (prediction, target)]
    else:
        powers = [mel_decibel(x, rate, n_fft or 4096) for x in (prediction, target)]
    return _squares(*powers)


def _squares(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().flatten(1).mean(1)


def power_spectrum(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """|STFT|^2 of (B, C, T): (B, C, n_fft / 2 + 1, frames).

    Raises:
        ConfigError: T is at most n_fft / 2, so that the ends cannot be reflected.
    """
    if x.shape[-1] <= n_fft // 2:
        raise ConfigError(f"n_fft: {n_fft} needs more than {n_fft // 2} samples, there are {x.shape[-1]}")
    window = torch.hann_window(n_fft, dtype=x.dtype, device=x.device)
    spectrum = torch.stft(x.flatten(0, 1), n_fft, hop, window=window, center=True, return_complex=True)
    return spectrum.abs().square().unflatten(0, x.shape[:2])


def mel_decibel(x: Tensor, rate: int = 16_000, n_fft: int = 4096, bands: int = 128) -> Tensor:
    """Mel power of (B, C, T) in decibel: (B, C, bands, frames)."""
    power = power_spectrum(x, n_fft, n_fft // 2)
    filters = _filters(n_fft // 2 + 1, bands, rate).to(x)
    mel = (power.transpose(-1, -2) @ filters).transpose(-1, -2)
    return 10 * mel.clamp_min(FLOOR).log10()


@functools.lru_cache(maxsize=8)
def _filters(bins: int, bands: int, rate: int) -> Tensor:
    """Triangles (bins, bands) in float64 between points equally far apart in mel = 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    mel = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    points = 700 * (10 ** (mel / 2595) - 1)  # Hz
    frequencies = torch.linspace(0, rate / 2, bins, dtype=torch.float64)[:, None]
    low, middle, high = points[:-2], points[1:-1], points[2:]
    triangles = torch.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle))
    return triangles.clamp_min(0) * 2 / (high - low)


def _fft(prediction: Tensor, target: Tensor) -> Tensor:
    window = torch.hann_window(target.shape[-1], dtype=target.dtype, device=target.device)
    ours, theirs = torch.fft.rfft(prediction * window), torch.fft.rfft(target * window)
    apart = (ours.abs() - theirs.abs()).abs() + (ours.angle() - theirs.angle()).abs()
    return apart.flatten(1).mean(1)

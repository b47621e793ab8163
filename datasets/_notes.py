"""Pieces of InsNotes: loudness of notes, log spectra, and windows of consecutive notes as pages of fragments.

Source: the data of V3 (Wu et al., ICLR 2025, arXiv 2407.03824), 16 kHz. A recording is 120 notes of 1.056 s, 12 pitches
upwards again and again; a note is 33 frames of the spectrum, of which a fragment is the first 32.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

RATE, N_FFT, HOP = 16_000, 1024, 512
PITCHES, PEAK = 12, 0.9
FLOOR, SILENT = 1e-5, 1e-8  # under magnitudes; what masked rows hold in place of 0
LOWEST, HIGHEST, CHANGE = 0.8, 1.2, 0.2  # of the loudness, and its change from note to note
Curve = Literal["linear", "sinusoidal"]


def log_magnitude(x: Tensor) -> Tensor:
    """log(|STFT| + 1e-5) of x (..., T), (..., 513, 1 + T // 512): Hann windows, centred, zeros around."""
    window = torch.hann_window(N_FFT, dtype=x.dtype, device=x.device)
    spectrum = torch.stft(x, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    return (spectrum.abs() + FLOOR).log()


def audible(log_magnitudes: Tensor, iterations: int = 32, seed: int = 0) -> Tensor:
    """Sounds (..., 512 (frames - 1)) whose log(|STFT| + 1e-5) is near (..., 513, frames): Griffin and Lim, 1984.

    Phases are drawn at first, the same for every sound, and then those of the sound that the last ones gave.
    """
    magnitude = (log_magnitudes.exp() - FLOOR).clamp_min(0)
    window = torch.hann_window(N_FFT, dtype=magnitude.dtype)
    rng = torch.Generator().manual_seed(seed)
    turn = 2 * torch.pi * torch.rand(magnitude.shape[-2:], generator=rng, dtype=magnitude.dtype)
    spectrum = torch.polar(magnitude, turn.expand_as(magnitude)).flatten(0, -3)
    length = HOP * (magnitude.shape[-1] - 1)
    for step in range(iterations + 1):
        x = torch.istft(spectrum, N_FFT, HOP, window=window, center=True, length=length)
        if step < iterations:
            again = torch.stft(x, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
            spectrum = torch.polar(magnitude.flatten(0, -3), again.angle())
    return x.view(*magnitude.shape[:-2], length)


def interval(level: float, bounded: bool = True) -> tuple[float, float]:
    """Where the next level is drawn from: within 0.2 of this one and in [0.8, 1.2].

    As published (`bounded` false) it is the union of both ranges, and the loudness walks away without bounds.
    """
    near = level - CHANGE, level + CHANGE
    if bounded:
        return max(LOWEST, near[0]), min(HIGHEST, near[1])
    return min(LOWEST, near[0]), max(HIGHEST, near[1])


def draw_envelope(notes: int, rng: np.random.Generator, bounded: bool = True) -> tuple[np.ndarray, list[Curve]]:
    """Levels (notes,) at the ends of seconds, the first beginning at 1, and how each is reached, at equal odds."""
    levels: list[float] = [1.0]
    curves: list[Curve] = []
    kinds: tuple[Curve, Curve] = ("linear", "sinusoidal")
    for _ in range(notes):
        levels.append(float(rng.uniform(*interval(levels[-1], bounded))))
        curves.append(kinds[int(rng.integers(2))])
    return np.array(levels[1:]), curves


def envelope(levels: np.ndarray, curves: list[Curve], rate: int = RATE) -> np.ndarray:
    """Loudness (notes * rate,): each second from the last level to the next, straight or along a quarter of a sine."""
    path = {"linear": np.linspace(0, 1, rate), "sinusoidal": np.sin(np.linspace(0, np.pi / 2, rate))}
    begins = np.append(1.0, levels[:-1])
    parts = [a + (b - a) * path[curve] for a, b, curve in zip(begins, levels, curves, strict=True)]
    return np.concatenate(parts)


def loudened(x: np.ndarray, loudness: np.ndarray) -> np.ndarray:
    """x (T,) times a loudness laid over its middle, the ends of which go on, brought to a peak of 0.9."""
    missing = len(x) - len(loudness)
    if missing < 0:
        loudness = loudness[-missing // 2 :][: len(x)]
    else:
        loudness = np.pad(loudness, (missing // 2, missing - missing // 2), mode="edge")
    made = x * loudness
    peak = float(np.abs(made).max()) if len(made) else 0.0
    return made * (PEAK / peak) if peak > 0 else made


def windows(spectrum: np.ndarray, starts: np.ndarray, n: int, columns: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pages of n consecutive notes, behind the last note again the first.

    Args:
        spectrum: (F, notes * (columns + 1)) or longer by less than a note; its highest row is left out.
        starts: (B,) the first note of each page.
        n: notes of a page.
        columns: frames of a fragment, one less than a note has.

    Returns:
        Fragments (B, n, F - 1, columns), and their pitch (B, n) int64.
    """
    each = columns + 1
    count = spectrum.shape[1] // each
    notes = spectrum[:-1, : count * each].reshape(-1, count, each)[:, :, :columns].transpose(1, 0, 2)
    chosen = (starts[:, None] + np.arange(n)) % count
    return notes[chosen], (chosen % PITCHES).astype(np.int64)


def masked(x: Tensor, widths: Tensor, places: Tensor) -> Tensor:
    """Pages (B, L, F, T) with one band of rows silenced in each; what is 0 then is 1e-8, as published.

    Args:
        x: log spectra. widths: (B,) rows, of which the whole part is masked. places: (B,) in [0, 1) of where.
    """
    x = torch.where(band(x.shape[2], widths, places)[:, None, :, None], 0, x)
    return torch.where(x == 0, SILENT, x)


def band(rows: int, widths: Tensor, places: Tensor) -> Tensor:
    """(B, rows), whether each row is masked; see `masked`."""
    every = torch.arange(rows)
    first = (places * (rows - widths)).long()[:, None]
    return (every >= first) & (every < first + widths.long()[:, None])

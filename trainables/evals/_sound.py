"""Sounds and images as artifacts: .wav files with several in a row, and figures of them as rows of one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.atomic import replacing
from trainables.evals import _files
from trainables.losses.sound import power_spectrum

PAUSE = 0.2  # seconds between sounds
WINDOW, DEPTH = 256, 70.0  # samples of a spectrogram's window; decibels below the loudest that are still drawn


def wav(path: Path, sounds: Tensor, rate: int | None) -> Path:
    """Sounds (n, 1, T) in a row with pauses between, 16 bit; louder than 1 is cut."""
    import soundfile

    rate = rate or 16_000
    silence = torch.zeros(int(PAUSE * rate))
    pieces = [piece for sound in sounds for piece in (sound.flatten().float().cpu(), silence)][:-1]
    with replacing(path) as temporary:
        soundfile.write(temporary, torch.cat(pieces).clamp(-1, 1).numpy(), rate, format="WAV", subtype="PCM_16")
    return path


def picture(path: Path, items: Sequence[Tensor], rows: Sequence[str], columns: Sequence[str], title: str) -> Path:
    """A PNG of items, a row (k, *shape) for each name: images in [0, 1] as they are, sounds (1, T) as spectrograms."""
    table = torch.stack([row.float().cpu() for row in items])
    if table.ndim == 4:
        return _files.grid(path, spectrograms(table), rows, columns, title, inches=1.3)
    if table.shape[2] not in (1, 3):
        table = table.mean(2, keepdim=True)
    return _files.grid(path, table.expand(-1, -1, 3, -1, -1), rows, columns, title)


def spectrograms(sounds: Tensor) -> Tensor:
    """Sounds (R, K, 1, T) as images (R, K, 3, H, W): time to the right, frequency upwards, loudness as colour."""
    import matplotlib

    window = WINDOW
    while sounds.shape[-1] <= window // 2:
        window //= 2
    power = power_spectrum(sounds.flatten(0, 1), window, max(window // 2, sounds.shape[-1] // 100))
    decibel = 10 * power[:, 0].clamp_min(1e-10).log10()
    shares = ((decibel - decibel.max()) / DEPTH + 1).clamp(0, 1).flip(1)
    colours = matplotlib.colormaps["cividis"](np.asarray(shares))[..., :3]
    return torch.from_numpy(colours).permute(0, 3, 1, 2).unflatten(0, sounds.shape[:2])

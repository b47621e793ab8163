"""Phonemes of aligned speech as images of mel spectra, 80 bands by 64 columns, whatever a phoneme's length.

Source: the data of V3 (Wu et al., ICLR 2025, arXiv 2407.03824): the 16 kHz samples of a phoneme, over their peak; mel
power, n_fft 256, hop 80, 80 bands of Slaney's scale and norm up to 8 kHz, zeros around; in dB below the maximum, at
least -80; resized bicubically.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

RATE, N_FFT, HOP = 16_000, 256, 80
BANDS, COLUMNS, DEPTH, FLOOR = 80, 64, 80.0, 1e-10
# in the order of V3's labels
NAMES = "eh z s uw aw oy dx dh uh aa d p n ao ey hh y f r g v ah er ow sh b l k m ch ng t w ae iy th ay ih jh"
PHONEMES = tuple(NAMES.split())


def label(phoneme: str) -> int | None:
    """The number of a phoneme as alignments write it ("AH0"); None of what is none of the 39, such as silence."""
    plain = phoneme.rstrip("0123456789").lower()
    return PHONEMES.index(plain) if plain in PHONEMES else None


def images(
    x: Tensor, phonemes: Sequence[str], start: Sequence[float], end: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 80, 64) float32 in dB, -80 .. 0, and labels (n,) of those that are among the 39 and hold sound.

    Args:
        x: (T,) samples at 16 kHz. phonemes: as alignments write them. start, end: of each, in seconds.
    """
    made, labels = [], []
    for phoneme, first, last in zip(phonemes, start, end, strict=True):
        number, piece = label(phoneme), x[int(first * RATE) : int(last * RATE)]
        if number is None or len(piece) == 0 or not float(piece.abs().max()) > 0:
            continue
        made.append(stretched(mel(piece / piece.abs().max())))
        labels.append(number)
    shape = (0, BANDS, COLUMNS)
    return np.stack(made) if made else np.zeros(shape, np.float32), np.array(labels, np.int64)


def mel(x: Tensor) -> np.ndarray:
    """Mel power of x (T,) in dB below its maximum, (80, 1 + T // 80) float32 in [-80, 0]."""
    window = torch.hann_window(N_FFT, dtype=x.dtype)
    spectrum = torch.stft(x, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    power = bands().to(x.dtype) @ spectrum.abs().square()
    decibel = 10 * power.clamp_min(FLOOR).log10()
    return (decibel - decibel.max()).clamp_min(-DEPTH).float().numpy()


def stretched(image: np.ndarray) -> np.ndarray:
    """An image (80, T) float32 in 64 columns."""
    resized = Image.fromarray(image).resize((COLUMNS, BANDS), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def normalised(image: np.ndarray) -> np.ndarray:
    """dB in [-80, 0] as about [-1, 1]; published are the dB, whose loss is far larger than other terms."""
    return image / (DEPTH / 2) + 1


@cache
def bands() -> Tensor:
    """The mel filters (80, 129)."""
    from torchaudio.functional import melscale_fbanks  # takes seconds to import

    return melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, BANDS, RATE, norm="slaney", mel_scale="slaney").T

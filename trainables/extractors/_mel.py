"""Power spectrograms on the mel scale."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor


def mel(
    x: Tensor, rate: int, size: int, window: int, hop: int, bands: int, top: float, bottom: float = 0.0,
    scale: str | None = None,
) -> Tensor:  # fmt: skip
    """Sound (B, T) -> (B, bands, frames), of a Hann `window` in a transform of `size`; ends are mirrored."""
    shape = torch.hann_window(window, device=x.device)
    spectrum = torch.stft(x, size, hop, window, shape, pad_mode="reflect", return_complex=True)
    return bank(rate, size, bands, bottom, top, scale).to(x.device) @ spectrum.abs().square()


@cache
def bank(rate: int, size: int, bands: int, bottom: float, top: float, scale: str | None) -> Tensor:
    """Triangles (bands, size / 2 + 1): of HTK, of height 1 (`scale` None), or "slaney", of equal area."""
    from torchaudio.functional import melscale_fbanks  # takes seconds to import

    with warnings.catch_warnings(), torch.device("cpu"):
        warnings.simplefilter("ignore", UserWarning)  # published networks have bands without a frequency
        kind = "htk" if scale is None else scale
        found: Tensor = melscale_fbanks(size // 2 + 1, bottom, top, bands, rate, norm=scale, mel_scale=kind)
    return found.T.contiguous()

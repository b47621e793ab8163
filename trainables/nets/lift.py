"""Lifted input: an image as 18 maps a channel, of which 16 are oriented bands at four scales.

DUET's `lifted_` encoders take 54 channels, 3 colours x (4 scales x 4 orientations + low-pass + high-pass), which its
code names and never makes. This project's definition is the steerable pyramid of Simoncelli and Freeman (ICIP 1995)
without subsampling, as products in the Fourier domain. With radius r of a frequency in units of the Nyquist frequency,
L_s the low-pass that falls from 1 at r = 2^-(s + 1) to 0 at r = 2^-s as a cosine of log2 r, and theta its direction:

    high-pass         sqrt(1 - L_0^2)
    band (s, k)       L_s sqrt(1 - L_{s+1}^2)  i cos^3(theta - k pi / 4) / sqrt(5 / 4)      s, k = 0 ... 3
    low-pass          L_4

The squares of all 18 sum to 1 at every frequency: the lift keeps the energy of an image, and the same filters,
conjugated, take it back. Borders are periodic.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

SCALES, ORIENTATIONS = 4, 4
MAPS = SCALES * ORIENTATIONS + 2
# sum over k of cos(theta - k pi / K)^(2 K - 2), for every theta
ENERGY = ORIENTATIONS * math.comb(2 * ORIENTATIONS - 2, ORIENTATIONS - 1) / 4 ** (ORIENTATIONS - 1)


@lru_cache(maxsize=16)
def filters(height: int, width: int) -> Tensor:
    """(18, H, W // 2 + 1) complex multipliers of a real Fourier transform: high-pass, bands by scale, low-pass."""
    down = 2 * torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    across = 2 * torch.fft.rfftfreq(width, dtype=torch.float64)[None]
    octave = torch.log2((down.square() + across.square()).sqrt().clamp_min(1e-12))  # 0 at Nyquist
    direction = torch.atan2(down.expand_as(octave), across.expand_as(octave))
    low = [torch.cos(math.pi / 2 * (octave + s + 1).clamp(0, 1)) for s in range(SCALES + 1)]
    low = [torch.where(octave + s >= 0, torch.zeros_like(one), one) for s, one in enumerate(low)]
    rest = [(1 - one.square()).clamp_min(0).sqrt() for one in low]
    oriented = [
        1j * torch.cos(direction - k * math.pi / ORIENTATIONS) ** (ORIENTATIONS - 1) / math.sqrt(ENERGY)
        for k in range(ORIENTATIONS)
    ]
    bands = [low[s] * rest[s + 1] * angular for s in range(SCALES) for angular in oriented]
    return torch.stack([rest[0] + 0j, *bands, low[-1] + 0j])


class Lifted(nn.Module):
    """An encoder that sees the lift of its input: (B, C, H, W) -> lift (B, 18 C, H, W), channel-major -> `net`."""

    def __init__(self, net: nn.Module, features: int) -> None:
        super().__init__()
        self.net, self.features = net, features

    def forward(self, x: Tensor) -> Tensor:
        """(B, D)."""
        found: Tensor = self.net(lift(x))
        return found


def lift(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 18 C, H, W), at least in float32."""
    full = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    spectrum = torch.fft.rfft2(full)[:, :, None] * filters(*x.shape[-2:]).to(
        x.device, torch.promote_types(full.dtype, torch.complex64)
    )
    return torch.fft.irfft2(spectrum, s=x.shape[-2:]).flatten(1, 2)

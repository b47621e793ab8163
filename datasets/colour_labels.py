"""Hue, saturation and brightness of an image as labels: the means over its pixels in 8-bit HSV.

Source: Plachouras et al., IJCNN 2025, arXiv 2505.06224. They are read off the untransformed image that an encoder is
shown, resized and cropped, so that every set of colour images has them. HSV is that of OpenCV, in whole numbers: hue
0 .. 179 in steps of two degrees, saturation and value 0 .. 255. The published hue is a plain mean, for which both ends
are far apart; the mean over the circle is an option.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.transforms.eight_bit import to_bytes

FACTORS = ("hue", "saturation", "brightness")
BITS = 12  # of the fixed-point fractions
TURN = 180  # hues of a full circle


def colour_labels(x: Tensor, circular: bool = False) -> dict[str, Tensor]:
    """Factor -> (n,) float64 of images (n, 3, H, W), uint8 or in [0, 1].

    Args:
        circular: mean the hue over the circle, in [0, 180).
    """
    hue, saturation, value = hsv(x).double().flatten(2).unbind(1)
    if circular:
        angle = hue * (2 * torch.pi / TURN)
        mean = torch.atan2(angle.sin().mean(1), angle.cos().mean(1)) * (TURN / (2 * torch.pi))
        return dict(zip(FACTORS, (mean.remainder(TURN), saturation.mean(1), value.mean(1)), strict=True))
    return dict(zip(FACTORS, (hue.mean(1), saturation.mean(1), value.mean(1)), strict=True))


def hsv(x: Tensor) -> Tensor:
    """Whole numbers (n, 3, H, W), int32: hue, saturation and value of images (n, 3, H, W), uint8 or in [0, 1]."""
    r, g, b = (x if x.dtype == torch.uint8 else to_bytes(x)).int().unbind(1)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    half = 1 << (BITS - 1)
    saturation = (chroma * _fractions(255, x.device)[value.long()] + half) >> BITS
    sixths = torch.where(value == r, g - b, torch.where(value == g, b - r + 2 * chroma, r - g + 4 * chroma))
    hue = (sixths * _fractions(TURN / 6, x.device)[chroma.long()] + half) >> BITS
    return torch.stack((torch.where(hue < 0, hue + TURN, hue), saturation, value), 1)


def _fractions(whole: float, device: torch.device) -> Tensor:
    """(256,) int32: whole / k in fixed point, 0 where k is 0."""
    k = torch.arange(256, dtype=torch.float64, device=device)
    return torch.where(k == 0, 0, whole * (1 << BITS) / k).round().int()

"""Colour jitter of 8-bit images, as image libraries do it: after every step pixels are whole numbers again.

Source: V3 (Wu et al., ICLR 2025) jitters its Sprites so, one draw a page, which makes their style continuous.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datasets._draws import below
from datasets._pages import uniform
from datasets.transforms.color import OPERATIONS, ORDERS, hue

PUBLISHED = (0.01, 0.01, 0.2, 0.5)


def jitter(x: Tensor, factors: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """Images (n, 3, H, W) in [0, 1], multiples of 1/255, after the four adjustments, again such multiples.

    Args:
        x: what is adjusted.
        factors: of brightness, contrast and saturation, and the shift of the hue in turns, (n,) each.
        order: in which the four are applied, by their numbers.
    """
    for number in order:
        changed = OPERATIONS[number](x, factors[number])
        # blends are cut to whole levels; the way back from HSV divides [0, 1] into 256 equal parts
        scale = 256 - 1e-3 if OPERATIONS[number] is hue else 255 + 1e-3
        x = (changed * scale).floor_().clamp_(0, 255).div_(255)
    return x


def jittered(x: Tensor, pages: np.ndarray, salt: int, ranges: Sequence[float]) -> Tensor:
    """Fragments (B, L, 3, H, W) after the jitter, with one draw and one order a page.

    Args:
        x: what is adjusted.
        pages: (B,) positions of the pages, which the draws belong to.
        salt: of the draws.
        ranges: half-ranges of brightness, contrast and saturation around 1, and of the hue's shift around 0.
    """
    if not any(ranges):
        return x
    centres = (1.0, 1.0, 1.0, 0.0)
    drawn = [
        uniform(salt, pages, place, centre - reach, centre + reach)
        for place, (centre, reach) in enumerate(zip(centres, ranges, strict=True))
    ]
    number = torch.from_numpy(below(salt, pages, np.full(len(pages), len(ORDERS)), 1))
    made, length = torch.empty_like(x), x.shape[1]
    for one in number.unique().tolist():
        rows = (number == one).nonzero()[:, 0]
        factors = [value[rows].repeat_interleave(length) for value in drawn]
        made[rows] = jitter(x[rows].flatten(0, 1), factors, ORDERS[one]).unflatten(0, (len(rows), length))
    return made

"""Hue, saturation, brightness and compression of images, in the arithmetic of 8-bit image libraries.

Source: Plachouras et al., IJCNN 2025, arXiv 2505.06224. Images (C, H, W) in [0, 1] are rounded to 8 bit, and come out
so. Ranges are the published ones, in which half of the brightness is black and negative saturation is complementary
colours; `sane` leaves that out.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.config import ConfigError
from datasets.transforms.base import Shape
from datasets.transforms.color import ColorTransform
from datasets.transforms.image import ImageTransform
from datasets.transforms.ranged import Ranged

BLOCK = 2**17  # pixels whose intermediate values stay in a processor's cache


def to_bytes(x: Tensor) -> Tensor:
    """Images in [0, 1] as whole numbers 0 .. 255, in float32."""
    return (x.float() * 255).round_().clamp_(0, 255)


def luma(x: Tensor) -> Tensor:
    """(n, 1, H, W) of whole numbers (n, 3, H, W): the luma (ITU-R BT.601) in 16-bit weights, rounded."""
    r, g, b = x.int().unbind(1)
    return ((19595 * r + 38470 * g + 7471 * b + 2**15) >> 16)[:, None].float()


def blend(base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """base + factor (x - base), cut to whole numbers 0 .. 255; beyond x for factors above 1, away from it below 0."""
    return (base + factor.view(-1, 1, 1, 1) * (x - base)).trunc_().clamp_(0, 255)


def saturate(x: Tensor, factor: Tensor) -> Tensor:
    """Whole numbers (n, 3, H, W), each image blended with its gray by its factor (n,)."""
    return blend(luma(x), x, factor)


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    """Whole numbers (n, 3, H, W), each image times its factor (n,)."""
    return blend(torch.zeros_like(x), x, factor)


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Whole numbers (n, 3, H, W) with the hue of each image moved by (n,) turns, through HSV of 8 bit each."""
    hue, saturation, value = _to_hsv(x)
    step = (255 * turns.double()).trunc().to(x).view(-1, 1, 1)  # what 8-bit libraries add, in double precision
    return _to_rgb((hue + step).remainder_(256), saturation, value)


def _to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value (n, H, W), each in 0 .. 255, cut to whole numbers.

    Cutting makes a level of the last digit: ratios are rounded to single precision, what is made of them is not.
    """
    r, g, b = x.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    chroma = top - torch.minimum(torch.minimum(r, g), b)
    safe = chroma.clamp(min=1)
    red, green, blue = (((top - channel) / safe).double() for channel in (r, g, b))
    sixths = torch.where(r == top, blue - green, torch.where(g == top, 2 + red - blue, 4 + green - red)).float()
    turns = (sixths.double() / 6 + 1).remainder_(1).float()
    hue = (turns.double() * 255).trunc_().float()
    saturation = ((chroma / top.clamp(min=1)).double() * 255).trunc_().float()
    return torch.where(chroma == 0, 0, hue), saturation, top


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Back to (n, 3, H, W): on the way round the colours a channel is at `value`, at the low end or on a ramp."""
    angle = hue * 6 / 255
    sector = angle.floor()
    rest, share = angle - sector, saturation / 255
    low = (value * (1 - share)).round_()
    falling = (value * (1 - share * rest)).round_()
    rising = (value * (1 - share * (1 - rest))).round_()
    levels = torch.stack((value, falling, low, low, rising, value), 1)
    first = torch.stack((sector, sector + 4, sector + 2), 1) % 6  # red is highest in sectors 0 and 5, green 1 and 2
    return levels.gather(1, first.long())


def compressed(x: np.ndarray, strength: float) -> np.ndarray:
    """An image (H, W) or (H, W, 3) of bytes, encoded as JPEG and decoded."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality(strength))
    with Image.open(file) as image:
        return np.asarray(image)


def quality(strength: float) -> int:
    """The encoder's quality for 0 .. 100, cut to a whole number: 100 .. 2."""
    return min(100, max(1, round(1 + 99 * (1 - int(strength) / 101))))


class EightBit(Ranged, ImageTransform):
    """A transform of 8-bit images, with one number."""

    own: ClassVar[bool] = True

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """Rounded to 8 bit, changed, and in [0, 1] again."""
        block = max(1, BLOCK // (x.shape[-2] * x.shape[-1])) if x.device.type == "cpu" else len(x)
        if len(x) <= block:
            return self.change(to_bytes(x), p[:, 0].to(x.device)).div_(255).to(x.dtype)
        return torch.cat([self.apply(part, q) for part, q in zip(x.split(block), p.split(block), strict=True)])

    def change(self, x: Tensor, number: Tensor) -> Tensor:
        """Whole numbers (n, C, H, W) changed by (n,)."""
        raise NotImplementedError


class HueShift(EightBit, ColorTransform):
    """`hue_shift`: hue moved by -0.5 to 0.5 turns."""

    code = "hue_shift"
    factor = "hue"
    full = (-0.5, 0.5)
    sane = full

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.kind = "circular" if self.range == self.full else "continuous"

    def change(self, x: Tensor, number: Tensor) -> Tensor:
        return turn(x, number)


class SaturationShift(EightBit, ColorTransform):
    """`saturation_shift`: blended with gray by a factor of -2 to 2, sane from 0 on."""

    code = "saturation_shift"
    factor = "saturation"
    full = (-2.0, 2.0)
    sane = (0.0, 2.0)
    identity = (1.0,)

    def change(self, x: Tensor, number: Tensor) -> Tensor:
        return saturate(x, number)


class BrightnessShift(EightBit, ColorTransform):
    """`brightness_shift`: times a factor of -2 to 2, sane from 0 on; all black up to 0."""

    code = "brightness_shift"
    factor = "brightness"
    full = (-2.0, 2.0)
    sane = (0.0, 2.0)
    identity = (1.0,)

    def change(self, x: Tensor, number: Tensor) -> Tensor:
        return brighten(x, number)


class Compression(EightBit):
    """`jpeg`: encoded as JPEG and decoded again, at a strength of 0 to 100; not quite as it was at 0."""

    code = "jpeg"
    full = (0.0, 100.0)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if shape[0] not in (1, 3):
            raise ConfigError(f"views.tx: 'jpeg' needs images with 1 or 3 channels, the data have {shape[0]}")

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """On the host, by threads."""
        pixels = to_bytes(x).byte().permute(0, 2, 3, 1).cpu().numpy()
        pixels = pixels[..., 0] if x.shape[1] == 1 else pixels
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            made = list(threads.map(compressed, pixels, p[:, 0].tolist()))
        if not made:
            return x.clone()
        y = torch.from_numpy(np.stack(made)).to(x.device)
        y = y[:, None] if x.shape[1] == 1 else y.permute(0, 3, 1, 2)
        return y.contiguous().to(x.dtype).div_(255)

"""Geometric transforms of images (C, H, W) and blur, batched with one parameter per sample.

Definitions and ranges are those of DUET (Suau et al., ICML 2023, arXiv 2306.16058) and its augmentation library;
bilinear sampling takes pixel centres as integers (corners aligned) throughout.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from datasets.base import Kind
from datasets.config import Config, ConfigError
from datasets.transforms.base import (
    BinaryOptions,
    NoOptions,
    Shape,
    Transform,
    bernoulli,
    binary_unit,
    on_applied,
    uniform,
)


def crop_and_resize(x: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a box out of each image and resize it, bilinear, corners aligned, without antialiasing.

    Args:
        x: (n, C, H, W). box: (n, 4) left, top, width, height in pixels. size: (h, w) of the result.
    """
    height, width = x.shape[-2:]
    left, top, w, h = box.to(x).unbind(1)
    columns = _ramp(left, w, size[1]) * (2 / max(width - 1, 1)) - 1  # to grid_sample's [-1, 1]
    rows = _ramp(top, h, size[0]) * (2 / max(height - 1, 1)) - 1
    shape = (len(x), *size)
    grid = torch.stack((columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)), -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _ramp(start: Tensor, extent: Tensor, steps: int) -> Tensor:
    """(n, steps) positions from `start` to `start + extent - 1`."""
    share = torch.arange(steps, dtype=start.dtype, device=start.device) / max(steps - 1, 1)
    return start[:, None] + share * (extent[:, None] - 1)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image (n, C, H, W) by `degrees` (n,) counter-clockwise about its centre; black outside, bilinear."""
    height, width = x.shape[-2:]
    angle = torch.deg2rad(degrees.to(x)).view(-1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    across = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    down = (torch.arange(height, dtype=x.dtype, device=x.device) - (height - 1) / 2).view(-1, 1)
    columns = (cos * across - sin * down) * (2 / max(width - 1, 1))
    rows = (sin * across + cos * down) * (2 / max(height - 1, 1))
    return F.grid_sample(x, torch.stack((columns, rows), -1), mode="bilinear", padding_mode="zeros", align_corners=True)


def quarter_turns(x: Tensor, turns: Tensor) -> Tensor:
    """Turn square images (n, C, S, S) by `turns` (n,) x 90 degrees counter-clockwise, exactly."""
    size = x.shape[-1]
    pixels = torch.arange(size * size, device=x.device).view(size, size)
    order = torch.stack([torch.rot90(pixels, k).flatten() for k in range(4)])
    picked = order[turns.to(x.device).long() % 4][:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, picked).view_as(x)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """3x3 Gaussian blur of (n, C, H, W) with standard deviations in pixels (n,); reflected at the border."""
    side = torch.exp(-0.5 / sigma.to(x).square()).view(-1, 1, 1, 1)
    centre = 1 / (1 + 2 * side)
    side = side * centre
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., 1:-1] * centre + (padded[..., :-2] + padded[..., 2:]) * side
    return rows[..., 1:-1, :] * centre + (rows[..., :-2, :] + rows[..., 2:, :]) * side


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, C, H, W) to `size`, bilinear, corners aligned, without antialiasing."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def resize_as_8_bit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, C, H, W) in [0, 1] to `size`, bilinear with antialiasing, rounded to 1/255 as 8-bit image libraries do.

    They resize the rows, round, resize the columns, round; halves go up (the offset outweighs the error of float32).
    """
    x = x * 255
    for step in ((x.shape[-2], size[1]), size):
        x = F.interpolate(x, step, mode="bilinear", align_corners=False, antialias=True).add_(0.5 + 1e-4).floor_()
    return x.div_(255)


def center_crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The central `size` = (h, w) of (n, C, H, W), starting at floor((H - h) / 2)."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


class ImageTransform(Transform):
    """A transform of images (C, H, W)."""

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if len(shape) != 3:
            raise ConfigError(f"views.tx: '{self.code}' needs images (C, H, W), the data have items of {shape}")


class CropOptions(Config):
    """Options of `sca`."""

    scale_min: float = Field(0.2, gt=0, le=0.95, description="smallest area, share of the image (DUET: 0.2)")
    scale_max: float = Field(1.0, gt=0, le=1, description="largest area, share of the image (DUET: 1)")
    aspect_min: float = Field(3 / 4, gt=0, le=1, description="smallest aspect ratio; the largest is its inverse")
    mode: Literal["faithful", "corrected"] = Field(
        "faithful",
        description="the parameter: DUET's own, from the box's height over the output size, or 1 - side / input",
    )

    @model_validator(mode="after")
    def _ordered(self) -> CropOptions:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} is above scale_max {self.scale_max}")
        return self


class ResizedCrop(ImageTransform):
    """`sca`: a random box, resized to the target's size.

    Parameters, faithful: (left, top, w - 1, h - 1) / S with the *output* size S; unit 1 - (h - 1) / S, which may be
    negative. Corrected: (left / W, top / H, w / W, h / H) with the *input* size; unit 1 - sqrt(w h / (W H)).
    The identity is the central crop of S x S, which is what evaluation sees.
    """

    code = "sca"
    Config = CropOptions
    fits = True
    dims = 4
    cfg: CropOptions

    def __init__(self, cfg: CropOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.out_shape = (shape[0], *target[1:])
        self.size = (target[1], target[2])
        height, width = shape[1:]
        h, w = min(self.size[0], height), min(self.size[1], width)
        box = torch.tensor([[(width - w) // 2, (height - h) // 2, w, h]], dtype=torch.float64)
        self.identity = tuple(self.record(box)[0].tolist())

    def record(self, box: Tensor) -> Tensor:
        """Boxes (n, 4) of left, top, width, height in pixels as parameters."""
        if self.cfg.mode == "faithful":
            return (box - box.new_tensor([0, 0, 1, 1])) / self.size[0]
        return box / box.new_tensor([self.shape[2], self.shape[1]] * 2)

    def boxes(self, p: Tensor) -> Tensor:
        """Parameters (n, 4) as boxes of left, top, width, height, whole pixels."""
        if self.cfg.mode == "faithful":
            return (p * self.size[0]).round() + p.new_tensor([0, 0, 1, 1])
        return (p * p.new_tensor([self.shape[2], self.shape[1]] * 2)).round()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        height, width = self.shape[1:]
        area = height * width * uniform(n * 10, self.cfg.scale_min, self.cfg.scale_max, rng).view(n, 10)
        bound = math.log(self.cfg.aspect_min)
        root = torch.exp(uniform(n * 10, bound, -bound, rng).view(n, 10) / 2)
        h, w = (area.sqrt() * root).round(), (area.sqrt() / root).round()
        fits = (h > 0) & (h < height) & (w > 0) & (w < width)
        first = fits.int().argmax(1, keepdim=True)
        none = ~fits.any(1)
        h = torch.where(none, min(height, round(0.75 * width)), h.gather(1, first)[:, 0])
        w = torch.where(none, width, w.gather(1, first)[:, 0])
        corner = torch.rand(n, 2, generator=rng)
        left = (corner[:, 0] * (width - w + 1)).floor().minimum(width - w)  # the product may round up to the bound
        top = (corner[:, 1] * (height - h + 1)).floor().minimum(height - h)
        return self.record(torch.stack((left, top, w, h), 1))

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return crop_and_resize(x, self.boxes(p), self.size)

    def unit(self, p: Tensor) -> Tensor:
        if self.cfg.mode == "faithful":
            return 1 - p[:, 3:]
        return (1 - (p[:, 2:3] * p[:, 3:]).sqrt()).clamp(0, 1)

    def at(self, strength: float, n: int) -> Tensor:
        """A central box whose sides are `strength` (0 to 1) of the image's."""
        height, width = self.shape[1:]
        h, w = max(1, round(strength * height)), max(1, round(strength * width))
        if h > height or w > width:
            raise ConfigError(f"transform 'sca': strength is the box's side, at most 1 (got {strength})")
        box = torch.tensor([[(width - w) // 2, (height - h) // 2, w, h]], dtype=torch.float32)
        return self.record(box).expand(n, -1).clone()


class RotationOptions(Config):
    """Options of `rot`."""

    degrees: float = Field(
        180.0, gt=0, le=180, description="largest angle; below 180 not circular (DUET: 180, ESSL: 90)"
    )


class Rotation(ImageTransform):
    """`rot`: angle a ~ U(-d, d) degrees counter-clockwise; unit (a + d) / (2 d)."""

    code = "rot"
    reposes = True
    Config = RotationOptions
    cfg: RotationOptions

    def __init__(self, cfg: RotationOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.kind = "circular" if cfg.degrees == 180 else "continuous"

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return uniform(n, -self.cfg.degrees, self.cfg.degrees, rng)[:, None]

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return rotate(x, p[:, 0])

    def unit(self, p: Tensor) -> Tensor:
        return (p + self.cfg.degrees) / (2 * self.cfg.degrees)


class QuarterTurns(ImageTransform):
    """`ron`: a in {0, 90, 180, 270} degrees counter-clockwise, exact; unit a / 360 + 0.125."""

    code = "ron"
    reposes = True
    kind: Kind = "quarter"

    def __init__(self, cfg: NoOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if shape[1] != shape[2]:
            raise ConfigError(
                f"views.tx: 'ron' needs square images, here they are {shape[1]} x {shape[2]}; set views.size"
            )

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return 90.0 * torch.randint(4, (n, 1), generator=rng)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return quarter_turns(x, (p[:, 0] / 90).round())

    def unit(self, p: Tensor) -> Tensor:
        return p / 360 + 0.125

    def at(self, strength: float, n: int) -> Tensor:
        """Turns by `strength` degrees, a multiple of 90."""
        if strength % 90:
            raise ConfigError(f"transform 'ron': turns by multiples of 90 degrees only (got {strength})")
        return super().at(strength % 360, n)


class HorizontalFlip(ImageTransform):
    """`fli`: mirror along W."""

    code = "fli"
    reposes = True
    Config = BinaryOptions
    kind: Kind = "binary"
    masked = True
    axis = -1
    cfg: BinaryOptions

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return bernoulli(n, self.cfg.probability, rng)[:, None]

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return on_applied(x, p, lambda part, _: part.flip(self.axis))

    def unit(self, p: Tensor) -> Tensor:
        return binary_unit(p[:, -1], self.cfg.zero_one)


class VerticalFlip(HorizontalFlip):
    """`flv`: mirror along H."""

    code = "flv"
    axis = -2


class BlurOptions(BinaryOptions):
    """Options of `blu`."""

    sigma_min: float = Field(0.1, gt=0, le=10, description="smallest standard deviation in pixels (DUET: 0.1)")
    sigma_max: float = Field(2.0, gt=0, le=10, description="largest standard deviation in pixels (DUET: 2)")

    @model_validator(mode="after")
    def _ordered(self) -> BlurOptions:
        if self.sigma_min > self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is above sigma_max {self.sigma_max}")
        return self


class Blur(ImageTransform):
    """`blu`: 3x3 Gaussian blur; parameters (sigma, mask), unit from the mask alone."""

    code = "blu"
    Config = BlurOptions
    dims = 2
    kind: Kind = "binary"
    masked = True
    identity = (0.0, 0.0)
    cfg: BlurOptions

    def __init__(self, cfg: BlurOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if min(shape[1:]) < 2:
            raise ConfigError(f"views.tx: 'blu' needs images of at least 2 x 2 pixels, here they are {shape[1:]}")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        sigma = uniform(n, self.cfg.sigma_min, self.cfg.sigma_max, rng)
        mask = bernoulli(n, self.cfg.probability, rng)
        return torch.stack((sigma * mask, mask), 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return on_applied(x, p, lambda part, q: blur(part, q[:, 0]))

    def unit(self, p: Tensor) -> Tensor:
        return binary_unit(p[:, -1], self.cfg.zero_one)


class Resize(ImageTransform):
    """`res`: bilinear resize to the target's size; no parameter."""

    code = "res"
    usable = False
    fits = True
    dims = 0
    identity = ()

    def __init__(self, cfg: NoOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.out_shape = (shape[0], *target[1:])
        self.size = (target[1], target[2])

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.empty(n, 0)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return resize(x, self.size)

    def unit(self, p: Tensor) -> Tensor:
        raise ConfigError(f"transform '{self.code}': has no parameter")


class CenterCrop(Resize):
    """`ccr`: the centre of the target's size; no parameter."""

    code = "ccr"

    def __init__(self, cfg: NoOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if shape[1] < self.size[0] or shape[2] < self.size[1]:
            raise ConfigError(f"views.tx: 'ccr' cannot cut {self.size} out of images of {shape[1:]}; lower views.size")

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return center_crop(x, self.size)


class RandomCrop(ImageTransform):
    """`cro`: a square of the target's size cut out at a random place; the data's pixels are not resized before.

    Parameters (left, top) in pixels; the identity is the central place.
    """

    code = "cro"
    usable = False
    fits = True
    cuts = True
    dims = 2

    def __init__(self, cfg: NoOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.out_shape = (shape[0], *target[1:])
        self.size = (target[1], target[2])
        self.room = (shape[2] - target[2], shape[1] - target[1])
        if min(self.room) < 0:
            raise ConfigError(f"views.tx: 'cro' cannot cut {self.size} out of images of {shape[1:]}; lower views.size")
        self.identity = (float(self.room[0] // 2), float(self.room[1] // 2))

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 2), every place as likely."""
        return torch.stack([torch.randint(room + 1, (n,), generator=rng).float() for room in self.room], 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """One gather."""
        left, top = p.to(x.device).long().unbind(1)
        rows = top[:, None] + torch.arange(self.size[0], device=x.device)
        columns = left[:, None] + torch.arange(self.size[1], device=x.device)
        image = torch.arange(len(x), device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    def unit(self, p: Tensor) -> Tensor:
        raise ConfigError("transform 'cro': has no single parameter")

    def at(self, strength: float, n: int) -> Tensor:
        raise ConfigError("transform 'cro': has no single strength")

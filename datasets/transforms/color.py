"""Colour transforms of images (C, H, W) in [0, 1], batched with one parameter per sample.

`jit`, `bri`, `con`, `sat`, `hue` are one colour jitter, of which the last four select components; a stack holds it once
(see `datasets.transforms.load`). Ranges are those of DUET (Suau et al., ICML 2023), equal to ESSL's.
"""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from datasets.base import Kind
from datasets.config import Config, ConfigError
from datasets.transforms.base import BinaryOptions, Shape, bernoulli, binary_unit, on_applied, uniform
from datasets.transforms.image import ImageTransform

ORDERS = tuple(permutations(range(4)))


def luma(x: Tensor) -> Tensor:
    """Brightness (n, 1, H, W) of RGB images (n, 3, H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
    gray = x[:, :1] * 0.299
    return gray.add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:], alpha=0.114)


def grayscale(x: Tensor) -> Tensor:
    """RGB images (n, 3, H, W) with their luma in all three channels."""
    return luma(x).expand_as(x)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """clip(f x, 0, 1) for x (n, 3, H, W), factor (n,)."""
    return (x * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """clip(f x + (1 - f) m, 0, 1), m = mean luma of the image."""
    f = factor.view(-1, 1, 1, 1)
    mean = luma(x).mean((2, 3), keepdim=True)
    return (x * f + (1 - f) * mean).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """clip(f x + (1 - f) luma(x), 0, 1)."""
    f = factor.view(-1, 1, 1, 1)
    return (x * f).add_(luma(x) * (1 - f)).clamp_(0, 1)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of RGB images (n, 3, H, W) by `shift` (n,) turns, through HSV.

    With hue in sixths of a turn, channel c of the colour is max - chroma * (1 - w_c), where w_c are trapezoids over the
    colour circle: no case distinction on the way back. Chroma uses saturation = delta / (max + 1e-8).
    """
    r, g, b = x.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    delta = top - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(delta == 0, 1, delta)
    angle = torch.where(top == r, (g - b) / safe, torch.where(top == g, (b - r) / safe + 2, (r - g) / safe + 4))
    angle = angle + 6 * shift.view(-1, 1, 1)
    angle = angle - 6 * (angle / 6).floor()
    chroma = top * (delta / (top + 1e-8))
    weights = torch.stack(((angle - 3).abs() - 1, 2 - (angle - 2).abs(), 2 - (angle - 4).abs()), 1).clamp_(0, 1)
    return weights.sub_(1).mul_(chroma[:, None]).add_(top[:, None])


def solarise(x: Tensor, threshold: Tensor, addition: Tensor) -> Tensor:
    """clip(x + addition), then values at or above the threshold become 1 - x. threshold, addition: (n,)."""
    x = (x + addition.view(-1, 1, 1, 1)).clamp_(0, 1)
    return torch.where(x >= threshold.view(-1, 1, 1, 1), 1 - x, x)


OPERATIONS = (brightness, contrast, saturation, hue)


class ColorTransform(ImageTransform):
    """A transform of images with three channels."""

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        if shape[0] != 3:
            raise ConfigError(f"views.tx: '{self.code}' needs images with 3 channels, the data have {shape[0]}")


class GrayOptions(BinaryOptions):
    """Options of `gra`."""

    probability: float = Field(0.2, ge=0, le=1, description="of being applied, per sample (DUET: 0.2)")


class Grayscale(ColorTransform):
    """`gra`: luma in all channels."""

    code = "gra"
    Config = GrayOptions
    kind: Kind = "binary"
    masked = True
    cfg: GrayOptions

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return bernoulli(n, self.cfg.probability, rng)[:, None]

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return on_applied(x, p, lambda part, _: grayscale(part))

    def unit(self, p: Tensor) -> Tensor:
        return binary_unit(p[:, -1], self.cfg.zero_one)


class JitterOptions(Config):
    """Options of `jit`."""

    strength: float = Field(
        0.5, gt=0, le=1, description="times `ratios` is the half-range of each component (DUET: 0.5)"
    )
    ratios: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="of brightness, contrast, saturation, hue to `strength` (SimCLR, DUET)"
    )
    probability: float = Field(0.8, ge=0, le=1, description="of being applied, per sample (DUET: 0.8)")

    @model_validator(mode="after")
    def _in_range(self) -> JitterOptions:
        ranges = [self.strength * ratio for ratio in self.ratios]
        if min(ranges) < 0 or max(ranges) > 1 or ranges[3] > 0.5:
            raise ValueError(f"strength x ratios must lie in [0, 1], of hue in [0, 0.5] (got {ranges})")
        return self


class ComponentOptions(Config):
    """Options of `bri`, `con`, `sat`."""

    strength: float = Field(0.4, gt=0, le=1, description="half-range s of the factor, U(1 - s, 1 + s) (DUET: 0.4)")
    probability: float = Field(0.8, ge=0, le=1, description="of being applied, per sample (DUET: 0.8)")


class HueOptions(ComponentOptions):
    """Options of `hue`."""

    strength: float = Field(0.1, gt=0, le=0.5, description="half-range in turns of the colour circle (DUET: 0.1)")


class Brightness(ColorTransform):
    """`bri`: brightness, one component of the jitter alone; parameters (value, mask), unit over the value's range."""

    code = "bri"
    factor = "brightness"
    Config = ComponentOptions
    dims = 2
    masked = True
    identity = (1.0, 0.0)
    component: ClassVar[int] = 0
    cfg: ComponentOptions

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.identity[0] - self.cfg.strength, self.identity[0] + self.cfg.strength

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        value, mask = uniform(n, *self.range, rng), bernoulli(n, self.cfg.probability, rng)
        return torch.stack((torch.where(mask > 0, value, self.identity[0]), mask), 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return on_applied(x, p, lambda part, q: OPERATIONS[self.component](part, q[:, 0]))

    def unit(self, p: Tensor) -> Tensor:
        low, high = self.range
        return (p[:, :1] - low) / (high - low)


class Contrast(Brightness):
    """`con`: contrast."""

    code = "con"
    factor = ""
    component = 1


class Saturation(Brightness):
    """`sat`: saturation."""

    code = "sat"
    factor = "saturation"
    component = 2


class Hue(Brightness):
    """`hue`: hue shift in turns."""

    code = "hue"
    factor = "hue"
    Config = HueOptions
    component = 3
    identity = (0.0, 0.0)


COMPONENTS: dict[str, type[Brightness]] = {kind.code: kind for kind in (Brightness, Contrast, Saturation, Hue)}


class Jitter(ColorTransform):
    """`jit`: brightness, contrast, saturation and hue in one random order per batch, values per sample.

    Parameters: the values of the four, the number of the order in `ORDERS`, the mask. A component that was not asked
    for keeps its neutral value and is skipped. `components` report their own share of the parameters.
    """

    code = "jit"
    Config = JitterOptions
    usable = False
    dims = 6
    masked = True
    identity = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)

    def __init__(self, cfg: JitterOptions, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        strengths = [cfg.strength * ratio for ratio in cfg.ratios]
        self.components: dict[str, Brightness] = {
            code: kind(kind.Config(strength=strength, probability=cfg.probability), shape, target)
            for (code, kind), strength in zip(COMPONENTS.items(), strengths, strict=True)
            if strength > 0
        }

    @classmethod
    def of(cls, options: dict[str, ComponentOptions], shape: Shape, target: Shape) -> Jitter:
        """A jitter with the named components only, each with its own range.

        Raises:
            ConfigError: their probabilities differ, though one mask decides for all.
        """
        probabilities = {cfg.probability for cfg in options.values()}
        if len(probabilities) > 1:
            raise ConfigError(f"views.options: {', '.join(options)} are one jitter; give them the same probability")
        jitter = cls(JitterOptions(probability=probabilities.pop()), shape, target)
        jitter.components = {
            code: kind(options[code], shape, target) for code, kind in COMPONENTS.items() if code in options
        }
        return jitter

    def columns(self, component: Brightness) -> list[int]:
        """Where the parameters of a component are among these."""
        return [component.component, self.dims - 1]

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        p = self.still(n)
        p[:, 5] = bernoulli(n, self.cfg.probability, rng)
        p[:, 4] = torch.randint(len(ORDERS), (1,), generator=rng)
        for component in self.components.values():
            values = uniform(n, *component.range, rng)
            column = component.component
            p[:, column] = torch.where(p[:, 5] > 0, values, p[:, column])
        return p

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        for number in p[:, 4].unique().tolist():  # one, unless rows of several batches were put together
            mask = p[:, 5] * (p[:, 4] == number)
            x = on_applied(x, torch.cat((p[:, :4], mask[:, None]), 1), partial(self._in_order, ORDERS[int(number)]))
        return x

    def _in_order(self, order: tuple[int, ...], x: Tensor, values: Tensor) -> Tensor:
        active = {component.component for component in self.components.values()}
        for operation in order:
            if operation in active:
                x = OPERATIONS[operation](x, values[:, operation])
        return x

    def unit(self, p: Tensor) -> Tensor:
        raise ConfigError("transform 'jit': has no single parameter; use one of bri, con, sat, hue")

    def at(self, strength: float, n: int) -> Tensor:
        raise ConfigError("transform 'jit': has no single strength; use one of bri, con, sat, hue")


class SolariseOptions(Config):
    """Options of `sol`."""

    probability: float = Field(0.2, ge=0, le=1, description="of being applied, per sample (DUET: 0.2)")
    thresholds: float = Field(0.1, gt=0, le=0.5, description="half-range of the threshold around 0.5 (DUET: 0.1)")
    additions: float = Field(0.1, ge=0, le=1, description="half-range of what is added before (DUET: 0.1)")


class Solarise(ImageTransform):
    """`sol`: parameters (threshold, addition, mask); unit over the range of the threshold."""

    code = "sol"
    Config = SolariseOptions
    dims = 3
    masked = True
    identity = (0.5, 0.0, 0.0)
    cfg: SolariseOptions

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        threshold = uniform(n, 0.5 - self.cfg.thresholds, 0.5 + self.cfg.thresholds, rng)
        addition = uniform(n, -self.cfg.additions, self.cfg.additions, rng)
        mask = bernoulli(n, self.cfg.probability, rng)
        drawn = torch.stack((threshold, addition, mask), 1)
        return torch.where(mask[:, None] > 0, drawn, self.still(n))

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        return on_applied(x, p, lambda part, q: solarise(part, q[:, 0], q[:, 1]))

    def unit(self, p: Tensor) -> Tensor:
        return (p[:, :1] - 0.5 + self.cfg.thresholds) / (2 * self.cfg.thresholds)

"""Transforms of one number, drawn evenly from its range, from a quarter of it, or from the part of it that is sane.

Source: Plachouras et al., "Towards a Unified Representation Evaluation Framework Beyond Downstream Tasks", IJCNN 2025,
arXiv 2505.06224. A code may name the part: `hue_shift@25` draws from the first quarter of the range, `@100` from the
last one, `@sane` leaves out where every image comes out alike. Every item is transformed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets.config import Config, ConfigError
from datasets.transforms.base import Shape, Transform, uniform

QUARTERS = ("25", "50", "75", "100")
Part = Literal["full", "25", "50", "75", "100", "sane"]


class RangeOptions(Config):
    """Options of a transform with a range."""

    range: Part = Field("full", description="drawn from: all, the quarter that ends at so many percent, or sane")

    @field_validator("range", mode="before")
    @classmethod
    def _named(cls, part: Any) -> Any:
        return str(part) if isinstance(part, int) else part


class Ranged(Transform):
    """A transform of one number; further parameters, such as a seed, are behind it.

    Class attributes:
        full: lowest and highest value.
        sane: a narrower range, where there is one.
        own: whether the unit is over the part that is drawn from, else over the full range.
    """

    Config: ClassVar[type[Config]] = RangeOptions
    full: ClassVar[tuple[float, float]]
    sane: ClassVar[tuple[float, float] | None] = None
    own: ClassVar[bool] = False

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.range = self.part(cfg.range)

    @classmethod
    def part(cls, name: str) -> tuple[float, float]:
        """Lowest and highest value of a part of the range.

        Raises:
            ConfigError: there is no such part.
        """
        low, high = cls.full
        if name in QUARTERS:
            step = (high - low) / len(QUARTERS)
            number = QUARTERS.index(name)
            return low + number * step, low + (number + 1) * step
        if name == "full":
            return cls.full
        if name == "sane" and cls.sane:
            return cls.sane
        parts = (*QUARTERS, "sane") if cls.sane else QUARTERS
        raise ConfigError(f"transform '{cls.code}': has no range '{name}'; known: {', '.join(parts)}")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, dims); where there is more than the number, it is evenly drawn from [0, 1)."""
        number = uniform(n, *self.range, rng)[:, None]
        return torch.cat([number, torch.rand(n, self.dims - 1, generator=rng)], 1) if self.dims > 1 else number

    def unit(self, p: Tensor) -> Tensor:
        """Where the number lies between the ends."""
        low, high = self.range if self.own else self.full
        return (p[:, :1] - low) / (high - low)

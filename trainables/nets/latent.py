"""What a module of a modular network gives: a latent at every place, as a point or as a Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Latent:
    """The output of a module for B items at L places (frames of sound, patches of an image row by row).

    Attributes:
        mean: (B, L, C). logvar: (B, L, C); None = a point.
        features: what the next module reads where that is not the latent itself: feature maps of patches.
        layers: number -> (B, C, L), outputs of single layers that are asked for.
    """

    mean: Tensor
    logvar: Tensor | None = None
    features: Tensor | None = None
    layers: dict[int, Tensor] = field(default_factory=dict)

    def sample(self, noise: Tensor | None) -> Tensor:
        """mean + exp(logvar / 2) noise; the mean where it is a point or there is no noise."""
        if self.logvar is None or noise is None:
            return self.mean
        return self.mean + (0.5 * self.logvar).exp() * noise


class Unit(nn.Module):
    """A module of a modular network: the next unit's input -> a latent, and a context over it.

    Attributes:
        width: C. context_width: of the context, C where the latent is its own.
        probabilistic: whether there is a log-variance.
        has_latent: whether it makes a latent; if not it is a context network over that of the unit below.
        predicts: the context network, if any. layer_widths: of single layers that are kept, by number.
        grid: rows and columns of patches; None for sound.
    """

    width: int
    context_width: int
    probabilistic: bool
    has_latent: bool = True
    predicts: nn.Module | None
    layer_widths: Mapping[int, int] = MappingProxyType({})
    grid: tuple[int, int] | None = None

    def context(self, z: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, R), or z itself."""
        raise NotImplementedError

    def onward(self, latent: Latent, z: Tensor) -> Tensor:
        """What the next unit reads, of a latent and what was drawn from it (B, L, C)."""
        raise NotImplementedError


class Heads(nn.Module):
    """Linear maps of features (B, C, L) to the mean and, if probabilistic, beside it the log-variance: (B, L, C).

    Convolutions over `kernel` places that keep the number of places; in float32 at least.
    """

    def __init__(self, channels: int, kernel: int, probabilistic: bool) -> None:
        super().__init__()
        self.mean = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        self.logvar = nn.Conv1d(channels, channels, kernel, padding=kernel // 2) if probabilistic else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean and the log-variance."""
        return _full(self.mean(x)), None if self.logvar is None else _full(self.logvar(x))


def _full(x: Tensor) -> Tensor:
    """(B, C, L) -> (B, L, C)."""
    x = x.transpose(1, 2)
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x

"""Edits of latents (n, L, C), L frames or cells of C dimensions: interpolated, exchanged, masked. All on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]  # (b, L, C) -> (b, ...)


def largest(z: Tensor, other: Tensor, count: int | None = None) -> Tensor:
    """(n, count) dimensions in which pairs (n, L, C) differ most by the square of their means over L, most first."""
    apart = (z.mean(-2) - other.mean(-2)).square()
    return apart.argsort(dim=-1, descending=True, stable=True)[..., :count]


def exchanged(z: Tensor, other: Tensor, dims: Tensor) -> Tensor:
    """z with the dimensions dims (n, k) of `other` in all its frames, both (n, L, C)."""
    at = dims[:, None].expand(-1, z.shape[1], -1)
    return z.scatter(2, at, other.gather(2, at))


def interpolated(z: Tensor, other: Tensor, steps: int, dims: Tensor | None = None) -> Tensor:
    """(steps, L, C): z v + other (1 - v) for v from 0 to 1; with dims (k,) in those alone, all else being `other`'s."""
    v = torch.linspace(0, 1, steps, dtype=z.dtype, device=z.device)[:, None, None]
    mixed = z * v + other * (1 - v)
    return mixed if dims is None else exchanged(other.expand_as(mixed), mixed, dims.expand(steps, -1))


def masked(z: Tensor, dims: Tensor, keep: bool = False) -> Tensor:
    """z (n, L, C) with dimensions dims (k,) at zero, or with `keep` all others."""
    chosen = torch.zeros(z.shape[-1], dtype=torch.bool, device=z.device)
    chosen[dims] = True
    return z.masked_fill(~chosen if keep else chosen, 0.0)


@dataclass(frozen=True)
class Contribution:
    """How far from the second of two items what is decoded stays while dimensions of the second replace the first's.

    Attributes:
        dims: numbers of dimensions. absolute: for each, mean squared error over pairs. whole: that of no dimension.
    """

    dims: tuple[int, ...]
    absolute: tuple[float, ...]
    whole: float

    @property
    def relative(self) -> tuple[float, ...]:
        """absolute / whole; 0 where all items decode to the same."""
        return tuple(one / self.whole if self.whole > 0 else 0.0 for one in self.absolute)


def contribution(decode: Decode, z: Tensor, pairs: Tensor, dims: Sequence[int], block: int = 64) -> Contribution:
    """The interpolation contribution score of pairs (p, 2) of items z (n, L, C).

    For each pair (i, j) the d dimensions with the largest squared difference of means over L are taken from z_j, all
    else from z_i; the error is that of what is decoded against what z_j decodes to.
    """
    reached = torch.cat([decode(some) for some in z.split(block)])
    sums = torch.zeros(len(dims) + 1, dtype=torch.float64)
    for some in pairs.split(block):
        (one, other), (plain, wanted) = (z[some[:, 0]], z[some[:, 1]]), (reached[some[:, 0]], reached[some[:, 1]])
        order = largest(one, other)
        sums[-1] += _errors(plain, wanted)
        for number, count in enumerate(dims):
            sums[number] += _errors(decode(exchanged(one, other, order[:, :count])), wanted)
    *absolute, whole = (sums / len(pairs)).tolist()
    return Contribution(tuple(dims), tuple(absolute), whole)


def _errors(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).double().square().flatten(1).mean(1).sum())


def doublings(width: int) -> tuple[int, ...]:
    """2, 4, 8, ... below the number of dimensions, and that number."""
    below = [2**power for power in range(1, width.bit_length()) if 2**power < width]
    return (*below, width)

"""What is random: functions of a seed and a place alone, made for the global batch and sliced by rank.

So a resumed run draws what the uninterrupted one draws, and several ranks together what one process draws.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from trainables.core import dist


def key(*place: int | str) -> int:
    """A seed for one place of a run, such as (seed, epoch, step); those of neighbouring places are independent."""
    text = ",".join(map(str, place)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def generator(*place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one place of a run."""
    return torch.Generator(device).manual_seed(key(*place))


class Draws:
    """The draws of a method in one step: each has a name, and does not depend on what else was drawn.

    They are made on the batch's device, so that they differ between a CPU and a GPU, not between numbers of ranks.
    Building it is collective: every rank says how many rows it holds.

    Attributes:
        total: rows of the global batch. first: index of this rank's first row in it. rows: of this rank.
    """

    def __init__(self, seed: int, rows: int, device: torch.device) -> None:
        counts = dist.sizes(rows)
        self.seed, self.device = seed, device
        self.total, self.first, self.rows = sum(counts), dist.offset(counts), rows

    def mine(self, drawn: Tensor, axis: int = 0) -> Tensor:
        """This rank's rows of what was drawn for all."""
        return drawn.narrow(axis, self.first, self.rows)

    def normal(self, name: str, like: Tensor) -> Tensor:
        """Standard normal noise for this rank's rows `like` (b, ...)."""
        shape = (self.total, *like.shape[1:])
        return self.mine(torch.randn(shape, generator=self._of(name), device=self.device, dtype=like.dtype))

    def permutations(self, name: str, count: int, n: int) -> Tensor:
        """(count, n) int64, each row a permutation of 0 .. n - 1; the same on all ranks."""
        rng = self._of(name)
        return torch.stack([torch.randperm(n, generator=rng, device=self.device) for _ in range(count)])

    def integers(self, name: str, low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        """int64, uniform in low .. high - 1; the same on all ranks."""
        return torch.randint(low, high, shape, generator=self._of(name), device=self.device)

    def integer(self, name: str, high: int) -> int:
        """One of 0 .. high - 1, the same on all ranks; drawn without waiting for the device."""
        return int(torch.randint(high, (), generator=generator(self.seed, name)))

    def _of(self, name: str) -> torch.Generator:
        return generator(self.seed, name, device=self.device)

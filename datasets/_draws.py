"""Draws that belong to an item: pure functions of a salt and of the item's position in its split.

A salt is drawn once a batch. So what is drawn for an item does not depend on what is fetched beside it, and several
ranks whose generators are in one state draw together what a single one draws.
"""

from __future__ import annotations

import numpy as np
import torch


def salt_of(rng: torch.Generator) -> int:
    """A number of 62 bits; the next one of the same generator is another."""
    return int(torch.randint(2**62, (1,), generator=rng))


def below(salt: int, items: np.ndarray, counts: np.ndarray, draw: int = 0) -> np.ndarray:
    """(B,) int64, uniform over 0 .. counts - 1.

    Args:
        items: (B,) positions. counts: (B,) of at least 1. draw: 0 or 1, two independent draws of an item.
    """
    return (mixed(salt, items, draw) % counts.astype(np.uint64)).astype(np.int64)


def mixed(salt: int, items: np.ndarray, draw: int) -> np.ndarray:
    """64 well mixed bits for each item: two rounds of the finaliser of splitmix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = items.astype(np.uint64) * np.uint64(2) + np.uint64(draw)
        for offset in (np.uint64(0), np.uint64(salt)):
            z = (z + offset) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z

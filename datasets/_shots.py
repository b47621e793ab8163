"""Few shots: how a model takes to styles it has not seen, after so many pages of each.

Source: V3 (Wu et al., ICLR 2025, arXiv 2407.03824), folders `{1_shot,5_shot,10_shot,test}`: fewer shots are a part of
more, and what none of them has tests. Theirs are the first of a listing, these are seeded. Where validation is asked
for, it is ten more pages of each style, which do not test.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from datasets import _parts
from datasets.base import Split

Shots = Literal[1, 5, 10]
MOST = 10  # pages of a style that are taken for training, and again for validation
FOLDERS = ("1_shot", "5_shot", "10_shot", "test")


def few_shots(style: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Positions of `shots` pages of each style, in increasing order; fewer are a part of more."""
    return _parts.some_per_class(style, shots, seed)


def splits(style: np.ndarray, shots: int, seed: int) -> dict[Split, np.ndarray]:
    """Positions of the pages of each split; `val` and `test` are those of any number of shots."""
    few = few_shots(style, MOST, seed)
    val = np.setdiff1d(few_shots(style, 2 * MOST, seed), few)
    rest = np.setdiff1d(np.arange(len(style)), np.concatenate([few, val]))
    return {"train": few_shots(style, shots, seed), "val": val, "test": rest}


def held_out(style: np.ndarray, seed: int) -> dict[Split, np.ndarray]:
    """Positions of `val` and `test` in a folder `test`: there is none for validation."""
    val = few_shots(style, MOST, seed)
    return {"val": val, "test": np.setdiff1d(np.arange(len(style)), val)}


def folders(style: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Positions of the pages of each folder."""
    made = {f"{shots}_shot": few_shots(style, shots, seed) for shots in (1, 5, MOST)}
    return {**made, "test": np.setdiff1d(np.arange(len(style)), made[f"{MOST}_shot"])}

"""Pages of vectors made of known contents and styles: V3's task in miniature, generated, needs no files.

10 contents and 8 styles are vectors of 16 normal numbers. A fragment of content c and style s is
tanh([c, s] A) B + noise, with A 32x64 of standard deviation 1 / sqrt(32), and B 64x48 of 1 / 8. A page is 10 fragments
of one style, its contents a permutation of all, or drawn with replacement.

Labels: "content" (10) of each fragment, "style" (8) of the page. The world (vectors, A, B) is the same in all splits.

`styles: unseen` are pages of the same contents in eight other styles, to see how a model takes to styles that it was
not trained on. With `shots`, `train` is so many pages of each style (fewer are a part of more).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets import config
from datasets.base import SPLITS, Batch, Source, Spec, Split
from datasets.memory import Arrays, fingerprint

VERSION = 1
DOWNLOAD = "nothing is fetched: vectors that are made in memory"
CONTENTS, STYLES, LATENT, HIDDEN, WIDTH = 10, 8, 16, 64, 48
MOST = 100  # shots
# streams of a world's seed: 0 = the world itself, then of each kind of styles those of three splits and of few shots
STREAMS = {"seen": 1, "unseen": 5}
OTHERS = 9  # the styles that are unseen


class Config(config.Config):
    """Options of the pages."""

    train: int = Field(3200, ge=8, le=1_000_000, description="pages of the training split")
    val: int = Field(200, ge=8, le=100_000, description="pages of the validation split")
    test: int = Field(200, ge=8, le=100_000, description="pages of the test split")
    fragments: int = Field(10, ge=2, le=10, description="of a page; fewer than 10 = some of the contents")
    replacement: bool = Field(False, description="a page may hold a content more than once")
    noise: float = Field(0.1, ge=0, le=10, description="standard deviation of what is added to each number")
    styles: Literal["seen", "unseen"] = Field(
        "seen", description="the eight of the world, or eight others of it, for pages out of distribution"
    )
    shots: int | None = Field(
        None, ge=1, le=MOST, description="training pages of each style in place of `train`; None = all"
    )
    world: int = Field(0, ge=0, lt=2**31, description="seed of the contents, the styles and the maps")
    limit: int | None = Field(None, ge=1, description="at most so many pages of each split, for trial runs")


class Pages:
    """Pages of one split, (n, D) float32 each."""

    def __init__(self, arrays: Arrays, fragments: int) -> None:
        self._x = torch.from_numpy(arrays["x"])
        self._labels = {name: torch.from_numpy(arrays[name]) for name in ("content", "style")}
        self.spec = Spec(
            shape=(fragments, WIDTH),
            labels={"content": CONTENTS, "style": STYLES},
            frames={"content": 1},
            fragments=fragments,
            fingerprint=fingerprint(arrays),
        )

    def __len__(self) -> int:
        return len(self._x)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The pages at `index` (B,); `rng` is not used."""
        return Batch([self._x[index]], index, labels={name: value[index] for name, value in self._labels.items()})


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; `root` is not used."""
    stream, number = STREAMS[cfg.styles], SPLITS.index(split)
    if split == "train" and cfg.shots is not None:
        evenly = np.tile(np.arange(STYLES), MOST)
        arrays = _made(cfg, len(evenly), np.random.default_rng([cfg.world, stream + len(SPLITS)]), evenly)
        arrays = {name: array[: STYLES * cfg.shots] for name, array in arrays.items()}
    else:
        pages = {"train": cfg.train, "val": cfg.val, "test": cfg.test}[split]
        arrays = _made(cfg, pages, np.random.default_rng([cfg.world, stream + number]))
    return Pages({name: array[: cfg.limit] for name, array in arrays.items()}, cfg.fragments)


def _made(cfg: Config, pages: int, rng: np.random.Generator, given: np.ndarray | None = None) -> Arrays:
    """Pages of drawn styles, or of those that are `given` (pages,)."""
    world = np.random.default_rng([cfg.world, 0])
    contents, styles = world.standard_normal((CONTENTS, LATENT)), world.standard_normal((STYLES, LATENT))
    first = world.standard_normal((2 * LATENT, HIDDEN)) / np.sqrt(2 * LATENT)
    second = world.standard_normal((HIDDEN, WIDTH)) / np.sqrt(HIDDEN)
    if cfg.styles == "unseen":
        styles = np.random.default_rng([cfg.world, OTHERS]).standard_normal((STYLES, LATENT))
    if cfg.replacement:
        content = rng.integers(CONTENTS, size=(pages, cfg.fragments))
    else:
        content = rng.permuted(np.tile(np.arange(CONTENTS), (pages, 1)), axis=1)[:, : cfg.fragments]
    style = rng.integers(STYLES, size=pages) if given is None else given
    latent = np.concatenate([contents[content], np.repeat(styles[style][:, None], cfg.fragments, 1)], 2)
    x = np.tanh(latent @ first) @ second + cfg.noise * rng.standard_normal((pages, cfg.fragments, WIDTH))
    return {"x": x.astype(np.float32), "content": content.astype(np.int64), "style": style.astype(np.int64)}

"""Tracks made in memory, cut into items of any length at any rate: a tone that is low or high, in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from datasets import config
from datasets.base import SPLITS, Source, Spec, Split
from datasets.memory import MemorySource

VERSION = 1
DOWNLOAD = "nothing is fetched"


class Config(config.Config):
    """Options of the tracks."""

    seconds: float = Field(0.5, gt=0, description="of an item")
    rate: int = Field(8000, ge=1000, description="Hz")
    limit: int = Field(12, ge=1, description="items of a split")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; `root` is not used."""
    rng = np.random.default_rng(SPLITS.index(split))
    length = round(cfg.seconds * cfg.rate)
    label = np.arange(cfg.limit) % 2
    sound = 0.4 * np.sin(2 * np.pi * (300 + 900 * label)[:, None] * np.arange(length) / cfg.rate)
    sound += 0.01 * rng.standard_normal(sound.shape)
    array = (sound * 32767).astype(np.int16)[:, None]
    spec = Spec((1, length), labels={"class": 2}, rate=cfg.rate, fingerprint="tracks")
    return MemorySource(array, {"class": label.astype(np.int64)}, spec)

"""Handwritten digits of scikit-learn (UCI, 1,797 gray images of 8x8), enlarged; needs no files and no download.

Label "class" (10). Splits are seeded and keep the classes' shares. Mind 6 and 9 under rotation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from datasets import _parts, config
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Arrays, cached

VERSION = 1
DOWNLOAD = "nothing is fetched: 1,797 images that come with scikit-learn (UCI, CC BY 4.0)"
ITEMS = 1797


class Config(config.Config):
    """Options of the digits."""

    size: int = Field(16, ge=8, le=256, description="pixels of a side; enlarged bilinearly from 8")
    channels: Literal[1, 3] = Field(1, description="3 = the gray image three times, for colour transforms")
    val: int = Field(400, ge=10, le=800, description="images of the validation split")
    test: int = Field(397, ge=10, le=800, description="images of the test split; the others train")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image goes to which split")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; `root` is not used."""
    entry = cached(_parts.key("digits", VERSION, [], cfg.size), lambda: _build(cfg.size))
    rows = _parts.parts(entry.arrays["class"], [ITEMS - cfg.val - cfg.test, cfg.val], cfg.split_seed, cfg.limit)
    spec = Spec(shape=(cfg.channels, cfg.size, cfg.size), labels={"class": 10})
    return _parts.source(entry, spec, rows[SPLITS.index(split)])


def _build(size: int) -> Arrays:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("digits: scikit-learn is not installed; `pip install scikit-learn`") from None
    bunch = load_digits()
    small = torch.from_numpy(bunch.images)[:, None] / 16  # 0 .. 16
    large = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    return {"x": (large * 255).round().to(torch.uint8).numpy(), "class": bunch.target.astype(np.int64)}

"""STL-10: 96x96 colour images, 100,000 without labels, 5,000 and 8,000 of ten classes (Coates, Ng, Lee, AISTATS 2011).

Layout: ROOT/stl10_binary/{unlabeled_X,train_X,train_y,test_X,test_y}.bin, or the same in ROOT/stl10. An item is an
image without a label, of which a seeded share is `val` and the images of the test set are `test`; evaluations see the
labelled images (`items: labelled`), label "class" (10). Files with fewer images than the official ones are used as they
are, and `Spec.note` says so.

Published for Greedy and Smooth InfoMax: gray, a random crop of 64 pixels and mirroring in training, the central crop in
evaluation: `data.channels: 1`, `views: {tx: [cro, fli], size: 64, count: 1}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from datasets import _parts, config
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Entry, allocated, stored

VERSION = 1
DOWNLOAD = "STL-10 (2.6 GB) of cs.stanford.edu/~acoates/stl10; no formal licence, research use (images of ImageNet)"
FOLDER, SIDE = "stl10_binary", 96
BYTES = 3 * SIDE * SIDE
PARTS = {"unlabelled": "unlabeled", "train": "train", "test": "test"}
OFFICIAL = {"unlabelled": 100_000, "train": 5000, "test": 8000}
# of the gray, and of the colour images: to compare with; batches are in [0, 1], not normalised
MEAN, STD = {1: (0.4120,), 3: (0.4313, 0.4156, 0.3663)}, {1: (0.2570,), 3: (0.2683, 0.2610, 0.2687)}
BLOCK = 2048  # images converted at once


class Config(config.Config):
    """Options of STL-10."""

    items: Literal["unlabelled", "labelled"] = Field("unlabelled", description="which images to train on")
    channels: Literal[1, 3] = Field(3, description="1 = gray, with the luma of 8-bit image libraries")
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share of the training images held out (published: 0.2)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image is held out")
    per_class: int | None = Field(None, ge=1, description="labelled training images of each class, after the split")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its images are brought into the cache.

    Raises:
        DataError: the files are missing or damaged.
    """
    folder = _parts.find(root, FOLDER, ("stl10",)) / FOLDER
    labelled = cfg.items == "labelled"
    part = "test" if split == "test" else "train" if labelled else "unlabelled"
    entry = _packed(folder, part, cfg.channels)
    count = len(entry.arrays["x"])
    classes = np.asarray(entry.arrays["class"]) if labelled else np.zeros(count, int)
    rows = np.arange(count)
    if split != "test":
        val, train = _parts.parts(classes, [max(1, round(count * cfg.val_fraction))], cfg.split_seed)
        rows = val if split == "val" else train
    if split == "train" and labelled and cfg.per_class:
        rows = rows[_parts.some_per_class(classes[rows], cfg.per_class, cfg.split_seed)]
    rows = rows[_parts.limited(classes[rows], cfg.limit, cfg.split_seed)]
    note = "" if count == OFFICIAL[part] else f"{count:,} of {OFFICIAL[part]:,} {part} images present"
    spec = Spec(shape=(cfg.channels, SIDE, SIDE), labels={"class": 10} if labelled else {}, note=note)
    shown = entry if labelled else Entry({"x": entry.arrays["x"]}, entry.fingerprint)
    return _parts.source(shown, spec, rows)


def evaluated(cfg: Config) -> Config:
    """The labelled images."""
    return cfg.model_copy(update={"items": "labelled"})


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/stl10, unless it is already there."""
    try:
        _parts.find(root, FOLDER, ("stl10",))
    except DataError:
        from torchvision.datasets import STL10

        STL10(str(root / "stl10"), download=True)


def _packed(folder: Path, part: str, channels: int) -> Entry:
    """All images (n, C, 96, 96) of a part, and their classes where it has any."""
    files = [folder / f"{PARTS[part]}_{kind}.bin" for kind in ("X" if part == "unlabelled" else "Xy")]
    for file in files:
        if not file.exists():
            raise DataError(f"stl10: no '{file.name}' in {folder}; fetch the set again")
    size = files[0].stat().st_size
    if size == 0 or size % BYTES:
        raise DataError(f"stl10: {files[0]}: damaged ({size:,} bytes, no multiple of {BYTES:,}); fetch the set again")
    count = size // BYTES

    def write(place: Path) -> None:
        if len(files) > 1:
            np.save(place / "class.npy", _classes(files[1], count))
        raw = np.memmap(files[0], np.uint8, "r", shape=(count, 3, SIDE, SIDE))
        x = allocated(place / "x.npy", np.dtype(np.uint8), (count, channels, SIDE, SIDE), "use data.channels=1")
        for start in range(0, count, BLOCK):
            block = raw[start : start + BLOCK].transpose(0, 1, 3, 2)  # the file holds each colour column by column
            x[start : start + BLOCK] = block if channels == 3 else gray(block)
        x.flush()

    return stored(_parts.key(f"stl10-{part}", VERSION, files, channels), write)


def _classes(file: Path, count: int) -> np.ndarray:
    y = np.fromfile(file, np.uint8).astype(np.int64) - 1
    if len(y) != count or y.min() < 0 or y.max() > 9:
        raise DataError(f"stl10: {file}: should hold {count:,} classes 1 .. 10; fetch the set again")
    return y


def gray(x: np.ndarray) -> np.ndarray:
    """(n, 1, H, W) of (n, 3, H, W) uint8: the luma (ITU-R BT.601) in 16-bit weights, rounded, as image libraries do."""
    weights = np.array([19595, 38470, 7471], np.uint32)[:, None, None]
    return ((x.astype(np.uint32) * weights).sum(1, keepdims=True, dtype=np.uint32) + 2**15 >> 16).astype(np.uint8)

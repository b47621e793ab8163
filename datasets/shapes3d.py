"""3D Shapes: 480,000 renderings of 64x64 with all combinations of six factors (Burgess, Kim, 2018).

Layout: ROOT/3dshapes.h5 or the same in ROOT/3dshapes or ROOT/shapes3d, with `images` (n, 64, 64, 3) uint8 and `labels`
(n, 6). Labels: "class", the object's shape (4), and "floor_hue", "wall_hue", "object_hue" (10 each), "scale" (8) and
"orientation" (15), each the position of its value among those of the file. The split is seeded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from datasets import _parts, config
from datasets._download import downloaded
from datasets._progress import Progress
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import allocated, stored

VERSION = 1
DOWNLOAD = "3D Shapes (250 MB) of storage.googleapis.com/3d-shapes, Apache 2.0; 5.9 GB in the cache"
URL = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
FILE, NAMES = "3dshapes.h5", ("shapes3d", "3dshapes")
FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "class", "orientation")  # columns of the file
OFFICIAL = 480_000
BLOCK = 4096  # images read at once


class Config(config.Config):
    """Options of 3D Shapes."""

    first: int | None = Field(None, ge=10, description="only the first so many images (published subset: 800)")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the images in `test` (published: 0.2)")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the other images held out for validation")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image goes to which split")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use the images are unpacked into the cache.

    Raises:
        DataError: the file is missing or damaged, or the cache has no space.
    """
    file = _parts.find(root, FILE, NAMES) / FILE
    entry = stored(_parts.key("shapes3d", VERSION, [file], cfg.first), lambda folder: _unpack(file, folder, cfg.first))
    classes = np.asarray(entry.arrays["class"])
    count = len(classes)
    test = max(1, round(count * cfg.test_fraction))
    val = max(1, round((count - test) * cfg.val_fraction))
    rows = _parts.parts(classes, [count - test - val, val], cfg.split_seed, cfg.limit)
    labels = {name: int(np.asarray(entry.arrays[name]).max()) + 1 for name in FACTORS}
    note = "" if cfg.first or count == OFFICIAL else f"{count:,} of {OFFICIAL:,} images present"
    spec = Spec(shape=(3, *entry.arrays["x"].shape[2:]), labels=labels, note=note)
    return _parts.source(entry, spec, rows[SPLITS.index(split)])


def fetch(cfg: Config, root: Path) -> None:
    """Download the file to ROOT/shapes3d, unless it is already there."""
    try:
        _parts.find(root, FILE, NAMES)
    except DataError:
        downloaded(URL, root / "shapes3d" / FILE)


def _unpack(file: Path, folder: Path, first: int | None) -> None:
    import h5py

    try:
        with h5py.File(file) as content:
            images, values = content["images"], content["labels"]
            shape = images.shape
            if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or values.shape != (shape[0], len(FACTORS)):
                raise DataError(f"shapes3d: {file}: should hold images (n, 64, 64, 3) of bytes and labels (n, 6)")
            count = min(shape[0], first or shape[0])
            hint = "set data.first"
            x = allocated(folder / "x.npy", np.dtype(np.uint8), (count, 3, *shape[1:3]), hint)
            progress = Progress("shapes3d: unpacking image", count)
            for start in range(0, count, BLOCK):
                block = images[start : min(start + BLOCK, count)]
                x[start : start + len(block)] = block.transpose(0, 3, 1, 2)
                progress.add(len(block))
            every = values[:]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"shapes3d: {file}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    x.flush()
    for name, column in zip(FACTORS, every.T, strict=True):
        np.save(folder / f"{name}.npy", np.unique(column, return_inverse=True)[1][:count].astype(np.int64))

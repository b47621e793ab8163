"""(j) An epoch of pages of fragments from the shared cache, against reading each page by itself out of HDF5."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from benches.epochs import epoch_by_item, epoch_shared
from benches.rows import Row
from datasets import sprites

BATCH = 32  # of V3
PROMISE = ">= 5"


class Reading:
    """What is usual: the file is open, and every page is read, scaled and stacked when its turn comes."""

    def __init__(self, file: h5py.File) -> None:
        self.file, self.names = file, sorted(file, key=int)

    def batch(self, index: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pages (B, 9, 3, 64, 64) and the contents of their fragments (B, 9)."""
        found = [self.file[self.names[item]] for item in index.tolist()]
        x = torch.stack([torch.from_numpy(page["seq"][:]).float().div_(255) for page in found])
        return x, torch.stack([torch.from_numpy(page["c"][:]).long() for page in found])


@contextmanager
def written(pages: int) -> Iterator[Path]:
    """A set of so many pages of noise in the layout of Sprites, and an empty cache beside it."""
    cache, rng = os.environ.get("SWEEP_CACHE"), np.random.default_rng(0)
    numbers = [number for number in range(10_000) if all(int(digit) < sprites.KINDS for digit in f"{number:04d}"[:3])]
    with tempfile.TemporaryDirectory() as name:
        os.environ["SWEEP_CACHE"] = str(Path(name) / "cache")
        folder = Path(name) / sprites.FOLDER
        folder.mkdir()
        with h5py.File(folder / "train.hdf5", "w") as file:
            for number in numbers[:pages]:
                page = file.create_group(str(number))
                page["seq"] = rng.integers(256, size=(sprites.POSES, *sprites.SHAPE), dtype=np.uint8)
                page["c"] = rng.permutation(sprites.POSES)
                page["s"] = np.full(sprites.POSES, number)
        try:
            yield Path(name)
        finally:
            os.environ.pop("SWEEP_CACHE")
            if cache is not None:
                os.environ["SWEEP_CACHE"] = cache


def compare(root: Path, epochs: int = 4) -> dict[str, float]:
    """CPU seconds (one thread) of an epoch's batches, "read" and "shared", and their "ratio". No colour is changed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = sprites.open(sprites.Config(source="files", jitter=(0, 0, 0, 0)), root, "train")
    with h5py.File(root / sprites.FOLDER / "train.hdf5") as file:
        read = min(epoch_by_item(Reading(file), len(source), BATCH) for _ in range(2))
    shared = min(epoch_shared(source, BATCH) for _ in range(epochs))
    torch.set_num_threads(threads)
    return {"read": read, "shared": shared, "ratio": read / shared, "pages": len(source)}


def measure() -> list[Row]:
    """As many pages as the published training split has."""
    with written(pages=1728) as root:
        found = compare(root)
    beside = (
        f"{found['pages']:.0f} pages of 9 x 64 px in {found['shared'] * 1000:.0f} ms against "
        f"{found['read'] * 1000:,.0f}, CPU time"
    )
    return [Row("j, pages of fragments", found["ratio"], promise=PROMISE, beside=beside)]

"""MNIST: 70,000 gray images of handwritten digits, 28x28 (LeCun, Cortes).

Layout: ROOT/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, also with .gz, or the same in ROOT/mnist. Label
"class" (10). The validation split is held out of training.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from datasets import _parts, config
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Arrays, cached
from datasets.transforms.image import resize_as_8_bit

VERSION = 1
DOWNLOAD = "MNIST (11 MB); CC BY-SA 3.0 (LeCun, Cortes)"
RAW = "MNIST/raw"
OFFICIAL = {"train": 60_000, "t10k": 10_000}


class Config(config.Config):
    """Options of MNIST."""

    size: int = Field(28, ge=8, le=256, description="pixels of a side; resized bilinearly from 28")
    channels: Literal[1, 3] = Field(1, description="3 = the gray image three times, for transfer from colour data")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training images held out for validation")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image is held out")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split.

    Raises:
        DataError: the files are missing or damaged.
    """
    part = "t10k" if split == "test" else "train"
    folder = _parts.find(root, RAW, ("mnist",)) / RAW
    files = [_file(folder, f"{part}-images-idx3-ubyte"), _file(folder, f"{part}-labels-idx1-ubyte")]
    entry = cached(_parts.key(f"mnist-{part}", VERSION, files, cfg.size), lambda: _build(files, cfg.size))
    labels = np.asarray(entry.arrays["class"])
    held_out = 0 if part == "t10k" else max(1, round(len(labels) * cfg.val_fraction))
    val, rest = _parts.parts(labels, [held_out], cfg.split_seed, cfg.limit)
    name = "test" if part == "t10k" else "training"
    note = "" if len(labels) == OFFICIAL[part] else f"{len(labels):,} of {OFFICIAL[part]:,} {name} images present"
    spec = Spec(shape=(cfg.channels, cfg.size, cfg.size), labels={"class": 10}, note=note)
    return _parts.source(entry, spec, val if split == "val" else rest)


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/mnist, unless it is already there."""
    try:
        _parts.find(root, RAW, ("mnist",))
    except DataError:
        from torchvision.datasets import MNIST

        MNIST(str(root / "mnist"), download=True)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(f"mnist: no '{name}' in {folder}; fetch the set again")


def _build(files: list[Path], size: int) -> Arrays:
    images, labels = (_read_idx(file) for file in files)
    if images.ndim != 3 or len(images) != len(labels):
        raise DataError(f"mnist: {files[0].parent}: images and labels differ in number; fetch the set again")
    return {"x": _resized(images[:, None], size), "class": labels.astype(np.int64)}


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[-1] == size:
        return images
    blocks = torch.from_numpy(images).split(4096)  # as float a block is 13 MB, all of them 190
    resized = [resize_as_8_bit(block.float() / 255, (size, size)) for block in blocks]
    return torch.cat([(block * 255).round().to(torch.uint8) for block in resized]).numpy()


def _read_idx(file: Path) -> np.ndarray:
    """An array of bytes in IDX format: 0, 0, 8 (unsigned byte), number of axes, each length in 4 bytes, content."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        if content[:3] != b"\x00\x00\x08":
            raise ValueError("no IDX file of bytes")
        axes = content[3]
        shape = np.frombuffer(content, ">u4", axes, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int)).copy()
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"mnist: {file}: damaged ({error}); fetch the set again") from None

"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32 (Krizhevsky 2009).

Layout: ROOT/cifar-10-batches-py/{data_batch_1..5,test_batch} or ROOT/cifar-100-python/{train,test}, or the same in
ROOT/cifar, ROOT/cifar10 or ROOT/cifar100. Files with fewer images than the official ones are used as they are, and
`Spec.note` says so. Labels: "class", for CIFAR-100 also "coarse" (20). The validation split is held out of training.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from datasets import _parts, config
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Arrays, cached

VERSION = 1
DOWNLOAD = "CIFAR-10 (170 MB) or CIFAR-100 (169 MB) of cs.toronto.edu; no formal licence, research use is customary"
FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "cifar100": {"train": ("train",), "test": ("test",)},
}
LABELS = {"cifar10": {"class": 10}, "cifar100": {"class": 100, "coarse": 20}}
KEYS = {"cifar10": {"class": "labels"}, "cifar100": {"class": "fine_labels", "coarse": "coarse_labels"}}
OFFICIAL = {"train": 50_000, "test": 10_000}
# what a torn or foreign pickle may raise
BROKEN = (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ImportError)


class Config(config.Config):
    """Options of CIFAR."""

    variant: Literal["cifar10", "cifar100"] = Field("cifar10", description="which of the two sets")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training images held out for validation")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image is held out")
    per_class: int | None = Field(None, ge=1, description="the first so many images of each class, before the split")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split.

    Raises:
        DataError: the files are missing or damaged.
    """
    part = "test" if split == "test" else "train"
    folder = _find(cfg, root) / FOLDER[cfg.variant]
    files = [folder / name for name in FILES[cfg.variant][part] if (folder / name).exists()]
    if not files:
        raise DataError(f"cifar: {folder} holds none of {', '.join(FILES[cfg.variant][part])}; fetch the set again")
    entry = cached(_parts.key(f"{cfg.variant}-{part}", VERSION, files), lambda: _read(files, KEYS[cfg.variant]))
    labels = np.asarray(entry.arrays["class"])
    kept = np.arange(len(labels)) if cfg.per_class is None else _parts.first_per_class(labels, cfg.per_class)
    held_out = 0 if part == "test" else max(1, round(len(kept) * cfg.val_fraction))
    val, rest = _parts.parts(labels[kept], [held_out], cfg.split_seed, cfg.limit)
    full, there = OFFICIAL[part], len(labels)
    name = "test" if part == "test" else "training"
    note = "" if there == full else f"{there:,} of {full:,} {name} images present"
    spec = Spec(shape=(3, 32, 32), labels=LABELS[cfg.variant], note=note)
    return _parts.source(entry, spec, kept[val if split == "val" else rest])


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/cifar10 or ROOT/cifar100, unless it is already there."""
    try:
        _find(cfg, root)
    except DataError:
        from torchvision.datasets import CIFAR10, CIFAR100

        kind = CIFAR10 if cfg.variant == "cifar10" else CIFAR100
        kind(str(root / cfg.variant), download=True)


def _find(cfg: Config, root: Path | None) -> Path:
    return _parts.find(root, FOLDER[cfg.variant], ("cifar", cfg.variant))


def _read(files: list[Path], keys: dict[str, str]) -> Arrays:
    batches = [_unpickle(file) for file in files]
    try:
        pixels = np.concatenate([np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32) for batch in batches])
        labels = {name: np.concatenate([np.asarray(b[key], np.int64) for b in batches]) for name, key in keys.items()}
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"cifar: {files[0].parent}: not in CIFAR's layout ({error}); fetch the set again") from None
    if any(len(values) != len(pixels) for values in labels.values()):
        raise DataError(f"cifar: {files[0].parent}: images and labels differ in number; fetch the set again")
    return {"x": pixels, **labels}


class _Arrays(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and nothing else: a batch file from elsewhere cannot run code."""

    ALLOWED = frozenset({"_reconstruct", "_frombuffer", "ndarray", "dtype", "encode"})

    def find_class(self, module: str, name: str) -> Any:
        if name in self.ALLOWED and module.split(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"unexpected {module}.{name}")


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content: dict[str, Any] = _Arrays(stream, encoding="latin1").load()
    except BROKEN as error:
        raise DataError(f"cifar: {file}: damaged ({error}); fetch the set again") from None
    return content

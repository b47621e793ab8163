"""Animals with Attributes 2: 37,322 photographs of 50 animals (Xian, Lampert, Schiele, Akata, TPAMI 2018).

Layout: Animals_with_Attributes2/{classes.txt, JPEGImages/CLASS/*.jpg} in ROOT, ROOT/awa2 or, as published for Smooth
InfoMax, in ROOT/awa2-dataset/AwA2-data. Label "class" (50), in the order of classes.txt (number, tab, name). The split
is seeded, 70, 15 and 15 %. Photographs are shrunk to `size` pixels at the shorter side and cut to the central square,
once, into the cache; `views: {tx: [cro, fli], size: 64, count: 1}` cuts squares out of these.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from datasets import _parts, config
from datasets._download import unpacked
from datasets._progress import Progress, in_threads
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import allocated, stored

VERSION = 1
DOWNLOAD = "Animals with Attributes 2 (13 GB) of cvml.ista.ac.at/AwA2; images under several free licences"
URL = "https://cvml.ista.ac.at/AwA2/AwA2-data.zip"
FOLDER = "Animals_with_Attributes2"
OFFICIAL = 37_322


class Config(config.Config):
    """Options of Animals with Attributes 2."""

    size: int = Field(96, ge=16, le=512, description="pixels of a side, shrunk bilinearly and cut when packed")
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the images in `val` (published: 0.15)")
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the images in `test` (published: 0.15)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which image goes to which split")
    per_class: int | None = Field(None, ge=1, description="training images of each class, after the split")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split; no other is decoded")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its photographs are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _parts.find(root, f"{FOLDER}/classes.txt", ("awa2", "awa2-dataset/AwA2-data")) / FOLDER
    names = _classes(folder / "classes.txt")
    found = [(label, path) for label, name in enumerate(names) for path in _photographs(folder / "JPEGImages" / name)]
    if not found:
        raise DataError(f"awa2: no JPEGImages/{names[0]}/*.jpg or of another class in {folder}; fetch the set again")
    labels = np.array([label for label, _ in found])
    sizes = [round(len(found) * share) for share in (1 - cfg.val_fraction - cfg.test_fraction, cfg.val_fraction)]
    rows = _parts.parts(labels, sizes, cfg.split_seed, cfg.limit)
    chosen = rows[SPLITS.index(split)]
    if split == "train" and cfg.per_class:
        chosen = chosen[_parts.some_per_class(labels[chosen], cfg.per_class, cfg.split_seed)]
    packed = np.sort(chosen) if cfg.limit else np.arange(len(found))
    files = [found[row][1] for row in packed]
    times = [(file.parent.name, file.name, file.parent.stat().st_mtime_ns) for file in files]
    key = _parts.key("awa2", VERSION, [], cfg.size, str(folder.resolve()), times, labels[packed].tolist())
    entry = stored(key, lambda place: _pack(place, files, labels[packed], cfg.size))
    note = "" if len(found) == OFFICIAL else f"{len(found):,} of {OFFICIAL:,} images present"
    spec = Spec(shape=(3, cfg.size, cfg.size), labels={"class": len(names)}, note=note)
    return _parts.source(entry, spec, np.searchsorted(packed, chosen))


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/awa2, unless it is already there."""
    try:
        _parts.find(root, f"{FOLDER}/classes.txt", ("awa2", "awa2-dataset/AwA2-data"))
    except DataError:
        unpacked(URL, root / "awa2" / FOLDER, strip=1)


def _classes(file: Path) -> list[str]:
    """Names in the order of their numbers."""
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not rows or any(len(row) != 2 or not row[0].isdigit() or "/" in row[1] or ".." in row[1] for row in rows):
        raise DataError(f"awa2: {file}: should hold a number and a class in each line")
    return [name for _, name in sorted(rows, key=lambda row: int(row[0]))]


def _photographs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def _pack(place: Path, files: list[Path], labels: np.ndarray, size: int) -> None:
    shape = (len(files), 3, size, size)
    x = allocated(place / "x.npy", np.dtype(np.uint8), shape, "lower data.size or data.limit")
    np.save(place / "class.npy", labels)
    progress = Progress("awa2: packing image", len(files))

    def one(row: int) -> None:
        x[row] = shrunk(files[row], size)

    in_threads(one, len(files), progress)
    x.flush()


def shrunk(path: Path, size: int) -> np.ndarray:
    """A photograph as (3, size, size) uint8: the shorter side brought to `size`, then the central square.

    Raises:
        DataError: missing or damaged.
    """
    try:
        with Image.open(path) as file:
            file.draft("RGB", (2 * size, 2 * size))  # JPEGs are decoded smaller where that is enough
            image: Image.Image = file.convert("RGB")
            scale = size / min(image.size)
            width, height = (max(size, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - size) // 2, (height - size) // 2
            return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"awa2: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None

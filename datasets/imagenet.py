"""ImageNet: 1.28 million photographs of 1000 classes (Russakovsky et al., IJCV 2015), or any folders of photographs.

Layout: ROOT or ROOT/imagenet holds JPEG/train/WNID/*.JPEG, JPEG/val/*.JPEG and metadata/LOC_val_solution.csv (a header,
then lines `NAME,WNID x y w h`); or train/CLASS/*.jpg and val/CLASS/*.jpg, in any number, also as .jpeg or .png. Label
"class", in the order of the folders' names.

The official validation images are `test`, in the order of their table; a stratified share of the training images is
`val`, as scikit-learn splits the sorted files, and `ratio` leaves as many of each split as NumPy chooses. Published for
the evaluations of synesis (Plachouras et al., IJCNN 2025): `data: {ratio: 0.1}`, 115,305, 12,811 and 5,000 images.
An image's shorter side is brought to `resize` pixels and the central square of `size` cut out; `views.normalize:
imagenet` then gives what published encoders take.
"""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from datasets import _parts, config
from datasets._decoded import Decoded
from datasets._progress import Progress, in_threads
from datasets.base import Batch, DataError, Source, Spec, Split
from datasets.memory import allocated, stored

VERSION = 1
DOWNLOAD = "nothing is fetched: ImageNet (150 GB) needs a registration at image-net.org; non-commercial research"
NAMES = ("imagenet", "ImageNet")
TRAIN, VAL, TABLE = "JPEG/train", "JPEG/val", "metadata/LOC_val_solution.csv"
KINDS = (".jpeg", ".jpg", ".png")
OFFICIAL = {"train": 1_281_167, "val": 50_000}


class Config(config.Config):
    """Options of ImageNet."""

    resize: int = Field(256, ge=16, le=2048, description="pixels of the shorter side, bilinear with antialiasing")
    size: int = Field(224, ge=16, le=2048, description="pixels of the central square that is cut out")
    packed: bool = Field(
        True, description="decode all images once, into the cache; false = for every batch, by threads, one batch ahead"
    )
    ratio: float = Field(1.0, gt=0, le=1, description="share of each split that is taken (published: 0.1)")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training images in `val` (published: 0.1)")
    split_seed: int = Field(42, ge=0, lt=2**31, description="of the split and of what is taken (published: 42)")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split; no other is decoded")

    @model_validator(mode="after")
    def _inside(self) -> Config:
        if self.size > self.resize:
            raise ValueError(f"size {self.size} is above resize {self.resize}; a square is cut out of what is resized")
        return self


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its photographs are decoded into the cache, unless `packed` is false.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder, official = _find(root)
    train = folder / (TRAIN if official else "train")
    classes = _classes(train)
    listed = "val" if split == "test" else "train"
    if split != "test":
        files, labels = _of_folders(train, classes)
    elif official:
        files, labels = _of_table(folder / VAL, folder / TABLE, classes)
    else:
        files, labels = _of_folders(folder / "val", classes)
    if not files:
        raise DataError(f"imagenet: no photographs in the folders of {train.with_name(listed)}; put them there")
    rows = np.arange(len(files)) if split == "test" else _split(labels, cfg.val_fraction, cfg.split_seed)[split]
    rows = rows[_subset(len(rows), cfg.ratio, cfg.split_seed)]
    rows = rows[_parts.limited(labels[rows], cfg.limit, cfg.split_seed)]
    if len(rows) == 0:
        raise DataError(f"imagenet: {train}: data.ratio {cfg.ratio:g} leaves no image of the split '{split}'")
    note = ""
    if official and len(files) != OFFICIAL[listed]:
        note = f"{len(files):,} of {OFFICIAL[listed]:,} images of {listed} present"
    elif not official and split == "test" and (others := sorted(set(_classes(folder / "val")) - set(classes))):
        note = f"{len(others):,} folders of val are no class of train and are left out ('{others[0]}')"
    spec = Spec(shape=(3, cfg.size, cfg.size), labels={"class": len(classes)}, note=note)
    return _source(folder, [files[row] for row in rows], labels[rows], spec, cfg)


def prepared(image: Image.Image, resize: int, size: int) -> np.ndarray:
    """(3, size, size) uint8: the shorter side brought to `resize` in 8 bit, then the central square."""
    image = image.convert("RGB")
    shorter = min(image.size)
    width, height = (resize * side // shorter for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


class Photographs:
    """Items whose images are decoded for every batch."""

    def __init__(self, images: Decoded, labels: np.ndarray, spec: Spec) -> None:
        self.spec = spec
        self._images, self._labels = images, torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def prefetch(self, index: Tensor, rng: torch.Generator) -> None:
        """Begin to decode what `fetch` will be asked for next."""
        self._images.prefetch(index.numpy())

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,) as float32; `rng` is not used."""
        x = torch.from_numpy(self._images[index.numpy()]).float().mul_(1 / 255)
        return Batch([x], index, labels={"class": self._labels[index]})


# -- files ----------------------------------------------------------------------------------------------------------


def _find(root: Path | None) -> tuple[Path, bool]:
    """The folder, and whether it is laid out as ImageNet is published."""
    try:
        return _parts.find(root, TRAIN, NAMES), True
    except DataError as error:
        try:
            return _parts.find(root, "train", NAMES), False
        except DataError:
            reason = str(error).split("; ")[0]
    raise DataError(f"{reason}; give the folder that holds JPEG/train/WNID, or train/CLASS and val/CLASS")


def _classes(folder: Path) -> list[str]:
    """The names of its folders, sorted.

    Raises:
        DataError: it is no folder itself.
    """
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"imagenet: {folder}: {error.strerror}; it should hold a folder for each class") from None


def _of_folders(folder: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """Photographs of the classes' folders, sorted, and their numbers."""
    found: list[list[Path]] = []
    for name in classes:
        try:
            names = sorted(entry.name for entry in os.scandir(folder / name))
        except OSError as error:
            raise DataError(f"imagenet: {folder / name}: {error.strerror}; each class needs a folder") from None
        found.append([folder / name / one for one in names if one.lower().endswith(KINDS)])
    return [path for paths in found for path in paths], np.repeat(np.arange(len(found)), [len(p) for p in found])


def _of_table(folder: Path, table: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """Official validation images in the order of their table, and their classes."""
    number = {name: place for place, name in enumerate(classes)}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [(row[0], row[1].split()[0]) for row in list(csv.reader(file))[1:] if row]
        labels = np.array([number[name] for _, name in rows], np.int64)
    except OSError as error:
        raise DataError(f"imagenet: {table}: {error.strerror}; it names the classes of the validation images") from None
    except (IndexError, KeyError, ValueError, csv.Error) as error:
        reason = f"{error} is no folder of {TRAIN}" if isinstance(error, KeyError) else "should be lines of NAME,WNID"
        raise DataError(f"imagenet: {table}: {reason}") from None
    return [folder / f"{name}.JPEG" for name, _ in rows], labels


def _split(labels: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """Positions of the training images in `train` and `val`, in the order in which they are drawn."""
    from sklearn.model_selection import train_test_split

    try:
        train, val = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    except ValueError as error:  # too few
        reason = " ".join(str(error).split())
        raise DataError(f"imagenet: the training images cannot be split by class ({reason})") from None
    return {"train": train, "val": val}


def _subset(count: int, ratio: float, seed: int) -> np.ndarray:
    """Which of `count` items are taken."""
    if ratio == 1:
        return np.arange(count)
    return np.random.RandomState(seed).choice(count, int(ratio * count), replace=False)


# -- images ---------------------------------------------------------------------------------------------------------


def _source(folder: Path, files: list[Path], labels: np.ndarray, spec: Spec, cfg: Config) -> Source:
    places = [str(file.relative_to(folder)) for file in files]
    times = {str(one): one.stat().st_mtime_ns for one in {file.parent for file in files}}
    state = (str(folder.resolve()), cfg.resize, cfg.size, places, labels.tolist(), sorted(times.items()))
    if cfg.packed:
        key = _parts.key(f"imagenet-{cfg.size}", VERSION, [], *state)
        return _parts.source(stored(key, lambda place: _pack(place, files, labels, cfg)), spec, np.arange(len(files)))
    images = Decoded("imagenet", lambda row: _read(files[row], cfg), cfg.size)
    digest = hashlib.sha256(repr((VERSION, state[1:-1])).encode()).hexdigest()[:16]
    return Photographs(images, labels, replace(spec, fingerprint=digest))


def _pack(place: Path, files: list[Path], labels: np.ndarray, cfg: Config) -> None:
    hint = "lower data.ratio, data.limit or data.size, or set data.packed to false"
    x = allocated(place / "x.npy", np.dtype(np.uint8), (len(files), 3, cfg.size, cfg.size), hint)
    np.save(place / "class.npy", labels)

    def one(row: int) -> None:
        x[row] = _read(files[row], cfg)

    in_threads(one, len(files), Progress("imagenet: packing image", len(files)))
    x.flush()


def _read(path: Path, cfg: Config) -> np.ndarray:
    """A photograph as (3, size, size) uint8.

    Raises:
        DataError: missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return prepared(image, cfg.resize, cfg.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"imagenet: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None

"""Rendered views of objects in the layout of 3DIEBench: the split files, the packed cache, and the source over it.

    ROOT/SYNSET/OBJECT/image_V.jpg, latent_V.npy       V = 0, 1, ...; latents: see `datasets.rotations`
    SPLITS/{train,val}_images.npy                      text, one "/SYNSET/OBJECT/" an object
    SPLITS/{train,val}_labels.npy                      int64, the class of each

Decoding is done once: all views of a list of objects become one memory-mapped array of bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets import rotations
from datasets._draws import below, salt_of
from datasets._progress import Progress
from datasets.base import Batch, DataError, Spec
from datasets.memory import Entry, allocated, stored

VERSION = 1
NAMED = re.compile(r"(image|latent)_(\d+)\.(?:jpe?g|npy)")
LATENTS = 7
Items = Literal["objects", "images"]


@dataclass(frozen=True)
class Listing:
    """One part of a set as its split files list it: paths of objects below the root, and their classes (n,)."""

    objects: list[str]
    labels: np.ndarray


def read_listing(folder: Path, part: Literal["train", "val"]) -> Listing:
    """The objects of a part, in the order of its split files.

    Raises:
        DataError: a split file is missing or holds something else.
    """
    images, labels = (_load(folder / f"{part}_{what}.npy") for what in ("images", "labels"))
    if images.ndim != 1 or images.dtype.kind != "U" or labels.shape != images.shape or labels.dtype.kind not in "iu":
        raise DataError(
            f"bench3die: {folder}/{part}_images.npy and {part}_labels.npy: should be one list of text and one of whole "
            f"numbers, equally long; they are {images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
        )
    if len(labels) == 0 or labels.min() < 0:
        raise DataError(f"bench3die: {folder}/{part}_labels.npy: is empty, or has a class below 0")
    objects = [str(PurePosixPath(text.strip("/"))) for text in images.tolist()]
    for text in objects:
        if ".." in PurePosixPath(text).parts or text in ("", "."):
            raise DataError(f"bench3die: {folder}/{part}_images.npy: '{text}' is no SYNSET/OBJECT")
    return Listing(objects, labels.astype(np.int64))


def _load(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path)
    except FileNotFoundError:
        raise DataError(f"bench3die: no '{path.name}' in {path.parent}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"bench3die: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    return array


# -- the packed cache -----------------------------------------------------------------------------------------------


def packed(root: Path, listing: Listing, size: int) -> Entry:
    """All views of the listed objects: "x" (n, 3, size, size) uint8, "latents" (n, k) float64, "class" (objects,) and
    "offsets" (objects + 1,), where the views of each object begin.

    Decoded on the first call, by as many threads as there are cores, while other processes wait; later calls open a
    file. The entry belongs to the list, the size, and the times at which the objects' folders changed: a file that is
    replaced in place, without renaming, is not noticed.

    Raises:
        DataError: a file is missing or damaged, or there is no space for the entry.
    """
    state = (VERSION, str(root.resolve()), size, listing.objects, listing.labels.tolist(), _times(root, listing))
    name = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    return stored(f"bench3die-{size}-{name}", lambda folder: _pack(folder, root, listing, size))


def _times(root: Path, listing: Listing) -> list[int]:
    try:
        return [(root / name).stat().st_mtime_ns for name in listing.objects]
    except OSError as error:
        raise DataError(f"bench3die: {error.filename}: {error.strerror}; the split files list it") from None


def _pack(folder: Path, root: Path, listing: Listing, size: int) -> None:
    objects = [root / name for name in listing.objects]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            views = list(pool.map(views_of, objects, chunksize=64))
            offsets = np.concatenate([[0], np.cumsum([len(numbers) for numbers in views])])
            width = len(read_latents(objects[0] / f"latent_{views[0][0]}.npy"))
            hint = "lower data.size or data.limit"
            x = allocated(folder / "x.npy", np.dtype(np.uint8), (int(offsets[-1]), 3, size, size), hint)
            latents = allocated(folder / "latents.npy", np.dtype(np.float64), (int(offsets[-1]), width), hint)
            np.save(folder / "offsets.npy", offsets)
            np.save(folder / "class.npy", listing.labels)
            progress = Progress("bench3die: packing object", len(objects))

            def read(number: int) -> None:
                for row, view in enumerate(views[number], int(offsets[number])):
                    x[row] = read_image(objects[number] / f"image_{view}.jpg", size)
                    latents[row] = read_latents(objects[number] / f"latent_{view}.npy", width)

            for _ in pool.map(read, range(len(objects))):
                progress.add()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    x.flush()
    latents.flush()


def views_of(folder: Path) -> list[int]:
    """The numbers of an object's views, in order, whatever else lies in its folder.

    Raises:
        DataError: there is no folder or no view, or a view lacks its image or its latents.
    """
    found: dict[str, set[int]] = {"image": set(), "latent": set()}
    try:
        names = os.listdir(folder)  # noqa: PTH208 - of 5 million files only the names are wanted
    except OSError as error:
        raise DataError(f"bench3die: {folder}: {error.strerror}; the split files list it") from None
    for name in names:
        if match := NAMED.fullmatch(name):
            found[match[1]].add(int(match[2]))
    for here, there in (("image", "latent"), ("latent", "image")):
        if alone := found[here] - found[there]:
            raise DataError(f"bench3die: {folder}: view {min(alone)} has no {there}; render or fetch it again")
    if not found["image"]:
        raise DataError(f"bench3die: {folder}: holds no image_0.jpg with latent_0.npy")
    return sorted(found["image"])


def read_image(path: Path, size: int) -> np.ndarray:
    """An image as (3, size, size) uint8, resized bilinearly with antialiasing as 8-bit image libraries do.

    Raises:
        DataError: missing or damaged.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"bench3die: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None


def read_latents(path: Path, width: int | None = None) -> np.ndarray:
    """The latents of a view, (k,) float64, k >= 7.

    Raises:
        DataError: missing, damaged, or not as many as `width`.
    """
    latents = _load(path)
    if latents.ndim != 1 or len(latents) < LATENTS or len(latents) != (width or len(latents)):
        raise DataError(f"bench3die: {path}: holds {latents.shape} numbers, it should be ({width or LATENTS},)")
    return latents.astype(np.float64)


# -- the source -----------------------------------------------------------------------------------------------------


class Renders:
    """Objects with two of their views, or single images, of a packed entry.

    Pairs are drawn from a number that the generator gives and from each item's own position (see `datasets._draws`):
    generators in the same state give an item the same pair in any batch. `fit` makes the generator of a batch from
    (seed, epoch, step): a resumed run sees the pairs of the uninterrupted one, and each epoch has new ones, the same on
    any number of ranks.
    """

    def __init__(self, entry: Entry, rows: np.ndarray, spec: Spec, items: Items) -> None:
        """`rows`: positions of this split's objects in the entry. `spec`: of the items.

        Raises:
            DataError: pairs are asked for and an object has one view.
        """
        self.spec, self.items = spec, items
        self._x, offsets = entry.arrays["x"], np.asarray(entry.arrays["offsets"])
        self._begin, self._count = offsets[rows], offsets[rows + 1] - offsets[rows]
        self._first = np.concatenate([[0], np.cumsum(self._count)])  # of each object's images among this split's
        self._latents = np.asarray(entry.arrays["latents"])
        self._class = np.asarray(entry.arrays["class"])[rows]
        if items == "objects" and self._count.min() < 2:
            raise DataError("bench3die: an object has one view, pairs need two; use data.items=images")

    def __len__(self) -> int:
        return len(self._class) if self.items == "objects" else int(self._first[-1])

    @property
    def owner(self) -> Tensor:
        """(n,) int64: the object of every image of the split, in order; images of an object follow each other."""
        return torch.from_numpy(np.repeat(np.arange(len(self._class)), self._count))

    @property
    def latents(self) -> Tensor:
        """(n, k) float64: latents of every image of the split, objects in order and views in order."""
        rows = np.repeat(self._begin - self._first[:-1], self._count) + np.arange(self._first[-1])
        return torch.from_numpy(self._latents[rows])

    def statistics(self, count: int = 4096) -> tuple[Tensor, Tensor]:
        """Mean (3,) and standard deviation (3,) over the pixels of at most `count` images, in units of [0, 1]."""
        total = int(self._first[-1])
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
        owner = np.searchsorted(self._first, chosen, "right") - 1
        pixels = self._x[self._begin[owner] + chosen - self._first[owner]].astype(np.float64) / 255
        return torch.from_numpy(pixels.mean((0, 2, 3))), torch.from_numpy(pixels.std((0, 2, 3)))

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,): images in [0, 1] with their latents and class; of a pair also what relates it."""
        at = index.numpy()
        if self.items == "images":
            owner = np.searchsorted(self._first, at, "right") - 1
            rows = [self._begin[owner] + at - self._first[owner]]
        else:
            owner = at
            rows = [self._begin[at] + view for view in drawn_pairs(salt_of(rng), at, self._count[at])]
        views = [torch.from_numpy(self._x[row]).float().mul_(1 / 255) for row in rows]
        latents = torch.stack([torch.from_numpy(self._latents[row]).float() for row in rows])
        return Batch(
            views,
            index,
            params={"latents": latents},
            labels={
                "class": torch.from_numpy(self._class[owner]),
                **({"object": torch.from_numpy(owner)} if self.items == "images" else {}),
            },
            relations=rotations.relations(*latents) if len(rows) == 2 else {},
        )


def drawn_pairs(salt: int, items: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two distinct views of each item, uniform over its ordered pairs, from (salt, item) alone.

    Args:
        items: (B,) positions. counts: (B,) number of views of each.
    """
    first = below(salt, items, counts)
    step = 1 + below(salt, items, counts - 1, draw=1)
    return first, (first + step) % counts

"""Rendered views of objects in the layout of 3DIEBench: the split files, the cache, and the source over it.

    ROOT/SYNSET/OBJECT/image_V.jpg, latent_V.npy       V = 0, 1, ...; latents: see `datasets.rotations`
    SPLITS/{train,val}_images.npy                      text, one "/SYNSET/OBJECT/" an object
    SPLITS/{train,val}_labels.npy                      int64, the class of each

Packed, all views of a list of objects are decoded once and become one memory-mapped array of bytes. Else the cache
holds their latents alone, and threads decode the images of a batch when it is fetched, or before (`prefetch`).
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets import rotations
from datasets._decoded import Decoded
from datasets._draws import below, salt_of
from datasets._progress import Progress, in_threads
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
    if len(set(objects)) < len(objects):  # its two places may go to two splits
        twice = Counter(objects).most_common(1)[0][0]
        raise DataError(f"bench3die: {folder}/{part}_images.npy: lists '{twice}' twice; list each object once")
    return Listing(objects, labels.astype(np.int64))


def read_listings(folder: Path) -> dict[str, Listing]:
    """Both parts.

    Raises:
        DataError: as above, or an object is in both.
    """
    train, val = (read_listing(folder, part) for part in ("train", "val"))
    if shared := sorted({*train.objects} & {*val.objects}):
        raise DataError(
            f"bench3die: {folder}: train_images.npy and val_images.npy both list '{shared[0]}'"
            f"{f' and {len(shared) - 1:,} more' * (len(shared) > 1)}; what tests may not train, list each object in one"
        )
    return {"train": train, "val": val}


# Python 3.11 counts the depth of what `ast` parses, as a header of NumPy's is, for all threads together, and raises a
# SystemError where the counts differ (https://github.com/python/cpython/issues/106905)
_PARSING = threading.Lock()


def _load(path: Path) -> np.ndarray:
    try:
        with _PARSING:
            array: np.ndarray = np.load(path)
    except FileNotFoundError:
        raise DataError(f"bench3die: no '{path.name}' in {path.parent}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"bench3die: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    return array


# -- the cache ------------------------------------------------------------------------------------------------------


def packed(root: Path, listing: Listing, size: int) -> Entry:
    """All views of the listed objects: "x" (n, 3, size, size) uint8, "latents" (n, k) float64, "class" (objects,) and
    "offsets" (objects + 1,), where the views of each object begin.

    Decoded on the first call, by as many threads as there are cores, while other processes wait; later calls open a
    file. The entry belongs to the list, the size, and the times at which the objects' folders changed: a file that is
    replaced in place, without renaming, is not noticed.

    Raises:
        DataError: a file is missing or damaged, or there is no space for the entry.
    """
    return stored(_key(root, listing, size), lambda folder: _pack(folder, root, listing, size))


def indexed(root: Path, listing: Listing) -> Entry:
    """The same without images: in place of "x" there are "view" and "bytes" (n,), their numbers and their files' sizes.

    Raises:
        DataError: a file of latents is missing or damaged, or there is no space for the entry.
    """
    return stored(_key(root, listing, None), lambda folder: _pack(folder, root, listing, None))


def _key(root: Path, listing: Listing, size: int | None) -> str:
    state = (VERSION, str(root.resolve()), size, listing.objects, listing.labels.tolist(), _times(root, listing))
    name = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    return f"bench3die-{size or 'latents'}-{name}"


def _times(root: Path, listing: Listing) -> list[int]:
    try:
        return [(root / name).stat().st_mtime_ns for name in listing.objects]
    except OSError as error:
        raise DataError(f"bench3die: {error.filename}: {error.strerror}; the split files list it") from None


def _pack(folder: Path, root: Path, listing: Listing, size: int | None) -> None:
    objects = [root / name for name in listing.objects]
    found: list[list[int]] = [[]] * len(objects)

    def look(number: int) -> None:
        found[number] = views_of(objects[number])

    in_threads(look, len(objects), Progress("bench3die: looking at object", len(objects)))
    offsets = np.concatenate([[0], np.cumsum([len(numbers) for numbers in found])])
    width, total = len(read_latents(objects[0] / f"latent_{found[0][0]}.npy")), int(offsets[-1])

    def made(name: str, kind: type, *shape: int) -> np.memmap:
        hint = "lower data.size or data.limit, or set data.packed to false" if size else "lower data.limit"
        return allocated(folder / f"{name}.npy", np.dtype(kind), (total, *shape), hint)

    x = made("x", np.uint8, 3, size, size) if size else made("bytes", np.int64)
    latents = made("latents", np.float64, width)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "class.npy", listing.labels)
    if size is None:
        np.save(folder / "view.npy", np.concatenate(found))

    def read(number: int) -> None:
        for row, view in enumerate(found[number], int(offsets[number])):
            image = objects[number] / f"image_{view}.jpg"
            x[row] = read_image(image, size) if size else image.stat().st_size
            latents[row] = read_latents(objects[number] / f"latent_{view}.npy", width)

    in_threads(read, len(objects), Progress(f"bench3die: {'packing' if size else 'reading'} object", len(objects)))
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


class Images(Protocol):
    """Images by row: an array, or files."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(B, 3, S, S) uint8."""
        ...


class Files(Decoded):
    """Images that are decoded when they are asked for, or before."""

    def __init__(self, root: Path, listing: Listing, entry: Entry, size: int) -> None:
        """`entry`: of `indexed`."""
        folders = [root / name for name in listing.objects]
        offsets, view = np.asarray(entry.arrays["offsets"]), np.asarray(entry.arrays["view"])

        def read(row: int) -> np.ndarray:
            owner = int(np.searchsorted(offsets, row, "right")) - 1
            return read_image(folders[owner] / f"image_{view[row]}.jpg", size)

        super().__init__("bench3die", read, size)


class Renders:
    """Objects with two of their views, or single images.

    Pairs are drawn from a number that the generator gives and from each item's own position (see `datasets._draws`):
    generators in the same state give an item the same pair in any batch. `fit` makes the generator of a batch from
    (seed, epoch, step): a resumed run sees the pairs of the uninterrupted one, and each epoch has new ones, the same on
    any number of ranks.
    """

    def __init__(self, images: Images, entry: Entry, rows: np.ndarray, spec: Spec, items: Items) -> None:
        """`images`: of the entry's rows. `rows`: positions of this split's objects in the entry. `spec`: of the items.

        Raises:
            DataError: pairs are asked for and an object has one view.
        """
        self.spec, self.items = spec, items
        self._x, offsets = images, np.asarray(entry.arrays["offsets"])
        self._begin, self._count = offsets[rows], offsets[rows + 1] - offsets[rows]
        self._first = np.concatenate([[0], np.cumsum(self._count)])  # of each object's images among this split's
        self._latents = np.asarray(entry.arrays["latents"])
        self._class = np.asarray(entry.arrays["class"])[rows]
        if items == "objects" and self._count.min() < 2:
            raise DataError("bench3die: an object has one view, pairs need two; use data.items=images")

    def __len__(self) -> int:
        return len(self._class) if self.items == "objects" else int(self._first[-1])

    @property
    def owner(self) -> np.ndarray:
        """(n,) the object that each item shows: evaluations that take a few items take whole objects."""
        return self._rows(np.arange(len(self)), torch.Generator())[0]

    def prefetch(self, index: Tensor, rng: torch.Generator) -> None:
        """Begin to decode what `fetch` will be asked for next, with a generator in this state."""
        if isinstance(self._x, Files):
            self._x.prefetch(self._rows(index.numpy(), rng)[1].ravel())

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,): images in [0, 1] with their latents and class; of a pair also what relates it."""
        owner, rows = self._rows(index.numpy(), rng)
        x = torch.from_numpy(self._x[rows.ravel()]).float().mul_(1 / 255)
        latents = torch.from_numpy(self._latents[rows]).float()
        return Batch(
            list(x.view(*rows.shape, *x.shape[1:])),
            index,
            params={"latents": latents},
            labels={
                "class": torch.from_numpy(self._class[owner]),
                **({"object": torch.from_numpy(owner)} if self.items == "images" else {}),
            },
            relations=rotations.relations(*latents) if len(rows) == 2 else {},
        )

    def _rows(self, at: np.ndarray, rng: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The object of each item (B,), and rows of its views in the entry (V, B)."""
        if self.items == "images":
            owner = np.searchsorted(self._first, at, "right") - 1
            return owner, (self._begin[owner] + at - self._first[owner])[None]
        return at, self._begin[at] + np.stack(drawn_pairs(salt_of(rng), at, self._count[at]))


def drawn_pairs(salt: int, items: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two distinct views of each item, uniform over its ordered pairs, from (salt, item) alone.

    Args:
        items: (B,) positions. counts: (B,) number of views of each.
    """
    first = below(salt, items, counts)
    step = 1 + below(salt, items, counts - 1, draw=1)
    return first, (first + step) % counts

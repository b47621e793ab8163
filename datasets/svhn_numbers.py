"""Street View House Numbers, whole numbers: a page is the digits of a house, a fragment one digit, 48x32 in colour.

Source: Netzer et al. 2011, format 1, used as in V3 (Wu et al., ICLR 2025, arXiv 2407.03824). Layout, in ROOT, ROOT/svhn
or ROOT/SVHN, with `extra` as it pleases:

    {train,test,extra}/NUMBER.png, {train,test,extra}/digitStruct.mat

Only houses of two digits and more count. `train` is all of train and 80 % of extra, `val` half of test and 10 % of
extra, `test` the rest of both, shuffled by a seed. Every digit's box is cut out and resized to 48x32 (bicubic). Labels
of a fragment: "content", its digit (10); of a page: "style", which house, a number that is no class. Pages with more
than n digits give any n, in a random order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from datasets import _parts, config
from datasets._pages import Book, Fragments, Items, Pages
from datasets._progress import Progress, in_threads
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Arrays, Entry, allocated, cached, stored

VERSION = 1
DOWNLOAD = (
    "nothing is fetched: unpack train, test and extra.tar.gz (2.6 GB, non-commercial use only) of "
    "ufldl.stanford.edu/housenumbers into the data folder"
)
MATLAB = "digitStruct.mat"
NAMES = ("svhn", "SVHN")
OFFICIAL = {"train": 33_402, "test": 13_068, "extra": 202_353}
SHAPE = (3, 48, 32)
BOX = ("left", "top", "width", "height", "label")
FEWEST = 2  # digits of a page


class Config(config.Config):
    """Options of whole house numbers."""

    items: Items = Field("pages", description="pages = numbers of n digits; fragments = each digit by itself")
    n: int = Field(2, ge=2, le=6, description="digits of a page; houses with fewer are left out (V3: 2)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which houses of test and extra go to which split")
    limit: int | None = Field(None, ge=1, description="at most so many houses of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its digits are cut out into the cache (4.6 kB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _find(root)
    listings = {part: _listing(folder, part) for part in OFFICIAL if (folder / part / MATLAB).exists()}
    counts = {part: np.asarray(listing.arrays["count"]) for part, listing in listings.items()}
    houses = split_houses(counts, cfg.n, cfg.split_seed)[split]
    houses = houses[_parts.limited(np.zeros(len(houses), int), cfg.limit, cfg.split_seed)]
    if len(houses) == 0:
        raise DataError(f"svhn_numbers: {folder}: too few houses of {cfg.n} digits for a split '{split}'")
    entry = _packed(folder, {part: listing.arrays for part, listing in listings.items()}, houses, split, cfg)
    length = np.asarray(entry.arrays["length"])
    book = Book(entry.arrays["x"], np.cumsum(length) - length, length, {"content": np.asarray(entry.arrays["content"])},
                {"style": np.asarray(entry.arrays["house"])})  # fmt: skip
    pages = cfg.items == "pages"
    there = {part: len(count) for part, count in counts.items()}
    note = f"{sum(there.values()):,} of {sum(OFFICIAL.values()):,} pictures present"
    spec = Spec(
        shape=(cfg.n, *SHAPE) if pages else SHAPE,
        labels={"content": 10, "style": 0},
        fingerprint=entry.fingerprint,
        note="" if there == OFFICIAL else note,
    )
    return Pages(book, spec, draw="any") if pages else Fragments(book, spec)


def split_houses(counts: Mapping[str, np.ndarray], fewest: int, seed: int) -> dict[Split, np.ndarray]:
    """Houses (n, 2) of each split as (part, row), part 0, 1, 2 of train, test, extra.

    Args:
        counts: number of digits of every house, by part. fewest: digits a house must have. seed: of the shuffle.
    """
    empty = np.zeros((0, 2), np.int64)
    pools = {}
    for number, part in enumerate(OFFICIAL):
        rows = np.flatnonzero(counts.get(part, np.zeros(0)) >= max(FEWEST, fewest))
        rows = np.random.default_rng((seed, number)).permutation(rows)
        pools[part] = np.stack([np.full(len(rows), number), rows], 1) if len(rows) else empty
    half = len(pools["test"]) // 2
    tenth = min(max(1, round(len(pools["extra"]) * 0.1)), len(pools["extra"]) // 2)
    more, val, test = np.split(pools["extra"], [len(pools["extra"]) - 2 * tenth, len(pools["extra"]) - tenth])
    return {
        "train": np.concatenate([pools["train"], more]),
        "val": np.concatenate([pools["test"][:half], val]),
        "test": np.concatenate([pools["test"][half:], test]),
    }


def cut(image: Image.Image, box: np.ndarray) -> np.ndarray:
    """A digit (3, 48, 32) uint8 by its box (left, top, width, height); what lies outside of the picture is black."""
    left, top, width, height = (int(value) for value in box)
    digit = image.crop((left, top, left + max(width, 1), top + max(height, 1)))
    return np.asarray(digit.resize((SHAPE[2], SHAPE[1]), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _find(root: Path | None) -> Path:
    try:
        folder = _parts.find(root, f"train/{MATLAB}", NAMES)
        return _parts.find(folder, f"test/{MATLAB}", NAMES)
    except DataError as error:
        hint = "unpack train.tar.gz and test.tar.gz of ufldl.stanford.edu/housenumbers there"
        text = str(error).split("; ")[0].replace("svhn:", "svhn_numbers:", 1)
        raise DataError(f"{text}; {hint}") from None


# -- boxes ----------------------------------------------------------------------------------------------------------


def _listing(folder: Path, part: str) -> Entry:
    file = folder / part / MATLAB
    return cached(_parts.key(f"svhn-boxes-{part}", VERSION, [file]), lambda: read_boxes(file))


def read_boxes(file: Path) -> Arrays:
    """The pictures a digitStruct.mat lists.

    Returns:
        "number" (P,) of NUMBER.png, "count" (P,) of digits, "boxes" (B, 5) of all digits one after the other: left,
        top, width, height, not below 0, and the digit.

    Raises:
        DataError: the file is damaged.
    """
    import h5py

    numbers, counts, boxes = [], [], []
    try:
        with h5py.File(file) as content:
            names, groups = content["digitStruct/name"], content["digitStruct/bbox"]
            progress = Progress(f"svhn_numbers: reading {file.parent.name}: picture", len(names))
            for (name,), (group,) in zip(names[:], groups[:], strict=True):
                text = "".join(map(chr, content[name][:].ravel()))
                columns = [_values(content, content[group][key]) for key in BOX]
                numbers.append(int(text.removesuffix(".png")))
                counts.append(len(columns[0]))
                boxes.append(np.stack(columns, 1))
                progress.add()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"svhn_numbers: {file}: damaged ({' '.join(str(error).split())[:120]})") from None
    every = np.concatenate(boxes) if boxes else np.zeros((0, len(BOX)), np.int64)
    every[:, 4] %= 10  # 10 is the digit 0
    return {"number": np.array(numbers, np.int64), "count": np.array(counts, np.int64), "boxes": every}


def _values(content: Any, data: Any) -> np.ndarray:
    """The numbers (n,) of a picture's digits; one digit's stands there itself, more are references."""
    raw = data[:].ravel()
    if raw.dtype == object:
        raw = np.array([content[reference][0, 0] for reference in raw])
    return np.maximum(raw, 0).astype(np.int64)


# -- digits ---------------------------------------------------------------------------------------------------------


def _packed(folder: Path, listings: dict[str, Arrays], houses: np.ndarray, split: Split, cfg: Config) -> Entry:
    places = list(OFFICIAL)
    first = {part: np.cumsum(own["count"]) - own["count"] for part, own in listings.items()}
    lengths = np.array([listings[places[part]]["count"][row] for part, row in houses])
    begin = np.cumsum(lengths) - lengths
    boxes = [
        listings[places[part]]["boxes"][first[places[part]][row] :][:length]
        for (part, row), length in zip(houses, lengths, strict=True)
    ]

    def write(target: Path) -> None:
        x = allocated(target / "x.npy", np.dtype(np.uint8), (int(lengths.sum()), *SHAPE), "set data.limit")

        def work(place: int) -> None:
            part, row = houses[place]
            path = folder / places[part] / f"{listings[places[part]]['number'][row]}.png"
            x[begin[place] : begin[place] + lengths[place]] = _digits(path, boxes[place])

        in_threads(work, len(houses), Progress(f"svhn_numbers: {split}: cutting house", len(houses)))
        x.flush()
        house = np.array([listings[places[part]]["number"][row] for part, row in houses], np.float32)
        content = np.concatenate(boxes)[:, 4]
        for name, array in (("content", content), ("house", house), ("length", lengths)):
            np.save(target / f"{name}.npy", array)

    files = [folder / part / MATLAB for part in listings]
    options = split, cfg.n, cfg.split_seed, cfg.limit
    return stored(_parts.key(f"svhn-numbers-{split}", VERSION, files, *options), write)


def _digits(path: Path, boxes: np.ndarray) -> np.ndarray:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"svhn_numbers: {path}: damaged ({' '.join(str(error).split())[:120]})") from None
    return np.stack([cut(image, box[:4]) for box in boxes])

"""Street View House Numbers, whole numbers: a page is the digits of a house, a fragment one digit, 48x32 in colour.

Source: Netzer et al. 2011, format 1, used as in V3 (Wu et al., ICLR 2025, arXiv 2407.03824). Layout, in ROOT, ROOT/svhn
or ROOT/SVHN, with `extra` as it pleases:

    SVHN_h5/{train,val,test}.hdf5      V3's: data (N, 48, 32, 3) bytes, content_label (N,), style_label (N,) of pictures
    {train,test,extra}/NUMBER.png, {train,test,extra}/digitStruct.mat      without such files, digits are cut of these

Only houses of two digits and more count. `train` is all of train and 80 % of extra, `val` half of test and 10 % of
extra, `test` the rest of both, shuffled by a seed. Every digit's box is cut out and resized to 48x32 (bicubic). Labels
of a fragment: "content", its digit (10); of a page: "style", which house, a number that is no class: that of its
picture, of extra 1,000,000 more. Pages with more than n digits give any n, in a random order.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from datasets import _parts, config
from datasets._pages import Book, Fragments, Items, Pages
from datasets._progress import Progress, in_threads
from datasets.atomic import replacing
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Arrays, Entry, allocated, cached, stored

VERSION = 2
DOWNLOAD = (
    "nothing is fetched: unpack train, test and extra.tar.gz (2.6 GB, non-commercial use only) of "
    "ufldl.stanford.edu/housenumbers into the data folder"
)
MATLAB = "digitStruct.mat"
NAMES = ("svhn", "SVHN")
FOLDER = "SVHN_h5"
PICTURE = re.compile(r"(e?)(\d+)(?:\.png)?")  # as V3 names them: those of extra with an e
EXTRA = 1_000_000  # what their numbers are above the others
OFFICIAL = {"train": 33_402, "test": 13_068, "extra": 202_353}
SHAPE = (3, 48, 32)
BOX = ("left", "top", "width", "height", "label")
FEWEST = 2  # digits of a page
BLOCK = 512  # houses or digits at once


class Config(config.Config):
    """Options of whole house numbers."""

    source: Literal["auto", "files", "pictures"] = Field(
        "auto", description="files = SVHN_h5, pictures = cut of these; auto = files where there are any"
    )
    items: Items = Field("pages", description="pages = numbers of n digits; fragments = each digit by itself")
    n: int = Field(2, ge=2, le=6, description="digits of a page; houses with fewer are left out (V3: 2)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which houses of test and extra go to which split")
    limit: int | None = Field(None, ge=1, description="at most so many houses of each split, for trial runs")


class RenderConfig(config.Config):
    """How V3's files are written."""

    split_seed: int = Field(0, ge=0, lt=2**31, description="which houses of test and extra go to which split")
    compress: bool = Field(True, description="gzip inside the HDF5 files")
    limit: int | None = Field(None, ge=1, description="at most so many houses of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its digits are read or cut out into the cache (4.6 kB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    found = _find(cfg, root, split)
    pictures = found.name != FOLDER
    entry, note = _cut(cfg, found, split) if pictures else (_read(found / f"{split}.hdf5"), "")
    length = np.asarray(entry.arrays["length"])
    book = Book(entry.arrays["x"], np.cumsum(length) - length, length, {"content": np.asarray(entry.arrays["content"])},
                {"style": np.asarray(entry.arrays["house"])})  # fmt: skip
    if not pictures:
        rows = np.flatnonzero(length >= max(FEWEST, cfg.n))
        book = book.take(rows[_parts.limited(np.zeros(len(rows), int), cfg.limit, cfg.split_seed)])
    if len(book.begin) == 0:
        raise _too_few(cfg, found, split)
    pages = cfg.items == "pages"
    spec = Spec(
        shape=(cfg.n, *SHAPE) if pages else SHAPE,
        labels={"content": 10, "style": 0},
        fingerprint=entry.fingerprint,
        note=note,
    )
    return Pages(book, spec, draw="any") if pages else Fragments(book, spec)


def render(cfg: RenderConfig, pictures: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data svhn_numbers --render PICTURES OUT`, which writes V3's files.

    Raises:
        DataError: pictures are missing or damaged, the files are there already, or cannot be written.
    """
    folder = out / FOLDER
    if folder.exists():
        raise DataError(f"{folder}: is there already; delete it, or name another folder")
    houses = _Houses(_folder(Path(pictures)))
    rows = split_houses(houses.counts, FEWEST, cfg.split_seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as made:
            made.mkdir()
            for split in SPLITS:
                _write(houses, rows[split][: cfg.limit], made / f"{split}.hdf5", cfg.compress)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    yield f"{folder}: {', '.join(f'{len(rows[split][: cfg.limit]):,} houses in {split}' for split in SPLITS)}"


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


def _find(cfg: Config, root: Path | None, split: Split) -> Path:
    """The folder with V3's files, or the one with pictures."""
    if cfg.source != "pictures":
        try:
            return _parts.find(root, f"{FOLDER}/{split}.hdf5", NAMES) / FOLDER
        except DataError as error:
            if cfg.source == "files":
                hint = "put it there, or write it: `sweep data svhn_numbers --render PICTURES DIR`"
                raise DataError(f"{_told(error)}; {hint}") from None
    return _folder(root)


def _folder(root: Path | None) -> Path:
    try:
        folder = _parts.find(root, f"train/{MATLAB}", NAMES)
        return _parts.find(folder, f"test/{MATLAB}", NAMES)
    except DataError as error:
        hint = "unpack train.tar.gz and test.tar.gz of ufldl.stanford.edu/housenumbers there"
        raise DataError(f"{_told(error)}; {hint}") from None


def _too_few(cfg: Config, folder: Path, split: Split) -> DataError:
    return DataError(f"svhn_numbers: {folder}: too few houses of {cfg.n} digits for a split '{split}'")


def _told(error: DataError) -> str:
    return str(error).split("; ")[0].replace("svhn:", "svhn_numbers:", 1)


# -- files ----------------------------------------------------------------------------------------------------------


def _read(file: Path) -> Entry:
    return stored(_parts.key(f"svhn-numbers-{file.stem}", VERSION, [file]), lambda target: _unpack(file, target))


def _unpack(file: Path, target: Path) -> None:
    """Digits of a house one after the other, houses as they first come."""
    import h5py

    try:
        with h5py.File(file) as content:
            pixels, digits = content["data"], np.asarray(content["content_label"][:]).astype(np.int64)
            names = content["style_label"].asstr()[:]
            count = len(digits)
            if pixels.shape != (count, *SHAPE[1:], 3) or pixels.dtype != np.uint8 or len(names) != count:
                raise DataError(f"svhn_numbers: {file}: data should be ({count}, 48, 32, 3) bytes, one for each label")
            if count == 0 or not 0 <= digits.min() <= digits.max() < 10:
                raise DataError(f"svhn_numbers: {file}: content_label should be digits 0 .. 9")
            house = np.array([_number(file, name) for name in names])
            _, first, member = np.unique(house, return_index=True, return_inverse=True)
            order = np.argsort(first[member], kind="stable")
            place = np.argsort(order)
            x = allocated(target / "x.npy", np.dtype(np.uint8), (count, *SHAPE), "delete digits")
            progress = Progress(f"svhn_numbers: reading {file.stem}: digit", count)
            for begin in range(0, count, BLOCK):
                block = pixels[begin : begin + BLOCK]
                x[place[begin : begin + BLOCK]] = block.transpose(0, 3, 1, 2)
                progress.add(len(block))
            x.flush()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"svhn_numbers: {file}: damaged ({' '.join(str(error).split())[:120]})") from None
    length = np.bincount(np.unique(first[member], return_inverse=True)[1])
    for name, array in (("content", digits[order]), ("house", house[np.sort(first)]), ("length", length)):
        np.save(target / f"{name}.npy", array)


def _number(file: Path, name: str) -> np.float32:
    found = PICTURE.fullmatch(name)
    if found is None:
        raise DataError(f"svhn_numbers: {file}: style_label should name pictures, as 12 or e12 (got '{name[:40]}')")
    return np.float32(int(found[2]) + EXTRA * bool(found[1]))


def _write(houses: _Houses, rows: np.ndarray, path: Path, compress: bool) -> None:
    import h5py

    lengths = houses.lengths(rows)
    count, ends = int(lengths.sum()), np.cumsum(lengths)
    progress = Progress(f"svhn_numbers: {path.stem}: cutting house", len(rows))
    with h5py.File(path, "w") as file:
        options: dict[str, Any] = {"chunks": (min(64, count), *SHAPE[1:], 3), "compression": "gzip"} if compress else {}
        data = file.create_dataset("data", (count, *SHAPE[1:], 3), np.uint8, **(options if count else {}))
        for begin in range(0, len(rows), BLOCK):
            own = rows[begin : begin + BLOCK]
            made: list[np.ndarray] = [np.empty(0)] * len(own)

            def work(place: int, own: np.ndarray = own, made: list[np.ndarray] = made) -> None:
                made[place] = houses.digits(*own[place])

            in_threads(work, len(own), progress)
            digits = np.concatenate(made).transpose(0, 2, 3, 1)
            data[ends[begin + len(own) - 1] - len(digits) : ends[begin + len(own) - 1]] = digits
        content = np.concatenate([houses.boxes(*row)[:, 4] for row in rows]) if len(rows) else np.zeros(0, np.int64)
        file.create_dataset("content_label", data=content)
        names = [f"{'e' * (list(OFFICIAL)[part] == 'extra')}{houses.number(part, row)}" for part, row in rows]
        file.create_dataset("style_label", data=np.repeat(np.array(names, object), lengths), dtype=h5py.string_dtype())


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


class _Houses:
    """All pictures of a folder, each known by its part (0, 1, 2 of train, test, extra) and its row in the listing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings = {part: _listing(folder, part).arrays for part in OFFICIAL if (folder / part / MATLAB).exists()}
        self.counts = {part: np.asarray(own["count"]) for part, own in self._listings.items()}
        self._first = {part: np.cumsum(count) - count for part, count in self.counts.items()}
        self._parts = list(OFFICIAL)

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self.counts[self._parts[part]][row] for part, row in rows], np.int64)

    def boxes(self, part: int, row: int) -> np.ndarray:
        """(n, 5), see `read_boxes`."""
        name = self._parts[part]
        return np.asarray(self._listings[name]["boxes"][self._first[name][row] :][: self.counts[name][row]])

    def number(self, part: int, row: int) -> int:
        return int(self._listings[self._parts[part]]["number"][row])

    def picture(self, part: int, row: int) -> Path:
        return self.folder / self._parts[part] / f"{self.number(part, row)}.png"

    def digits(self, part: int, row: int) -> np.ndarray:
        """The digits (n, 3, 48, 32) of a house."""
        path = self.picture(part, row)
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except FileNotFoundError:
            raise DataError(f"svhn_numbers: no {path}, which {MATLAB} lists; unpack the pictures again") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"svhn_numbers: {path}: damaged ({' '.join(str(error).split())[:120]})") from None
        return np.stack([cut(image, box[:4]) for box in self.boxes(part, row)])

    def state(self, rows: np.ndarray) -> str:
        """What changes when a picture does: sizes and times of their files; "" stands for one that is not there."""
        folder = str(self.folder.resolve())
        digest = hashlib.sha256(folder.encode())
        for part, row in rows.tolist():
            try:  # of up to 248,823 files; `Path` takes three times as long
                about = os.stat(f"{folder}/{self._parts[part]}/{self.number(part, row)}.png")  # noqa: PTH116
                digest.update(b"%d %d;" % (about.st_size, about.st_mtime_ns))
            except OSError:
                digest.update(b";")
        return digest.hexdigest()


def _cut(cfg: Config, folder: Path, split: Split) -> tuple[Entry, str]:
    houses = _Houses(folder)
    rows = split_houses(houses.counts, cfg.n, cfg.split_seed)[split]
    rows = rows[_parts.limited(np.zeros(len(rows), int), cfg.limit, cfg.split_seed)]
    if len(rows) == 0:
        raise _too_few(cfg, folder, split)
    there = {part: len(count) for part, count in houses.counts.items()}
    note = f"{sum(there.values()):,} of {sum(OFFICIAL.values()):,} pictures present"
    files = [folder / part / MATLAB for part in there]
    options = split, cfg.n, cfg.split_seed, cfg.limit
    key = _parts.key(f"svhn-numbers-{split}", VERSION, files, *options, houses.state(rows))
    return stored(key, lambda target: _pack(houses, rows, split, target)), "" if there == OFFICIAL else note


def _pack(houses: _Houses, rows: np.ndarray, split: Split, target: Path) -> None:
    lengths = houses.lengths(rows)
    begin = np.cumsum(lengths) - lengths
    x = allocated(target / "x.npy", np.dtype(np.uint8), (int(lengths.sum()), *SHAPE), "set data.limit")

    def work(place: int) -> None:
        x[begin[place] : begin[place] + lengths[place]] = houses.digits(*rows[place])

    in_threads(work, len(rows), Progress(f"svhn_numbers: {split}: cutting house", len(rows)))
    x.flush()
    extra = list(OFFICIAL).index("extra")
    house = np.array([houses.number(part, row) + EXTRA * (part == extra) for part, row in rows], np.float32)
    content = np.concatenate([houses.boxes(*row)[:, 4] for row in rows])
    for name, array in (("content", content), ("house", house), ("length", lengths)):
        np.save(target / f"{name}.npy", array)

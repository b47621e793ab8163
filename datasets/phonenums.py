"""PhoneNums: written numbers of ten digits; a page is a number in one colour, a fragment a digit, 48x32 in colour.

Source: the data of V3 (Wu et al., "Unsupervised Disentanglement of Content and Style via Variance-Invariance
Constraints", ICLR 2025, arXiv 2407.03824). Layout, in ROOT or ROOT/phonenums, PNGs of L x 32 columns and 48 rows:

    PhoneNums/{train,val,test}/DIGITS_COLOUR.png                       `palette: published`
    PhoneNumsOOD/{1_shot,5_shot,10_shot,test}/DIGITS_COLOUR.png        `palette: ood`

Where there are no files, pages are rendered with a free font (`datasets.synth.phone_numbers`), into the cache, once.
Labels of a fragment: "content", its digit (10). Of a page: "style", its colour (8). The split is 80/10/10, seeded, with
equal shares of the colours. With `shots`, `train` is so many pages of each colour (fewer are a part of more), `val` ten
others, `test` all the rest, to see how a model takes to colours it has not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from datasets import _parts, _shots, config
from datasets._pages import Book, Fragments, Items, Pages
from datasets._progress import Progress
from datasets._shots import MOST, Shots
from datasets.atomic import replacing
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Entry, allocated, stored
from datasets.synth import phone_numbers
from datasets.synth.phone_numbers import HEIGHT, PALETTE, PALETTES, WIDTH, Look

VERSION = 1
DOWNLOAD = "nothing is fetched: pages are rendered with a free font where the data folder holds no PhoneNums"
FOLDERS = {"published": "PhoneNums", "ood": "PhoneNumsOOD"}
NAMES = ("phonenums",)
SHAPE = (3, HEIGHT, WIDTH)
NAMED = re.compile(r"(\d+)_([a-z]+)\.png")
HELD_OUT = 0.1  # of the pages, for each of validation and test


class Made(Look):
    """The pages that are rendered, and their look."""

    pages: int = Field(1000, ge=160, le=1_000_000, description="of all splits (V3: 100,000 of 46 kB, 7 minutes)")
    repeats: bool = Field(False, description="digits drawn one by one; false = each page has every digit once (V3)")
    length: int = Field(10, ge=2, le=40, description="digits of a page; other than 10 with repeats alone")
    seed: int = Field(0, ge=0, lt=2**31, description="of digits, colours' jitter, shifts, blur and noise")

    @model_validator(mode="after")
    def _all_ten(self) -> Made:
        if self.length != 10 and not self.repeats:
            raise ValueError("length other than 10 needs repeats: true")
        most = len(PALETTE) * 10**self.length
        if self.pages > most:
            raise ValueError(f"pages: there are {most:,} of {self.length} digits (got {self.pages:,})")
        return self


class Config(config.Config):
    """Options of PhoneNums."""

    source: Literal["auto", "files", "made"] = Field(
        "auto", description="files = of the data folder, made = rendered; auto = files where there are any"
    )
    palette: Literal["published", "ood"] = Field("published", description="colours: the eight of training, or others")
    items: Items = Field("pages", description="pages = numbers of n digits; fragments = each digit by itself")
    n: int = Field(10, ge=2, le=40, description="digits of a page, consecutive ones of longer numbers (V3: 10)")
    shots: Shots | None = Field(None, description="training pages of each colour; None = all (V3: 1, 5, 10)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which page goes to which split")
    limit: int | None = Field(None, ge=1, description="at most so many pages of each split, for trial runs")
    made: Made = Field(Made(), description="of the rendered set")


class RenderConfig(Made):
    """How pages are written."""

    palette: Literal["published", "ood"] = Field("published", description="colours: the eight of training, or others")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which page goes to which folder")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its pages are decoded or rendered into the cache.

    Raises:
        DataError: files are missing or damaged, digits do not fit, pages are shorter than n, or the cache has no space.
    """
    found = None if cfg.source == "made" else _find(cfg, root)
    entry, rows = _made(cfg, split) if found is None else _files(cfg, found, split)
    style, length = np.asarray(entry.arrays["style"]), np.asarray(entry.arrays["length"])
    book = Book(entry.arrays["x"], np.cumsum(length) - length, length, {"content": np.asarray(entry.arrays["content"])},
                {"style": style}).take(rows[_parts.limited(style[rows], cfg.limit, cfg.split_seed)])  # fmt: skip
    if len(book.begin) == 0:
        raise DataError(f"phonenums: no page is left for a split '{split}'; data.shots needs more than 20 of a colour")
    pages = cfg.items == "pages"
    if pages and int(book.count.min()) < cfg.n:
        raise DataError(f"phonenums: has pages of {int(book.count.min())} digits; lower data.n (it is {cfg.n})")
    spec = Spec(
        shape=(cfg.n, *SHAPE) if pages else SHAPE,
        labels={"content": 10, "style": len(PALETTES[cfg.palette])},
        fingerprint=entry.fingerprint,
        note="" if found or cfg.source == "made" else f"rendered: no '{FOLDERS[cfg.palette]}' in the data folder",
    )
    return Pages(book, spec) if pages else Fragments(book, spec)


def render(cfg: RenderConfig, font: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data phonenums --render FONT OUT`, which writes pages as PNGs; "default" is the free font.

    Raises:
        DataError: there is no such font, the folder is there already, or cannot be written.
    """
    cfg = cfg if font == "default" else cfg.model_copy(update={"font": font})
    folder = out / FOLDERS[cfg.palette]
    if folder.exists():
        raise DataError(f"{folder}: is there already; delete it, or name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as temporary:
            counts = _write_pages(cfg, temporary)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    yield f"{folder}: {', '.join(f'{count:,} pages in {name}' for name, count in counts.items())}"


# -- rendered -------------------------------------------------------------------------------------------------------


def _made(cfg: Config, split: Split) -> tuple[Entry, np.ndarray]:
    made, colours = cfg.made, list(PALETTES[cfg.palette].values())
    digits, style = _numbers(made, cfg.palette)

    def write(folder: Path) -> None:
        x = allocated(folder / "x.npy", np.dtype(np.uint8), (digits.size, *SHAPE), "lower data.made.pages")
        progress = Progress("phonenums: rendering page", len(digits))
        for number, (own, colour) in enumerate(zip(digits, style, strict=True)):
            x[number * made.length : (number + 1) * made.length] = _page(
                made, cfg.palette, own, colours[colour], number
            )
            progress.add()
        x.flush()
        lengths = np.full(len(style), made.length)
        for name, array in (("content", digits.ravel()), ("style", style), ("length", lengths)):
            np.save(folder / f"{name}.npy", array)

    entry = stored(_parts.key("phonenums-made", phone_numbers.VERSION, [], repr(made), cfg.palette), write)
    return entry, _rows(style, cfg.shots, cfg.split_seed)[split]


def _numbers(made: Made, palette: str) -> tuple[np.ndarray, np.ndarray]:
    return phone_numbers.numbers(
        made.pages, len(PALETTES[palette]), made.length, made.repeats, _seed(made, palette)
    )  # fmt: skip


def _page(made: Made, palette: str, digits: np.ndarray, colour: phone_numbers.RGB, number: int) -> np.ndarray:
    return phone_numbers.page(made, digits, colour, _seed(made, palette), number)


def _seed(made: Made, palette: str) -> int:
    return made.seed + (2**31 if palette == "ood" else 0)  # other numbers in other colours


def _rows(style: np.ndarray, shots: int | None, seed: int) -> dict[Split, np.ndarray]:
    """Positions of the pages of each split."""
    if shots is None:
        part = round(len(style) * HELD_OUT)
        return dict(zip(SPLITS, _parts.parts(style, [len(style) - 2 * part, part], seed), strict=True))
    return _shots.splits(style, shots, seed)


def _write_pages(cfg: RenderConfig, folder: Path) -> dict[str, int]:
    palette = PALETTES[cfg.palette]
    digits, style = _numbers(cfg, cfg.palette)
    if cfg.palette == "published":
        places = {str(split): rows for split, rows in _rows(style, None, cfg.split_seed).items()}
    else:
        places = _shots.folders(style, cfg.split_seed)
    progress = Progress("phonenums: page", sum(map(len, places.values())))
    for place, rows in places.items():
        (folder / place).mkdir(parents=True)
        for row in rows.tolist():
            name = list(palette)[style[row]]
            patches = _page(cfg, cfg.palette, digits[row], palette[name], row)
            image = patches.transpose(2, 0, 3, 1).reshape(HEIGHT, -1, 3)
            Image.fromarray(image).save(folder / place / f"{''.join(map(str, digits[row]))}_{name}.png")
            progress.add()
    return {place: len(rows) for place, rows in places.items()}


# -- files ----------------------------------------------------------------------------------------------------------


def _find(cfg: Config, root: Path | None) -> Path | None:
    name = FOLDERS[cfg.palette]
    try:
        return _parts.find(root, f"{name}/test", NAMES) / name
    except DataError as error:
        if cfg.source == "auto":
            return None
        hint = "put it there, or render one: `sweep data phonenums --render default DIR`"
        raise DataError(f"{str(error).split('; ')[0]}; {hint}") from None


def _files(cfg: Config, folder: Path, split: Split) -> tuple[Entry, np.ndarray]:
    if cfg.palette == "published":
        if cfg.shots is not None:
            raise DataError("phonenums: data.shots of files needs data.palette=ood; or set data.source=made")
        entry = _packed(folder / split, cfg.palette)
        return entry, np.arange(len(entry.arrays["style"]))
    if split == "train":
        entry = _packed(folder / f"{cfg.shots or MOST}_shot", cfg.palette)
        return entry, np.arange(len(entry.arrays["style"]))
    entry = _packed(folder / "test", cfg.palette)  # there is no folder for validation
    return entry, _shots.held_out(np.asarray(entry.arrays["style"]), cfg.split_seed)[split]


def _packed(folder: Path, palette: str) -> Entry:
    colours = list(PALETTES[palette])
    files = sorted(path for path in folder.glob("*.png") if (name := NAMED.fullmatch(path.name)) and name[2] in colours)
    if not files:
        raise DataError(f"phonenums: no file such as 0123456789_{colours[0]}.png in {folder}")
    names = [path.stem.split("_") for path in files]
    content = np.array([int(digit) for digits, _ in names for digit in digits])
    lengths = np.array([len(digits) for digits, _ in names])

    def write(place: Path) -> None:
        x = allocated(place / "x.npy", np.dtype(np.uint8), (len(content), *SHAPE), "delete pages")
        progress = Progress("phonenums: decoding page", len(files))
        for path, end, length in zip(files, np.cumsum(lengths), lengths, strict=True):
            x[end - length : end] = _decoded(path, int(length))
            progress.add()
        x.flush()
        style = np.array([colours.index(colour) for _, colour in names])
        for name, array in (("content", content), ("style", style), ("length", lengths)):
            np.save(place / f"{name}.npy", array)

    return stored(_parts.key(f"phonenums-{palette}-{folder.name}", VERSION, files), write)


def _decoded(path: Path, length: int) -> np.ndarray:
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"phonenums: {path}: damaged ({' '.join(str(error).split())[:120]})") from None
    if pixels.shape != (HEIGHT, length * WIDTH, 3):
        raise DataError(
            f"phonenums: {path}: should be {length * WIDTH}x{HEIGHT} pixels, is {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return pixels.reshape(HEIGHT, length, WIDTH, 3).transpose(1, 3, 0, 2)

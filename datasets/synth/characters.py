"""Characters of Sprites: layers of clothes on a body, in nine poses, written as V3's HDF5 files.

Sheets (Liberated Pixel Cup, as in github.com/YingzhenLi/Sprites): {body,bottomwear,topwear,hair,shoes}/NUMBER.png of
832x1344 pixels, 13 columns and 21 rows of cells of 64x64. A character is the composite of body, bottomwear, topwear,
hair and shoes 1, in this order, on black; its number has the digits body, bottomwear, topwear, hair. A pose is the
cell in column 4 of its row: walking, casting a spell and slashing, seen from the front, the left and the right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from datasets import config
from datasets._progress import Progress
from datasets.atomic import replacing
from datasets.base import SPLITS, DataError, Split

VERSION = 1
ROWS = (10, 9, 11, 2, 1, 3, 14, 13, 15)  # of walk, spellcard, slash: front, left, right each; a pose's content
COLUMN, CELL, SIZE = 4, 64, (832, 1344)
LAYERS = ("body", "bottomwear", "topwear", "hair")
SHOES = 1
WORN = range(6)  # of body, bottomwear and topwear
UNSEEN = 6  # of all three
HAIR: dict[Split, range] = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}
FOLDER = "Sprites_h5"


class RenderConfig(config.Config):
    """How characters are written."""

    seed: int = Field(0, ge=0, lt=2**31, description="of the order of the poses in each page")
    compress: bool = Field(True, description="gzip inside the HDF5 files (12 MB in place of 240)")
    limit: int | None = Field(None, ge=1, description="at most so many characters of each split, for trial runs")


class Sheets:
    """The nine poses of every layer, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, int], Image.Image] = {}

    def compose(self, number: int) -> np.ndarray:
        """The nine poses (9, 3, 64, 64) uint8 of a character, in the order of their content.

        Raises:
            DataError: a sheet is missing or damaged.
        """
        made = Image.new("RGBA", (CELL, CELL * len(ROWS)), (0, 0, 0, 255))
        for layer, digit in (*zip(LAYERS, digits(number), strict=True), ("shoes", SHOES)):
            made.alpha_composite(self._poses(layer, digit))
        pixels = np.asarray(made.convert("RGB")).reshape(len(ROWS), CELL, CELL, 3)
        return pixels.transpose(0, 3, 1, 2)

    def _poses(self, layer: str, number: int) -> Image.Image:
        if (layer, number) not in self._read:
            self._read[layer, number] = _poses(self.folder / layer / f"{number}.png")
        return self._read[layer, number]


def digits(number: int) -> tuple[int, int, int, int]:
    """Body, bottomwear, topwear and hair of a character."""
    return number // 1000, number // 100 % 10, number // 10 % 10, number % 10


def characters(split: Split, limit: int | None = None) -> list[int]:
    """The published characters of a split, 1,728, 216 and 216; `limit`: so many evenly spread ones."""
    every = [
        body * 1000 + bottom * 100 + top * 10 + hair
        for body, bottom, top, hair in itertools.product(WORN, WORN, WORN, HAIR[split])
    ]
    if limit is None or limit >= len(every):
        return every
    return [every[place] for place in np.arange(limit) * len(every) // limit]


def unseen(split: Split) -> list[int]:
    """Characters whose body and clothes no published one has, 8, 1 and 1."""
    return [UNSEEN * 1110 + hair for hair in HAIR[split]]


def order(seed: int, *number: int) -> np.ndarray:
    """The content (9,) int64 of the poses of a page, from left to right; `number`: of the character, and of a copy."""
    return np.random.default_rng((seed, *number)).permutation(len(ROWS)).astype(np.int64)


def write_characters(cfg: RenderConfig, sheets: Path, out: Path) -> Iterator[str]:
    """Write OUT/Sprites_h5/{train,val,test}.hdf5, whole or not at all; lines that say what was done.

    Raises:
        DataError: a sheet is missing or damaged, or the files are there already.
    """
    folder = out / FOLDER
    if folder.exists():
        raise DataError(f"{folder}: is there already; delete it, or name another folder")
    source, counts = Sheets(sheets), {}
    source.compose(0)  # what is missing is said before anything is written
    out.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as made:
        made.mkdir()
        for split in SPLITS:
            numbers = characters(split, cfg.limit)
            _write(cfg, source, numbers, made / f"{split}.hdf5")
            counts[split] = len(numbers)
    yield f"{folder}: {', '.join(f'{count:,} characters in {split}' for split, count in counts.items())}"


def _write(cfg: RenderConfig, sheets: Sheets, numbers: list[int], path: Path) -> None:
    import h5py

    progress = Progress(f"sprites: {path.stem}: character", len(numbers))
    with h5py.File(path, "w") as file:
        for number in numbers:
            content = order(cfg.seed, number)
            page = file.create_group(str(number))
            page.create_dataset("seq", data=sheets.compose(number)[content], compression="gzip" * cfg.compress or None)
            page.create_dataset("c", data=content)
            page.create_dataset("s", data=np.full(len(ROWS), number, np.int64))
            progress.add()


def _poses(path: Path) -> Image.Image:
    """The nine cells of a sheet, one below the other."""
    try:
        with Image.open(path) as file:
            sheet = file.convert("RGBA")
    except FileNotFoundError:
        raise DataError(f"sprites: no {path}; SHEETS holds body/0.png and so on, see `docs/data.md`") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"sprites: {path}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    if sheet.size != SIZE:
        raise DataError(f"sprites: {path}: should be {SIZE[0]}x{SIZE[1]} pixels, is {sheet.width}x{sheet.height}")
    made = Image.new("RGBA", (CELL, CELL * len(ROWS)))
    for place, row in enumerate(ROWS):
        left, top = COLUMN * CELL, row * CELL
        made.paste(sheet.crop((left, top, left + CELL, top + CELL)), (0, place * CELL))
    return made

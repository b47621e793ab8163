"""Pages of PhoneNums: ten digits in one ink, each with its own shift, blurred from top to bottom, and noise.

Source: the data of V3 (Wu et al., ICLR 2025, arXiv 2407.03824). Of a page in the colour c in [0, 1] per channel:

    ink = int(240 c + 8), paper = 245, each with +-2 of its own per channel; every digit's ink +-2 again
    a digit in its patch of 32x48, moved right and down by U(0, 1) pixels each (here in eighths)
    blur along columns: levels 5, 9, 13 of the patches, and on the way to the next patch the odd sizes between
    noise: sigma ~ U(0, 1) times `noise`, Gaussian for every pixel and channel, cut to whole levels

The original's font must not be passed on; any free one will do. A page follows from (seed, number) and its digits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from datasets import config
from datasets.base import DataError

VERSION = 2
WIDTH, HEIGHT = 32, 48
RGB = tuple[int, int, int]
PALETTE: dict[str, RGB] = {
    "black": (0, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0),
    "teal": (0, 128, 128), "purple": (128, 0, 128), "orange": (255, 165, 0), "brown": (165, 42, 42),
}  # fmt: skip
UNSEEN: dict[str, RGB] = {
    "pink": (255, 192, 203), "salmon": (250, 128, 114), "gold": (255, 215, 0), "lime": (0, 255, 0),
    "cyan": (0, 255, 255), "magenta": (255, 0, 255), "gray": (128, 128, 128), "peru": (205, 133, 63),
}  # fmt: skip
PALETTES = {"published": PALETTE, "ood": UNSEEN}
PERMUTATIONS = 3_628_800  # of ten digits
DISTINCT = 17  # digits, of more no two numbers are equal
PAPER, JITTER, STEPS = 245, 2, 8  # steps of a pixel by which digits are shifted
# what OpenCV takes for these sizes in place of the formula
TABLES = {5: (1, 4, 6, 4, 1), 7: (8, 28, 56, 72, 56, 28, 8), 9: (4, 13, 30, 51, 60, 51, 30, 13, 4)}


class Look(config.Config):
    """How digits look."""

    font: str = Field("DejaVuSans", description="a font that comes with matplotlib, or a TrueType file's absolute path")
    size: int = Field(48, ge=8, le=48, description="pixels of the font (V3: 48, of another font)")
    offset: int = Field(-3, ge=-24, le=24, description="pixels by which digits stand lower (V3: -8, of another font)")
    shift: float = Field(1.0, ge=0, le=4, description="a digit moves right and down by U(0, this) pixels (V3: 1)")
    blur: bool = Field(True, description="blurred along columns")
    noise: float = Field(
        1.0, ge=0, le=50, description="largest deviation of the noise, in levels of 255 (V3: 1, or 10)"
    )


def numbers(pages: int, styles: int, length: int, repeats: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits (pages, length) and style (pages,) of every page; styles take turns.

    Without `repeats` the digits are permutations of 0 .. 9. No number occurs twice in a style.
    """
    style = np.arange(pages) % styles
    if repeats:
        return _distinct(style, length, np.random.default_rng((seed, styles))), style
    made = np.empty((pages, 10), np.int64)
    for one in range(styles):
        rows = np.flatnonzero(style == one)
        ranks = np.random.default_rng((seed, styles, one)).choice(PERMUTATIONS, len(rows), replace=False)
        made[rows] = permutations(ranks)
    return made, style


def _distinct(style: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Digits (pages, length) drawn one by one; a page that is like an earlier one of its style is drawn again."""
    made = rng.integers(0, 10, (len(style), length))
    again = np.arange(len(style))
    while len(again) and length <= DISTINCT:
        numbers = style * 10**length + made @ 10 ** np.arange(length)
        again = np.setdiff1d(np.arange(len(style)), np.unique(numbers, return_index=True)[1])
        made[again] = rng.integers(0, 10, (len(again), length))
    return made


def permutations(ranks: np.ndarray) -> np.ndarray:
    """The permutations (n, 10) of 0 .. 9 with these ranks (n,) in lexical order."""
    left = np.tile(np.arange(10), (len(ranks), 1))
    made = np.empty_like(left)
    base, rows = PERMUTATIONS, np.arange(len(ranks))
    for place in range(10):
        base //= 10 - place
        chosen, ranks = ranks // base, ranks % base
        made[:, place] = left[rows, chosen]
        stays = np.arange(10 - place) != chosen[:, None]
        left = left[stays].reshape(len(ranks), -1)
    return made


def page(look: Look, digits: np.ndarray, colour: RGB, seed: int, number: int) -> np.ndarray:
    """Patches (L, 3, 48, 32) uint8 of a page of `digits` (L,).

    Raises:
        DataError: the font is not there, or its digits are larger than a patch.
    """
    rng, count = np.random.default_rng((seed, number)), len(digits)
    ink = (240 * np.array(colour) / 255 + 8).astype(np.int64)

    def near(level: np.ndarray, *shape: int) -> np.ndarray:
        return np.clip(level + rng.integers(-JITTER, JITTER, (*shape, 3), endpoint=True), 0, 255)

    ink, paper = near(ink), near(np.full(3, PAPER))
    inks = near(ink, count)[:, :, None, None]
    shifts = (rng.uniform(0, look.shift, (count, 2)) * STEPS).round().astype(int)
    share = np.stack([
        glyph(look.font, look.size, look.offset, int(digit), int(right), int(down))
        for digit, (right, down) in zip(digits, shifts, strict=True)
    ])[:, None] / 255  # fmt: skip
    ground = paper[:, None, None]
    x = np.rint(ground + (inks - ground) * share)
    levels = draw_levels(count, rng)
    if look.blur:
        image = x.transpose(2, 0, 3, 1).reshape(HEIGHT, count * WIDTH, 3)
        x = blurred(image, levels).reshape(HEIGHT, count, WIDTH, 3).transpose(1, 3, 0, 2)
    noise = np.trunc(rng.uniform(0, 1) * look.noise * rng.standard_normal(x.shape, np.float32))
    return np.clip(x + noise, 0, 255).astype(np.uint8)


def draw_levels(strips: int, rng: np.random.Generator) -> np.ndarray:
    """(strips,) of 5, 9, 13: 4 m + 1 with m uniform in 1 .. u - 1, u uniform in {2, 3, 4}."""
    return 4 * rng.integers(1, rng.integers(2, 4, strips, endpoint=True)) + 1


def sizes(levels: np.ndarray, width: int) -> np.ndarray:
    """Odd sizes (strips * width,) of the kernels of columns: from each strip's level to the next one's."""
    ends = np.append(levels[1:], levels[-1])
    path = np.linspace(levels, ends, width, axis=1).astype(int).ravel()
    return path + 1 - path % 2


def blurred(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) of whole levels with every column blurred by its own kernel; columns left over stay."""
    width = image.shape[1] // len(levels)
    made, size = image.astype(float), sizes(levels, width)
    for one in np.unique(size).tolist():
        columns = np.flatnonzero(size == one)
        padded = np.pad(image[:, columns].astype(float), ((one // 2,) * 2, (0, 0), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, one, 0)
        made[:, columns] = np.rint(windows @ kernel(one))
    return made


def kernel(size: int) -> np.ndarray:
    """A Gaussian (size,) of sum 1, sigma = 0.3 ((size - 1) / 2 - 1) + 0.8; of 5, 7 and 9 the usual whole numbers."""
    if size in TABLES:
        return np.array(TABLES[size]) / sum(TABLES[size])
    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


@cache
def glyph(font: str, size: int, offset: int, digit: int, right: int, down: int) -> np.ndarray:
    """How much of each pixel (48, 32) uint8 a digit covers, shifted by eighths of a pixel.

    Drawn eight times as large and shrunk, since letters in small are moved to whole pixels.
    """
    letters, text = _font(font, STEPS * size), str(digit)
    margin = 8  # around the patch, to see what would be cut off
    image = Image.new("L", (STEPS * (WIDTH + 2 * margin), STEPS * (HEIGHT + 2 * margin)))
    left = (WIDTH - int(letters.getlength(text) / STEPS)) // 2
    place = STEPS * (margin + left) + right, STEPS * (margin + offset) + down
    ImageDraw.Draw(image).text(place, text, fill=255, font=letters)
    pixels = np.asarray(image.reduce(STEPS))
    inside = pixels[margin:-margin, margin:-margin]
    if int(inside.sum()) < int(pixels.sum()) or not inside.any():
        raise DataError(f"phonenums: the {digit} of '{font}' does not fit in {WIDTH}x{HEIGHT}; lower size, mind offset")
    return inside


@cache
def _font(font: str, size: int) -> ImageFont.FreeTypeFont:
    path = Path(font)
    if not path.is_absolute():
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    try:
        return ImageFont.truetype(str(path), size)
    except OSError:
        raise DataError(f"phonenums: no font '{font}'; name one of {path.parent}, or a TrueType file") from None

"""Pages as one sees them best: fragments one after the other as a film, or side by side as a strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from datasets.atomic import replacing

MILLISECONDS = 250  # of a fragment
COLUMNS = 5  # pages side by side in a film


def film(path: Path, pages: Tensor) -> Path:
    """A GIF without an end of pages (P, L, 3, H, W) in [0, 1], all of them at once, five in a row."""
    shown = _bytes(pages)
    blank = np.zeros((-len(shown) % COLUMNS, *shown.shape[1:]), np.uint8)
    tiles = np.concatenate([shown, blank])
    rows = tiles.reshape(-1, COLUMNS, *tiles.shape[1:])  # (rows, columns, L, H, W, 3)
    _, _, length, height, width, _ = rows.shape
    frames = rows.transpose(2, 0, 3, 1, 4, 5).reshape(length, len(rows) * height, COLUMNS * width, 3)
    first, *others = (Image.fromarray(frame) for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=others, duration=MILLISECONDS, loop=0)
    return path


def strips(path: Path, pages: Tensor) -> Path:
    """A PNG of pages (P, L, 3, H, W) in [0, 1], one below the other, the fragments of each from left to right."""
    shown = _bytes(pages)
    count, length, height, width, _ = shown.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pixels = shown.transpose(0, 2, 1, 3, 4).reshape(count * height, length * width, 3)
        Image.fromarray(pixels).save(temporary, "PNG")
    return path


def _bytes(pages: Tensor) -> np.ndarray:
    pixels: np.ndarray = (pages * 255).round().byte().numpy()
    return pixels.transpose(0, 1, 3, 4, 2)

"""Cutting words of three syllables apart at the two falls of their loudness, and writing the pieces as a set.

Of a word y at rate r, with a = |y| and windows of W = r // 44 samples: m_i = max of a[i : i + W], p_i = the 90th
percentile there. Otsu's threshold (1979) of p is taken from a histogram of ten bins; a syllable ends where m falls to
it or below. This is how the syllables of Artificial Speech were made (see `datasets.deboer`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import maximum_filter1d, rank_filter

from datasets import _sound, config
from datasets.atomic import replacing
from datasets.base import DataError

WINDOWS_PER_SECOND = 44
NAMED = re.compile(r"(?:[bdg][aiu]){3}_\d+\.wav")


class SplitConfig(config.Config):
    """How words are cut into syllables."""

    rate: int = Field(22_050, ge=8000, le=96_000, description="Hz at which words are cut and syllables are written")
    fit: Literal["pad", "crop"] = Field(
        "pad", description="one length for all: pad to the longest with silence, or crop to the shortest"
    )
    by: Literal["take", "folder", "random"] = Field(
        "take", description="what goes to `test`: takes but the first (published), the folder test/, a random share"
    )
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the recordings in `test`, with by = random")
    seed: int = Field(0, ge=0, lt=2**31, description="of by = random")


def levels(y: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest and the 90th percentile of |y| (n,) over each window of `width` samples, (n - width,) both."""
    a = np.abs(y)
    here = slice(width // 2, width // 2 + len(a) - width)  # filters give a window's value at its middle
    rank, share = divmod(0.9 * (width - 1), 1)
    low, high = (rank_filter(a, int(rank) + more, size=width)[here] for more in (0, min(1, width - 1 - int(rank))))
    return maximum_filter1d(a, width)[here], low + share * (high - low)


def otsu(values: np.ndarray, bins: int = 10) -> float:
    """The centre of a histogram's last bin below the cut that parts it best: the largest w1 w2 (mean1 - mean2)^2."""
    heights, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(heights)[:-1], np.cumsum(heights[::-1])[::-1][1:]
    mean_below = np.cumsum(heights * centres)[:-1] / np.maximum(below, 1)
    mean_above = np.cumsum((heights * centres)[::-1])[::-1][1:] / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def cuts(y: np.ndarray, width: int) -> tuple[int, int] | None:
    """Where the second and the third syllable of y (n,) begin; None where they cannot be told.

    The last fall is the word's end. Unless two others are left, those nearest to a third and two thirds are taken.
    """
    if len(y) <= width + 1:
        return None
    loudest, percentile = levels(y, width)
    loud = loudest > otsu(percentile)
    falls = np.flatnonzero(loud[:-1] & ~loud[1:])[:-1] + 1
    if len(falls) == 0:
        return None
    if len(falls) != 2:
        third = -(-len(y) // 3)
        falls = np.array([falls[np.argmin(np.abs(falls - mark))] for mark in (third, 2 * third)])
    return None if falls[0] == falls[1] else (int(falls[0]), int(falls[1]))


def split(y: np.ndarray, rate: int) -> list[np.ndarray] | None:
    """The three syllables of a word y (n,), which together are the word; None where they cannot be told."""
    found = cuts(y, rate // WINDOWS_PER_SECOND)
    return None if found is None else np.split(y, found)


def fitted(pieces: list[np.ndarray], how: Literal["pad", "crop"]) -> list[np.ndarray]:
    """Pieces brought to one length; of what is added or cut away, half (rounded down) is in front."""
    length = (max if how == "pad" else min)(map(len, pieces))
    made = []
    for piece in pieces:
        before = abs(len(piece) - length) // 2
        short = len(piece) <= length
        made.append(np.pad(piece, (before, length - len(piece) - before)) if short else piece[before : before + length])
    return made


def write_syllables(cfg: SplitConfig, words: Path, out: Path) -> Iterator[str]:
    """Cut every WORD_TAKE.wav in `words`, `words`/train and `words`/test; lines that say what came of it.

    Writes OUT/{train,test}/WORD_TAKE_PLACE_SYLLABLE.wav, whole or not at all.

    Raises:
        DataError: there are no words, or `out` exists.
    """
    files = sorted(path for place in (".", "train", "test") for path in (words / place).glob("*.wav"))
    files = [path for path in files if NAMED.fullmatch(path.name)]
    if not files:
        raise DataError(f"{words}: holds no word such as babibu_1.wav, nor do train/ and test/ in it")
    if out.exists():
        raise DataError(f"{out}: is there already; delete it, or name another folder")
    yield f"{len(files):,} words to cut at {cfg.rate:,} Hz"
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        cut = list(pool.map(lambda path: split(_sound.read(path, cfg.rate).numpy().astype(float), cfg.rate), files))
    names, pieces = [], []
    for path, test, one in zip(files, _tested(cfg, files), cut, strict=True):
        for place, piece in enumerate(one or ()):
            syllable = path.stem[2 * place : 2 * place + 2]
            names.append(f"{'test' if test else 'train'}/{path.stem}_{place + 1}_{syllable}.wav")
            pieces.append(piece)
    if not pieces:
        raise DataError(f"{words}: no word could be cut; are these words of three syllables?")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as folder:
        sounds = fitted(pieces, cfg.fit)
        for name, sound in zip(names, sounds, strict=True):
            _sound.write(folder / name, sound, cfg.rate)
    failed = [path.stem for path, one in zip(files, cut, strict=True) if one is None]
    if failed:
        yield f"{len(failed)} could not be cut: {', '.join(failed[:5])}{' ...' * (len(failed) > 5)}"
    count = sum(name.startswith("test") for name in names)
    yield f"{out}: {len(names) - count:,} syllables in train, {count:,} in test, {len(sounds[0]):,} samples each"


def _tested(cfg: SplitConfig, files: list[Path]) -> list[bool]:
    """Which recordings go to `test`, with all their syllables."""
    if cfg.by == "folder":
        return [path.parent.name == "test" for path in files]
    if cfg.by == "take":
        return [path.stem.split("_")[1] != "1" for path in files]
    chosen = np.random.default_rng(cfg.seed).permutation(len(files))[: round(cfg.held_out * len(files))]
    return np.isin(np.arange(len(files)), chosen).tolist()

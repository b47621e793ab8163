"""Free Spoken Digits: English digits by six speakers, 8 kHz (Jackson et al., Zenodo 1342401).

Layout: ROOT/recordings/DIGIT_SPEAKER_TAKE.wav, or the same in ROOT/fsdd or in a clone or archive of the repository in
ROOT. Takes 0 to 4 are `test`, as published; `val` is held out of the others with equal shares of digits and speakers.
Labels "digit" (10) and "speaker". All is brought to 16 kHz; an item is the beginning of a recording, with silence
behind a shorter one.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from pydantic import Field

from datasets import _parts, _sound, config
from datasets._download import unpacked
from datasets._sound import FRAME, RATE, Pieces, Sounds
from datasets.base import DataError, Source, Spec, Split

VERSION = 1
DOWNLOAD = "Free Spoken Digits (16 MB) of github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
NAMES = ("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset-1.0.10", "free-spoken-digit-dataset-master")
NAMED = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
TESTED = 5  # takes below it are `test`
OFFICIAL = 3000


class Config(config.Config):
    """Options of Free Spoken Digits."""

    length: int = Field(10_240, ge=FRAME, le=10**6, description="samples of an item at 16 kHz; 95 % are shorter")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training recordings held out for validation")
    per_class: int | None = Field(None, ge=1, description="training recordings of each digit; None = all")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which recording is held out")
    limit: int | None = Field(None, ge=1, description="at most so many recordings of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all recordings are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _parts.find(root, "recordings", NAMES) / "recordings"
    files = sorted(path for path in folder.glob("*.wav") if NAMED.fullmatch(path.name))
    if not files:
        raise DataError(f"fsdd: no file such as 7_theo_0.wav in {folder}; fetch the set again")
    named = [path.stem.split("_") for path in files]
    speakers = sorted({speaker for _, speaker, _ in named})
    labels = {
        "digit": np.array([int(digit) for digit, _, _ in named]),
        "speaker": np.array([speakers.index(speaker) for _, speaker, _ in named]),
    }
    tested = np.array([int(take) < TESTED for *_, take in named])
    rows = np.flatnonzero(tested if split == "test" else ~tested)
    if split != "test":
        both = labels["digit"][rows] * len(speakers) + labels["speaker"][rows]
        val, train = _parts.parts(both, [max(1, round(len(rows) * cfg.val_fraction))], cfg.split_seed)
        rows = rows[val if split == "val" else train]
    if split == "train" and cfg.per_class:
        rows = rows[_parts.some_per_class(labels["digit"][rows], cfg.per_class, cfg.split_seed)]
    rows = rows[_parts.limited(labels["digit"][rows], cfg.limit, cfg.split_seed)]
    if len(rows) == 0:
        raise DataError(f"fsdd: {folder}: no recording for a split '{split}'; fetch the set again")
    entry = _sound.packed(_parts.key("fsdd", _sound.VERSION, files), files)
    spec = Spec(
        shape=(1, cfg.length),
        labels={"digit": 10, "speaker": len(speakers)},
        rate=RATE,
        fingerprint=entry.fingerprint,
        note="" if len(files) == OFFICIAL else f"{len(files):,} of {OFFICIAL:,} recordings present",
    )
    return Sounds(Pieces.of(entry.arrays).take(rows), spec, {name: value[rows] for name, value in labels.items()})


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/fsdd, unless it is already there."""
    try:
        _parts.find(root, "recordings", NAMES)
    except DataError:
        unpacked(URL, root / "fsdd", strip=1)

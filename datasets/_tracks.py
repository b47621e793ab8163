"""What the sets of labelled tracks share: options, items cut out of the tracks, and how a track's labels are named.

A reader lists the files with their labels and says which ones make up a split; the rest is here. Tracks are decoded
once, those of all splits into one array, and cut into items (see `datasets._items`).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field

from datasets import _parts, _sound, config
from datasets._items import Items, Padding, items_of
from datasets._sound import Pieces
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Arrays

VERSION = 1
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".au", ".aif", ".aiff")
PITCHES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
FLATS = {"C#": "Db", "D#": "Eb", "F#": "Gb", "G#": "Ab", "A#": "Bb"}
TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
TEMPI = 300  # classes, one for each whole number of beats in a minute


class TrackConfig(config.Config):
    """Options of sets of labelled tracks."""

    rate: int = Field(16_000, ge=1000, le=192_000, description="Hz that all tracks are brought to")
    seconds: float = Field(3.0, gt=0, le=600, description="length of an item; what an encoder takes")
    padding: Padding = Field(
        "repeat", description="what a track's last item is filled up with: its own beginning before it, or silence"
    )
    extra: bool = Field(
        False, description="an item of silence more where a track's length is a multiple of an item's (synesis)"
    )
    excerpt: float | None = Field(
        None, gt=0, le=36_000, description="seconds in the middle of each track that are kept; None = all of it"
    )
    split_seed: int = Field(0, ge=0, lt=2**31, description="which track goes to which split, where none is published")
    limit: int | None = Field(None, ge=1, description="at most so many items of each split; no other track is decoded")

    @property
    def length(self) -> int:
        """Samples of an item."""
        return int(self.seconds * self.rate)


@dataclass(frozen=True)
class Tracks:
    """What a reader found.

    Attributes:
        files: the tracks. classes: factor -> number of classes. labels: factor -> (n,) of each track.
        rows: positions of each split's tracks. tags: see `Spec.tags`. notes: what a user should know.
        strata: (n,) int64 whose shares a limited split keeps.
    """

    files: list[Path]
    classes: dict[str, int]
    labels: Arrays
    rows: dict[Split, np.ndarray]
    strata: np.ndarray
    tags: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def source(name: str, cfg: TrackConfig, tracks: Tracks, split: Split) -> Source:
    """The items of one split; on first use its tracks are decoded into the cache.

    Raises:
        DataError: the split has no track, a file is damaged, or the cache has no space.
    """
    rows = tracks.rows[split]
    if len(rows) == 0:
        raise DataError(f"{name}: has no track for a split '{split}' with these options")
    _refuse_shared(name, tracks)
    if cfg.length < 1:
        raise DataError(f"{name}: data.seconds is less than a sample; raise it")
    most = None if cfg.excerpt is None else max(1, int(cfg.excerpt * cfg.rate))
    if cfg.limit is not None:
        rows = _few(cfg, cfg.limit, tracks, rows, most)
    every = rows if cfg.limit is not None else np.unique(np.concatenate([tracks.rows[one] for one in SPLITS]))
    files = [tracks.files[row] for row in every]
    key = _parts.key(name, _sound.VERSION, files, VERSION, cfg.rate, most)
    entry = _sound.packed(key, files, "lower data.limit or data.excerpt", cfg.rate, most)
    told = repr((sorted(tracks.classes.items()), tracks.tags, {one: tracks.rows[one].tolist() for one in SPLITS}))
    digest = hashlib.sha256(f"{entry.fingerprint} {told}".encode())
    for factor in sorted(tracks.labels):
        digest.update(np.ascontiguousarray(tracks.labels[factor]).tobytes())
    spec = Spec(
        shape=(1, cfg.length),
        labels=tracks.classes,
        rate=cfg.rate,
        fingerprint=digest.hexdigest()[:16],
        note="; ".join(tracks.notes),
        tags=tracks.tags,
    )
    pieces = Pieces.of(entry.arrays).take(np.searchsorted(every, rows))
    labels = {factor: value[rows] for factor, value in tracks.labels.items()}
    return Items(pieces, spec, labels, cfg.padding, cfg.extra, cfg.limit)


def _refuse_shared(name: str, tracks: Tracks) -> None:
    """Raise DataError where what tests may train: lists and tables are written by others."""
    of: dict[Path, Split] = {}
    for split in SPLITS:
        for row in tracks.rows[split]:
            file = tracks.files[row]
            if of.setdefault(file, split) != split:
                raise DataError(f"{name}: {file}: is in '{of[file]}' and in '{split}'; list each track in one of them")


def _few(cfg: TrackConfig, limit: int, tracks: Tracks, rows: np.ndarray, most: int | None) -> np.ndarray:
    """As many tracks as make up `limit` items, with the strata's shares; lengths of no other are read."""
    found, items = [], 0
    for row in rows[_parts.interleaved(tracks.strata[rows], cfg.split_seed)]:
        count = _sound.count(tracks.files[row], cfg.rate)
        found.append(row)
        items += int(items_of(np.array([count if most is None else min(count, most)]), cfg.length, cfg.extra)[0])
        if items >= limit:
            break
    return np.sort(np.array(found))


def shares(strata: np.ndarray, held: Sequence[float], seed: int) -> dict[Split, np.ndarray]:
    """A seeded split that keeps the strata's shares; `held`: shares of `val` and `test`."""
    sizes = [max(1, round(len(strata) * share)) for share in held]
    val, test, train = _parts.parts(strata, sizes, seed)
    return {"train": train, "val": val, "test": test}


def audio_in(folder: Path) -> dict[str, Path]:
    """Name without suffix -> path, of all sound files below a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return {path.stem: path for path in found}


def table(file: Path, delimiter: str, name: str) -> list[dict[str, str]]:
    """The rows of a table with a header; cells that a short row lacks are empty.

    Raises:
        DataError: there is none, or it is no text.
    """
    try:
        return list(csv.DictReader(text(file, name).splitlines(), delimiter=delimiter, restval=""))
    except csv.Error as error:
        raise DataError(f"{name}: {file}: is no table ({error}); fetch it again") from None


def text(file: Path, name: str) -> str:
    """The content of a small file of annotations; raises as `table`."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "no such file" if not file.exists() else " ".join(str(error).split())[:120]
        raise DataError(f"{name}: {file}: cannot be read ({reason}); fetch it again") from None


def multi_hot(tags: Sequence[str], of: Sequence[set[str]]) -> Arrays:
    """Tag -> (n,) int64, 1 of those that have it."""
    return {tag: np.array([tag in own for own in of], np.int64) for tag in tags}


# -- names of labels ------------------------------------------------------------------------------------------------


def midi(note: str) -> int:
    """The number of a note: 60 of C4, 66 of F#4 or Gb4.

    Raises:
        ValueError: it is no letter, sharp or flat, and octave.
    """
    name = note.replace("_", "")  # TinySOL has "F#_" in places
    step = PITCHES[name[0]] if name[:1] in PITCHES else None
    sign = {"#": 1, "b": -1}.get(name[1:2], 0)
    octave = name[1 + abs(sign) :]
    if step is None or not octave.isdigit():
        raise ValueError(f"'{note}' is no note such as F#4")
    return step + sign + 12 * (int(octave) + 1)


def key_class(key: str) -> int | None:
    """Position in `KEYS` of "C# minor" or "Db minor"; None of "-", of two keys, and of what is no key."""
    tonic, _, mode = " ".join(key.split()).partition(" ")
    name = f"{FLATS.get(tonic, tonic)} {mode.lower()}"
    return KEYS.index(name) if name in KEYS else None


def tempo_class(tempo: float) -> int | None:
    """The whole beats of a minute, below `TEMPI`; None of faster ones, which are left out."""
    return int(tempo) if 0 <= tempo < TEMPI else None

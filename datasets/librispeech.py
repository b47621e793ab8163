"""LibriSpeech: read English speech, 16 kHz (Panayotov et al., ICASSP 2015), with speakers and aligned phones.

Layout, in ROOT or ROOT/librispeech:

    LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac     PART is train-clean-100
    LibriSpeech100_labels_split/{train,test}_split.txt                  an utterance a line; those of CPC
    LibriSpeech100_labels_split/converted_aligned_phones.txt            an utterance and a phone 0 .. 40 for each 10 ms
    LibriSpeech100_labels_split_subset/...                              the same three of a small subset

`val` is a seeded part of the training list, within speakers, unless train_val_train.txt and train_val_val.txt lie
beside it. Without lists the split is a seeded one within speakers, and `Spec.note` says so. An item is a crop of 1.28
s, drawn anew for every batch from the multiples of 10 ms (in `test` too, as published), or a whole utterance with
silence behind it. Labels: "speaker", in the order in which the training list first names them, those who are in `test`
alone at the end; with an alignment also "phone" (41) of every 10 ms, -1 behind an utterance's end or where it has none.
Alignments have some 20 ms less than the sound: phones stand from the first frame on, or of whole utterances up to the
last full one (`phones: end`), as SIM and GIM compare them with predictions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from datasets import _parts, _sound, config
from datasets._sound import FRAME, RATE, Pieces, Sounds
from datasets.base import DataError, Source, Spec, Split
from datasets.config import ConfigError
from datasets.memory import Arrays, cached

VERSION = 1
DOWNLOAD = (
    "LibriSpeech train-clean-100 (6.3 GB) of openslr.org, CC BY 4.0; the lists and phones that CPC's authors offer are "
    "not fetched"
)
LISTS = {"full": "LibriSpeech100_labels_split", "small": "LibriSpeech100_labels_split_subset"}
PHONES, ALIGNED = 41, "converted_aligned_phones.txt"
OFFICIAL = {"train-clean-100": 28_539}
CROP = 20_480
AFFINE = (2.0**31 / 135303504, 1456218.75 / 135303504)  # (a, b) of a x + b: GIM normalises 32-bit integers


class Config(config.Config):
    """Options of LibriSpeech."""

    part: str = Field("train-clean-100", pattern=r"^[a-z0-9-]+$", description="folder in LibriSpeech/")
    lists: Literal["auto", "full", "small", "none"] = Field(
        "auto", description="published: full, or small for the subset; none = a seeded split; auto = full or none"
    )
    items: Literal["crops", "utterances"] = Field("crops", description="what an item is")
    length: int | None = Field(
        None, ge=FRAME, multiple_of=FRAME, description="samples; None = 20,480 of crops, the longest utterance's"
    )
    short: Literal["skip", "pad"] = Field("skip", description="utterances that a crop does not fit in")
    phones: Literal["start", "end"] = Field(
        "start", description="where an utterance has fewer than frames: the last ones have none, or the first (SIM)"
    )
    normalise: bool = Field(False, description="15.87 x + 0.01076 as in GIM; not in [-1, 1] then")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training utterances held out for validation")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of all utterances in `test`, without lists")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which utterance goes to which split")
    limit: int | None = Field(None, ge=1, description="at most so many utterances of each split; no other is decoded")

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.phones == "end" and self.items == "crops":
            raise ConfigError("phones: 'end' is of whole utterances; set items: utterances")
        return self


@dataclass(frozen=True)
class Listing:
    """The utterances at hand: names in order, files, samples of each, and what the state of the files is known by."""

    names: list[str]
    files: list[Path]
    counts: np.ndarray
    state: str


@dataclass(frozen=True)
class Parts:
    """Which utterances belong to which split.

    Attributes:
        rows: positions in the listing. training: those of `train` and `val`, in the order of the list.
        origin: where the split comes from, "" for published lists. missing: how many listed ones are not there.
    """

    rows: dict[Split, np.ndarray]
    training: np.ndarray
    origin: str = ""
    missing: int = 0


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its recordings are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _parts.find(root, f"LibriSpeech/{cfg.part}", ("librispeech",))
    listing = _listing(folder / "LibriSpeech" / cfg.part)
    length = cfg.length or (CROP if cfg.items == "crops" else -(-int(listing.counts.max()) // FRAME) * FRAME)
    fits = np.full(len(listing.names), True)
    if cfg.items == "crops" and cfg.short == "skip":
        fits = _sound.crops(listing.counts, length) > 0
    lists = _lists(cfg, folder)
    parts = _published(lists, listing, fits, cfg) if lists else _seeded(listing, fits, cfg)
    if len(parts.rows[split]) == 0:
        raise DataError(f"librispeech: {folder}: no utterance for a split '{split}' with these options")
    speakers = _speakers(listing, parts)
    rows = parts.rows[split]
    rows = rows[_parts.limited(speakers[rows], cfg.limit, cfg.split_seed)]
    # `train`, `val` and `test` share an entry, unless only some are asked for
    packed = np.sort(rows) if cfg.limit else np.unique(np.concatenate(list(parts.rows.values())))
    key = _parts.key("librispeech", _sound.VERSION, [], listing.state, packed.tobytes())
    entry = _sound.packed(key, [listing.files[row] for row in packed])
    sound = Pieces.of(entry.arrays).take(np.searchsorted(packed, rows))
    frames, told = _phones(lists / ALIGNED if lists else None, [listing.names[row] for row in rows])
    known = "\n".join(listing.names[row] for part in parts.rows.values() for row in part)
    spec = Spec(
        shape=(1, length),
        labels={"speaker": int(speakers.max()) + 1, **dict.fromkeys(frames, PHONES)},
        rate=RATE,
        fingerprint=hashlib.sha256(f"{entry.fingerprint} {told} {known}".encode()).hexdigest()[:16],
        note="; ".join(_notes(cfg, listing, parts, int((~fits).sum()))),
        frames=dict.fromkeys(frames, FRAME),
    )
    late = {name: _late(cfg, sound, pieces) for name, pieces in frames.items()}
    grid, affine = FRAME if cfg.items == "crops" else 0, AFFINE if cfg.normalise else (1.0, 0.0)
    return Sounds(sound, spec, {"speaker": speakers[rows]}, frames=frames, late=late, grid=grid, affine=affine)


def fetch(cfg: Config, root: Path) -> None:
    """Download the part to ROOT/librispeech, unless it is already there."""
    try:
        _parts.find(root, f"LibriSpeech/{cfg.part}", ("librispeech",))
    except DataError:
        from torchaudio.datasets import LIBRISPEECH

        (root / "librispeech").mkdir(parents=True, exist_ok=True)
        LIBRISPEECH(str(root / "librispeech"), url=cfg.part, download=True)


# -- what is there --------------------------------------------------------------------------------------------------


def _listing(folder: Path) -> Listing:
    """All utterances, by speaker, chapter and number; a file that is changed in place is not noticed."""
    found: list[tuple[str, Path]] = []
    times = []
    for chapter in sorted(folder.glob("*/*/")):
        times.append((str(chapter.resolve()), chapter.stat().st_mtime_ns))
        for name in os.listdir(chapter):  # noqa: PTH208 - of 28,539 files only the names are wanted
            if name.endswith(".flac"):
                found.append((name.removesuffix(".flac"), chapter / name))
    if not found:
        raise DataError(f"librispeech: no SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac in {folder}")
    for name, path in found:
        if [part.isdigit() for part in name.split("-")] != [True] * 3:
            raise DataError(f"librispeech: {path}: should be named SPEAKER-CHAPTER-UTTERANCE.flac")
    found.sort(key=lambda one: [int(part) for part in one[0].split("-")])
    names, files = [name for name, _ in found], [path for _, path in found]
    state = _parts.key("librispeech-lengths", VERSION, [], times, names)
    counts = cached(state, lambda: {"counts": _sound.counts(files)}).arrays["counts"]
    return Listing(names, files, np.asarray(counts), state)


def _lists(cfg: Config, folder: Path) -> Path | None:
    """The folder of the split lists, None for a seeded split."""
    if cfg.lists == "none":
        return None
    place = folder / LISTS["small" if cfg.lists == "small" else "full"]
    if (place / "train_split.txt").exists():
        return place
    if cfg.lists == "auto":
        return None
    raise DataError(f"librispeech: no 'train_split.txt' in {place}; put CPC's lists there, or set data.lists=none")


def _published(lists: Path, listing: Listing, fits: np.ndarray, cfg: Config) -> Parts:
    """The split of the lists."""
    place = {name: row for row, name in enumerate(listing.names)}
    missing = 0

    def rows(name: str) -> np.ndarray:
        nonlocal missing
        listed = [line.strip() for line in _text(lists / f"{name}.txt").splitlines() if line.strip()]
        there = [place[line] for line in listed if line in place]
        missing += len(listed) - len(there)
        if not there:
            raise DataError(f"librispeech: {lists / name}.txt: names no utterance that is there ({listing.names[0]})")
        return np.array([row for row in there if fits[row]], int)

    test = rows("test_split")
    if (lists / "train_val_train.txt").exists() and (lists / "train_val_val.txt").exists():
        train, val = rows("train_val_train"), rows("train_val_val")
        training = np.concatenate([train, val])
    else:
        training = rows("train_split")
        val, train = _within(listing, training, cfg.val_fraction, cfg.split_seed)
    return Parts({"train": train, "val": val, "test": test}, training, missing=missing)


def _seeded(listing: Listing, fits: np.ndarray, cfg: Config) -> Parts:
    """A split within speakers, as far as they have several utterances."""
    test, training = _within(listing, np.flatnonzero(fits), cfg.test_fraction, cfg.split_seed)
    val, train = _within(listing, training, cfg.val_fraction, cfg.split_seed)
    return Parts({"train": train, "val": val, "test": test}, training, "a seeded split within speakers")


def _within(listing: Listing, rows: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A share of the rows, with its part of every speaker, and the rest; both in the order in which they came."""
    speakers = np.unique([listing.names[row].split("-")[0] for row in rows], return_inverse=True)[1]
    taken, rest = _parts.parts(speakers, [max(1, round(len(rows) * share))], seed)
    return rows[taken], rows[rest]


def _speakers(listing: Listing, parts: Parts) -> np.ndarray:
    """The number of each utterance's speaker, by first appearance among the training utterances, then the others."""
    names = [listing.names[row].split("-")[0] for row in [*parts.training, *parts.rows["test"]]]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([number.get(name.split("-")[0], 0) for name in listing.names])


def _notes(cfg: Config, listing: Listing, parts: Parts, short: int) -> list[str]:
    there, full = len(listing.names), OFFICIAL.get(cfg.part)
    notes = [f"{there:,} of {full:,} utterances present"] if full and there != full and not parts.missing else []
    notes += [f"{parts.missing:,} listed utterances are not there"] if parts.missing else []
    notes += [f"{short:,} utterances too short for a crop left out"] if short else []
    return notes + ([parts.origin] if parts.origin else [])


# -- phones ---------------------------------------------------------------------------------------------------------


def _phones(file: Path | None, names: Sequence[str]) -> tuple[dict[str, Pieces], str]:
    """Phones of the named utterances, where there is an alignment, and its fingerprint."""
    if file is None or not file.exists():
        return {}, ""
    entry = cached(_parts.key("librispeech-phones", VERSION, [file]), lambda: _aligned(file))
    place = {str(name): row for row, name in enumerate(entry.arrays["names"])}
    every = Pieces.of(entry.arrays)
    rows = np.array([place.get(name, -1) for name in names])
    begin, count = np.where(rows < 0, 0, every.begin[rows]), np.where(rows < 0, 0, every.count[rows])
    return {"phone": Pieces(every.flat, begin, count)}, entry.fingerprint


def _late(cfg: Config, sound: Pieces, phones: Pieces) -> np.ndarray:
    """Frames of each utterance before its first phone."""
    if cfg.phones == "start":
        return np.zeros(len(sound), np.int64)
    return np.maximum(sound.count // FRAME - phones.count, 0)


def _aligned(file: Path) -> Arrays:
    names, phones = [], []
    for number, line in enumerate(_text(file).splitlines(), 1):
        name, *rest = line.split() or [""]
        try:
            found = np.array(rest, np.int64)
        except ValueError:
            found = np.array([-1])
        if name and (found.min(initial=0) < 0 or found.max(initial=0) >= PHONES):
            raise DataError(f"librispeech: {file}:{number}: should be an utterance and a phone 0 .. 40 for each 10 ms")
        if name:
            names.append(name)
            phones.append(found.astype(np.int8))
    if not names:
        raise DataError(f"librispeech: {file}: holds no utterance")
    return {"names": np.array(names), **_sound.joined(phones, -1)}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"librispeech: no '{file.name}' in {file.parent}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"librispeech: {file}: cannot be read ({' '.join(str(error).split())[:120]})") from None

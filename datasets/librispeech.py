"""LibriSpeech: read English speech, 16 kHz (Panayotov et al., ICASSP 2015), with speakers and aligned phones.

Layout, in ROOT or ROOT/librispeech:

    LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac     PART is train-clean-100
    LibriSpeech100_labels_split/{train,test}_split.txt                  an utterance a line; those of CPC
    LibriSpeech100_labels_split/converted_aligned_phones.txt            an utterance and a phone 0 .. 40 for each 10 ms
    LibriSpeech100_labels_split_subset/...                              the same three of a small subset

The split is that of the lists, or of parts: with `val_part` and `test_part` all of each part is a split, as in synesis
(train-clean-100, dev-clean, test-clean). Of lists `val` is a seeded part of the training one, within speakers, unless
train_val_train.txt and train_val_val.txt lie beside it. Without lists the split is a seeded one within speakers, and
`Spec.note` says so.

An item is a crop of 1.28 s, drawn anew for every batch from the multiples of 10 ms (in `test` too, as published), a
whole utterance with silence behind it, or a piece: utterances are cut into items of one length (`datasets._items`).
Labels: "speaker", in the order in which the training list first names them, those who are in other splits alone at the
end; where each utterance has a line in SPEAKER-CHAPTER.trans.txt also "wps", its words in a second, of all of it; with
an alignment also "phone" (41) of every 10 ms, -1 behind an utterance's end or where it has none, not of pieces.
Alignments have some 20 ms less than the sound: phones stand from the first frame on, or of whole utterances up to the
last full one (`phones: end`), as SIM and GIM compare them with predictions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from datasets import _parts, _sound, config
from datasets._download import unpacked
from datasets._items import Items, Padding, items_of
from datasets._sound import FRAME, RATE, Pieces, Sounds
from datasets._utterances import Listing, listed, text, together
from datasets.base import DataError, Source, Spec, Split
from datasets.config import ConfigError
from datasets.memory import Arrays, cached

VERSION = 1
DOWNLOAD = (
    "LibriSpeech train-clean-100 (6.3 GB) and what other parts are named, of openslr.org, CC BY 4.0; the lists and "
    "phones that CPC's authors offer are not fetched"
)
LISTS = {"full": "LibriSpeech100_labels_split", "small": "LibriSpeech100_labels_split_subset"}
PHONES, ALIGNED = 41, "converted_aligned_phones.txt"
OFFICIAL = {"train-clean-100": 28_539, "dev-clean": 2703, "test-clean": 2620}
URL = "https://www.openslr.org/resources/12"
CHECKSUMS = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
PART = r"^[a-z0-9-]+$"
CROP = 20_480
AFFINE = (2.0**31 / 135303504, 1456218.75 / 135303504)  # (a, b) of a x + b: GIM normalises 32-bit integers


class Config(config.Config):
    """Options of LibriSpeech."""

    part: str = Field("train-clean-100", pattern=PART, description="folder in LibriSpeech/")
    val_part: str | None = Field(
        None, pattern=PART, description="folder that is `val`, with test_part; None = of `part` (synesis: dev-clean)"
    )
    test_part: str | None = Field(None, pattern=PART, description="folder that is `test` (synesis: test-clean)")
    lists: Literal["auto", "full", "small", "none"] = Field(
        "auto", description="published: full, or small for the subset; none = a seeded split; auto = full or none"
    )
    items: Literal["crops", "utterances", "pieces"] = Field(
        "crops", description="what an item is; pieces = utterances cut into items of `seconds`"
    )
    seconds: float = Field(10.0, gt=0.001, le=60, description="length of a piece (synesis: the encoder's, mostly 10)")
    rate: int = Field(RATE, ge=1000, le=192_000, description="Hz of pieces, which an encoder asks for; others: 16,000")
    padding: Padding = Field(
        "repeat", description="what an utterance's last piece is filled up with: its beginning before it, or silence"
    )
    extra: bool = Field(
        False, description="a piece of silence more where an utterance's length is a multiple of a piece's (synesis)"
    )
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
    limit: int | None = Field(
        None, ge=1, description="at most so many items of each split; no other utterance is decoded"
    )

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.phones == "end" and self.items != "utterances":
            raise ConfigError("phones: 'end' is of whole utterances; set items: utterances")
        if self.rate != RATE and self.items != "pieces":
            raise ConfigError(f"rate: {self.items} are at {RATE:,} Hz; set items: pieces")
        if (self.val_part is None) != (self.test_part is None):
            raise ConfigError("val_part: goes with test_part; set both or none")
        if len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"part, val_part, test_part: should be different folders (got {', '.join(self.parts)})")
        return self

    @property
    def parts(self) -> list[str]:
        """The folders of utterances, of `train`, `val` and `test` where there are several."""
        return [self.part, *(part for part in (self.val_part, self.test_part) if part)]


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
    listing = together([listed(folder / "LibriSpeech" / part) for part in cfg.parts])
    length = _length(cfg, listing)
    fits = np.full(len(listing.names), True)
    if cfg.items == "crops" and cfg.short == "skip":
        fits = _sound.crops(listing.counts, length) > 0
    lists = _lists(cfg, folder)
    if cfg.test_part:
        parts = _of_folders(listing, fits)
    else:
        parts = _published(lists, listing, fits, cfg) if lists else _seeded(listing, fits, cfg)
    if len(parts.rows[split]) == 0:
        raise DataError(f"librispeech: {folder}: no utterance for a split '{split}' with these options")
    speakers = _speakers(listing, parts)
    rows = _limited(cfg, listing, parts.rows[split], speakers, length)
    # `train`, `val` and `test` share an entry, unless only some are asked for
    packed = np.sort(rows) if cfg.limit else np.unique(np.concatenate(list(parts.rows.values())))
    rate = [] if cfg.rate == RATE else [cfg.rate]
    key = _parts.key("librispeech", _sound.VERSION, [], listing.state, packed.tobytes(), *rate)
    entry = _sound.packed(key, [listing.files[row] for row in packed], rate=cfg.rate)
    sound = Pieces.of(entry.arrays).take(np.searchsorted(packed, rows))
    aligned = lists / ALIGNED if lists and cfg.items != "pieces" else None
    frames, told = _phones(aligned, [listing.names[row] for row in rows])
    known = "\n".join(listing.names[row] for part in parts.rows.values() for row in part)
    labels: Arrays = {"speaker": speakers[rows]}
    if listing.pace is not None:
        labels["wps"] = listing.pace[rows]
        told += " ".join(map(str, listing.words))
    spec = Spec(
        shape=(1, length),
        labels={name: int(speakers.max()) + 1 if name == "speaker" else 0 for name in labels}
        | dict.fromkeys(frames, PHONES),
        rate=cfg.rate,
        fingerprint=hashlib.sha256(f"{entry.fingerprint} {told} {known}".encode()).hexdigest()[:16],
        note="; ".join(_notes(cfg, listing, parts, int((~fits).sum()))),
        frames=dict.fromkeys(frames, FRAME),
    )
    affine = AFFINE if cfg.normalise else (1.0, 0.0)
    if cfg.items == "pieces":
        return Items(sound, spec, labels, cfg.padding, cfg.extra, cfg.limit, affine)
    late = {name: _late(cfg, sound, pieces) for name, pieces in frames.items()}
    grid = FRAME if cfg.items == "crops" else 0
    return Sounds(sound, spec, labels, frames=frames, late=late, grid=grid, affine=affine)


def fetch(cfg: Config, root: Path) -> None:
    """Download the parts to ROOT/librispeech, those that are not there yet."""
    for part in cfg.parts:
        try:
            _parts.find(root, f"LibriSpeech/{part}", ("librispeech",))
        except DataError:
            folder = root / "librispeech" / "LibriSpeech" / part
            unpacked(f"{URL}/{part}.tar.gz", folder, strip=2, checksum=CHECKSUMS.get(part, ""))


def _length(cfg: Config, listing: Listing) -> int:
    """Samples of an item."""
    if cfg.items == "pieces":
        return int(cfg.seconds * cfg.rate)
    return cfg.length or (CROP if cfg.items == "crops" else -(-int(listing.counts.max()) // FRAME) * FRAME)


def _limited(cfg: Config, listing: Listing, rows: np.ndarray, speakers: np.ndarray, length: int) -> np.ndarray:
    """Some of the rows, with the speakers' shares, that make up `limit` items."""
    if cfg.limit is None or cfg.items != "pieces":
        return rows[_parts.limited(speakers[rows], cfg.limit, cfg.split_seed)]
    rows = rows[_parts.interleaved(speakers[rows], cfg.split_seed)]
    counts = np.array([_sound.resampled_length(int(one), RATE, cfg.rate) for one in listing.counts[rows]])
    enough = np.searchsorted(np.cumsum(items_of(counts, length, cfg.extra)), cfg.limit) + 1
    return np.sort(rows[:enough])


# -- what is there --------------------------------------------------------------------------------------------------


def _lists(cfg: Config, folder: Path) -> Path | None:
    """The folder of the split lists, None for a seeded split."""
    if cfg.lists == "none" or cfg.test_part:
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
        listed = [line.strip() for line in text(lists / f"{name}.txt").splitlines() if line.strip()]
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


def _of_folders(listing: Listing, fits: np.ndarray) -> Parts:
    """Each folder a split of its own."""
    parts = np.split(np.arange(len(listing.names)), np.cumsum(listing.sizes)[:-1])
    train, val, test = (part[fits[part]] for part in parts)
    return Parts({"train": train, "val": val, "test": test}, np.concatenate([train, val]))


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
    notes = []
    for part, there in zip(cfg.parts, listing.sizes, strict=True):
        full = OFFICIAL.get(part)
        if full and there != full and not parts.missing:
            notes.append(f"{there:,} of {full:,} utterances{f' of {part}' if cfg.test_part else ''} present")
    untold = int((listing.words < 0).sum())
    notes += [f"{untold:,} utterances without transcript, so none has 'wps'"] if 0 < untold < len(listing.names) else []
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
    for number, line in enumerate(text(file).splitlines(), 1):
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

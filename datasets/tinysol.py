"""TinySOL: single notes of fourteen instruments, played in the ordinary way (Cella et al., 2020, Zenodo 3685367).

Layout, in ROOT or ROOT/tinysol:

    annotation/TinySOL_metadata.csv
    audio/FAMILY/INSTRUMENT/ordinario/NAME.wav

Labels "pitch", the notes there are in their order, and "instrument". The split is a seeded one of 80/10/10 with equal
shares of both. Notes whose pitch no other has are left out, as they could not be both learned and asked for. Items are
cut out of the notes (see `datasets._items`), at 16 kHz and of 3 s unless `rate` and `seconds` say otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets import _parts, _tracks
from datasets._download import downloaded, unpacked
from datasets._tracks import TrackConfig, Tracks
from datasets.base import DataError, Source, Split

VERSION = 1
DOWNLOAD = "TinySOL (1 GB) of zenodo.org/records/3685367, CC BY 4.0"
URL = "https://zenodo.org/records/3685367/files"
CHECKSUMS = {
    "TinySOL.tar.gz": "36030a7fe389da86c3419e5ee48e3b7f",
    "TinySOL_metadata.csv": "a86c9bb115f69e61f2f25872e397fc4a",
}
TABLE, NAMES = "annotation/TinySOL_metadata.csv", ("tinysol", "TinySOL")
OFFICIAL = 2913
HELD = (0.1, 0.1)  # shares of `val` and `test`


class Config(TrackConfig):
    """Options of TinySOL."""


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all notes are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    return _tracks.source("tinysol", cfg, read(_parts.find(root, TABLE, NAMES), cfg.split_seed), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/tinysol, what of it is not there yet."""
    folder = root / "tinysol"
    if not (folder / "audio").is_dir():
        unpacked(f"{URL}/TinySOL.tar.gz?download=1", folder / "audio", 0, CHECKSUMS["TinySOL.tar.gz"])
    if not (folder / TABLE).exists():
        downloaded(f"{URL}/TinySOL_metadata.csv?download=1", folder / TABLE, CHECKSUMS["TinySOL_metadata.csv"])


def read(folder: Path, seed: int) -> Tracks:
    """The notes of the table that are there.

    Raises:
        DataError: the table or all of its notes are missing, or it is not TinySOL's.
    """
    file = folder / TABLE
    rows = _tracks.table(file, ",", "tinysol")
    wanted = ("Path", "Instrument (in full)", "Pitch")
    if not rows or not set(wanted) <= rows[0].keys():
        raise DataError(f"tinysol: {file}: should have columns {', '.join(wanted)}; fetch it again")
    there = [row for row in rows if (folder / "audio" / row["Path"]).is_file()]
    if not there:
        raise DataError(f"tinysol: {folder / 'audio'}: none of the {len(rows):,} notes of the table is there")
    try:
        pitches = np.array([_tracks.midi(row["Pitch"]) for row in there])
    except ValueError as error:
        raise DataError(f"tinysol: {file}: {error}; fetch it again") from None
    known, often = np.unique(pitches, return_counts=True)
    kept = np.flatnonzero(np.isin(pitches, known[often > 1]))
    notes = [f"{len(there):,} of {OFFICIAL:,} notes present"] if len(there) != OFFICIAL else []
    notes += [f"{len(there) - len(kept):,} notes whose pitch no other has left out"] if len(kept) < len(there) else []
    known, pitch = np.unique(pitches[kept], return_inverse=True)
    names = [there[row]["Instrument (in full)"] for row in kept]
    instruments, instrument = np.unique(names, return_inverse=True)
    strata = (pitch * len(instruments) + instrument).astype(np.int64)
    return Tracks(
        files=[folder / "audio" / there[row]["Path"] for row in kept],
        classes={"pitch": len(known), "instrument": len(instruments)},
        labels={"pitch": pitch.astype(np.int64), "instrument": instrument.astype(np.int64)},
        rows=_tracks.shares(strata, HELD, seed),
        strata=strata,
        notes=notes,
    )

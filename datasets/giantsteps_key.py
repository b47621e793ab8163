"""GiantSteps key: two minutes each of electronic dance music in a known key (Knees et al., ISMIR 2015; Faraldo, 2017).

Layout, in ROOT or ROOT/giantsteps_key: clones of the two repositories of github.com/GiantSteps, with the audio in them.

    giantsteps-key-dataset/annotations/key/ID.LOFI.key              "Db minor"; these are `test`
    giantsteps-mtg-key-dataset/annotations/annotations.txt          ID, MANUAL KEY, C; those of confidence C = 2 train
    .../audio/ID.LOFI.mp3, .../md5/ID.LOFI.md5                      or audio of another format

Label "key" (24): the twelve major keys from C on, then the minor ones; sharps are read as flats. Tracks of no key
("-"), of several, or without a file are left out. `val` is a seeded tenth of the training tracks, with the keys'
shares. Items are cut out of the tracks (see `datasets._items`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from datasets import _parts, _tracks
from datasets._download import downloaded, unpacked
from datasets._progress import Progress
from datasets._tracks import KEYS, TrackConfig, Tracks
from datasets.base import DataError, Source, Split

VERSION = 1
DOWNLOAD = (
    "GiantSteps key (604 tracks) and GiantSteps MTG key (1,486), 2.5 GB of previews of Beatport, for research; "
    "annotations of github.com/GiantSteps"
)
ANNOTATIONS = "https://github.com/GiantSteps/{}/archive/HEAD.tar.gz"
TEST, TRAIN = "giantsteps-key-dataset", "giantsteps-mtg-key-dataset"
HOSTS = {  # the second one is asked for what the first one does not have
    TEST: ("https://www.cp.jku.at/datasets/giantsteps/backup/", "https://geo-samples.beatport.com/lofi/"),
    TRAIN: ("https://www.cp.jku.at/datasets/giantsteps/mtg_key_backup/", "https://geo-samples.beatport.com/lofi/"),
}
NAMES = ("giantsteps_key", "giantsteps-key")
HELD, SURE, AT_ONCE = 0.1, "2", 8  # share of `val`; confidence of keys that train; files that are fetched at once


class Config(TrackConfig):
    """Options of GiantSteps key."""


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all tracks are decoded into the cache (3.8 MB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    return _tracks.source("giantsteps_key", cfg, read(_parts.find(root, TEST, NAMES), cfg.split_seed), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download annotations and audio to ROOT/giantsteps_key, what of it is not there yet.

    Raises:
        DataError: neither host has a file that its checksum fits.
    """
    for name, hosts in HOSTS.items():
        folder = root / "giantsteps_key" / name
        if not folder.is_dir():
            unpacked(ANNOTATIONS.format(name), folder, strip=1)
        sums = sorted((folder / "md5").glob("*.md5"))
        progress = Progress(f"giantsteps_key: fetching tracks of {name}:", len(sums))
        there = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for found in pool.map(partial(_fetched, folder / "audio", hosts), sums):
                there += found
                progress.add()
        if sums and not there:
            raise DataError(f"giantsteps_key: {' and '.join(hosts)}: have none of the {len(sums):,} tracks of {name}")


def _fetched(folder: Path, hosts: tuple[str, ...], sum_file: Path) -> bool:
    """Whether a track is there, or was fetched from the first host that has it as it was annotated."""
    audio = folder / f"{sum_file.stem}.mp3"
    if audio.exists():
        return True
    checksum = _tracks.text(sum_file, "giantsteps_key").split()
    for host in hosts:
        try:
            downloaded(host + audio.name, audio, checksum[0] if checksum else "")
            return True
        except (OSError, DataError):  # the next one
            continue
    return False


def read(folder: Path, seed: int) -> Tracks:
    """The tracks of a single known key that are there.

    Raises:
        DataError: annotations or audio of one of the two sets are missing.
    """
    found: list[tuple[str, Path, int]] = []
    notes = []
    for name, keys in ((TEST, _tested(folder / TEST)), (TRAIN, _trained(folder / TRAIN))):
        audio = _tracks.audio_in(folder / name / "audio")
        known = {track: number for track, key in keys.items() if (number := _tracks.key_class(key)) is not None}
        there = {track: number for track, number in known.items() if track in audio}
        if not there:
            raise DataError(
                f"giantsteps_key: {folder / name}: none of {len(known):,} tracks of a known key is in audio/"
            )
        found += [(name, audio[track], number) for track, number in sorted(there.items())]
        if gone := len(known) - len(there):
            notes.append(f"{gone:,} of {len(known):,} tracks of {name} are not there")
    key = np.array([number for *_, number in found], np.int64)
    training = np.flatnonzero([name == TRAIN for name, *_ in found])
    val, train = _parts.parts(key[training], [max(1, round(len(training) * HELD))], seed)
    return Tracks(
        files=[path for _, path, _ in found],
        classes={"key": len(KEYS)},
        labels={"key": key},
        rows={
            "train": training[train],
            "val": training[val],
            "test": np.flatnonzero([name == TEST for name, *_ in found]),
        },
        strata=key,
        notes=notes,
    )


def _tested(folder: Path) -> dict[str, str]:
    """Track -> key, of the set that tests."""
    files = sorted((folder / "annotations" / "key").glob("*.key"))
    if not files:
        raise DataError(f"giantsteps_key: no ID.LOFI.key in {folder / 'annotations' / 'key'}; fetch the set again")
    return {file.stem: _tracks.text(file, "giantsteps_key").strip() for file in files}


def _trained(folder: Path) -> dict[str, str]:
    """Track -> key, of the sure ones of the set that trains."""
    file = folder / "annotations" / "annotations.txt"
    rows = _tracks.table(file, "\t", "giantsteps_key")
    if not rows or not {"ID", "MANUAL KEY", "C"} <= rows[0].keys():
        raise DataError(f"giantsteps_key: {file}: should have columns ID, MANUAL KEY, C; fetch the set again")
    return {f"{row['ID']}.LOFI": row["MANUAL KEY"] for row in rows if row["C"].strip() == SURE}

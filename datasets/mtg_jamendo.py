"""MTG-Jamendo: whole tracks with tags of genre, instrument, mood and theme (Bogdanov et al., ICML 2019 workshop).

Layout, in ROOT or ROOT/mtg_jamendo (a clone of the repository, or its data/):

    splits/split-0/autotagging[_SUBSET]-{train,validation,test}.tsv      a track a line: id, artist, album, path,
                                                                         seconds, then its tags; or in data/splits/
    NN/ID.mp3 or NN/ID.low.mp3                                           or of another format; in any folder here
    missing_tracks.txt                                                   paths of tracks to leave out, where there are

Every tag is a factor of its own (see `Spec.tags`), with "-" in place of "/"; there are those of all three lists. Items
are cut out of the tracks (see `datasets._items`). All of a track is some 4 minutes, 7 MB in the cache: `excerpt` keeps
a part of each, `limit` a part of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from datasets import _parts, _tracks
from datasets._download import downloaded
from datasets._tracks import TrackConfig, Tracks
from datasets.base import SPLITS, DataError, Source, Split

VERSION = 1
DOWNLOAD = (
    "the lists of MTG-Jamendo, CC BY-NC-SA 4.0; its audio (low quality 156 GB, full 508 GB) by "
    "scripts/download/download.py of github.com/MTG/mtg-jamendo-dataset, Creative Commons, by track"
)
URL = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master/data/splits/split-0"
NAMES = ("mtg_jamendo", "mtg-jamendo-dataset", "mtg_jamendo/data", "mtg-jamendo-dataset/data")
LISTS: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
PATH, TAGS = 3, 5  # columns; all from the second on are tags


class Config(TrackConfig):
    """Options of MTG-Jamendo."""

    subset: Literal["all", "top50tags", "genre", "instrument", "moodtheme"] = Field(
        "top50tags", description="which tags: all 195, the 50 most frequent, 87 genres, 40 instruments, 56 moods"
    )


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its tracks, or those of all splits, are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _parts.find(root, f"splits/split-0/{_list(cfg, split)}", NAMES)
    return _tracks.source("mtg_jamendo", cfg, read(cfg, folder), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the lists to ROOT/mtg_jamendo, those that are not there yet."""
    for split in SPLITS:
        name = _list(cfg, split)
        place = root / "mtg_jamendo" / "splits" / "split-0" / name
        if not place.exists():
            downloaded(f"{URL}/{name}", place)


def read(cfg: Config, folder: Path) -> Tracks:
    """The tracks of the lists that are there.

    Raises:
        DataError: a list or all tracks are missing, or a list is not of MTG-Jamendo's form.
    """
    lists = {split: _listed(folder / "splits" / "split-0" / _list(cfg, split)) for split in SPLITS}
    audio = _tracks.audio_in(folder.parent if folder.name == "data" else folder)
    left_out = _left_out(folder)
    found: list[tuple[Split, Path, set[str]]] = []
    gone = 0
    for split, tracks in lists.items():
        for number, own in tracks:
            place = audio.get(number) or audio.get(f"{number}.low")
            if place is None or number in left_out:
                gone += 1
            else:
                found.append((split, place, own))
    if not found:
        raise DataError(
            f"mtg_jamendo: {folder}: none of the {gone:,} listed tracks is there; `sweep data mtg_jamendo` says whence"
        )
    tags = tuple(sorted({tag for tracks in lists.values() for _, own in tracks for tag in own}))
    return Tracks(
        files=[place for _, place, _ in found],
        classes=dict.fromkeys(tags, 2),
        labels=_tracks.multi_hot(tags, [own for _, _, own in found]),
        rows={split: np.array([row for row, one in enumerate(found) if one[0] == split], int) for split in SPLITS},
        strata=np.zeros(len(found), np.int64),
        tags=tags,
        notes=[f"{gone:,} of {gone + len(found):,} listed tracks are not there"] if gone else [],
    )


def _list(cfg: Config, split: Split) -> str:
    subset = "" if cfg.subset == "all" else f"_{cfg.subset}"
    return f"autotagging{subset}-{LISTS[split]}.tsv"


def _listed(file: Path) -> list[tuple[str, set[str]]]:
    """Number, as its file is called, and tags of each track of a list."""
    lines = [line.rstrip().split("\t") for line in _tracks.text(file, "mtg_jamendo").splitlines() if line.strip()]
    if len(lines) < 2 or lines[0][PATH:] != ["PATH", "DURATION", "TAGS"]:
        raise DataError(f"mtg_jamendo: {file}: should have columns .. PATH, DURATION, TAGS and a track; fetch it again")
    for number, line in enumerate(lines[1:], 2):
        if len(line) <= TAGS:
            raise DataError(f"mtg_jamendo: {file}:{number}: should be a track with its path and tags; fetch it again")
    return [(_number(line[PATH]), {tag.replace("/", "-") for tag in line[TAGS:]}) for line in lines[1:]]


def _left_out(folder: Path) -> set[str]:
    file = folder / "missing_tracks.txt"
    lines = _tracks.text(file, "mtg_jamendo").split() if file.exists() else []
    return {_number(line) for line in lines}


def _number(path: str) -> str:
    """786434 of 34/786434.mp3 or 34/786434.low.mp3."""
    return Path(path).name.partition(".")[0]

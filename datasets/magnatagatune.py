"""MagnaTagATune: clips of 29 s with tags by listeners (Law et al., ISMIR 2009), in the split of Won et al. (2020).

Layout, in ROOT or ROOT/magnatagatune:

    annotations_final.csv                a clip a line: clip_id, a column of 0 and 1 for each of 188 tags, mp3_path
    mp3/0 .. f/NAME.mp3                  as the table says, below mp3/ or beside it
    {train,valid,test}.npy, tags.npy     "NUMBER<tab>PATH" of each clip; the 50 tags. May lie in metadata/

Every tag is a factor of its own (see `Spec.tags`). Without tags.npy they are the 50 most frequent ones. Three clips
whose files are damaged are left out. Items are cut out of the clips (see `datasets._items`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets import _parts, _tracks
from datasets._download import downloaded, unpacked
from datasets._tracks import TrackConfig, Tracks
from datasets.base import DataError, Source, Split

VERSION = 1
DOWNLOAD = (
    "MagnaTagATune (2.9 GB) of mirg.city.ac.uk, for research; the split of github.com/minzwon/sota-music-tagging-models"
)
URL = "https://mirg.city.ac.uk/datasets/magnatagatune"
SPLIT_URL = "https://github.com/minzwon/sota-music-tagging-models/raw/master/split/mtat"
TABLE, NAMES = "annotations_final.csv", ("magnatagatune", "MagnaTagATune", "mtat")
PIECES = ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")
LISTS: dict[Split, str] = {"train": "train.npy", "val": "valid.npy", "test": "test.npy"}
DAMAGED = {"35644", "55753", "57881"}
TAGS = 50


class Config(TrackConfig):
    """Options of MagnaTagATune."""


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all clips are decoded into the cache (0.9 MB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    return _tracks.source("magnatagatune", cfg, read(_parts.find(root, TABLE, NAMES)), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/magnatagatune, what of it is not there yet."""
    folder = root / "magnatagatune"
    if not (folder / "mp3").is_dir():
        unpacked([f"{URL}/{piece}" for piece in PIECES], folder / "mp3")
    for url, name in [(URL, TABLE), *((SPLIT_URL, name) for name in (*LISTS.values(), "tags.npy"))]:
        if not (folder / name).exists():
            downloaded(f"{url}/{name}", folder / name)


def read(folder: Path) -> Tracks:
    """The clips of the lists that are there.

    Raises:
        DataError: the table, a list or all clips are missing, or not of MagnaTagATune's form.
    """
    table = _tracks.table(folder / TABLE, "\t", "magnatagatune")
    rows = [row for row in table if row.get("clip_id") not in DAMAGED]
    if not rows or not {"clip_id", "mp3_path"} <= rows[0].keys():
        raise DataError(f"magnatagatune: {folder / TABLE}: should have columns clip_id, mp3_path; fetch it again")
    tags = _tags(folder, rows)
    lists = {split: {_path(line) for line in _array(folder, name)} for split, name in LISTS.items()}
    home = folder / "mp3" if (folder / "mp3").is_dir() else folder
    listed = [row for row in rows if any(row["mp3_path"] in paths for paths in lists.values())]
    there = [row for row in listed if (home / row["mp3_path"]).is_file()]
    if not there:
        raise DataError(f"magnatagatune: {home}: none of the {len(listed):,} listed clips is there")
    gone, unknown = len(listed) - len(there), set().union(*lists.values()) - {row["mp3_path"] for row in table}
    notes = [f"{gone:,} of {len(listed):,} listed clips are not there"] if gone else []
    notes += [f"{len(unknown):,} listed clips are not in {TABLE}"] if unknown else []
    return Tracks(
        files=[home / row["mp3_path"] for row in there],
        classes=dict.fromkeys(tags, 2),
        labels=_tracks.multi_hot(tags, [{tag for tag in tags if row[tag] == "1"} for row in there]),
        rows={
            split: np.array([place for place, row in enumerate(there) if row["mp3_path"] in paths], int)
            for split, paths in lists.items()
        },
        strata=np.zeros(len(there), np.int64),
        tags=tags,
        notes=notes,
    )


def _tags(folder: Path, rows: list[dict[str, str]]) -> tuple[str, ...]:
    columns = [name for name in rows[0] if name not in ("clip_id", "mp3_path")]
    if _place(folder, "tags.npy").exists():
        tags = tuple(dict.fromkeys(str(tag) for tag in _array(folder, "tags.npy")))
        if unknown := sorted(set(tags) - set(columns)):
            raise DataError(f"magnatagatune: {folder / TABLE}: has no tag '{unknown[0]}' of tags.npy; fetch it again")
        return tags
    often = {name: sum(row[name] == "1" for row in rows) for name in columns}
    return tuple(sorted(columns, key=lambda name: -often[name])[:TAGS])


def _path(line: object) -> str:
    return str(line).rpartition("\t")[2]


def _array(folder: Path, name: str) -> np.ndarray:
    """A list of texts."""
    file = _place(folder, name)
    try:
        found: np.ndarray = np.load(file)
        texts = found.astype(str) if found.ndim == 1 and found.dtype.kind in "US" else None
    except (OSError, ValueError, EOFError) as error:
        reason = "no such file" if not file.exists() else " ".join(str(error).split())[:120]
        raise DataError(f"magnatagatune: {file}: cannot be read ({reason}); fetch it again") from None
    if texts is None:
        raise DataError(f"magnatagatune: {file}: should be a list of texts; fetch it again")
    return texts


def _place(folder: Path, name: str) -> Path:
    beside = folder / name
    return beside if beside.exists() else folder / "metadata" / name

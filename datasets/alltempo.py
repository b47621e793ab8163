"""AllTempo: tempo of music, of five annotated sets of which one tests and the others train.

Layout, in ROOT or ROOT/alltempo: a folder for each set that is there, with its audio anywhere below it.

    gtzan/.../tempo/gtzan_GENRE_NUMBER.bpm                beats in a minute in its first line; audio GENRE.NUMBER.wav
    hainsworth/.../NAME.beats                             a beat a line, its time in seconds first; audio NAME.wav
    acm_mirum/.../acm_mirum_tempos.mf                     a track a line: path, tabulator, beats in a minute
    giantsteps/annotations_v2/tempo/NUMBER.LOFI.bpm       as of gtzan; audio NUMBER.LOFI.mp3
    extended_ballroom/.../extendedballroom_v1.1.xml       <song id= bpm=>; audio ID.mp3

Label "tempo" (300): whole beats in a minute, rounded down; tracks of 300 or more, or of none, are left out. Of
Hainsworth's it is 60 over the mean time between beats. `val` is a seeded tenth of the tracks that do not test, with
their sets' shares. Items are cut out of the tracks (see `datasets._items`).

Sources: GTZAN (Tzanetakis & Cook, 2002; tempi of Davies & Böck, 2021), Hainsworth & Macleod, 2004, ACM-MIRUM (Peeters &
Flocon-Cholet, 2012; Percival & Tzanetakis, 2014), GiantSteps tempo (Knees et al., 2015; Schreiber & Müller, 2018),
Extended Ballroom (Marchand & Peeters, 2016); together in synesis (Plachouras et al., 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from datasets import _parts, _tracks
from datasets._download import github
from datasets._tracks import TEMPI, TrackConfig, Tracks
from datasets.base import DataError, Source, Split

VERSION = 2
DOWNLOAD = (
    "annotations of github.com/Pliploop/AllTempo; the audio is its owners': put that of GTZAN, Hainsworth, ACM-MIRUM, "
    "GiantSteps tempo and Extended Ballroom into the folders of the sets"
)
REPOSITORY = "Pliploop/AllTempo"
ANNOTATIONS = (".bpm", ".beats", ".mf", ".xml")
NAMES = ("alltempo", "AllTempo")
HELD = 0.1  # share of `val` among the tracks that do not test
Set = Literal["gtzan", "hainsworth", "acm_mirum", "giantsteps", "extended_ballroom"]
Annotated = Iterator[tuple[str, float]]  # name of a track's file without suffix, beats in a minute; 0 = it has none


class Config(TrackConfig):
    """Options of AllTempo."""

    test: Set = Field("gtzan", description="which set tests; the others that are there train")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all tracks are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = _parts.find(root, cfg.test, NAMES)
    return _tracks.source("alltempo", cfg, read(folder, cfg.test, cfg.split_seed), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the annotations to ROOT/alltempo, those that are not there yet."""
    github(REPOSITORY, root / "alltempo", ANNOTATIONS)


def read(folder: Path, test: Set, seed: int) -> Tracks:
    """The tracks of a known tempo that are there, of all sets.

    Raises:
        DataError: no track of the set that tests is there, or none of the others; or annotations are damaged.
    """
    files: list[Path] = []
    tempo: list[int] = []
    origin: list[int] = []  # number of the set
    notes = []
    for number, (name, form) in enumerate(FORMS.items()):
        if not (folder / name).is_dir():
            notes.append(f"no {name}")
            continue
        classes = _classes(folder / name, form)
        audio = _tracks.audio_in(folder / name)
        there = sorted(classes.keys() & audio.keys())
        if len(there) < len(classes) or not classes:
            notes.append(f"{len(there):,} of {len(classes):,} tracks of {name} present")
        files += [audio[track] for track in there]
        tempo += [classes[track] for track in there]
        origin += [number] * len(there)
    of = np.array(origin, np.int64)
    tests = of == list(FORMS).index(test)
    if not tests.any():
        raise DataError(f"alltempo: {folder / test}: no track of '{test}', which tests, is there with its tempo")
    others = np.flatnonzero(~tests)
    if len(others) == 0:
        raise DataError(f"alltempo: {folder}: no track that trains is there with its tempo; put a second set there")
    val, train = _parts.parts(of[others], [max(1, round(len(others) * HELD))], seed)
    return Tracks(
        files=files,
        classes={"tempo": TEMPI},
        labels={"tempo": np.array(tempo, np.int64)},
        rows={"train": others[train], "val": others[val], "test": np.flatnonzero(tests)},
        strata=of,
        notes=notes,
    )


# -- annotations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How a set is annotated: in which files below its folder, and what is read of one of them."""

    files: str
    tracks: Callable[[Path], Annotated]


def _classes(folder: Path, form: Form) -> dict[str, int]:
    """Class of each annotated track whose tempo is one, whether its file is there or not."""
    tempi = dict(pair for file in sorted(folder.glob(form.files)) for pair in form.tracks(file))
    found = {track: _tracks.tempo_class(tempo) for track, tempo in tempi.items() if tempo > 0}
    return {track: one for track, one in found.items() if one is not None}


def _of_first_line(file: Path) -> Annotated:
    """A file for each track, NAME.bpm."""
    rows = _rows(file) or [[""]]
    yield file.stem, _number(rows[0][0], file)


def _of_gtzan(file: Path) -> Annotated:
    """As above, gtzan_blues_00000.bpm of blues.00000."""
    for name, tempo in _of_first_line(file):
        yield name.removeprefix("gtzan_").replace("_", "."), tempo


def _of_beats(file: Path) -> Annotated:
    """A file for each track, NAME.beats; fewer than two beats are no tempo, nor are such of one time."""
    times = sorted(_number(row[0], file) for row in _rows(file))
    span = times[-1] - times[0] if times else 0.0
    yield file.stem, 60 * (len(times) - 1) / span if span > 0 else 0.0


def _of_list(file: Path) -> Annotated:
    """A line for each track: its path where the annotators had it, its tempo."""
    for row in _rows(file, "\t"):
        yield PurePosixPath(row[0]).stem, _number(row[-1] if len(row) > 1 else "", file)


def _of_songs(file: Path) -> Annotated:
    """An XML of songs, in an element for each dance."""
    try:
        songs = list(ElementTree.parse(file).iter("song"))  # which knows its encoding itself
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        raise DataError(f"alltempo: {file}: damaged ({error}); fetch it again") from None
    for song in songs:
        yield song.get("id", ""), _number(song.get("bpm", ""), file)


def _rows(file: Path, delimiter: str | None = None) -> list[list[str]]:
    """The columns of each line that is not empty; None = between blanks."""
    lines = (line.strip() for line in _tracks.text(file, "alltempo").splitlines())
    return [line.split(delimiter) for line in lines if line]


def _number(text: str, file: Path) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"alltempo: {file}: '{text.strip()}' is no number; fetch it again")
    return number


FORMS: dict[Set, Form] = {
    "gtzan": Form("**/tempo/gtzan_*.bpm", _of_gtzan),
    "hainsworth": Form("**/*.beats", _of_beats),
    "acm_mirum": Form("**/acm_mirum_tempos.mf", _of_list),
    "giantsteps": Form("**/annotations_v2/tempo/*.bpm", _of_first_line),
    "extended_ballroom": Form("**/extendedballroom*.xml", _of_songs),
}

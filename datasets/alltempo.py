"""AllTempo: tempo of music, of five annotated sets of which one tests and the others train.

Layout, in ROOT or ROOT/alltempo: a folder for each set that is there, with its audio anywhere below it.

    gtzan/.../tempo/gtzan_GENRE_NUMBER.bpm                beats in a minute in its first line; audio GENRE.NUMBER.wav
    hainsworth/.../NAME.beats                             a beat a line, its time in seconds first; audio NAME.wav
    acm_mirum/.../acm_mirum_tempos.mf                     a track a line: path, tabulator, beats in a minute
    giantsteps/annotations_v2/tempo/NUMBER.LOFI.bpm       as of gtzan; audio NUMBER.LOFI.mp3
    extended_ballroom/.../extendedballroom_v1.1.xml       <song id= bpm=>; audio ID.mp3

Label "tempo" (300): whole beats in a minute, rounded down; tracks of 300 or more, or of none, are left out. Of
Hainsworth's it is 60 over the mean time between beats. `val` is a seeded tenth of the tracks that do not test. Items
are cut out of the tracks (see `datasets._items`).

Sources: GTZAN (Tzanetakis & Cook, 2002; tempi of Davies & Böck, 2021), Hainsworth & Macleod, 2004, ACM-MIRUM (Peeters &
Flocon-Cholet, 2012; Percival & Tzanetakis, 2014), GiantSteps tempo (Knees et al., 2015; Schreiber & Müller, 2018),
Extended Ballroom (Marchand & Peeters, 2016); together in synesis (Plachouras et al., 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from datasets import _parts, _tracks
from datasets._download import github
from datasets._tracks import TEMPI, TrackConfig, Tracks
from datasets.base import DataError, Source, Split

VERSION = 1
DOWNLOAD = (
    "annotations of github.com/Pliploop/AllTempo; the audio is its owners': put that of GTZAN, Hainsworth, ACM-MIRUM, "
    "GiantSteps tempo and Extended Ballroom into the folders of the sets"
)
REPOSITORY = "Pliploop/AllTempo"
ANNOTATIONS = (".bpm", ".beats", ".mf", ".xml")
NAMES = ("alltempo", "AllTempo")
HELD = 0.1  # share of `val`
Set = Literal["gtzan", "hainsworth", "acm_mirum", "giantsteps", "extended_ballroom"]
Tempi = Iterator[tuple[str, float]]  # name of the audio file without its suffix, beats in a minute


class Config(TrackConfig):
    """Options of AllTempo."""

    test: Set = Field("gtzan", description="which set tests; the others that are there train")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all tracks are decoded into the cache.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    return _tracks.source("alltempo", cfg, read(_parts.find(root, cfg.test, NAMES), cfg.test, cfg.split_seed), split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the annotations to ROOT/alltempo, those that are not there yet."""
    github(REPOSITORY, root / "alltempo", ANNOTATIONS)


def read(folder: Path, test: Set, seed: int) -> Tracks:
    """The tracks of a known tempo that are there, of all sets.

    Raises:
        DataError: no track of the set that tests is there, or none of the others; or annotations are damaged.
    """
    found: list[tuple[str, Path, int]] = []
    notes = []
    for name, tempi in READERS.items():
        audio = _tracks.audio_in(folder / name)
        classes = ((track, _tracks.tempo_class(tempo)) for track, tempo in tempi(folder / name))
        known = {track: number for track, number in classes if number is not None}
        there = {track: number for track, number in known.items() if track in audio}
        found += [(name, audio[track], number) for track, number in sorted(there.items())]
        if len(there) < len(known) or not known:
            notes.append(f"{len(there):,} of {len(known):,} tracks of {name} present" if known else f"no {name}")
    tested = np.array([name == test for name, *_ in found], bool)
    for what, count in ((f"of '{test}', which tests,", tested.sum()), ("that trains", (~tested).sum())):
        if count == 0:
            raise DataError(f"alltempo: {folder}: no track {what} is there with its tempo; put its audio there")
    training = np.flatnonzero(~tested)
    # too many tempi for equal shares of them: those of the sets
    named = np.array([list(READERS).index(name) for name, *_ in found])
    val, train = _parts.parts(named[training], [max(1, round(len(training) * HELD))], seed)
    return Tracks(
        files=[path for _, path, _ in found],
        classes={"tempo": TEMPI},
        labels={"tempo": np.array([number for *_, number in found], np.int64)},
        rows={"train": training[train], "val": training[val], "test": np.flatnonzero(tested)},
        strata=named,
        notes=notes,
    )


# -- annotations ----------------------------------------------------------------------------------------------------


def _gtzan(folder: Path) -> Tempi:
    for file in sorted(folder.rglob("tempo/gtzan_*_*.bpm")):
        yield ".".join(file.stem.split("_")[1:]), _first_number(file)


def _giantsteps(folder: Path) -> Tempi:
    for file in sorted(folder.rglob("annotations_v2/tempo/*.bpm")):
        yield file.stem, _first_number(file)


def _hainsworth(folder: Path) -> Tempi:
    for file in sorted(folder.rglob("*.beats")):
        times = np.array([_number(line.split()[0], file) for line in _lines(file)])
        between = np.diff(times).mean() if len(times) > 1 else 0.0
        yield file.stem, 60 / between if between > 0 else -1.0


def _acm_mirum(folder: Path) -> Tempi:
    for file in sorted(folder.rglob("acm_mirum_tempos.mf")):
        for line in _lines(file):
            path, _, tempo = line.partition("\t")
            yield Path(path.strip()).stem, _number(tempo, file)


def _extended_ballroom(folder: Path) -> Tempi:
    for file in sorted(folder.rglob("extendedballroom*.xml")):
        try:
            songs = ElementTree.parse(file).getroot().iter("song")
        except (ElementTree.ParseError, OSError) as error:
            raise DataError(f"alltempo: {file}: damaged ({error}); fetch it again") from None
        for song in songs:
            yield song.get("id", ""), _number(song.get("bpm", ""), file)


READERS: dict[str, Callable[[Path], Tempi]] = {
    "gtzan": _gtzan, "hainsworth": _hainsworth, "acm_mirum": _acm_mirum, "giantsteps": _giantsteps,
    "extended_ballroom": _extended_ballroom,
}  # fmt: skip


def _lines(file: Path) -> list[str]:
    return [line for line in _tracks.text(file, "alltempo").splitlines() if line.strip()]


def _first_number(file: Path) -> float:
    return _number((_lines(file) or [""])[0].split()[:1], file)


def _number(text: str | list[str], file: Path) -> float:
    try:
        return float(text[0] if isinstance(text, list) else text)
    except (ValueError, IndexError):
        raise DataError(f"alltempo: {file}: '{text}' is no number of beats or seconds; fetch it again") from None

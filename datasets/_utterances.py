"""The utterances of a part of LibriSpeech: files, lengths, and how many words are said in each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets import _parts, _sound
from datasets._sound import RATE
from datasets.base import DataError
from datasets.memory import cached

VERSION = 1


@dataclass(frozen=True)
class Listing:
    """The utterances at hand: names in order, files, samples of each, and what the state of the files is known by.

    Attributes:
        words: of each, -1 of one that has no transcript. sizes: utterances of each folder, one behind the other.
    """

    names: list[str]
    files: list[Path]
    counts: np.ndarray
    state: str
    words: np.ndarray
    sizes: tuple[int, ...]

    @property
    def pace(self) -> np.ndarray | None:
        """(n,) words in a second; None where not every utterance has a transcript."""
        return (self.words * RATE / self.counts).astype(np.float32) if (self.words >= 0).all() else None


def listed(folder: Path) -> Listing:
    """All utterances, by speaker, chapter and number; a file that is changed in place is not noticed."""
    found: list[tuple[str, Path]] = []
    times = []
    words: dict[str, int] = {}
    for chapter in sorted(folder.glob("*/*/")):
        times.append((str(chapter.resolve()), chapter.stat().st_mtime_ns))
        for name in os.listdir(chapter):  # noqa: PTH208 - of 28,539 files only the names are wanted
            if name.endswith(".flac"):
                found.append((name.removesuffix(".flac"), chapter / name))
            elif name.endswith(".trans.txt"):
                lines = (line.split() for line in text(chapter / name).splitlines())
                words.update((line[0], len(line) - 1) for line in lines if line)
    if not found:
        raise DataError(f"librispeech: no SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac in {folder}")
    for name, path in found:
        if [part.isdigit() for part in name.split("-")] != [True] * 3:
            raise DataError(f"librispeech: {path}: should be named SPEAKER-CHAPTER-UTTERANCE.flac")
    found.sort(key=lambda one: [int(part) for part in one[0].split("-")])
    names, files = [name for name, _ in found], [path for _, path in found]
    state = _parts.key("librispeech-lengths", VERSION, [], times, names)
    counts = cached(state, lambda: {"counts": _sound.counts(files)}).arrays["counts"]
    said = np.array([words.get(name, -1) for name in names])
    return Listing(names, files, np.asarray(counts), state, said, (len(names),))


def together(listings: Sequence[Listing]) -> Listing:
    """The utterances of all folders, folder by folder."""
    if len(listings) == 1:
        return listings[0]
    return Listing(
        [name for one in listings for name in one.names],
        [file for one in listings for file in one.files],
        np.concatenate([one.counts for one in listings]),
        " ".join(one.state for one in listings),
        np.concatenate([one.words for one in listings]),
        tuple(size for one in listings for size in one.sizes),
    )


def text(file: Path) -> str:
    """The content of a file of names, phones or words.

    Raises:
        DataError: there is none, or it is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"librispeech: no '{file.name}' in {file.parent}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"librispeech: {file}: cannot be read ({' '.join(str(error).split())[:120]})") from None

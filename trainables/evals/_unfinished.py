"""Features under way: rows that are done are kept beside their place, so that a long extraction goes on after a kill.

A file holds consecutive rows, `rows-FIRST-BEHIND.h5` by their numbers, and is written about every minute. What is read
back are those files that follow one another from the first row on; a damaged one, and all behind it, is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from datasets.atomic import remove
from trainables.evals.base import Features

EVERY = 60.0  # seconds of work that a kill may lose, and as short an extraction is not kept at all


class Unfinished:
    """The pieces of one set of features.

    Attributes:
        pieces: what is done, in order. count: how many rows that are.
    """

    def __init__(
        self,
        folder: Path,
        read: Callable[[Path], Features | None],
        write: Callable[[Path, Features], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up what `folder` holds; `read` gives None of a file that is damaged."""
        self.folder, self.pieces, self.count = folder, list[Features](), 0
        self._write, self._clock, self._next = write, clock, clock() + EVERY
        for first, behind, path in sorted(_files(folder)):
            found = read(path) if first == self.count else None
            if found is None:
                remove(path)
                continue
            self.pieces.append(found)
            self.count = behind
        self._kept, self._members = self.count, len(self.pieces)

    def add(self, piece: Features) -> None:
        """Some more rows are done; they are written with those before them when it is time."""
        self.pieces.append(piece)
        self.count += len(piece.index)
        if self._clock() < self._next:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(self.folder / f"rows-{self._kept:09d}-{self.count:09d}.h5", joined(self.pieces[self._members :]))
        self._kept, self._members = self.count, len(self.pieces)
        self._next = self._clock() + EVERY

    def finished(self) -> Features:
        """All of it."""
        return joined(self.pieces)


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    found = []
    for path in folder.glob("rows-*-*.h5"):
        first, _, behind = path.stem.removeprefix("rows-").partition("-")
        if first.isdigit() and behind.isdigit():
            found.append((int(first), int(behind), path))
    return found


def joined(pieces: Sequence[Features]) -> Features:
    """One set of features out of several, in order."""

    def together(named: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([one[name] for one in named]) for name in named[0]}

    return Features(
        parts=together([one.parts for one in pieces]),
        labels=together([one.labels for one in pieces]),
        params=together([one.params for one in pieces]),
        units=together([one.units for one in pieces]),
        index=torch.cat([one.index for one in pieces]),
    )

"""Features under way: blocks that are done are kept beside their place, so that a long extraction goes on after a kill.

A file holds consecutive blocks, `FIRST-BEHIND.h5` by their numbers, and is written about every minute. What is read
back are those files that follow one another from the first block on; a damaged one, and all behind it, is made again.
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
    """The blocks of one set of features.

    Attributes:
        blocks: what is done, in order; a member may be several blocks. count: how many blocks that are.
    """

    def __init__(
        self,
        folder: Path,
        read: Callable[[Path], Features | None],
        write: Callable[[Path, Features], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up what `folder` holds; `read` gives None of a file that is damaged."""
        self.folder, self.blocks, self.count = folder, list[Features](), 0
        self._write, self._clock, self._next = write, clock, clock() + EVERY
        for first, behind, path in sorted(_files(folder)):
            found = read(path) if first == self.count else None
            if found is None:
                remove(path)
                continue
            self.blocks.append(found)
            self.count = behind
        self._kept, self._members = self.count, len(self.blocks)

    def add(self, block: Features) -> None:
        """One more block is done; it is written with those before it when it is time."""
        self.blocks.append(block)
        self.count += 1
        if self._clock() < self._next:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(self.folder / f"{self._kept:08d}-{self.count:08d}.h5", joined(self.blocks[self._members :]))
        self._kept, self._members = self.count, len(self.blocks)
        self._next = self._clock() + EVERY

    def finished(self) -> Features:
        """All of it."""
        return joined(self.blocks)


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    found = []
    for path in folder.glob("*-*.h5"):
        first, _, behind = path.stem.partition("-")
        if first.isdigit() and behind.isdigit():
            found.append((int(first), int(behind), path))
    return found


def joined(blocks: Sequence[Features]) -> Features:
    """One set of features out of several, in order."""

    def together(named: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([one[name] for one in named]) for name in named[0]}

    return Features(
        parts=together([block.parts for block in blocks]),
        labels=together([block.labels for block in blocks]),
        params=together([block.params for block in blocks]),
        units=together([block.units for block in blocks]),
        index=torch.cat([block.index for block in blocks]),
    )

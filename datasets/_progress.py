"""How far a long job is: about twenty lines on standard error, none for what is done in a moment; and its threads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

EVERY = 5.0  # seconds between lines, at least
LINES = 20  # in all, where the job is longer


class Progress:
    """Counts pieces of work."""

    def __init__(
        self,
        what: str,
        total: int,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what`: the beginning of a line, as "bench3die: packing". `say` gets a line; None = standard error."""
        self.what, self.total, self.done = what, total, 0
        self._say, self._clock = say or _to_stderr, clock
        self._next = clock() + EVERY
        self._first: tuple[float, int] | None = None  # what comes before the first piece is no measure of the rest

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        now = self._clock()
        if self._first is None:
            self._first = now, self.done
        elif now >= self._next:
            begin, before = self._first
            left = (now - begin) * (self.total - self.done) / max(self.done - before, 1)
            self._next = now + max(EVERY, (now - begin + left) / LINES)
            self._say(f"{self.what} {self.done:,} of {self.total:,}, {duration(left)} left")


def in_threads(work: Callable[[int], None], count: int, progress: Progress) -> None:
    """Do `work` of 0 .. count - 1 by as many threads as there are cores; after a failure, which is raised, no more."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for _ in pool.map(work, range(count)):
                progress.add()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

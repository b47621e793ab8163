"""Finds trials that have said nothing for too long. A clock of its own, no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sweep.records import Stage


class Watchdog:
    """Who began when, and when each was last heard of."""

    def __init__(self, limits: Mapping[Stage, float], clock: Callable[[], float] = time.monotonic) -> None:
        """`limits`: seconds of silence per stage. `clock`: only goes on, whatever the wall clock does."""
        self.limits, self._clock = limits, clock
        self._heard: dict[str, tuple[Stage, float]] = {}

    def begin(self, job: str, stage: Stage) -> None:
        """A process works on the job now; waiting for a place does not count."""
        self._heard[job] = (stage, self._clock())

    def heard(self, job: str) -> None:
        """It reported something."""
        if job in self._heard:
            self._heard[job] = (self._heard[job][0], self._clock())

    def over(self, job: str) -> None:
        """It has ended."""
        self._heard.pop(job, None)

    def hung(self) -> list[tuple[str, float]]:
        """Jobs that were silent for longer than their stage may be, with its limit in seconds; each is named once."""
        now = self._clock()
        late = [(job, self.limits[stage]) for job, (stage, at) in self._heard.items() if now - at > self.limits[stage]]
        for job, _ in late:
            del self._heard[job]
        return late

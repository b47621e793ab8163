"""Cheap sweeps through the real driver, and what their ledgers say about time."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

from cheap_sweeps import cheap

from sweep import graph
from sweep.ledger import Event, read
from sweep.records import LEDGER, Configuration
from sweep.search import Proposal, Proposals
from sweep.spec import Sweep

ONE_EPOCH = {"train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8, "checkpoint_every": 1, "lr": 0.01}}


def no_op(configurations: int, sampler: str = "random") -> Sweep:
    """Pretrainings of two steps that do next to nothing, each with one evaluation that depends on it."""
    return cheap(
        base=ONE_EPOCH,
        evals={"good": {"name": "cheap.score"}},
        budget={"trials": configurations},
        search={"sampler": sampler},
    )


def events(directory: Path, kind: str) -> list[Event]:
    """The events of one kind, in order."""
    return [event for event in read(directory / LEDGER) if event["event"] == kind]


def begun(end: Event) -> float:
    """When the job of an `end` event began its work in its process, after all imports."""
    return float(end["time"] - end["seconds"])


@dataclass
class Clock:
    """What happened in this process while a sweep ran, by number of configurations told."""

    sampler: float = 0.0  # seconds in ask and tell so far
    told: list[tuple[float, float, float]] = field(default_factory=list)  # (time, sampler so far, resident MB)

    def window(self, first: int, last: int) -> tuple[float, float]:
        """(seconds, sampler's seconds among them) between the `first`-th and the `last`-th told."""
        begin, end = self.told[first - 1], self.told[last - 1]
        return end[0] - begin[0], end[1] - begin[1]


@contextmanager
def clocked() -> Iterator[Clock]:
    """Time the sampler of the sweeps that run inside."""
    clock = Clock()

    class Timed(Proposals):
        def propose(self, number: int, enqueued: Mapping[str, Any] | None = None) -> Proposal | None:
            begin = time.perf_counter()
            try:
                return super().propose(number, enqueued)
            finally:
                clock.sampler += time.perf_counter() - begin

        def tell(self, configuration: Configuration) -> None:
            begin = time.perf_counter()
            super().tell(configuration)
            now = time.perf_counter()
            clock.sampler += now - begin
            clock.told.append((now, clock.sampler, resident()))

    with patch.object(graph, "Proposals", Timed):
        yield clock


def resident() -> float:
    """MB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

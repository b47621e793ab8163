"""What a sweep costs: some real steps and encodings on this machine, of a batch that a moment is enough for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.base import Batch
from trainables.core.config import Resolved
from trainables.core.fit import generator, steps_per_epoch
from trainables.evals.base import Request

FEW, GROWTH = 4, 4  # items of the first steps, and how much larger a batch is tried after those
LONGEST = 2.0  # seconds of a step that is tried; what it holds in memory is bounded by that too


@dataclass(frozen=True)
class Price:
    """Of one pretraining, and of encoding what its checkpoint is judged by.

    Attributes:
        seconds: estimated, of computing. batch: items of its steps. measured: items of the steps that were timed.
        encoded: items of each checkpoint, and encoding: the seconds of one, clean.
    """

    seconds: float
    batch: int
    measured: int
    encoded: int
    encoding: float

    @property
    def how(self) -> str:
        """How it was found."""
        if self.measured == self.batch:
            return "measured here"
        return f"measured here at a batch of {self.measured}, times {self.batch / self.measured:g} for {self.batch:,}"


def encoded(resolved: Resolved, root: Path | None, requests: Iterable[Request]) -> int:
    """How many items of a checkpoint some requests show to the encoder, each request once."""
    different = {repr(request.identity): request for request in requests}.values()
    sizes = {split: len(resolved.source(root, split)) for split in {request.split for request in different}}
    return sum(
        min(request.limit or sizes[request.split], sizes[request.split]) * request.repeat * max(request.draws, 1)
        for request in different
    )


def price(
    resolved: Resolved, root: Path | None, cores: float, encoded: int, steps: int = 3, gpu: bool = False
) -> Price:
    """Time training steps of a batch that grows as long as they take a moment, to the real one where that is small.

    The time of a larger batch is taken to grow with its items. Steps that long hardly have costs of another kind.

    Args:
        cores: that a step may use. encoded: see `Price`. steps: of each size, of which the shortest counts.
        gpu: trials have one; it is timed if there is one here.
    """
    source = resolved.source(root, "train")
    views = resolved.build_views(source.spec)
    batch = min(resolved.train.batch_size, len(source))
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(cores)))
    try:
        method = resolved.build_method(views.spec).to(device).train()

        def fetched(items: int, number: int) -> Batch:
            return source.fetch(torch.arange(items), generator(0, 0, number)).to(device)

        def step(items: int, number: int) -> float:
            begin = time.perf_counter()
            method(views(fetched(items, number), generator(0, 0, number)))["loss"].backward()
            return _done(device) - begin

        def encoding(items: int, number: int) -> float:
            begin = time.perf_counter()
            with torch.no_grad():
                method.encode(views.clean(fetched(items, number)).views[0])
            return _done(device) - begin

        measured = min(FEW, batch)
        shortest = _shortest(step, measured, steps)
        while measured < batch:
            larger = min(GROWTH * measured, batch)
            if shortest * larger / measured > LONGEST:
                break
            measured, shortest = larger, _shortest(step, larger, steps)
        method.eval()
        one = _shortest(encoding, measured, steps) / measured
    finally:
        torch.set_num_threads(threads)
    each = shortest * batch / measured
    seconds = each * steps_per_epoch(len(source), resolved.train) * resolved.train.epochs
    return Price(seconds, batch, measured, encoded, one)


def _done(device: torch.device) -> float:
    """Now, when all is computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _shortest(step: Callable[[int, int], float], items: int, steps: int) -> float:
    """Seconds of the shortest of some steps; of long ones two are enough, since the first has more to do."""
    found = [step(items, 0)]
    while len(found) < steps and (len(found) < 2 or sum(found) < LONGEST):
        found.append(step(items, len(found)))
    return min(found)

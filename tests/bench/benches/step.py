"""(c) One training step of `fit`, with its batch and views, against forward, backward and optimiser alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benches.rows import Row
from datasets.base import Batch
from trainables.core.config import Resolved, resolve
from trainables.core.fit import Silent, fit, generator
from trainables.core.optim import build_optimizer

BATCH = 128
STEPS = 2  # a round is short, so that whatever else the machine does meets both sides
RECIPE = ("sca", "rot")  # the published one
STACK = ("sca", "rot", "fli", "jit", "gra", "blu")
CPU = time.process_time  # of one thread: other processes of the machine do not count


def duet(size: int, tx: tuple[str, ...], encoder: str = "narrow_cifar10_resnet20") -> dict[str, Any]:
    """DUET on digits of size x size with three channels."""
    return {
        "method": {"name": "duet", "encoder": {"name": encoder}, "equi_tx": ["rot"], "target": "vm"},
        "data": {"name": "digits", "size": size, "channels": 3, "limit": STEPS * BATCH},
        "views": {"tx": list(tx)},
    }


def sim(channels: int) -> dict[str, Any]:
    """SIM on synthesised words of 0.64 s."""
    return {
        "method": {"name": "sim", "encoder": {"channels": channels, "context": channels, "batch_norm": False}},
        "data": {"name": "deboer", "source": "synthetic", "limit": STEPS * BATCH},
        "views": {"count": 1},
    }


def resolved(sections: dict[str, Any], epochs: int) -> Resolved:
    """The whole configuration: batches of 128, `STEPS` of them an epoch."""
    train = {
        "epochs": epochs, "warmup_epochs": 1, "batch_size": BATCH, "drop_last": True, "checkpoint_every": epochs,
        "lr": 1e-3,
    }  # fmt: skip
    return resolve({**sections, "train": train})


class Bare:
    """The same method on batches whose views lie in memory."""

    def __init__(self, config: Resolved) -> None:
        self.source = config.source(None, "train")
        self.views = config.build_views(self.source.spec)
        self.method = config.build_method(self.views.spec).train()
        self.optimizer = build_optimizer(self.method, config.train)
        self.batches = [self.make(step) for step in range(STEPS)]

    def fetch(self, step: int) -> Batch:
        """One batch of the source."""
        return self.source.fetch(torch.arange(step * BATCH, (step + 1) * BATCH), generator(0, 0, step))

    def make(self, step: int) -> Batch:
        """One batch with its views."""
        return self.views(self.fetch(step), generator(0, 0, step))

    def steps(self) -> None:
        """As many steps as an epoch has: forward, backward, optimiser."""
        for batch in self.batches:
            self.optimizer.zero_grad(set_to_none=True)
            self.method(batch)["loss"].backward()
            self.optimizer.step()

    def times(self) -> dict[str, float]:
        """CPU seconds a step of each part."""
        return {
            "bare": _timed(self.steps),
            "fetch": _timed(lambda: [self.fetch(step) for step in range(STEPS)]),
            "deliver": _timed(lambda: [self.make(step) for step in range(STEPS)]),
        }


class Interleaved(Silent):
    """After each epoch of `fit`, as many bare steps; the first epoch of both warms up."""

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.bare = bare
        self.rounds: list[dict[str, float]] = []
        self._begin = 0.0

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        spent = (CPU() - self._begin) / STEPS
        self.rounds.append({"fit": spent, **self.bare.times()})
        self._begin = CPU()


def compare(sections: dict[str, Any], rounds: int) -> dict[str, float]:
    """Medians over rounds, milliseconds a step: "fit", "bare", "fetch", "deliver"; and their median "ratio".

    Args:
        sections: method, data and views of a configuration; see `duet` and `sim`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = resolved(sections, rounds + 1)
        listener = Interleaved(Bare(config))
        with tempfile.TemporaryDirectory() as folder:
            fit(config, None, Path(folder), listener)
    finally:
        torch.set_num_threads(threads)
    measured = listener.rounds[1:]
    found = {name: 1000 * statistics.median(r[name] for r in measured) for name in measured[0]}
    return {**found, "ratio": statistics.median(r["fit"] / r["bare"] for r in measured)}


def measure(rounds: int = 9) -> list[Row]:
    """DUET at both sizes with the published views, and SIM; the full colour stack beside it, without a promise."""
    promise = "<= 1.15"
    cases = [
        *((f"{size} px, {' '.join(RECIPE)}", duet(size, RECIPE), promise) for size in (16, 32)),
        *((f"{size} px, {' '.join(STACK)}", duet(size, STACK), "") for size in (16, 32)),
        ("SIM, words", sim(64), promise),
    ]
    rows = []
    for name, sections, bound in cases:
        found = compare(sections, rounds)
        rows.append(Row(f"c, step of fit, {name}", found["ratio"], promise=bound, beside=_split(found)))
    return rows


def _split(found: dict[str, Any]) -> str:
    views = found["deliver"] - found["fetch"]
    rest = found["fit"] - found["bare"] - found["deliver"]
    return (
        f"{found['fit']:.1f} ms against {found['bare']:.1f} bare; fetch {found['fetch']:.2f}, "
        f"views {views:.2f}, rest {rest:.2f}"
    )


def _timed(act: Callable[[], Any]) -> float:
    begin = CPU()
    act()
    return (CPU() - begin) / STEPS

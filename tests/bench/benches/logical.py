"""A cluster of many logical nodes on this machine, a sweep of realistic sizes, and a meter on its driver."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

from cheap_sweeps import cheap

from benches.sweeps import resident
from sweep import auth, cluster, graph
from sweep.records import Configuration
from sweep.search import Proposal, Proposals
from sweep.spec import Sweep

BENCH = Path(__file__).parents[1]
FOLDERS = (str(BENCH), str(BENCH.parent / "e2e"))  # where the cheap modules lie


def sized(configurations: int, evaluations: int = 2, name: str = "scale") -> Sweep:
    """Next to no compute, results of a usual size: 30 epochs of 12 metrics, 3 checkpoints, 20 metrics an evaluation,
    the first of which leaves a table of 20 kB."""
    others = {f"other_{number}": {"name": "benches.sized_score"} for number in range(1, evaluations)}
    return cheap(
        name=name,
        method="benches.sized_method",
        base={"train": {"epochs": 30, "warmup_epochs": 0, "batch_size": 8, "checkpoint_every": 10, "lr": 0.01}},
        evals={"good": {"name": "benches.sized_score", "table": 20_000}, **others},
        budget={"trials": configurations},
        search={"sampler": "auto"},
    )


@contextmanager
def logical_nodes(count: int) -> Iterator[str]:
    """A cluster of `count` nodes of one CPU each, beside a head that runs nothing; its address."""
    for key, value in cluster.SETTINGS.items():
        os.environ.setdefault(key, value)
    auth.prepare(None)  # every node starts with this machine's token
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            nodes.add_node(num_cpus=1, include_dashboard=False)
        yield str(nodes.address)
    finally:
        ray.shutdown()
        nodes.shutdown()


@dataclass(frozen=True)
class Reading:
    """The driver when one more configuration was told; seconds since the meter was made, MB.

    `cpu` is that of the whole process, all threads of Ray's and of ours; `sampler_cpu` is contained in it, as
    `sampler` is in `wall`.
    """

    wall: float
    cpu: float
    sampler: float
    sampler_cpu: float
    memory: float


class Meter:
    """Readings of a driver in this process, one for each configuration told."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._sampler = self._sampler_cpu = 0.0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """What happens inside is the sampler's."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._sampler += time.perf_counter() - wall
            self._sampler_cpu += time.thread_time() - cpu

    def read(self) -> None:
        """One more was told."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.readings.append(Reading(wall, cpu, self._sampler, self._sampler_cpu, resident()))

    def around(self, number: int, width: int = 20, windows: int = 5) -> dict[str, float]:
        """Cost of a configuration around the `number`-th, sampler apart: medians over windows of `width`; ms, MB."""
        last = min(number + width * windows // 2, len(self.readings))
        edges = [last - 1 - width * back for back in range(windows, -1, -1)]
        pairs = [(self.readings[a], self.readings[b]) for a, b in itertools.pairwise(edges)]

        def median(cost: Any) -> float:
            return 1000 * statistics.median(cost(b) - cost(a) for a, b in pairs) / width

        return {
            "cpu_ms": median(lambda at: at.cpu - at.sampler_cpu),
            "wall_ms": median(lambda at: at.wall - at.sampler),
            "sampler_ms": median(lambda at: at.sampler),
            "memory_mb": self.readings[last - 1].memory,
        }


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter on the driver of the sweep that runs inside."""
    meter = Meter()

    class Timed(Proposals):
        def propose(self, number: int, enqueued: Mapping[str, Any] | None = None) -> Proposal | None:
            with meter.sampling():
                return super().propose(number, enqueued)

        def tell(self, configuration: Configuration) -> None:
            with meter.sampling():
                super().tell(configuration)
            meter.read()

    with patch.object(graph, "Proposals", Timed):
        yield meter

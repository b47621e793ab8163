"""What the cluster has, node by node, and what running jobs take of it: whether one more job would find its place."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

Resources = Mapping[str, float]
SLACK = 1e-9


class Capacity:
    """The living nodes and the jobs on them; grows and shrinks with the cluster.

    Where Ray really places a job is not asked: jobs are packed here as they could be placed. If Ray packs worse, the
    job waits in Ray until another ends; it never takes what another holds, so nothing can wait in a circle.
    """

    REFRESH = 5.0  # seconds

    def __init__(self) -> None:
        self._taken: dict[str, tuple[Resources, int]] = {}
        self._nodes: list[dict[str, float]] = []
        self._limit: dict[str, float] = {}
        self._asked = -self.REFRESH

    def nodes(self) -> list[dict[str, float]]:
        """Resources of each living node."""
        self._refresh()
        return self._nodes

    def total(self) -> dict[str, float]:
        """Resources of all living nodes, or of as many as an autoscaler may start."""
        self._refresh()
        names = {name for node in self._nodes for name in node} | set(self._limit)
        living = {name: sum(node.get(name, 0.0) for node in self._nodes) for name in names}
        return {name: max(living[name], self._limit.get(name, 0.0)) for name in names}

    @property
    def elastic(self) -> bool:
        """Whether nodes beyond the living ones may be started."""
        self._refresh()
        living = {name: sum(node.get(name, 0.0) for node in self._nodes) for name in self._limit}
        return any(self._limit[name] > living[name] + SLACK for name in self._limit)

    def fits(self, need: Resources, processes: int = 1) -> bool:
        """Whether `processes` processes, each taking `need` from one node, find room beside what runs."""
        total = self.total()
        for name, amount in need.items():
            used = sum(taken.get(name, 0.0) * count for taken, count in self._taken.values())
            if used + amount * processes > total.get(name, 0.0) + SLACK:
                return False
        return self.elastic or pack([*self._taken.values(), (need, processes)], self._nodes)

    def take(self, job: str, need: Resources, processes: int = 1) -> None:
        """A job starts."""
        self._taken[job] = (dict(need), processes)

    def give(self, job: str) -> None:
        """A job has ended."""
        self._taken.pop(job, None)

    def _refresh(self) -> None:
        if time.monotonic() - self._asked < self.REFRESH:
            return
        from sweep.nodes import limit, nodes

        self._nodes, self._limit, self._asked = nodes(), limit(), time.monotonic()


def pack(jobs: Sequence[tuple[Resources, int]], nodes: Sequence[Resources]) -> bool:
    """Whether all processes of all jobs find a node: the largest first, each on the first node with room."""
    free = [dict(node) for node in nodes]
    each = [need for need, processes in jobs for _ in range(processes)]
    for need in sorted(each, key=lambda need: (-need.get("GPU", 0.0), -need.get("CPU", 0.0))):
        for node in free:
            if all(node.get(name, 0.0) + SLACK >= amount for name, amount in need.items()):
                for name, amount in need.items():
                    node[name] -= amount
                break
        else:
            return False
    return True


def slots(need: Resources, processes: int, nodes: Sequence[Resources]) -> int:
    """How many jobs of `processes` processes, each taking `need`, the nodes hold at once."""
    per_node = [
        min((int(node.get(name, 0.0) / amount + SLACK) for name, amount in need.items() if amount), default=0)
        for node in nodes
    ]
    return sum(per_node) // processes

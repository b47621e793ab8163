"""Ray clusters of several nodes on this machine, each cluster in a process and with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    """A cluster: HOST:PORT of its head, and ids of its nodes, the head first."""

    address: str
    nodes: list[str]


def clean(home: Path, **changes: str) -> dict[str, str]:
    """This process's environment with another home and without its settings of Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "300", **changes}


@contextmanager
def running(environment: dict[str, str], hosts: tuple[str, ...]) -> Iterator[Running]:
    """A cluster with one node on each of `hosts`, loopback addresses or "" for this machine's own."""
    process = subprocess.Popen(
        [sys.executable, __file__, *hosts], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                yield Running(**json.loads(line))
                return
        raise AssertionError(f"the cluster did not start (exit code {process.wait()})")
    finally:
        process.stdin.close()  # it ends with its input
        process.wait(timeout=60)


def python(code: str, environment: dict[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def _serve(hosts: list[str]) -> None:
    from ray.cluster_utils import Cluster

    cluster, nodes = Cluster(), []
    for host in hosts:
        place: dict[str, Any] = {"node_ip_address": host} if host else {}
        nodes.append(cluster.add_node(num_cpus=1, include_dashboard=False, **place).node_id)
    print(json.dumps({"address": cluster.address, "nodes": nodes}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _serve(sys.argv[1:])

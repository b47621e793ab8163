"""A Ray cluster that follows orders on its standard input: add, lose, drain a node; "= ..." is each answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REASON = "DRAIN_NODE_REASON_PREEMPTION"


def main() -> None:
    from ray.cluster_utils import Cluster

    cpus = int(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    others = []
    print(f"= {cluster.address}", flush=True)
    for order in sys.stdin:
        if order.strip() == "add":
            others.append(cluster.add_node(num_cpus=cpus))
        elif order.strip() == "lose":
            cluster.remove_node(others.pop(0), allow_graceful=False)
        elif order.strip() == "drain":
            options = {"address": cluster.address, "node-id": others[0].node_id, "reason": REASON,
                       "reason-message": "spot", "deadline-remaining-seconds": "120"}  # fmt: skip
            ray = str(Path(sys.executable).with_name("ray"))
            flags = [word for name, value in options.items() for word in (f"--{name}", value)]
            subprocess.run([ray, "drain-node", *flags], check=True, stdout=sys.stderr)
        print("= done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()

"""What the driver asks Ray about nodes, processes and placement groups; from Ray's core, without the dashboard."""

from __future__ import annotations

import socket
import time
from typing import Any


def nodes() -> list[dict[str, float]]:
    """Resources of each living node."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def limit() -> dict[str, float]:
    """The most that an autoscaler may start, {} without one."""
    from ray._private.state import state

    try:
        found = state.get_max_resources_from_cluster_config()
    except Exception:  # not public: an autoscaler that says nothing is none
        return {}
    return {name: float(amount) for name, amount in (found or {}).items() if amount}


def draining() -> set[str]:
    """Ids of nodes that are about to be taken away."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def node_of(actor: Any) -> str:
    """The id of the node on which an actor lives or lived, "" if Ray does not know (any more)."""
    return _address(actor).get("NodeID", "")


def address_of(actor: Any) -> str:
    """The address of that node, likewise."""
    return _address(actor).get("IPAddress", "")


def _address(actor: Any) -> dict[str, str]:
    from ray._private.state import actors

    return dict((actors(actor_id=actor._actor_id.hex()) or {}).get("Address", {}))


def is_node_dead(node: str, patience: float = 0) -> bool:
    """Whether a node is gone: Ray says so, which may take it half a minute, or its daemon no longer answers.

    `patience`: seconds before the look, since a machine that goes down ends its processes one after another.
    """
    import ray

    time.sleep(patience)
    for found in ray.nodes():
        if found["NodeID"] == node and found["Alive"]:
            try:
                socket.create_connection((found["NodeManagerAddress"], found["NodeManagerPort"]), timeout=2).close()
            except OSError:
                return True
            return False
    return True


def nodes_of_group(group: str) -> set[str]:
    """Ids of the nodes that a placement group is spread over."""
    import ray

    found = ray.util.placement_group_table().get(group, {})
    return {str(node) for node in found.get("bundles_to_node_id", {}).values()}


def orphaned_groups() -> list[str]:
    """Placement groups of this driver that an actor made which is dead now: nobody else gives them back.

    Ray Train's own cleaner learns of a group late and asks the dashboard, which may be off.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    Group: Any = gcs_pb2.PlacementGroupTableData  # type: ignore[attr-defined]
    job, orphans = ray.get_runtime_context().get_job_id(), []
    for found in state._connect_and_get_accessor().get_placement_group_table():
        group = Group.FromString(found)
        by_driver = not group.creator_actor_id.strip(b"\xff")  # all ones: by no actor
        if by_driver or not group.creator_actor_dead or group.state == Group.REMOVED:
            continue
        if group.creator_job_id.hex() == job:
            orphans.append(group.placement_group_id.hex())
    return orphans


def give_back(group: str) -> None:
    """Remove a placement group, with the processes in it."""
    import ray
    from ray.util.placement_group import PlacementGroup

    ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def give_back_all() -> None:
    """Give back what a broken Tune holds: it has no handle on it any more, and would never."""
    import gc

    from ray.air.execution.resources.placement_group import PlacementGroupResourceManager

    for held in gc.get_objects():
        if isinstance(held, PlacementGroupResourceManager):
            held.clear()


def is_dead(actor: Any, patience: float = 5.0) -> bool:
    """Whether an actor's process is gone, as far as Ray knows after `patience` seconds."""
    from ray._private.state import actors

    end = time.monotonic() + patience
    while True:
        found = actors(actor_id=actor._actor_id.hex())
        if not found or found.get("State") == "DEAD":
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def kill(actor: Any) -> None:
    """End an actor's process at once."""
    import ray

    ray.kill(actor, no_restart=True)

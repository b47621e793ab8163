"""The watcher of a spot machine: `python -m sweep.preemption` beside Ray, on each node that may be taken away.

A cloud says shortly before it takes a spot machine back (AWS two minutes, Google 30 s). On that notice this node is
drained in Ray: nothing new is placed on it, and a sweep's driver sees it and asks the trials there to write a
checkpoint and leave. Without a watcher a sweep loses no more than the work since the last checkpoints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any, Protocol

from datasets.config import ConfigError
from sweep import auth

URL = "http://169.254.169.254"  # where both clouds' metadata services answer, from inside a machine
EVERY = 5.0  # seconds between questions, as AWS recommends
PATIENCE = 2.0  # seconds for one answer
LIFETIME = 21600  # seconds for which AWS gives a token
GOOGLE_GIVES = 30.0  # seconds between Google's notice and the end
Say = Callable[[str], None]


@dataclass(frozen=True)
class Notice:
    """This machine is taken away at `deadline`, in seconds since 1970."""

    deadline: float
    text: str


class Cloud(Protocol):
    """A metadata service that can be asked for a notice."""

    name: str

    def notice(self) -> Notice | None:
        """The notice, None while there is none.

        Raises:
            OSError: the service does not answer as this cloud's does.
        """
        ...


class Aws:
    """EC2's instance metadata, version 2: every question carries a token."""

    name = "AWS"

    def __init__(self, url: str) -> None:
        self.url, self._token = url, ""

    def notice(self) -> Notice | None:
        """As of `spot/instance-action`, which does not exist until the notice."""
        for fresh in (not self._token, True):  # a token may have run out
            if fresh:
                wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(LIFETIME)}
                self._token = _ask(f"{self.url}/latest/api/token", wanted, "PUT")
            try:
                text = _ask(
                    f"{self.url}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}
                )
                return _aws_notice(text)
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code != 401 or fresh:
                    raise
        return None


def _aws_notice(text: str) -> Notice:
    """{"action": "terminate", "time": "2026-05-04T17:11:44Z"}; whatever else stands there is a notice too."""
    try:
        said: dict[str, Any] = json.loads(text)
        when = datetime.fromisoformat(said["time"]).timestamp()
        return Notice(when, f"AWS will {said['action']} this machine at {said['time']}")
    except (ValueError, KeyError, TypeError):
        return Notice(time.time() + 2 * 60, f"AWS takes this machine away: {' '.join(text.split())[:100]}")


class Google:
    """Compute Engine's metadata."""

    name = "Google"

    def __init__(self, url: str) -> None:
        self.url = url

    def notice(self) -> Notice | None:
        """As of `instance/preempted`."""
        answer = _ask(f"{self.url}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        if answer.strip().upper() != "TRUE":
            return None
        return Notice(time.time() + GOOGLE_GIVES, f"Google takes this machine away in {GOOGLE_GIVES:.0f} s")


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    """One request, never through a proxy: the service answers inside the machine only."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers, method=method), timeout=PATIENCE) as answer:
        return str(answer.read(10_000).decode(errors="replace"))


# -- watching --------------------------------------------------------------------------------------------------------


def wait_for_notice(url: str, every: float, say: Say, sleep: Callable[[float], None] = time.sleep) -> Notice:
    """Ask until there is a notice; a service that does not answer is asked again for ever."""
    clouds: tuple[Cloud, ...] = (Aws(url), Google(url))
    told = ""
    while True:
        state, notice = _look(clouds, url)
        if notice is not None:
            return notice
        if state != told:
            say(state)
            told = state
        sleep(every)


def _look(clouds: Sequence[Cloud], url: str) -> tuple[str, Notice | None]:
    """What one round of questions found, in words, and the notice."""
    reasons = []
    for cloud in clouds:
        try:
            return f"watching for a spot notice of {cloud.name} at {url}", cloud.notice()
        except (OSError, ValueError, HTTPException) as error:  # none there, or one that speaks something else
            reasons.append(f"{cloud.name}: {error}")
    return f"no metadata service at {url} ({'; '.join(reasons)}); asking on", None


# -- draining --------------------------------------------------------------------------------------------------------


class Node:
    """What is drained: nodes of the cluster at `address`, by id, or all nodes of this machine."""

    def __init__(self, address: str, ids: Sequence[str]) -> None:
        self.address, self.ids = address, ids

    def find(self) -> tuple[Any, list[str]]:
        """A client of the cluster's head, and the ids of living nodes.

        Raises:
            ConfigError: no cluster, one that must not be joined (see `auth.prepare`), or this machine is not in it.
        """
        from ray._private import services
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]

        auth.prepare(self.address, print)
        client = GcsClient(address=services.canonicalize_bootstrap_address_or_die(self.address))
        found = {
            id_.hex(): f"{node.node_manager_address}:0"
            for id_, node in client.get_all_node_info().items()
            if node.state == GcsNodeInfo.ALIVE
        }
        chosen = [id_ for id_, place in found.items() if (id_ in self.ids if self.ids else auth.is_here(place))]
        if not chosen:
            raise ConfigError(f"--address {self.address}: this machine is no node of the cluster; name one with --node")
        return client, chosen

    def drain(self, notice: Notice) -> list[str]:
        """Tell Ray that the nodes go away at the notice's deadline; their ids.

        Raises:
            RuntimeError: Ray refuses. As `find` does.
        """
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

        client, chosen = self.find()
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        for id_ in chosen:
            accepted, why = client.drain_node(id_, reason, notice.text, int(1000 * notice.deadline))
            if not accepted:
                raise RuntimeError(f"Ray refuses to drain node {id_[:12]}: {why}")
        return chosen


def watch(url: str, every: float, node: Node, say: Say) -> None:
    """Wait for the notice, then drain until Ray has taken it.

    Raises:
        ConfigError: Ray has not taken it before the deadline.
    """
    told = ""
    try:
        say(f"on a notice these nodes are drained: {', '.join(id_[:12] for id_ in node.find()[1])}")
    except Exception as error:  # whatever Ray raises while it is unreachable; it may come up later
        say(f"Ray cannot be told of a notice at present: {_short(error)}")
    notice = wait_for_notice(url, every, say)
    say(notice.text)
    while True:
        try:
            for id_ in node.drain(notice):
                say(f"node {id_[:12]} is drained: nothing new starts on it, and sweeps leave it")
            return
        except Exception as error:
            if _short(error) != told:
                told = _short(error)
                say(f"not drained yet: {told}")
            if time.time() > notice.deadline:
                raise ConfigError("the time is over; this node was not drained") from None
        time.sleep(min(1.0, every))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 after the node was drained, 2 if it could not be."""
    parser = argparse.ArgumentParser(prog="python -m sweep.preemption", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--address", default="auto", help="the Ray cluster: auto or HOST:PORT")
    parser.add_argument("--node", action="append", default=[], help="id of a node; default: those of this machine")
    parser.add_argument("--url", default=os.environ.get("SWEEP_PREEMPTION_URL", URL), help="of the metadata service")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between questions")
    given = parser.parse_args(arguments)
    try:
        watch(given.url.rstrip("/"), max(0.1, given.every), Node(given.address, given.node), _say)
    except ConfigError as error:
        print(f"sweep.preemption: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`ray up` on two hosts, sweeps sent to them from outside, a link cut, a host's Ray killed: nothing is lost.

The hosts are namespaces of this machine (hosts.py); the cluster file is the one that ships, with its blanks filled in.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import ROOT, SHARED, Host, Island, missing

from sweep.ledger import Event, read

E2E = Path(__file__).parents[1] / "e2e"
sys.path.insert(0, str(E2E))

from cheap_sweeps import cheap, whole, write  # noqa: E402

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TOKEN = {"RAY_AUTH_MODE": "token"}


class Cluster:
    """A cluster that `ray up` made, used from outside."""

    def __init__(self, island: Island) -> None:
        self.island, self.outside = island, island.outside
        self.head, self.worker = island.hosts["head"], island.hosts["worker"]
        self.file = self.outside.home / "cluster.yaml"
        blanks = {
            "<HEAD>": self.head.address, "[<WORKER>, <ANOTHER_WORKER>]": f"[{self.worker.address}]", "<USER>": "root",
            "<SHARED_FOLDER>": f"{SHARED}/storage",
        }  # fmt: skip
        text = (ROOT / "cluster/on-premise.yaml").read_text()
        for blank, value in blanks.items():
            assert blank in text
            text = text.replace(blank, value)
        self.file.write_text(text)
        self.lab = island.shared / "lab"  # the user's own modules and sweep files
        shutil.copytree(E2E / "cheap", self.lab / "cheap", ignore=shutil.ignore_patterns("__pycache__"))

    def ray(self, *words: str | Path, timeout: float = 600) -> str:
        """A `ray` command from outside; colours and the log of its steps are of no use here."""
        say(f"$ ray {' '.join(map(str, words))}".replace(str(self.outside.home), "~"))
        printed = re.sub(r"\x1b\[[0-9;]*m", "", self.outside.run("ray", *words, timeout=timeout, **TOKEN))
        return "\n".join(line for line in printed.splitlines() if not re.search(r" V?V?(INFO|WARN) \w+\.py:", line))

    def alive(self) -> set[str]:
        """Addresses of the nodes that Ray counts as living, asked on the head."""
        script = (
            "import ray; ray.init('auto', logging_level=50); "
            "print(*(node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']))"
        )
        return set(self.head.run(sys.executable, "-c", script, **TOKEN).splitlines()[-1].split())


def say(text: str) -> None:
    """The log of the test, shown by `pytest -s` and where it fails."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def wait(what: str, condition: Callable[[], object], seconds: float = 300) -> None:
    """Until something holds."""
    say(f"  waiting: {what}")
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(1)


def events(directory: Path) -> list[Event]:
    path = directory / "ledger.jsonl"
    return list(read(path)) if path.exists() else []


def ended(directory: Path, node: Host, kind: str = "finished") -> list[Event]:
    """Ends of attempts on a node."""
    found = [e for e in events(directory) if e["event"] == "end" and e.get("node") == node.address]
    return [e for e in found if kind in (e["status"], e.get("kind"))]


def keep_logs(island: Island, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for host in island.hosts.values():
        without = shutil.ignore_patterns("sockets", "runtime_resources")
        shutil.copytree(host.folder / "tmp/ray", folder / host.name, symlinks=True, ignore=without, dirs_exist_ok=True)
    shutil.copytree(island.shared / "runs", folder / "runs", dirs_exist_ok=True)


def broken_off(directory: Path) -> list[Event]:
    """Attempts that ended without a word."""
    return [e for e in events(directory) if e["event"] == "end" and e.get("kind") in ("lost", "died")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Island(("head", "worker")) as island:
        made = Cluster(island)
        try:
            made.ray("get-auth-token", "--generate")
            (island.outside.home / ".ray/auth_token").chmod(0o600)
            say(island.outside.run("sweep", "doctor", "--cluster", made.file))
            say(made.ray("up", "-y", made.file))
            wait("both nodes are in the cluster", lambda: len(made.alive()) == 2, 180)
            say(made.ray("exec", made.file, "ray status"))
            yield made
        finally:
            if "SWEEP_TEST_LOGS" in os.environ:  # a folder for what is needed to understand a failure
                keep_logs(island, Path(os.environ["SWEEP_TEST_LOGS"]))


def test_nothing_is_open_and_nobody_gets_in_without_the_token(cluster: Cluster) -> None:
    mode = cluster.head.home / ".ray/auth_token"
    assert mode.stat().st_mode & 0o777 == 0o600
    listening = cluster.head.run("ss", "-ltnH")
    dashboard = [line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(":8265")]
    assert dashboard == ["127.0.0.1:8265"]
    script = "import ray; ray.init('auto'); print(ray.nodes())"
    done = subprocess.run(
        cluster.worker.command(sys.executable, "-c", script, RAY_AUTH_MODE="disabled"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "auth" in done.stderr.lower()


def test_a_sweep_on_the_head_by_ray_exec(cluster: Cluster) -> None:
    whole_host = {"pretrain": {"cpu": os.cpu_count()}}  # so that the head alone cannot run two trials
    sweep = cheap(budget={"trials": 6}, base={"method": {"seconds": 0.8}}, resources=whole_host)
    write(sweep, cluster.lab / "short.yaml")
    directory = cluster.island.shared / "runs/short"
    command = f"cd {SHARED}/lab && sweep run short.yaml --address auto --dir {SHARED}/runs/short --no-aim"
    say(cluster.ray("exec", cluster.file, command))
    records = whole(directory)
    assert {trial.node for trial in records.trials.values()} == {cluster.head.address, cluster.worker.address}
    here = cluster.outside.home / "results"
    cluster.ray("rsync-down", cluster.file, f"{SHARED}/runs/", here)
    assert "good/" in cluster.outside.run(sys.executable, "-m", "sweep.cli", "best", here / "short")


def test_a_submitted_sweep_outlives_a_cut_link_and_a_killed_host(cluster: Cluster) -> None:
    sweep = cheap(budget={"trials": 36}, base={"method": {"seconds": 1.2}, "train": {"epochs": 6}})
    write(sweep, cluster.lab / "long.yaml")
    directory, worker = cluster.island.shared / "runs/long", cluster.worker
    tunnel = subprocess.Popen(
        cluster.outside.command("ray", "dashboard", cluster.file, **TOKEN), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    address = "http://127.0.0.1:8265"
    wait("the tunnel stands", lambda: ":8265" in cluster.outside.run("ss", "-ltnH"), 60)
    try:
        command = ["sweep", "run", "long.yaml", "--address", "auto", "--dir", f"{SHARED}/runs/long", "--no-aim"]
        local = cluster.outside.home / "lab"
        shutil.copytree(cluster.lab, local)
        submit = ["job", "submit", "--address", address, "--working-dir", local, "--submission-id", "long", "--no-wait"]
        say(cluster.ray(*submit, "--", *command))
        wait("a trial has ended on each host", lambda: all(ended(directory, h) for h in (cluster.head, worker)))

        cluster.island.link(worker, up=False)
        say("CUT: the worker's link is down")
        wait("Ray counts the worker as dead", lambda: worker.address not in cluster.alive())
        before = len(ended(directory, cluster.head))
        wait("the sweep goes on without it", lambda: len(ended(directory, cluster.head)) > before)
        lost = broken_off(directory)
        cluster.island.link(worker, up=True)
        say(f"the link is up again; {len(lost)} attempts were lost")
        wait("the worker is back", lambda: worker.address in cluster.alive())
        count = len(ended(directory, worker))
        wait("trials run there again", lambda: len(ended(directory, worker)) > count)

        processes = worker.pids("ray")
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        say(f"KILL: {len(processes)} Ray processes of the worker")
        wait("the sweep has ended", lambda: events(directory) and events(directory)[-1]["event"] == "done", 600)
        wait("the job has ended", lambda: "succeeded" in cluster.ray("job", "status", "--address", address, "long"))
        say(cluster.ray("job", "logs", "--address", address, "long")[-3000:])
    finally:
        tunnel.terminate()
        tunnel.wait()

    records = whole(directory)
    assert all(configuration.state == "complete" for configuration in records.configurations.values())
    found = broken_off(directory)
    say(f"broken off: {[(e['kind'], e['node'], e['reason']) for e in found]}")
    assert len(found) > len(lost) > 0, "both faults met trials at work"
    assert {e["kind"] for e in lost} == {"lost"}, "a node that is gone is no fault of a trial"


def test_ray_down_ends_it(cluster: Cluster) -> None:
    say(cluster.ray("down", "-y", cluster.file)[-800:])
    wait("no Ray on the head", lambda: not cluster.head.pids("raylet"), 60)
    wait("no Ray on the worker, which finds its head gone", lambda: not cluster.worker.pids("raylet"), 180)

"""Worker processes killed, nodes lost, nodes announced to be taken away: the sweep goes on and counts right."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cheap_sweeps import cheap, command, finish, whole, write

sys.path.insert(0, str(Path(__file__).parent))

OPEN = {"RAY_AUTH_MODE": "disabled"}  # these nodes are all on this machine
SLOW = {"method": {"seconds": 0.1}, "train": {"epochs": 6}}


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes in which a driver's trials run."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ImplicitFunc" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_ten_killed_workers(tmp_path: Path) -> None:
    directory, draw = tmp_path / "sweep", random.Random(5)
    sweep = cheap(base=SLOW, budget={"trials": 10}, retries=100)
    process = command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    killed, deadline = 0, time.monotonic() + 420
    while killed < 10 and process.poll() is None:
        assert time.monotonic() < deadline, f"only {killed} killed"
        time.sleep(draw.random() * 2)
        victims = workers(process)
        if victims:
            try:
                draw.choice(victims).kill()
                killed += 1
            except psutil.Error:
                continue
    finish(process)
    assert killed >= 8, f"the sweep was over after {killed}"
    records = whole(directory)
    assert all(t.status == "finished" for t in records.trials.values())
    for trial in records.trials.values():
        if trial.stage == "pretrain":
            assert [entry["epoch"] for entry in records.progress(trial.id)] == [1, 2, 3, 4, 5, 6]
    ledger = (directory / "ledger.jsonl").read_text()
    assert "its process ended without a word" in ledger


class Nodes:
    """A Ray cluster on this machine whose nodes come and go, in a process of its own."""

    def __init__(self, cpus: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py")), str(cpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **OPEN},
        )  # fmt: skip
        self.address = self.ask("")

    def ask(self, line: str) -> str:
        """Give an order, if any, and read the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if line:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer.startswith("= "):
                return answer[2:].strip()
        raise AssertionError(f"the cluster is gone (exit code {self.process.wait()})")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=120)


def progress(directory: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in directory.glob("trials/*/progress.jsonl"))


def gets_on(directory: Path, process: subprocess.Popen[str], more: int) -> None:
    start, deadline = progress(directory), time.monotonic() + 240
    while progress(directory) < start + more and process.poll() is None:
        assert time.monotonic() < deadline, "the sweep does not get on"
        time.sleep(0.1)


@pytest.mark.slow
def test_five_lost_nodes(tmp_path: Path) -> None:
    directory, nodes = tmp_path / "sweep", Nodes(cpus=1)
    try:
        nodes.ask("add")
        sweep = cheap(base={"method": {"seconds": 0.2}, "train": {"epochs": 10}}, budget={"trials": 22})
        file = write(sweep, tmp_path / "cheap.yaml")
        process = command("run", file, "--dir", directory, "--no-aim", "--address", nodes.address, **OPEN)
        for _ in range(5):
            gets_on(directory, process, 30)  # a process on a new node needs a while to start
            assert process.poll() is None, "over before five nodes were lost: " + str(process.communicate()[0])
            nodes.ask("lose")
            nodes.ask("add")
        finish(process, timeout=400)
    finally:
        nodes.close()
    records = whole(directory)
    assert all(t.status == "finished" for t in records.trials.values())
    ledger = (directory / "ledger.jsonl").read_text()
    assert ledger.count('"kind":"lost"') >= 3
    assert "its node was lost" in ledger
    failed = [line for line in ledger.splitlines() if '"failure":true' in line]
    assert failed == [], "a lost node is not the trial's failure"


@pytest.mark.slow
def test_trials_leave_a_node_that_is_announced_to_go(tmp_path: Path) -> None:
    directory, nodes = tmp_path / "sweep", Nodes(cpus=1)
    try:
        nodes.ask("add")
        sweep = cheap(
            base={"method": {"seconds": 0.2}, "train": {"epochs": 20, "checkpoint_every": 20}}, budget={"trials": 2}
        )
        file = write(sweep, tmp_path / "cheap.yaml")
        process = command("run", file, "--dir", directory, "--no-aim", "--address", nodes.address, **OPEN)
        gets_on(directory, process, 8)
        nodes.ask("drain")
        finish(process, timeout=400)
    finally:
        nodes.close()
    records = whole(directory)
    ledger = (directory / "ledger.jsonl").read_text()
    assert ledger.count('"kind":"interrupted"') == 1, "the one trial on that node wrote a checkpoint and left"
    moved = [t for t in records.trials.values() if t.stage == "pretrain" and t.attempts == 2]
    assert len(moved) == 1
    assert [entry["epoch"] for entry in records.progress(moved[0].id)] == list(range(1, 21))
    assert not moved[0].losses and not moved[0].failures
    told = (directory / "trials" / moved[0].id / "log.txt").read_text()
    epochs = [line.split(":")[0] for line in told.splitlines() if line.startswith("epoch")]
    assert len(epochs) == len(set(epochs)) == 20, "no epoch was trained twice"

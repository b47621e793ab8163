"""The driver killed at random moments of a real sweep, and taken up again: nothing lost, nothing counted twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from cheap_sweeps import cheap, command, finish, whole, write

from sweep.aim_writer import summary
from sweep.dashboard import build_study
from sweep.ledger import LedgerError
from sweep.records import NotASweep, load


def lines(directory: Path) -> int:
    path = directory / "ledger.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at(process: subprocess.Popen[str], directory: Path, growth: int, delay: float) -> bool:
    """SIGKILL the driver alone once the ledger has grown by `growth` lines; False if it ended by itself before."""
    start = lines(directory)
    deadline = time.monotonic() + 240
    while process.poll() is None and lines(directory) < start + growth:
        assert time.monotonic() < deadline, "the sweep does not get on"
        time.sleep(0.01)
    time.sleep(delay)
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return True


def trial_of_kills(tmp_path: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    directory = tmp_path / "sweep"
    sweep = cheap(
        base={"method": {"seconds": 0.05}, "train": {"epochs": 4}},
        budget={"trials": 4 + kills},
        seeds=2,
        rungs=[0.5],
        stop={"rule": "asha", "reduction": 2, "min_trials": 3},
        search={"sampler": "tpe", "startup": 4},
    )
    file = write(sweep, tmp_path / "cheap.yaml")
    process = command("run", file, "--dir", directory)
    killed = 0
    while killed < kills:
        if not kill_at(process, directory, draw.randint(1, 45), draw.random() * 0.2):
            break
        killed += 1
        try:
            load(directory)  # readable at any moment
        except NotASweep:
            assert not (directory / "sweep.json").exists()
        except LedgerError as error:
            pytest.fail(str(error))
        begun = (directory / "sweep.json").exists()
        process = command("resume", directory) if begun else command("run", file, "--dir", directory)
    finish(process)
    assert killed >= min(kills, 2), f"only {killed} kills found the sweep at work"

    records = whole(directory)
    assert records.sessions >= killed
    study = build_study(records)
    assert len(study.trials) == len(records.configurations)
    names = {"complete": "COMPLETE", "pruned": "PRUNED"}
    assert [t.state.name for t in study.trials] == [names[c.state] for c in records.configurations.values()]
    for found, configuration in zip(study.trials, records.configurations.values(), strict=True):
        if configuration.state == "complete":
            assert found.values == configuration.values
    runs = {row["run"]: row for row in summary(directory)}  # a run's hash is the trial's id
    expected = {t.id: t for t in records.trials.values() if t.stage != "features"}
    assert set(runs) - {"summary"} == set(expected)
    for id_, trial in expected.items():
        if trial.stage == "pretrain":
            shown = {f"{key}": value for key, value in runs[id_]["params"]["downstream"].items()}
            assert shown == records.final_metrics(id_)
    before = (directory / "ledger.jsonl").read_bytes()
    assert "finished already" in finish(command("resume", directory))
    assert (directory / "ledger.jsonl").read_bytes() == before


def test_two_kills_of_the_driver(tmp_path: Path) -> None:
    trial_of_kills(tmp_path, kills=2, seed=1)


@pytest.mark.slow
def test_ten_kills_of_the_driver(tmp_path: Path) -> None:
    trial_of_kills(tmp_path, kills=10, seed=int(os.environ.get("SEED", "2")))


def test_an_interrupt_ends_in_order_and_resume_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    sweep = cheap(base={"method": {"seconds": 0.2}, "train": {"epochs": 10, "checkpoint_every": 10}})
    process = command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    deadline = time.monotonic() + 120
    while not list(directory.glob("trials/*/progress.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "sweep resume" in output
    records = load(directory)
    assert not records.finished
    begun = [trial for trial in records.trials.values() if trial.stage == "pretrain" and trial.attempts]
    assert begun
    assert all(trial.checkpoint for trial in begun), "what was running has written a checkpoint"
    assert all(trial.status == "waiting" for trial in begun)
    reached = {trial.id: trial.checkpoint.epoch for trial in begun if trial.checkpoint}
    assert all(epoch < 10 for epoch in reached.values())
    finish(command("resume", directory))
    records = load(directory)
    assert records.finished
    for id_ in reached:
        epochs = [entry["epoch"] for entry in records.progress(id_)]
        assert epochs == list(range(1, 11))


def test_a_second_driver_is_refused_and_stop_ends_the_first(tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    sweep = cheap(base={"method": {"seconds": 0.2}, "train": {"epochs": 10}})
    process = command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    deadline = time.monotonic() + 120
    while lines(directory) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = command("resume", directory)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "is being run by process" in output.strip().splitlines()[-1]
    assert "stopped" in finish(command("stop", directory))
    assert "stopped before the end" in finish(process)
    assert not load(directory).finished

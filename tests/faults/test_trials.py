"""Trials that hang, eat all memory or fail again and again; a clock that jumps; an interrupt, once and twice."""

from __future__ import annotations

import functools
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from cheap_sweeps import cheap, command, finish, whole, write

from sweep.driver import Driver
from sweep.records import Trial, load
from sweep.report import status
from sweep.run import run

BRIEF = {"epoch_minutes": 0.25, "evaluation_minutes": 0.25}


def of(directory: Path, stage: str, name: str = "") -> list[Trial]:
    return [t for t in load(directory).trials.values() if t.stage == stage and name in ("", t.name)]


def test_a_hanging_pretraining_is_killed_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    sweep = cheap(base={"method": {"hang_once": str(tmp_path / "hung")}}, limits=BRIEF, budget={"trials": 2})
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = whole(tmp_path / "sweep")
    hung = [t for t in records.trials.values() if t.attempts == 2]
    assert len(hung) == 1
    assert hung[0].status == "finished"
    assert [entry["epoch"] for entry in records.progress(hung[0].id)] == [1, 2, 3, 4]
    ledger = (tmp_path / "sweep" / "ledger.jsonl").read_text()
    assert "hung: silent for more than 0.25 min (limits.epoch_minutes), killed" in ledger
    assert '"about to hang"' in ledger, "its last lines are kept with the failure"


def test_a_hanging_evaluation_is_killed_and_run_again(tmp_path: Path) -> None:
    evals = {
        "good": {"name": "cheap.score"},
        "other": {"name": "cheap.score", "hang_once": str(tmp_path / "hung")},
    }
    run(cheap(evals=evals, limits=BRIEF, budget={"trials": 2}), tmp_path / "sweep", quiet=True, track=False)
    whole(tmp_path / "sweep")
    assert sorted(t.attempts for t in of(tmp_path / "sweep", "evaluation", "other")) == [1, 2]
    assert all(t.status == "finished" for t in of(tmp_path / "sweep", "evaluation"))


def test_what_fails_three_times_is_failed_with_its_reason_and_last_lines_and_can_be_tried_again(tmp_path: Path) -> None:
    evals = {"good": {"name": "cheap.score"}, "other": {"name": "cheap.score", "raise_above": 0.5}}
    sweep = cheap(evals=evals, known=[{"method.x": 0.7}], budget={"trials": 1})
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    whole(tmp_path / "sweep")
    (failed,) = (t for t in of(tmp_path / "sweep", "evaluation") if t.status == "failed")
    assert (failed.attempts, failed.reason) == (3, "RuntimeError: no evaluation of 0.700")
    assert failed.log[-1] == "RuntimeError: no evaluation of 0.700"
    assert len(failed.log) <= 20
    shown = list(status(load(tmp_path / "sweep")))
    assert any("after 3 attempts: RuntimeError: no evaluation of 0.700" in line for line in shown)
    assert any("| RuntimeError: no evaluation of 0.700" in line for line in shown)
    output = finish(command("resume", tmp_path / "sweep", "--retry-failed"))
    assert "1 failed trials are tried again" in output
    assert [t.attempts for t in of(tmp_path / "sweep", "evaluation", "other")] == [6]


def test_a_clock_that_jumps_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, jumps = random.Random(0), [0]

    def jumping() -> float:
        jumps[0] += 1
        return time.time() + draw.choice([-10, 0, 1]) * 365 * 86400.0

    monkeypatch.setattr("sweep.driver.Driver", functools.partial(Driver, clock=jumping))
    sweep = cheap(budget={"trials": 4, "hours": 1}, limits={"epoch_minutes": 5, "evaluation_minutes": 5})
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = whole(tmp_path / "sweep")
    assert jumps[0] > 20
    assert 0 < records.wall < 600, "durations come from another clock"
    assert all(t.attempts == 1 for t in records.trials.values())


@pytest.mark.slow
def test_a_trial_that_eats_all_memory_is_stopped_and_the_sweep_goes_on(tmp_path: Path) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 14 * 2**30:
        pytest.skip("needs 14 GB of free memory")
    threshold = (memory.total - memory.available + 6 * 2**30) / memory.total
    sweep = cheap(base={"method": {"eat_once": str(tmp_path / "eaten")}}, budget={"trials": 2})
    process = command(
        "run", write(sweep, tmp_path / "cheap.yaml"), "--dir", tmp_path / "sweep", "--no-aim",
        RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100",
    )  # fmt: skip
    finish(process)
    records = whole(tmp_path / "sweep")
    assert all(t.status == "finished" for t in records.trials.values())
    assert "out of memory: its process was killed" in (tmp_path / "sweep" / "ledger.jsonl").read_text()


def begun(directory: Path, epochs: int = 1) -> None:
    """Wait until a pretraining has reported so many epochs."""
    deadline = time.monotonic() + 300  # workers yield to whatever else runs
    while not any(len(p.read_text().splitlines()) >= epochs for p in directory.glob("trials/*/progress.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    sweep = cheap(base={"method": {"seconds": 1}, "train": {"epochs": 3}}, budget={"trials": 1})
    process = command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    begun(directory)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert time.monotonic() - before < 60
    assert not load(directory).finished
    for file in directory.glob("trials/*/record.json"):
        assert file.read_text().endswith("}")
    quicker: dict[str, Any] = {"SWEEP_CACHE": str(tmp_path / "cache")}
    finish(command("resume", directory, **quicker))
    whole(directory)

"""Many trials through the real driver: what one more costs does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from cheap_sweeps import cheap, whole

from sweep.ledger import read
from sweep.run import run

SCALE = Path(__file__).parents[1] / "bench" / "scale.py"


def test_a_hundred_pairs(tmp_path: Path) -> None:
    """Time per configuration of the last against the first; every configuration has one evaluation."""
    pairs, part = 100, 30
    sweep = cheap(
        base={"train": {"epochs": 1, "checkpoint_every": 1}},
        evals={"good": {"name": "cheap.score"}},
        budget={"trials": pairs},
    )
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = whole(tmp_path / "sweep")
    assert len(records.trials) == 2 * pairs
    told = [event["time"] for event in read(tmp_path / "sweep" / "ledger.jsonl") if event["event"] == "told"]
    # short stretches are noisy; the slow test is strict
    assert (told[-1] - told[-part]) / (told[part - 1] - told[0]) < 2.0


def simulated(folder: Path, *options: str) -> dict[str, Any]:
    """What tests/bench/scale.py measures on 8 logical nodes; the sweeps stay in `folder`."""
    numbers = folder / "numbers.json"
    command = [sys.executable, str(SCALE), *options, "--keep", str(folder), "--json", str(numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found: dict[str, Any] = json.loads(numbers.read_text())
    return found


def most_at_once(directory: Path) -> int:
    """Of trials in the air."""
    step = {"start": 1, "end": -1}
    return max(accumulate(step.get(event["event"], 0) for event in read(directory / "ledger.jsonl")))


@pytest.mark.slow
def test_the_driver_works_no_harder_at_two_thousand_configurations(tmp_path: Path) -> None:
    """CPU time of the driver for each configuration told, the sampler's taken out; medians of windows of one run."""
    found = simulated(tmp_path, "--configurations", "2000", "--evaluations", "1", "--aim", "0")
    assert len(whole(tmp_path / "sweep").trials) == 4000
    assert most_at_once(tmp_path / "sweep") == 8
    told = {row["told"]: row["cpu_ms"] for row in found["driver"]}
    assert told[2000] / told[100] < 1.5
    assert told[2000] / told[500] < 1.5  # by then all processes have long been started


@pytest.mark.slow
def test_aim_shows_every_run_of_five_hundred_configurations(tmp_path: Path) -> None:
    """Not of 2,000: Aim would take ten minutes to write them."""
    found = simulated(tmp_path, "--configurations", "0", "--evaluations", "1", "--aim", "500")
    assert found["aim"]["runs shown"] == found["aim"]["runs"] == 1000

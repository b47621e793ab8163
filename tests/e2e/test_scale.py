"""Many trials through the real driver: what one more costs does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest
from cheap_sweeps import cheap, whole

from sweep.ledger import read
from sweep.run import run


def growth(tmp_path: Path, pairs: int, part: int, aim: bool) -> float:
    """Time per configuration of the last `part` against the first `part`; every configuration has one evaluation."""
    sweep = cheap(
        base={"train": {"epochs": 1, "checkpoint_every": 1}},
        evals={"good": {"name": "cheap.score"}},
        budget={"trials": pairs},
    )
    run(sweep, tmp_path / "sweep", quiet=True, track=aim)
    records = whole(tmp_path / "sweep")
    assert len(records.trials) == 2 * pairs
    told = [event["time"] for event in read(tmp_path / "sweep" / "ledger.jsonl") if event["event"] == "told"]
    return (told[-1] - told[-part]) / (told[part - 1] - told[0])


def test_a_hundred_pairs(tmp_path: Path) -> None:
    assert growth(tmp_path, pairs=100, part=30, aim=False) < 2.0  # short stretches are noisy; the slow test is strict


@pytest.mark.slow
def test_five_hundred_pairs_and_aim_shows_them_all(tmp_path: Path) -> None:
    from sweep.tracking import summary

    assert growth(tmp_path, pairs=500, part=100, aim=True) < 1.5
    assert len([row for row in summary(tmp_path / "sweep") if row["run"] != "summary"]) == 1000

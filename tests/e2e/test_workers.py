"""A pretraining by a Ray Train worker group through the driver; evaluations run as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from cheap_sweeps import cheap, command, finish, whole, write


@pytest.mark.slow
def test_two_workers_train_one_configuration(tmp_path: Path) -> None:
    sweep = cheap(budget={"trials": 1}, resources={"pretrain": {"cpu": 0.5}, "workers": 2})
    finish(command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", tmp_path / "two", "--no-aim"))
    records = whole(tmp_path / "two")
    trial = next(trial for trial in records.trials.values() if trial.stage == "pretrain")
    assert (trial.status, trial.attempts) == ("finished", 1)
    assert [entry["epoch"] for entry in records.progress(trial.id)] == [1, 2, 3, 4]
    one = cheap(budget={"trials": 1})
    finish(command("run", write(one, tmp_path / "one.yaml"), "--dir", tmp_path / "one", "--no-aim"))
    alone = whole(tmp_path / "one")
    metric = "good/all/val/weight"
    weights = [r.final_metrics(r.configurations[0].trials[0])[metric] for r in (records, alone)]
    assert weights[0] == pytest.approx(weights[1], abs=1e-5), "the same batches, whatever the number of workers"

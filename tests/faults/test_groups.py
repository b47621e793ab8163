"""Worker groups that hang, lose a worker or are stopped half-way; nothing of the cluster stays taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cheap_sweeps import cheap, command, finish, whole, write
from test_trials import begun

from sweep.records import Trial, load
from sweep.run import run

GROUP: dict[str, Any] = {"pretrain": {"cpu": 0.5}, "workers": 2}


def pretrainings(directory: Path) -> list[Trial]:
    return [trial for trial in load(directory).trials.values() if trial.stage == "pretrain"]


def all_is_given_back() -> bool:
    """Whether no placement group holds a part of the cluster."""
    import ray

    held = [g for g in ray.util.placement_group_table().values() if g["state"] not in ("REMOVED", "CREATION_FAILED")]
    return not held


@pytest.mark.slow
def test_a_hanging_group_is_killed_gives_its_place_back_and_goes_on(tmp_path: Path) -> None:
    sweep = cheap(
        base={"method": {"hang_once": str(tmp_path / "hung")}}, limits={"epoch_minutes": 0.5}, budget={"trials": 2},
        resources=GROUP,
    )  # fmt: skip
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    whole(tmp_path / "sweep")
    assert sorted(trial.attempts for trial in pretrainings(tmp_path / "sweep")) == [1, 2]
    assert "hung: silent for more than 0.5 min" in (tmp_path / "sweep" / "ledger.jsonl").read_text()
    assert all_is_given_back()


@pytest.mark.slow
def test_a_group_loses_a_worker_and_the_other_seed_is_stopped_half_way(tmp_path: Path) -> None:
    sweep = cheap(
        base={"method": {"die_once": str(tmp_path / "died"), "seconds": 0.5}, "train": {"epochs": 12}},
        budget={"trials": 2}, seeds=2, retries=0, resources=GROUP,
    )  # fmt: skip
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = load(tmp_path / "sweep")
    assert records.finished
    assert [configuration.state for configuration in records.configurations.values()] == ["failed", "complete"]
    lost = [records.trials[id_] for id_ in records.configurations[0].trials]
    assert sorted(trial.status for trial in lost) == ["failed", "stopped"]
    stopped = next(trial for trial in lost if trial.status == "stopped")
    assert 0 < len(records.progress(stopped.id)) < 12, "it ended at its next epoch, not at its last"
    assert all_is_given_back()


@pytest.mark.slow
def test_a_stopped_sweep_of_groups_goes_on_from_their_checkpoints(tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    sweep = cheap(base={"method": {"seconds": 0.5}, "train": {"epochs": 8}}, budget={"trials": 1}, resources=GROUP)
    process = command("run", write(sweep, tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    begun(directory, epochs=2)
    finish(command("stop", directory))
    process.communicate(timeout=120)
    (trial,) = pretrainings(directory)
    assert trial.status == "waiting"
    reached = trial.checkpoint.epoch if trial.checkpoint else 0
    assert 2 <= reached < 8
    finish(command("resume", directory))
    records = whole(directory)
    assert [entry["epoch"] for entry in records.progress(trial.id)] == list(range(1, 9))
    assert records.trials[trial.id].attempts == 2

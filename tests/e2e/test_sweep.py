"""The real driver on cheap trials: faults of trials, reuse, stopping, equality of repeated sweeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cheap_sweeps import cheap, whole

from sweep.records import load
from sweep.run import extend, resume, run
from sweep.search import Proposals
from sweep.space import Choice
from sweep.spec import Sweep


def test_what_raises_diverges_or_dies_is_recorded_and_the_sweep_goes_on(tmp_path: Path) -> None:
    sweep = cheap(
        base={"method": {"nan_above": 0.8, "die_once": str(tmp_path / "died")}},
        evals={"good": {"name": "cheap.score"}, "other": {"name": "cheap.score", "raise_above": 0.6}},
        known=[{"method.x": 0.3}, {"method.x": 0.7}, {"method.x": 0.9}],
        budget={"trials": 3},
        retries=1,
    )
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = whole(tmp_path / "sweep")
    first, second, third = (records.configurations[number] for number in range(3))
    pretrained = [trial for trial in records.trials.values() if trial.stage == "pretrain"]
    (died,) = (
        trial for trial in pretrained if trial.attempts > 1
    )  # whichever of the first two comes to its step first
    assert (died.status, died.attempts) == ("finished", 2), "the killed process's trial goes on from its checkpoint"
    assert [entry["epoch"] for entry in records.progress(died.id)] == [1, 2, 3, 4]
    assert first.state == "complete"
    assert second.state == "complete", "an evaluation that no objective needs may fail"
    failed = [trial for trial in records.trials.values() if trial.status == "failed"]
    assert {(t.name, t.attempts) for t in failed if t.stage == "evaluation"} == {("other", 2)}
    assert "no evaluation of 0.700" in next(t.reason for t in failed if t.stage == "evaluation")
    assert third.state == "pruned"
    assert "the loss is nan" in third.reason
    assert records.trials[third.trials[0]].attempts == 1, "a divergence is not tried again"
    log = (
        tmp_path / "sweep" / "trials" / next(t.id for t in failed if t.stage == "evaluation") / "log.txt"
    ).read_text()
    assert "RuntimeError: no evaluation of 0.700" in log


def test_a_damaged_checkpoint_is_noticed_and_trained_again(tmp_path: Path) -> None:
    where = tmp_path / "sweep"
    run(cheap(budget={"trials": 1}), where, quiet=True, track=False)
    records = load(where)
    trial = next(t for t in records.trials.values() if t.stage == "pretrain")
    assert trial.checkpoint is not None
    file = where / trial.checkpoint.path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
    extend(where, sets=["evals.third={name: cheap.score, options: {}}"], quiet=True)
    records = whole(where)
    assert {t.name for t in records.trials.values() if t.stage == "evaluation"} == {"good", "other", "third"}
    third = next(t for t in records.trials.values() if t.name == "third")
    assert third.status == "finished"
    assert third.metrics["third/all/val/weight"] == records.final_metrics(trial.id)["good/all/val/weight"]
    assert any("damaged" in text for text in records.warnings.values())


def test_two_sweeps_with_one_slot_propose_and_measure_the_same(tmp_path: Path) -> None:
    sweep = cheap(search={"sampler": "tpe", "startup": 2}, budget={"trials": 6}, resources={"pretrain": {"cpu": 2}})
    frames = []
    for name in ("one", "two"):
        run(sweep, tmp_path / name, quiet=True, track=False)
        frames.append(whole(tmp_path / name).frame().drop(columns="seconds"))
    assert frames[0].equals(frames[1])


def test_rungs_stop_the_worse_half_through_the_real_driver(tmp_path: Path) -> None:
    sweep = cheap(
        rungs=[0.5],
        stop={"rule": "median", "min_trials": 2},
        known=[{"method.x": x} for x in (0.5, 0.4, 0.01, 0.02)],
        resources={"pretrain": {"cpu": 2}},
    )
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = whole(tmp_path / "sweep")
    assert [c.state for c in records.configurations.values()] == ["complete", "pruned", "pruned", "pruned"]
    assert {records.trials[c.trials[0]].checkpoint.epoch for c in records.configurations.values()} == {2, 4}  # type: ignore[union-attr]


def test_finished_trials_of_another_sweep_are_taken_over(tmp_path: Path) -> None:
    run(cheap(), tmp_path / "one", quiet=True, track=False)
    run(cheap(budget={"trials": 5}), tmp_path / "two", reuse=tmp_path / "one", quiet=True, track=False)
    records = whole(tmp_path / "two")
    taken = [trial for trial in records.trials.values() if trial.stage == "pretrain" and trial.origin]
    assert len(taken) == 4
    assert records.frame()["good/all/val/score"].notna().all()
    for trial in taken:
        assert [entry["epoch"] for entry in records.progress(trial.id)] == [1, 2, 3, 4], "with its curve"


def test_the_sampler_learns_from_another_sweep_and_disk_ends_the_search(tmp_path: Path) -> None:
    sampler = {"sampler": "tpe", "startup": 3}
    run(cheap(search=sampler), tmp_path / "one", quiet=True, track=False)
    budget = {"trials": 60, "disk_gb": 1e-6}
    run(cheap(search=sampler, budget=budget, seed=5), tmp_path / "two", warm=tmp_path / "one", quiet=True, track=False)
    records = load(tmp_path / "two")
    assert [point["params"] for point in records.manifest["options"]["warm"]] == [
        configuration.params for configuration in load(tmp_path / "one").configurations.values()
    ]
    cold = cheap(search=sampler, budget=budget, seed=5)
    assert records.configurations[0].params != Proposals(cold).propose(0)[0]  # type: ignore[index]
    assert records.finished
    assert len(records.configurations) < 60
    assert "budget.disk_gb" in records.warnings["disk"]


def test_a_collapsed_representation_ends_its_trial(tmp_path: Path) -> None:
    sweep = cheap(base={"train": {"collapse_rank": 4.5}}, budget={"trials": 1})
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    configuration = whole(tmp_path / "sweep").configurations[0]
    assert configuration.state == "pruned"
    assert "collapsed to an effective rank of" in configuration.reason


def test_resuming_a_finished_sweep_does_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    run(cheap(budget={"trials": 1}), tmp_path / "sweep", quiet=True, track=False)
    before = (tmp_path / "sweep" / "ledger.jsonl").read_bytes()
    resume(tmp_path / "sweep", say=said.append)
    assert (tmp_path / "sweep" / "ledger.jsonl").read_bytes() == before
    assert "finished already" in said[-1]


@pytest.mark.parametrize("place", ["full", "read-only", "absent"])
def test_a_broken_aim_repository_ends_no_sweep(tmp_path: Path, place: str) -> None:
    where = tmp_path / "sweep"
    where.mkdir()
    sweep = cheap(budget={"trials": 1})
    from sweep.folder import create

    where.rmdir()
    create(where, sweep, {"data_root": None, "address": None, "track": True})
    if place == "read-only":
        (where / "aim").write_text("a file where the folder should be")
    elif place == "full":
        (where / "aim").symlink_to("/dev/full")
    else:
        (where / "aim").symlink_to(tmp_path / "missing" / "deep")
    run(sweep, where, quiet=True, track=True)
    records = whole(where)
    assert records.configurations[0].state == "complete"
    if place != "absent":
        assert "Aim" in records.warnings


def test_a_record_that_a_kill_left_behind_the_ledger_is_written_again(tmp_path: Path) -> None:
    where = tmp_path / "sweep"
    run(cheap(budget={"trials": 1}), where, quiet=True, track=False)
    ledger = where / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))  # killed before the last event, "done"
    first, second, third, *_ = sorted(where.glob("trials/*/record.json"))
    stale = json.loads(first.read_text())
    first.write_text(json.dumps({**stale, "status": "running", "metrics": {}}))
    second.write_text(second.read_text()[:40])
    third.unlink()
    resume(where, quiet=True)
    whole(where)


def test_several_transforms_at_once_are_searched_and_judged_each(tmp_path: Path) -> None:
    """DUET with one group of bins and with two; what a transform without bins cannot be asked is left out."""
    sweep = Sweep.model_validate(
        {
            "name": "groups",
            "method": "duet",
            "data": "digits",
            "base": {
                "method": {"encoder": {"name": "narrow_cifar10_resnet8"}, "bins": 4, "head_hidden": 16, "head_out": 8},
                "views.tx": ["sca", "rot"],
                "data.limit": 120,
                "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 60},
            },
            "space": {"method.equi_tx": Choice([["rot"], ["rot", "sca"]])},
            "objectives": ["min rot/marginal/val/group_loss"],
            "evals": {
                "transform_parameter": {"parts": ["group"]},
                "equivariance_roll": {"transform": "rot", "limit": 20},
                "rot": {"name": "group_calibration", "transform": "rot"},
                "sca": {"name": "group_calibration", "transform": "sca"},
            },
            "search": {"sampler": "grid"},
            "budget": {"trials": 2},
        }
    )
    run(sweep, tmp_path / "sweep", quiet=True, track=False)
    records = load(tmp_path / "sweep")
    found = {
        len(records.configurations[number].params["method.equi_tx"]): records.final_metrics(configuration.trials[0])
        for number, configuration in records.configurations.items()
    }
    assert all(configuration.state == "complete" for configuration in records.configurations.values())
    for metrics in found.values():
        assert 0 < metrics["rot/marginal/val/group_loss"] < 0.7
        assert "equivariance_roll/all/val/margin" in metrics and "transform_parameter/group/val/sca_r2" in metrics
    assert found[2]["sca/marginal/val/group_loss"] > 0
    assert "transform_parameter/marginal/val/sca_r2" in found[2], "read from its own bins"
    assert not [name for name in found[1] if name.startswith("sca/") or "marginal/val/sca" in name]

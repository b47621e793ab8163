"""Configurations that share pretrainings, since they differ in options of evaluations alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from graphs import Fake, World, check_shared, check_whole, score, sweep_of, told

from analysis.frames import collect
from sweep.jobs import Job, Outcome
from sweep.records import Records
from sweep.space import Choice, Float

TUNED: dict[str, Any] = {"space": {"evals.good.lr": Float(0.0, 0.1)}, "search": {"sampler": "random", "startup": 2}}


@pytest.mark.parametrize("seeds", [1, 3])
def test_configurations_that_differ_in_an_evaluation_alone_share_their_pretrainings(seeds: int) -> None:
    world = World(sweep_of(**TUNED, seeds=seeds, budget={"trials": 5})).run(slots=2)
    check_whole(world)
    check_shared(world)
    counts = Counter(trial.stage for trial in world.records.trials.values())
    assert counts == {"pretrain": seeds, "features": seeds, "evaluation": seeds * (5 + 1)}, "other is computed once"
    values = {configuration.values[0] for configuration in world.records.configurations.values()}
    assert len(values) == 5
    assert len(world.records.frame()) == 5 * seeds
    study = world.graph.proposals.study.trials
    assert [trial.values[0] for trial in study] == [c.values[0] for c in world.records.configurations.values()]


def test_seconds_of_what_is_shared_are_counted_once() -> None:
    """For the configuration that asked first, so that the column adds up to what was spent."""
    world = World(sweep_of(**TUNED, seeds=2, budget={"trials": 3})).run()
    frame = world.records.frame()
    spent = sum(trial.seconds for trial in world.records.trials.values())
    assert frame["seconds"].sum() == pytest.approx(spent) == pytest.approx(sum(world.records.seconds.values()))
    each = frame.groupby("configuration")["seconds"].sum().tolist()
    assert each == [pytest.approx(seconds) for seconds in (2 * (1.0 + 0.1 + 0.2), 0.2, 0.2)]
    assert collect(world.records).configurations["seconds"].tolist() == pytest.approx(each)


def test_a_shared_checkpoint_stays_while_anything_may_be_measured_on_it() -> None:
    world = World(sweep_of(**TUNED, budget={"trials": 4})).run(slots=3)
    (trial,) = (trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    assert [point.epoch for point in trial.checkpoints] == [10]
    assert world.graph.deletions == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_configurations_wait_for_a_pretraining_of_another_one(seeds: int) -> None:
    """Else all would be proposed before the first is measured, and no budget could end the search."""
    world = World(sweep_of(**TUNED, seeds=seeds, budget={"trials": 50}))
    jobs = [world.launch() for _ in range(seeds)]
    assert world.launch() is None
    assert len(world.records.configurations) == 3, "the first, and as many as `startup` says"
    for job in jobs:  # features of the first seeds are there while the others still train
        assert job is not None and job.stage == "pretrain"
        world.finish(job)
        features = world.launch()
        assert features is not None and features.stage == "features"
        world.finish(features)
        assert len(world.records.configurations) == 3
        while job is not jobs[-1] and (more := world.launch()):
            world.finish(more)
        assert len(world.records.configurations) == 3
    world.run(slots=2)
    check_whole(world)


def test_configurations_wait_for_a_pretraining_that_finds_no_place() -> None:
    """The machine with its device is gone: there is room for evaluations alone, and nothing to evaluate."""
    world = World(sweep_of(**TUNED, budget={"trials": 50}))
    job = world.launch()
    assert job is not None
    world.graph.end(job, Outcome("lost", "its node is gone"))
    assert world.graph.next(lambda stage: stage != "pretrain") is None
    assert len(world.records.configurations) <= 3
    world.run(slots=2)
    check_whole(world)


def test_an_evaluation_alone_needs_no_room_for_a_pretraining() -> None:
    world = World(sweep_of(**TUNED, budget={"trials": 4}))
    first = world.graph.next()
    assert first is not None
    world.finish(first)
    while job := world.graph.next(lambda stage: stage != "pretrain"):
        world.finish(job)
    check_whole(world)


def test_a_grid_begins_with_different_pretrainings() -> None:
    space = {"method.x": Choice([0.1, 0.2, 0.3]), "evals.good.lr": Choice([0.0, 0.1])}
    world = World(sweep_of(space=space, search={"sampler": "grid"}))
    jobs = [world.launch() for _ in range(3)]
    assert [job.stage for job in jobs if job] == ["pretrain"] * 3
    for job in jobs:
        assert job is not None
        world.finish(job)
    world.run(slots=3)
    check_whole(world)
    check_shared(world)


def test_what_one_configuration_was_stopped_for_stops_no_other() -> None:
    """The second is proposed when the shared pretraining was stopped at a rung, or is about to be."""
    stop = {"rule": "median", "min_trials": 1}
    known = [{"evals.good.lr": lr} for lr in (0.05, 0.0, 0.1)]
    sweep = sweep_of(**TUNED, rungs=[0.5], stop=stop, known=known[1:], budget={"trials": 2})
    world = World(sweep)
    world.graph.verdicts._rungs[0].append([score({"method": {}, "seed": 0}, {"lr": 0.05})])  # of an earlier one
    for stage in ("pretrain", "features", "evaluation"):
        job = world.graph.next(lambda stage: stage != "evaluation" or len(world.launched) < 9)
        assert job is not None
        assert job.stage == stage
        world.finish(job)
    assert world.records.configurations[0].state == "pruned"
    world.run()
    check_whole(world)
    assert [c.state for c in world.records.configurations.values()] == ["pruned", "complete"]
    (trial,) = (trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    assert trial.status == "finished"
    first = world.records.configurations[0].evaluations[trial.id]
    assert set(first) == {5}, "what was stopped is not measured at the end"


def test_a_pretraining_that_was_told_to_stop_goes_on_for_a_configuration_proposed_since() -> None:
    world = World(sweep_of(**TUNED, rungs=[0.5], stop={"rule": "median"}, budget={"trials": 2}))
    job = world.launch()
    assert job is not None
    world.graph.end(job, Outcome("stopped"))
    (trial,) = (trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    assert trial.status == "waiting"
    world.run()
    check_whole(world)


def test_an_evaluation_reads_the_result_that_its_own_configuration_has() -> None:
    sweep = sweep_of(space={"evals.other.lr": Float(0.0, 0.1)}, search={"sampler": "random"}, budget={"trials": 3})
    world = World(sweep, fake=Fake(sweep, inputs={"good": {"read": "other"}})).run(slots=3)
    check_whole(world)
    read = [job.payload["inputs"]["read"]["metrics"]["all/val/score"] for job in world.launched if job.name == "good"]
    lrs = [configuration.params["evals.other.lr"] for configuration in world.records.configurations.values()]
    assert read == [pytest.approx(score({"method": {}, "seed": 0}, {"lr": lr})) for lr in lrs]
    for job in world.launched:
        if job.name == "good":
            assert world.records.trials[world.records.trials[job.trial].inputs["read"]].name == "other"


def test_failed_evaluations_of_shared_pretrainings_can_be_tried_again() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("error", "no") if job.name == "good" and job.payload["config"]["lr"] > 0.05 else None

    sweep = sweep_of(**TUNED, known=[{"evals.good.lr": lr} for lr in (0.02, 0.08)], budget={"trials": 2}, retries=0)
    world = World(sweep).run(act)
    assert [c.state for c in world.records.configurations.values()] == ["complete", "failed"]
    again = World(sweep, list(world.ledger))
    assert again.graph.retry_failed() == 1
    again.graph.start()
    again.run()
    check_shared(again)
    assert [job.name for job in again.launched] == ["good"]
    assert [c.state for c in again.records.configurations.values()] == ["complete", "complete"]


def test_a_pretraining_of_another_sweep_serves_all_configurations() -> None:
    sweep = sweep_of(**TUNED, budget={"trials": 3})
    done = World(sweep).run()
    more = sweep_of(**{**TUNED, "search": {"sampler": "random"}}, seed=0, budget={"trials": 6})
    world = World(more, reuse=done.records).run()
    check_whole(world)
    check_shared(world)
    assert Counter(job.stage for job in world.launched) == {"evaluation": 3}


def test_a_ledger_of_before_says_of_all_evaluations_of_a_pretraining_that_they_judge_it() -> None:
    world = World(sweep_of(budget={"trials": 2})).run()
    old = [event for event in world.ledger if event["event"] != "evaluations"]
    records = Records(world.records.directory, world.records.manifest)
    for event in old:
        records.apply({key: value for key, value in event.items() if key != "inputs"})
    assert records.frame().equals(world.records.frame())
    again = World(world.sweep, old).run()
    assert again.launched == []
    assert again.records.configurations == world.records.configurations


def test_an_evaluation_of_two_configurations_depends_on_the_features_of_one() -> None:
    space = {"evals.good.limit": Choice([5, 9])}
    known = [{"evals.good.limit": limit} for limit in (5, 9)]
    world = World(sweep_of(space=space, known=known, budget={"trials": 2}, retries=0))
    pretraining = world.launch()
    assert pretraining is not None
    assert world.launch() is None
    world.finish(pretraining)
    first, second = world.launch(), world.launch()
    assert first is not None and second is not None
    assert first.stage == second.stage == "features", "each limit has its own"
    world.finish(first)
    jobs = {job.name: job for job in (world.launch(), world.launch()) if job}
    world.graph.end(second, Outcome("error", "disk full"))
    for job in jobs.values():
        world.finish(job)
    check_whole(world)
    assert {job.name: world.records.trials[job.trial].status for job in jobs.values()} == {
        "good": "finished", "other": "finished",
    }  # fmt: skip
    assert [c.state for c in world.records.configurations.values()] == ["complete", "failed"]


def test_nothing_is_said_of_a_configuration_before_it_is_taken_up_whole() -> None:
    """A kill between the failure of features and what depends on them; then an evaluation is added."""

    def act(job: Job) -> Outcome | None:
        return Outcome("error", "disk full") if job.stage == "features" else None

    known = [{"evals.good.lr": lr} for lr in (0.02, 0.08)]
    sweep = sweep_of(**TUNED, known=known, budget={"trials": 2}, retries=0)
    world = World(sweep)
    job = world.launch()
    assert world.launch() is None
    assert job is not None
    world.finish(job)
    features = world.launch()
    assert features is not None
    kept = len(world.ledger) + 1
    world.finish(features, act)
    evals = {"good": {}, "other": {}, "new": {}}
    larger = sweep_of(**TUNED, known=known, budget={"trials": 2}, evals=evals, objectives=["max new/all/val/score"])
    again = World(larger, world.ledger[:kept]).run()
    check_whole(again)
    assert {c.reason for c in again.records.configurations.values()} == {
        "evaluation new failed: features it depends on failed: disk full"
    }


def past_a_rung(damaged_after: bool) -> tuple[World, Job]:
    """Two configurations of one pretraining, which the first sent past its rung; the other's features report damage."""
    known = [{"evals.good.limit": limit} for limit in (5, 9)]
    space = {"evals.good.limit": Choice([5, 9])}
    sweep = sweep_of(space=space, known=known, rungs=[0.5], stop={"rule": "median"}, budget={"trials": 2})
    world = World(sweep)
    pretraining = world.launch()
    assert world.launch() is None and pretraining is not None
    world.finish(pretraining)
    first, second = world.launch(), world.launch()
    assert first is not None and second is not None
    assert (first.stage, second.stage) == ("features", "features")
    world.finish(first)
    judge, further = world.launch(), None
    assert judge is not None
    world.finish(judge)
    further = world.launch()
    assert further is not None
    assert (further.stage, further.payload["until"]) == ("pretrain", 10)
    if damaged_after:
        world.finish(further)
    path = second.payload["checkpoint"]
    world.graph.end(second, Outcome("corrupt", f"{path}: damaged checkpoint", damaged=(path,)))
    if not damaged_after:
        world.finish(further)
    return world, second


@pytest.mark.parametrize("damaged_after", [False, True])
def test_a_damaged_rung_that_training_is_past_holds_no_configuration_up(damaged_after: bool) -> None:
    world, features = past_a_rung(damaged_after)
    assert world.records.trials[features.trial].status == "failed"
    assert world.records.trials[features.trial].reason == "checkpoint of epoch 5 was damaged"
    (trial,) = (trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    assert (trial.status, trial.reason) == ("finished", "")
    world.run()
    check_whole(world)
    assert [c.state for c in world.records.configurations.values()] == ["complete", "complete"]
    again = World(world.sweep, list(world.ledger))
    assert again.graph.retry_failed() == 0, "there is nothing to read any more"
    again.graph.start()
    assert again.run().launched == []
    check_whole(again)


@pytest.mark.parametrize("damaged_after", [False, True])
def test_a_sweep_that_was_held_up_by_a_damaged_rung_goes_on(damaged_after: bool) -> None:
    """As an earlier version left it: nothing was said of what waits for the checkpoint."""
    world, _ = past_a_rung(damaged_after)
    lost = "checkpoint of epoch 5 was damaged"
    held = [event for event in world.ledger if lost not in event.get("reason", "")]
    held = [event for event in held if (event["event"], event.get("number")) != ("verdict", 1)]
    again = World(world.sweep, held).run()
    check_whole(again)
    assert [c.state for c in again.records.configurations.values()] == ["complete", "complete"]


def test_an_evaluation_that_fails_on_a_checkpoint_lost_meanwhile_is_not_tried_again() -> None:
    """It had read the checkpoint before another one found the damage."""
    sweep = sweep_of(
        **TUNED, known=[{"evals.good.lr": lr} for lr in (0.01, 0.02, 0.03)], rungs=[0.5], stop={"rule": "median"},
        budget={"trials": 3},
    )  # fmt: skip
    world = World(sweep)
    for stage in ("pretrain", "features"):
        job = world.launch()
        assert job is not None and job.stage == stage
        if stage == "pretrain":
            assert world.launch() is None
        world.finish(job)
    first, second, third = world.launch(), world.launch(), world.launch()
    assert first is not None and second is not None and third is not None
    world.finish(first)
    further = world.launch()
    assert further is not None and further.stage == "pretrain"
    world.finish(further)
    path = second.payload["checkpoint"]
    world.graph.end(second, Outcome("corrupt", f"{path}: damaged checkpoint", damaged=(path,)))
    assert world.records.trials[third.trial].status == "running"
    world.graph.end(third, Outcome("died", "killed"))
    world.run()
    check_whole(world)
    assert {c.state for c in world.records.configurations.values()} == {"complete"}


def refused_above(bound: float) -> Callable[[Mapping[str, Any]], bool]:
    return lambda params: params["evals.good.lr"] > bound


def test_a_point_that_an_option_refuses_is_told_as_infeasible_and_trains_nothing() -> None:
    sweep = sweep_of(**TUNED, known=[{"evals.good.lr": lr} for lr in (0.09, 0.01)], budget={"trials": 8})
    world = World(sweep, fake=Fake(sweep, refuses=refused_above(0.05))).run(slots=2)
    check_whole(world)
    check_shared(world)
    configurations = world.records.configurations
    refused = {c.number for c in configurations.values() if c.params["evals.good.lr"] > 0.05}
    assert 0 in refused and 2 <= len(refused) < 8
    for number, configuration in configurations.items():
        assert configuration.state == ("pruned" if number in refused else "complete")
        assert (configuration.trials == []) == (number in refused)
        assert configuration.reason == ("evals.good: must be odd" if number in refused else "")
    study = world.graph.proposals.study.trials
    assert [trial.constraints for trial in study] == [{"collapse": 1.0} if n in refused else {} for n in configurations]
    again = World(sweep, list(world.ledger), Fake(sweep, refuses=refused_above(0.05)))
    assert again.graph.done
    assert again.records.configurations == configurations


def test_a_kill_before_a_refused_point_is_told_changes_nothing() -> None:
    sweep = sweep_of(**TUNED, known=[{"evals.good.lr": 0.09}], budget={"trials": 2})
    fake = Fake(sweep, refuses=refused_above(0.05))
    world = World(sweep, fake=fake).run()
    proposed = next(at for at, event in enumerate(world.ledger) if event["event"] == "configuration")
    again = World(sweep, world.ledger[: proposed + 1], fake).run()
    check_whole(again)
    assert told(again) == told(world)


def test_a_first_point_that_is_refused_leaves_the_training_to_the_next() -> None:
    sweep = sweep_of(**TUNED, known=[{"evals.good.lr": lr} for lr in (0.09, 0.01)], budget={"trials": 2})
    world = World(sweep, fake=Fake(sweep, refuses=refused_above(0.05)))
    assert world.graph.next(lambda stage: stage == "evaluation") is None
    assert [c.trials for c in world.records.configurations.values()] in ([], [[]])
    world.run()
    check_whole(world)


def test_what_is_refused_since_it_was_begun_is_told_and_the_others_go_on() -> None:
    """An evaluation of a newer version is stricter, or an older one did not ask."""
    sweep = sweep_of(**TUNED, known=[{"evals.good.lr": lr} for lr in (0.09, 0.01, 0.08)], budget={"trials": 3})
    world = World(sweep)
    job = world.launch()
    assert world.launch() is None and job is not None
    again = World(sweep, list(world.ledger), Fake(sweep, refuses=refused_above(0.05))).run()
    check_whole(again)
    assert [c.state for c in again.records.configurations.values()] == ["pruned", "complete", "pruned"]
    assert again.records.configurations[0].reason == "evals.good: must be odd"


def test_a_configuration_without_results_shows_none_of_another_one() -> None:
    """It was proposed while its pretraining, which the first one has measured at a rung, goes on."""
    known = [{"evals.good.lr": lr} for lr in (0.02, 0.08)]
    sweep = sweep_of(**TUNED, known=known, rungs=[0.5], stop={"rule": "median"}, budget={"trials": 1})
    world = World(sweep)
    for _ in range(3):
        job = world.launch()
        assert job is not None
        world.finish(job)
    assert job.name == "good"
    more = World(sweep_of(**{**sweep.dump(), "budget": {"trials": 2}}), list(world.ledger))
    job = more.launch()
    assert job is not None and job.stage == "pretrain"
    more.emit({"event": "configuration", "number": 1, "trials": [job.trial], "params": known[1], "source": "known"})
    (first, second) = more.records.frame().to_dict("records")
    assert first["good/all/val/score"] == pytest.approx(score({"method": {}, "seed": 0}, {"lr": 0.02}))
    assert second["good/all/val/score"] != second["good/all/val/score"], "nan"
    assert more.records.evaluations_of(job.trial, None, 1) == []
    assert more.records.final_metrics(job.trial, 1) == {}


def test_a_driver_that_takes_up_half_a_failure_keeps_what_others_need() -> None:
    """A kill between the failure of features and the evaluation that reads them, of the first of two configurations."""
    known = [{"evals.good.limit": limit} for limit in (5, 9)]
    space = {"evals.good.limit": Choice([5, 9])}
    sweep = sweep_of(space=space, known=known, rungs=[0.5], stop={"rule": "median"}, budget={"trials": 2}, retries=0)
    world = World(sweep)
    pretraining = world.launch()
    assert world.launch() is None and pretraining is not None
    world.write_checkpoint(pretraining, 5)
    first, second = world.graph.next(), world.graph.next()
    assert first is not None and second is not None
    assert (first.stage, second.stage) == ("features", "features")
    world.write_checkpoint(pretraining, 7)
    world.write_checkpoint(pretraining, 8)
    at = len(world.ledger)
    world.graph.end(first, Outcome("error", "disk full"))
    assert world.ledger[at]["id"] == first.trial and world.ledger[at]["status"] == "failed"
    again = World(sweep, world.ledger[: at + 1])
    (trial,) = (trial for trial in again.records.trials.values() if trial.stage == "pretrain")
    assert 5 in [point.epoch for point in trial.checkpoints], "the second configuration is measured there"
    assert again.graph.deletions == []
    again.run()
    check_whole(again)
    assert [set(c.evaluations[trial.id]) for c in again.records.configurations.values()] == [{5, 10}, {5, 10}]
    assert again.records.configurations[1].rungs
    assert [point.epoch for point in trial.checkpoints] == [10]

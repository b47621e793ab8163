"""The dependency graph: what runs when, what a failure means, and that nothing is lost or counted twice."""

from __future__ import annotations

from collections import Counter

import pytest
from graphs import Fake, World, check_whole, score, sweep_of

from sweep.jobs import Job, Outcome


def test_each_pretraining_is_followed_by_features_and_evaluations_and_told_once() -> None:
    world = World(sweep_of()).run()
    check_whole(world)
    stages = Counter(trial.stage for trial in world.records.trials.values())
    assert stages == {"pretrain": 6, "features": 6, "evaluation": 12}
    for configuration in world.records.configurations.values():
        trial = world.records.trials[configuration.trials[0]]
        assert configuration.values == [score(trial.config)]


def test_waiting_evaluations_go_before_new_pretraining() -> None:
    world = World(sweep_of()).run()
    order = [job.stage for job in world.launched]
    assert order[:4] == ["pretrain", "features", "evaluation", "evaluation"]
    assert order[4] == "pretrain"


def test_an_evaluation_waits_for_the_one_it_reads_and_gets_its_result() -> None:
    sweep = sweep_of(budget={"trials": 1})
    world = World(sweep, fake=Fake(sweep, inputs={"good": {"read": "other"}})).run(slots=4)
    names = [job.name for job in world.launched]
    assert names == ["fake", "features", "other", "good"]
    assert world.launched[-1].payload["inputs"]["read"]["metrics"] == {
        "all/val/score": pytest.approx(score(world.launched[0].payload["config"]))
    }


def test_seeds_are_told_as_their_mean_with_spread() -> None:
    world = World(sweep_of(seeds=3, budget={"trials": 2})).run(slots=3)
    check_whole(world)
    for configuration in world.records.configurations.values():
        values = [score(world.records.trials[id_].config) for id_ in configuration.trials]
        assert configuration.values == [pytest.approx(sum(values) / 3)]
        assert configuration.spread == [pytest.approx(0.01)]


def test_a_rung_stops_the_worse_configurations_before_their_end() -> None:
    stop = {"rule": "asha", "reduction": 2, "min_trials": 2}
    world = World(sweep_of(rungs=[0.2, 0.5], stop=stop, budget={"trials": 12})).run()
    check_whole(world)
    states = Counter(c.state for c in world.records.configurations.values())
    assert states["pruned"] >= 3
    assert states["complete"] >= 1
    for configuration in world.records.configurations.values():
        trial = world.records.trials[configuration.trials[0]]
        if configuration.state == "pruned":
            assert trial.status == "stopped"
            assert trial.checkpoint is not None
            assert trial.checkpoint.epoch in (2, 5)
            assert "asha" in configuration.reason
    rung_evaluations = {t.name for t in world.records.trials.values() if t.stage == "evaluation" and t.epoch in (2, 5)}
    assert rung_evaluations == {"good"}, "only what the objectives need is evaluated before the end"


def test_a_pretraining_never_passes_a_rung_unjudged() -> None:
    world = World(sweep_of(rungs=[0.5], stop={"rule": "median"}, budget={"trials": 1}))
    first = world.launch()
    assert first is not None
    assert first.payload["until"] == 5
    world.finish(first)
    second = world.launch()
    assert second is not None
    assert second.stage == "features"
    assert world.launch() is None, "it waits for its verdict"


def test_a_failing_evaluation_is_tried_again_then_fails_its_configuration_with_the_reason() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("error", "ValueError: no") if job.name == "good" else None

    world = World(sweep_of(budget={"trials": 2}, retries=2)).run(act)
    check_whole(world)
    for trial in world.records.trials.values():
        if trial.name == "good":
            assert (trial.status, trial.attempts, trial.reason) == ("failed", 3, "ValueError: no")
        else:
            assert trial.status == "finished"
    assert {c.state for c in world.records.configurations.values()} == {"failed"}
    assert "ValueError: no" in world.records.configurations[0].reason


def test_an_evaluation_that_no_objective_needs_may_fail() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("error", "no") if job.name == "other" else None

    world = World(sweep_of()).run(act)
    assert {c.state for c in world.records.configurations.values()} == {"complete"}


def test_what_depends_on_a_failed_trial_fails_with_its_reason() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("error", "disk full") if job.stage == "features" else None

    world = World(sweep_of(budget={"trials": 1})).run(act)
    check_whole(world)
    assert {t.reason for t in world.records.trials.values() if t.stage == "evaluation"} == {
        "features it depends on failed: disk full"
    }


def test_a_divergence_is_not_tried_again_and_told_as_infeasible() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("diverged", "diverged: the loss is nan") if job.stage == "pretrain" else None

    world = World(sweep_of(budget={"trials": 3})).run(act)
    check_whole(world)
    assert {t.attempts for t in world.records.trials.values()} == {1}
    assert {c.state for c in world.records.configurations.values()} == {"pruned"}
    assert all(trial.constraints == {"collapse": 1.0} for trial in world.graph.proposals.study.trials)


def test_a_value_that_is_not_finite_fails_the_configuration() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("finished", metrics={"good/all/val/score": float("nan")}) if job.name == "good" else None

    world = World(sweep_of(budget={"trials": 1})).run(act)
    assert "no finite good/all/val/score" in world.records.configurations[0].reason


def test_a_damaged_checkpoint_sends_the_pretraining_back_to_the_one_before() -> None:
    world = World(sweep_of(budget={"trials": 1}))
    job = world.launch()
    assert job is not None
    world.write_checkpoint(job, 5)
    world.write_checkpoint(job, 10)
    world.graph.end(job, Outcome("segment"))
    features = world.launch()
    assert features is not None
    damaged = features.payload["checkpoint"]
    world.graph.end(features, Outcome("corrupt", "damaged checkpoint", damaged=(damaged,)))
    again = world.launch()
    assert again is not None
    assert (again.stage, again.payload["until"], [path for path, _ in again.payload["checkpoints"]]) == (
        "pretrain", 10, [f"{job.directory}/epoch-0005"]
    )  # fmt: skip
    world.finish(again)
    world.run()
    check_whole(world)
    assert world.records.configurations[0].state == "complete"
    assert any("damaged" in text for text in world.records.warnings.values())


def test_a_damaged_checkpoint_is_made_again_by_the_next_driver_too() -> None:
    world = World(sweep_of(budget={"trials": 1})).run()
    again = World(sweep_of(budget={"trials": 1}, evals={"good": {}, "other": {}, "new": {}}), list(world.ledger))
    job = again.launch()
    assert job is not None and job.name == "new"
    path = job.payload["checkpoint"]
    again.graph.end(job, Outcome("corrupt", f"{path}: damaged checkpoint", damaged=(path,)))
    third = World(again.sweep, list(again.ledger)).run()
    check_whole(third)
    assert [job.name for job in third.launched] == ["fake", "new"]
    assert {trial.status for trial in third.records.trials.values()} == {"finished"}


@pytest.mark.parametrize("name", ["other", "good"])
def test_a_pretraining_whose_damaged_checkpoint_nobody_needs_any_more_is_as_it_was(name: str) -> None:
    """The evaluation has no attempts left. The numbers of the others stand."""

    def act(job: Job) -> Outcome | None:
        path = job.payload.get("checkpoint", "")
        return Outcome("corrupt", f"{path}: damaged checkpoint", damaged=(path,)) if job.name == name else None

    sweep = sweep_of(budget={"trials": 1}, retries=0, evals={"good": {}, "other": {}})
    fake = Fake(sweep, inputs={"other": {"read": "good"}})
    world = World(sweep, fake=fake).run(act)
    check_whole(world)
    (trial,) = (trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    assert trial.status == "finished"
    assert world.records.configurations[0].state == ("complete" if name == "other" else "failed")
    again = World(world.sweep, list(world.ledger), fake)
    assert again.graph.done
    assert again.graph.retry_failed() == (1 if name == "other" else 2)
    again.graph.start()
    again.run()
    # without an objective's value the first driver trained it again before it gave the configuration up
    assert [job.name for job in again.launched] == (["fake", "other"] if name == "other" else ["good", "other"])
    assert {trial.status for trial in again.records.trials.values()} == {"finished"}
    assert again.records.configurations[0].state == "complete"


def test_what_waits_for_a_checkpoint_that_cannot_be_made_again_fails_and_can_be_tried_again() -> None:
    world = World(sweep_of(budget={"trials": 1}, retries=0))
    job = world.launch()
    assert job is not None
    world.finish(job)
    features = world.launch()
    assert features is not None
    path = features.payload["checkpoint"]
    world.graph.end(features, Outcome("lost", f"{path}: damaged checkpoint", damaged=(path,)))
    world.run(lambda job: Outcome("error", "out of memory"))
    check_whole(world)
    assert {trial.status for trial in world.records.trials.values()} == {"failed"}
    again = World(world.sweep, list(world.ledger))
    assert again.graph.retry_failed() == 4
    again.graph.start()
    again.run()
    assert {trial.status for trial in again.records.trials.values()} == {"finished"}
    assert again.records.configurations[0].state == "complete"


def test_checkpoints_that_nothing_needs_are_given_up() -> None:
    world = World(sweep_of(budget={"trials": 1}))
    job = world.launch()
    assert job is not None
    for epoch in (2, 4, 6, 8, 10):
        world.write_checkpoint(job, epoch)
    assert [path[-4:] for path in world.graph.deletions] == ["0002", "0004", "0006"]
    world.graph.end(job, Outcome("segment"))
    world.run()
    assert [point.epoch for point in world.records.trials[job.trial].checkpoints] == [10]


def test_constraints_are_told_as_violations() -> None:
    constraints = [{"metric": "other/all/val/score", "at_least": 0.2}]
    world = World(sweep_of(constraints=constraints)).run()
    for configuration in world.records.configurations.values():
        assert configuration.violation == pytest.approx(0.2 - configuration.values[0])
    for trial, configuration in zip(
        world.graph.proposals.study.trials, world.records.configurations.values(), strict=True
    ):
        assert trial.constraints == {"constraints": configuration.violation}


def test_points_given_by_hand_come_next_and_push_no_known_point_out() -> None:
    world = World(sweep_of(known=[{"method.x": 0.25}], budget={"trials": 4}))
    world.graph.enqueue([{"method.x": 0.75}])
    first = world.launch()
    second = world.launch()
    assert first is not None
    assert second is not None
    sources = [(c.params["method.x"], c.source) for c in world.records.configurations.values()]
    assert sources == [(0.75, "enqueued"), (0.25, "known")]


def test_the_same_point_twice_is_computed_once() -> None:
    world = World(sweep_of(known=[{"method.x": 0.25}, {"method.x": 0.25}], budget={"trials": 2})).run()
    check_whole(world)
    assert Counter(t.stage for t in world.records.trials.values())["pretrain"] == 1


def test_an_equal_finished_trial_of_another_sweep_is_taken_over() -> None:
    sweep = sweep_of(known=[{"method.x": 0.25}], rungs=[0.5], budget={"trials": 1})
    done = World(sweep).run()
    world = World(sweep, reuse=done.records).run()
    check_whole(world)
    assert world.launched == []
    assert world.records.configurations[0].values == done.records.configurations[0].values
    assert {trial.origin for trial in world.records.trials.values() if trial.stage == "pretrain"} == {"/nowhere"}
    third = World(sweep, reuse=world.records).run()
    paths = [point.path for trial in third.records.trials.values() for point in trial.checkpoints]
    assert paths == [point.path for trial in world.records.trials.values() for point in trial.checkpoints]
    assert all(path.startswith("/nowhere/trials/") for path in paths), "where they lie, however often taken over"


def test_a_finished_sweep_started_again_does_nothing() -> None:
    world = World(sweep_of()).run()
    again = World(world.sweep, list(world.ledger))
    assert again.graph.done
    assert again.launch() is None


def test_more_trials_a_new_evaluation_and_a_new_objective_extend_a_sweep() -> None:
    world = World(sweep_of(budget={"trials": 3})).run()
    values = {c.number: c.values for c in world.records.configurations.values()}
    larger = sweep_of(
        budget={"trials": 5},
        evals={"good": {}, "other": {}, "new": {}},
        objectives=["max good/all/val/score", "min new/all/val/score"],
    )
    again = World(larger, list(world.ledger)).run()
    assert len(again.records.configurations) == 5
    assert sum(job.stage == "pretrain" for job in again.launched) == 2
    for number, configuration in again.records.configurations.items():
        assert len(configuration.values) == 2
        if number in values:
            assert configuration.values[0] == values[number][0]


def test_failed_trials_can_be_tried_again() -> None:
    def act(job: Job) -> Outcome | None:
        return Outcome("error", "out of memory") if job.name == "good" else None

    world = World(sweep_of(budget={"trials": 3})).run(act)
    again = World(world.sweep, list(world.ledger))
    assert again.graph.retry_failed() == 3
    again.graph.start()
    again.run()
    assert {c.state for c in again.records.configurations.values()} == {"complete"}
    assert all(job.stage == "evaluation" for job in again.launched)


def test_the_budget_of_device_hours_ends_the_search() -> None:
    world = World(sweep_of(budget={"trials": 100, "device_hours": 4 / 3600})).run()
    assert 3 <= len(world.records.configurations) <= 5


def test_a_process_that_dies_after_its_last_checkpoint_has_finished() -> None:
    world = World(sweep_of(budget={"trials": 1}))
    job = world.launch()
    assert job is not None
    world.write_checkpoint(job, 10)
    world.graph.end(job, Outcome("died", "killed"))
    world.run()
    check_whole(world)
    assert world.records.trials[job.trial].status == "finished"
    assert world.records.configurations[0].state == "complete"


def test_a_trial_whose_checkpoint_was_cleaned_away_is_not_taken_over_but_computed() -> None:
    sweep = sweep_of(known=[{"method.x": 0.25}], budget={"trials": 1})
    done = World(sweep).run()
    for trial in done.records.trials.values():
        trial.checkpoints = []
    world = World(sweep, reuse=done.records).run()
    check_whole(world)
    assert [job.stage for job in world.launched] == ["pretrain"], "evaluations need no checkpoint to be taken over"


def test_a_checkpoint_that_was_cleaned_away_is_made_again_for_a_new_evaluation() -> None:
    world = World(sweep_of(budget={"trials": 1})).run()
    trial = next(trial for trial in world.records.trials.values() if trial.stage == "pretrain")
    world.emit({"event": "drop_checkpoint", "id": trial.id, "path": trial.checkpoints[-1].path})
    larger = sweep_of(budget={"trials": 1}, evals={"good": {}, "other": {}, "new": {}})
    again = World(larger, list(world.ledger)).run()
    assert [job.stage for job in again.launched] == ["pretrain", "evaluation"], "features are cached elsewhere"
    assert all(trial.over for trial in again.records.trials.values())


def test_an_objective_can_be_added_to_a_sweep_with_a_stopping_rule() -> None:
    stop = {"rule": "asha", "reduction": 2, "min_trials": 2}
    world = World(sweep_of(rungs=[0.5], stop=stop)).run()
    both = ["max good/all/val/score", "min other/all/val/score"]
    again = World(sweep_of(rungs=[0.5], stop=stop, objectives=both, budget={"trials": 9}), list(world.ledger)).run()
    assert len(again.records.configurations) == 9
    assert all(len(c.values) == 2 for c in again.records.configurations.values() if c.state == "complete")


def test_another_objective_replaces_the_values_under_its_own_name() -> None:
    world = World(sweep_of(budget={"trials": 2})).run()
    again = World(sweep_of(budget={"trials": 2}, objectives=["max other/all/val/score"]), list(world.ledger)).run()
    tells = [event for event in again.ledger if event["event"] == "told"]
    assert [event["asked"][0] for event in tells[2:]] == [["other/all/val/score"]] * 2
    bounded = sweep_of(budget={"trials": 2}, constraints=[{"metric": "other/all/val/score", "at_least": 0.2}])
    constrained = World(bounded, list(world.ledger)).run()
    assert all(c.violation is not None for c in constrained.records.configurations.values())


def test_the_other_seed_of_a_diverged_configuration_does_not_wait_for_ever() -> None:
    world = World(sweep_of(seeds=2, rungs=[0.5], stop={"rule": "median"}, budget={"trials": 1}))
    first, second = world.launch(), world.launch()
    assert first is not None
    assert second is not None
    world.graph.end(first, Outcome("diverged", "diverged: nan"))
    assert world.graph.stops == [second.trial]
    world.finish(second)  # it reached its rung before it looked for the stop file
    world.run()
    check_whole(world)
    assert world.records.trials[second.trial].status == "stopped"
    again = World(world.sweep, list(world.ledger))
    assert again.graph.retry_failed() == 0, "it would diverge again"


def test_a_point_given_by_hand_survives_a_kill() -> None:
    world = World(sweep_of(budget={"trials": 2}))
    world.graph.enqueue([{"method.x": 0.75}])
    again = World(world.sweep, list(world.ledger)).run()
    assert [c.source for c in again.records.configurations.values()] == ["enqueued", "sampler"]
    assert again.records.enqueued == []


def test_rungs_that_fall_on_one_epoch_keep_their_share() -> None:
    stop = {"rule": "median", "min_trials": 2, "grace": 0.3}
    points = [{"method.x": x} for x in (0.5, 0.4, 0.01)]
    world = World(sweep_of(rungs=[0.01, 0.02, 0.5], stop=stop, known=points, budget={"trials": 3})).run()
    assert [c.state for c in world.records.configurations.values()] == ["complete", "pruned", "pruned"]


def test_attempts_count_from_the_last_checkpoint() -> None:
    world = World(sweep_of(budget={"trials": 1}, retries=1))
    for epoch in (2, 4, 6, 8):
        job = world.launch()
        assert job is not None
        world.write_checkpoint(job, epoch)
        world.graph.end(job, Outcome("died", "the machine was taken away"))
    world.run()
    assert world.records.configurations[0].state == "complete"


@pytest.mark.parametrize(("keep", "kept"), [("last", [10]), ("best", [2, 10]), ("all", [2, 5, 10])])
def test_checkpoints_that_stay(keep: str, kept: list[int]) -> None:
    # rises to the first rung, falls to the second, and ends between them
    values = {2: 0.9, 5: 0.1, 10: 0.5}

    def act(job: Job) -> Outcome | None:
        if job.stage != "evaluation":
            return None
        value = values[world.records.trials[job.trial].epoch or 0]
        return Outcome("finished", metrics={f"{job.name}/all/val/score": value}, seconds=0.1)

    world = World(sweep_of(rungs=[0.2, 0.5], keep=keep, budget={"trials": 1}))
    world.run(act)
    trial = world.records.trials[world.records.configurations[0].trials[0]]
    assert [point.epoch for point in trial.checkpoints] == kept

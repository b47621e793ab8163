"""The dependency graph in random orders, with random failures and kills: nothing is lost or counted twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from graphs import Fake, World, check_shared, check_whole, sweep_of, told

from sweep.jobs import Job, Outcome
from sweep.records import Records
from sweep.space import Choice, Float
from sweep.spec import Sweep


def sweep_at_random(draw: random.Random) -> Sweep:
    """Any sweep without options of evaluations."""
    return sweep_of(
        seeds=draw.randint(1, 2),
        rungs=(rungs := draw.choice([(), (0.5,), (0.3, 0.6)])),
        stop={"rule": "asha" if rungs and draw.random() < 0.5 else "none", "reduction": 2, "min_trials": 2},
        budget={"trials": draw.randint(1, 5)},
        search={"sampler": "random"},
        retries=100,
    )


def tuned_at_random(draw: random.Random) -> Sweep:
    """One that searches options of evaluations, alone or beside some of the method."""
    given = sweep_at_random(draw)
    options = {"evals.good.lr": Float(0.0, 0.1), "evals.other.limit": Choice([5, 9], when=draw.choice([{}, KIND]))}
    method = draw.choice([{}, {"method.x": Choice([0.2, 0.7])}])
    space = {"evals.good.kind": Choice(["a", "b"]), **options, **method}
    search = {"sampler": "random", "startup": draw.randint(1, 3)}
    budget = {"trials": draw.randint(2, 7)}
    return Sweep.model_validate({**given.dump(), "space": space, "search": search, "budget": budget})


KIND = {"evals.good.kind": "b"}


def refused(params: Mapping[str, Any]) -> bool:
    return 0.03 < params.get("evals.good.lr", 0.0) < 0.06


@pytest.mark.parametrize("kind", [sweep_at_random, tuned_at_random])
@pytest.mark.parametrize("seed", range(100))
def test_whatever_the_order_and_however_often_the_driver_is_killed(
    seed: int, kind: Callable[[random.Random], Sweep]
) -> None:
    """Random completion order, random failures, random kills: all is there once, and equal to the undisturbed run."""
    draw = random.Random(seed)
    sweep = kind(draw)
    fake = Fake(
        sweep,
        inputs=draw.choice([{}, {"good": {"read": "other"}}]),
        refuses=draw.choice([lambda params: False, refused]),
    )
    world = World(sweep, fake=fake)
    flying: list[Job] = []
    for _ in range(5000):
        if world.graph.done:
            break
        action = draw.choice(["launch", "launch", "finish", "finish", "kill", "die", "point", "damage"])
        before = len(world.records.configurations)
        if action == "launch" and len(flying) < 3 and (job := world.launch()):
            flying.append(job)
            assert len(world.records.configurations) == before or waiting(world) <= sweep.search.startup
        elif action == "kill":
            keep = max(0, len(world.ledger) - draw.randint(0, 5))  # what was not yet written when it died
            world, flying = World(sweep, world.ledger[:keep], fake), []
        elif flying and action in ("finish", "die"):
            job = flying.pop(draw.randrange(len(flying)))
            ended = outcome(world, job, died=action == "die")
            world.finish(job, lambda job, ended=ended: ended)
        elif flying and action == "damage":
            job = flying.pop(draw.randrange(len(flying)))
            world.graph.end(job, damaged(job, draw))
        elif flying and action == "point":
            job = draw.choice(flying)
            reached = world.records.trials[job.trial].checkpoint
            middle = (reached.epoch if reached else 0) + 1
            if job.stage == "pretrain" and middle < job.payload["until"]:
                world.write_checkpoint(job, middle)
        check_own(world)
    assert world.graph.done, "no end in sight"
    check_whole(world)
    check_shared(world)
    check_frame(world)
    if sweep.stop.rule == "none":  # else the verdicts depend on the order
        assert told(world) == told(World(sweep, fake=fake).run())
    rebuilt = Records(world.records.directory, world.records.manifest)
    for event in world.ledger:
        rebuilt.apply(event)
    assert rebuilt.trials == world.records.trials
    assert rebuilt.configurations == world.records.configurations


def outcome(world: World, job: Job, died: bool) -> Outcome | None:
    """What comes of a job at random: its process dies, or it stops when it was told to, or it does its work."""
    if died:
        return Outcome("died", "killed")
    return Outcome("stopped") if job.trial in world.graph.stops else None


def damaged(job: Job, draw: random.Random) -> Outcome:
    """A job finds that a checkpoint it was to read is damaged."""
    if job.stage != "pretrain":
        path = job.payload["checkpoint"]
        return Outcome("corrupt", f"{path}: damaged checkpoint", damaged=(path,))
    paths = [path for path, _ in job.payload["checkpoints"]]
    return Outcome("died", "killed", damaged=tuple(paths[: draw.randint(0, len(paths))]))


def waiting(world: World) -> int:
    """How many configurations need the end of a pretraining that another one has begun."""
    found = 0
    for configuration in world.records.configurations.values():
        shared = [id_ for id_ in configuration.trials if min(world.records.owners[id_]) != configuration.number]
        unfinished = any(not world.records.trials[id_].over for id_ in shared)
        found += configuration.state == "running" and unfinished
    return found


def check_own(world: World) -> None:
    """What is shown of a configuration was measured for it, with the options that it has."""
    records = world.records
    for number, configuration in records.configurations.items():
        for id_ in configuration.trials:
            assert number in records.owners[id_]
            own = {one for judges in configuration.evaluations.get(id_, {}).values() for one in judges.values()}
            shown = records.evaluations_of(id_, None, number)
            assert {one.id for one in shown} == own
            for one in shown:
                assert number in records.owners[one.id]
                options = {f"evals.{one.name}.{name}": v for name, v in one.config.items() if name != "name"}
                assert options.items() <= configuration.params.items()


def check_frame(world: World) -> None:
    """Every number of the table is of a trial of that row's configuration; all seconds are there once."""
    records = world.records
    frame = records.frame()
    if not len(frame):
        return
    assert frame["seconds"].sum() == pytest.approx(sum(trial.seconds for trial in records.trials.values()))
    for row in frame.to_dict("records"):
        judges = records.configurations[row["configuration"]].evaluations.get(row["trial"], {})
        own = [records.trials[id_].metrics for at in judges.values() for id_ in at.values()]
        for name, value in row.items():
            if name.endswith("/all/val/score") and value == value:
                assert value in [metrics[name] for metrics in own if name in metrics]

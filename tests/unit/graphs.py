"""A sweep without Ray, torch or time: fake trials whose values are functions of their parameters."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from datasets.config import ConfigError
from sweep.graph import Graph
from sweep.jobs import Job, Node, Outcome
from sweep.ledger import Event
from sweep.records import Records
from sweep.space import Float, pretrained
from sweep.spec import Sweep
from trainables.core.config import digest


def sweep_of(**changes: Any) -> Sweep:
    """A small sweep with one coefficient, one objective and a second evaluation that nothing needs."""
    values: dict[str, Any] = {
        "method": "fake",
        "data": "fake",
        "space": {"method.x": Float(0.0, 1.0)},
        "objectives": ["max good/all/val/score"],
        "evals": {"good": {}, "other": {}},
        "budget": {"trials": 6},
    }
    return Sweep.model_validate({**values, **changes})


class Fake:
    """A blueprint of pretrainings of `epochs` epochs with the evaluations of the sweep."""

    def __init__(
        self, sweep: Sweep, epochs: int = 10, inputs: Mapping[str, dict[str, str]] | None = None,
        refuses: Callable[[Mapping[str, Any]], bool] = lambda params: False,
    ) -> None:  # fmt: skip
        """`refuses`: whether an option of an evaluation refuses its value at a point."""
        self.sweep, self.epochs, self.inputs, self.refuses = sweep, epochs, inputs or {}, refuses

    def refusal(self, params: dict[str, Any]) -> str:
        return "evals.good: must be odd" if self.refuses(params) else ""

    def pretraining(self, params: dict[str, Any], seed: int) -> tuple[str, dict[str, Any]]:
        config = {"method": {"name": "fake", **pretrained(params)}, "train": {"epochs": self.epochs}, "seed": seed}
        return digest(config), config

    def evaluations(self, config: dict[str, Any], params: dict[str, Any]) -> list[Node]:
        if self.refuses(params):
            raise ConfigError(self.refusal(params))
        nodes: dict[str, Node] = {}
        for key in self.sweep.evals:
            options = {name.split(".")[2]: value for name, value in params.items() if name.startswith(f"evals.{key}.")}
            inputs = self.inputs.get(key, {})

            def id_of(parent: str, epoch: int, said: Any = (key, options), inputs: Any = inputs) -> str:
                return digest([said, parent, epoch, [nodes[one].id_of(parent, epoch) for one in inputs.values()]])

            requests = ({"split": "val", "limit": options.get("limit")},)
            nodes[key] = Node(key, key, options, id_of, inputs, requests)
        return list(nodes.values())

    def features_id(self, parent: str, epoch: int, requests: list[dict[str, Any]]) -> str:
        return digest(["features", parent, epoch, requests])


def score(config: dict[str, Any], options: Mapping[str, Any] | None = None) -> float:
    """The value that the fake evaluation measures, with its option `lr`."""
    x: float = config["method"].get("method.x", 0.5)
    return x * (1 - x) + 0.01 * config["seed"] + (options or {}).get("lr", 0.0)


class World:
    """Runs a graph with a ledger in memory; a killed driver is a new `World` over the same ledger."""

    def __init__(self, sweep: Sweep, ledger: list[Event] | None = None, fake: Fake | None = None, **graph: Any) -> None:
        self.sweep, self.ledger = sweep, ledger if ledger is not None else []
        self.clock = itertools.count(len(self.ledger))
        self.records = Records(Path("/nowhere"), {"sweep": sweep.dump()})
        for event in self.ledger:
            self.records.apply(event)
        self.fake = fake or Fake(sweep)
        self.graph = Graph(sweep, self.fake, self.records, self.emit, **graph)
        self.emit({"event": "session"})
        self.graph.start()
        self.launched: list[Job] = []

    def emit(self, event: Event) -> None:
        event = {"time": float(next(self.clock)), **event}
        self.ledger.append(event)
        self.records.apply(event)

    def launch(self) -> Job | None:
        job = self.graph.next()
        if job is not None:
            self.launched.append(job)
        return job

    def finish(self, job: Job, act: Callable[[Job], Outcome | None] = lambda job: None) -> None:
        """Let a job do its work, or what `act` says instead."""
        outcome = act(job)
        if outcome is None and job.stage == "pretrain":
            self.write_checkpoint(job, job.payload["until"])
            outcome = Outcome("segment", metrics={"loss": 1.0}, seconds=1.0)
        elif outcome is None and job.stage == "evaluation":
            parent = self.records.trials[self.records.trials[job.trial].parent or ""]
            value = score(parent.config, job.payload["config"])
            outcome = Outcome("finished", metrics={f"{job.name}/all/val/score": value}, seconds=0.1)
        self.graph.end(job, outcome or Outcome("finished", seconds=0.1))

    def write_checkpoint(self, job: Job, epoch: int) -> None:
        self.graph.checkpoint(job, epoch, f"{job.directory}/epoch-{epoch:04d}", f"d{epoch}", {"loss": 1.0})

    def run(self, act: Callable[[Job], Outcome | None] = lambda job: None, slots: int = 1) -> World:
        """Run to the end, first started first finished."""
        flying: list[Job] = []
        while not self.graph.done:
            while len(flying) < slots and (job := self.launch()):
                flying.append(job)
            assert flying or self.graph.done, "the graph neither is done nor has anything to do"
            if flying:
                self.finish(flying.pop(0), act)
        return self


def told(world: World) -> list[tuple[int, str, tuple[float, ...]]]:
    return [(c.number, c.state, tuple(c.values)) for c in world.records.configurations.values()]


def check_whole(world: World) -> None:
    """Every planned trial is there once, over, and told once; the study agrees with the records."""
    records = world.records
    assert len(records.configurations) == world.sweep.budget.trials
    tells = Counter(event["number"] for event in world.ledger if event["event"] == "told")
    assert set(tells) == set(records.configurations)
    assert set(tells.values()) == {1}
    assert all(trial.over for trial in records.trials.values())
    created = Counter(event["id"] for event in world.ledger if event["event"] == "trial")
    assert set(created.values()) == {1}
    states = Counter(trial.state.name for trial in world.graph.proposals.study.trials)
    expected = Counter(
        {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[c.state] for c in records.configurations.values()
    )
    assert states == expected


def check_shared(world: World) -> None:
    """Configurations that differ in options of evaluations alone have one pretraining, and each its own values."""
    records, trials = world.records, world.records.trials
    points = {str(sorted(pretrained(c.params).items())) for c in records.configurations.values() if c.trials}
    assert sum(t.stage == "pretrain" for t in trials.values()) == len(points) * world.sweep.seeds
    for configuration in records.configurations.values():
        if configuration.state == "complete":
            lr = configuration.params.get("evals.good.lr", 0.0)
            values = [score(trials[id_].config, {"lr": lr}) for id_ in configuration.trials]
            assert configuration.values == [pytest.approx(sum(values) / len(values))]
            for id_ in configuration.trials:
                shown = records.final_metrics(id_, configuration.number)
                assert shown["good/all/val/score"] == pytest.approx(score(trials[id_].config, {"lr": lr}))
                judges = {trial.name: trial for trial in records.evaluations_of(id_, 10, configuration.number)}
                assert set(judges) == set(world.sweep.evals)
                for key, judge in judges.items():
                    own = {name: v for name, v in configuration.params.items() if name.startswith(f"evals.{key}.")}
                    assert {f"evals.{key}.{name}": v for name, v in judge.config.items() if name != "name"} == own
                    assert configuration.number in records.owners[judge.id]

"""Sweeps made up out of public events, for the tests of the analysis, and the checks that they are what they claim."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from sweep.records import Records

TOP1, TEST, ROT = "linear/all/val/top1", "linear/all/test/top1", "transform_parameter/group/val/rot_r2"
KNN, RANK = "knn/all/val/top1", "collapse/all/val/effective_rank"
EPOCHS, RUNG = 15, 5
SPACE: dict[str, Any] = {
    "method.lambda": {"kind": "float", "low": 1.0, "high": 1e4, "log": True, "also": [0.0]},
    "method.bins": {"kind": "int", "low": 4, "high": 16},
    "method.target": {"kind": "choice", "values": ["ga", "vm"]},
    "method.kappa": {"kind": "float", "low": 0.5, "high": 30.0, "log": True, "when": {"method.target": "vm"}},
}
ENVIRONMENT = {"python": "3.11.9", "torch": "2.11.0", "ray": "2.60.0", "revision": "0123abc", "dirty": False}


def objective(metric: str, direction: str = "max") -> dict[str, str]:
    return {"metric": metric, "direction": direction}


class Story:
    """Records that grow by events, as a driver would write them."""

    def __init__(self, folder: Path, objectives: list[dict[str, str]], space: dict[str, Any], seeds: int = 1) -> None:
        spec: dict[str, Any] = {
            "name": "duet_rotation",
            "method": "duet",
            "objectives": objectives,
            "constraints": [],
            "space": space,
        }
        spec |= {"seeds": seeds, "budget": {"trials": 60}, "description": "rotation against class"}
        self.records = Records(folder, {"format": 1, "sweep": spec, "environment": ENVIRONMENT})
        self.seeds, self.clock = seeds, 1000.0
        self.tell("session")

    def tell(self, event: str, **fields: Any) -> None:
        self.clock += 1.0
        self.records.apply({"event": event, "time": self.clock, **fields})

    def propose(self, params: dict[str, Any], source: str = "sampler") -> tuple[int, list[str]]:
        number = len(self.records.configurations)
        configs = [self.config(params, seed) for seed in range(self.seeds)]
        ids = [digest(config) for config in configs]
        self.tell("configuration", number=number, params=params, source=source, trials=ids)
        for id_, config in zip(ids, configs, strict=True):
            self.tell("trial", id=id_, stage="pretrain", name="duet", config=config, configuration=number)
            self.tell("start", id=id_, attempt=1)
        return number, ids

    @staticmethod
    def config(params: dict[str, Any], seed: int) -> dict[str, Any]:
        method = {"name": "duet", **{key.rpartition(".")[2]: value for key, value in params.items()}}
        return {"method": method, "data": {"name": "digits"}, "train": {"epochs": EPOCHS}, "seed": seed}

    def train(self, id_: str, until: int, rate: float = 0.3) -> None:
        """Progress of epochs 1 to `until` and a checkpoint at the end of them."""
        folder = self.records.directory / "trials" / id_
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(int(id_[:8], 16)).normal(0, 0.02, until + 1)
        lines = [
            {"epoch": epoch, "loss": 5 + 4 * math.exp(-rate * epoch) + noise[epoch], "lr": 4e-4 * (1 - epoch / EPOCHS)}
            for epoch in range(1, until + 1)
        ]
        (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        path = f"trials/{id_}/attempt-1/epoch-{until:04d}"
        self.tell(
            "checkpoint", id=id_, epoch=until, path=path, digest=digest(path), metrics={"loss": lines[-1]["loss"]}
        )

    def evaluate(self, parent: str, epoch: int, metrics: dict[str, float], number: int) -> list[str]:
        """One evaluation trial per evaluation named in the metrics."""
        ids = []
        for key in dict.fromkeys(metric.split("/")[0] for metric in metrics):
            id_ = digest([parent, epoch, key])
            config = {"name": "linear" if key == "linear" else key, "parts": ["all"], "lr": [0.1, 0.01]}
            own = {metric: value for metric, value in metrics.items() if metric.split("/")[0] == key}
            common = {"config": config, "parent": parent, "epoch": epoch, "configuration": number}
            self.tell("trial", id=id_, stage="evaluation", name=key, **common)
            self.tell("start", id=id_, attempt=1)
            self.tell("end", id=id_, status="finished", metrics=own, seconds=3.0)
            ids.append(id_)
        return ids

    def finish(self, number: int, per_seed: list[dict[str, float]], violation: float | None = None) -> None:
        """Train and evaluate every seed to the end, then tell the configuration."""
        configuration = self.records.configurations[number]
        for id_, metrics in zip(configuration.trials, per_seed, strict=True):
            self.train(id_, EPOCHS)
            self.tell("end", id=id_, status="finished", seconds=240.0)
            self.evaluate(id_, EPOCHS, metrics, number)
        rows = [[metrics[entry["metric"]] for entry in self.records.objectives] for metrics in per_seed]
        values = np.mean(rows, axis=0).tolist()
        spread = np.std(rows, axis=0, ddof=1).tolist() if len(rows) > 1 else [0.0] * len(values)
        self.tell("told", number=number, state="complete", values=values, spread=spread, violation=violation)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def measured(params: dict[str, Any], rng: np.random.Generator, noise: float = 0.006) -> dict[str, float]:
    """A plausible trade-off: lambda raises rotation R2 and, past an optimum, costs class accuracy."""
    pull = np.log10(params["method.lambda"] + 0.3)
    gentle = 0.02 if params.get("method.target") == "ga" else 0.0
    top1 = 0.74 - 0.012 * (pull - 1.2) ** 2 - gentle + rng.normal(0, noise)
    rot = 0.9 / (1 + math.exp(-1.4 * (pull - 1.5))) + 0.004 * params.get("method.bins", 8) + rng.normal(0, 2 * noise)
    rank = 40 - 6 * pull + rng.normal(0, 1.0)
    return {
        TOP1: top1,
        TEST: top1 - 0.01 + rng.normal(0, noise),
        KNN: top1 - 0.06 + rng.normal(0, noise),
        ROT: rot,
        RANK: rank,
    }


def sample(rng: np.random.Generator) -> dict[str, Any]:
    params: dict[str, Any] = {"method.lambda": float(10 ** rng.uniform(0, 4)), "method.bins": int(rng.integers(4, 17))}
    params["method.target"] = str(rng.choice(["ga", "vm"]))
    if params["method.target"] == "vm":
        params["method.kappa"] = float(np.exp(rng.uniform(np.log(0.5), np.log(30))))
    return params


def duet(
    folder: Path,
    count: int = 40,
    seeds: int = 1,
    objectives: tuple[str, ...] = (TOP1, ROT),
    seed: int = 0,
    done: bool = True,
) -> Records:
    """A DUET-like sweep with known points, a pruned, a failed, an infeasible and a running configuration."""
    rng = np.random.default_rng(seed)
    story = Story(folder, [objective(metric) for metric in objectives], SPACE, seeds)
    zero = {"method.lambda": 0.0, "method.bins": 8, "method.target": "ga"}
    published = {"method.lambda": 1000.0, "method.bins": 8, "method.target": "vm", "method.kappa": 5.0}
    for source, params in [
        ("known", zero),
        ("known", published),
        *(("sampler", sample(rng)) for _ in range(count - 2)),
    ]:
        number, _ = story.propose(params, source)
        per_seed = [measured(params, rng) for _ in range(seeds)]
        if number == 5:
            per_seed[0] = {**per_seed[0], RANK: float("nan")}
        story.finish(number, per_seed, violation=0.2 if number == 7 else -0.1)
    prune(story, sample(rng), rng)
    fail(story, sample(rng))
    story.propose(sample(rng))
    if done:
        story.tell("done")
    return story.records


def prune(story: Story, params: dict[str, Any], rng: np.random.Generator) -> None:
    number, ids = story.propose(params)
    for id_ in ids:
        story.train(id_, RUNG)
        at_rung = {
            metric: value * 0.7 for metric, value in measured(params, rng).items() if metric in (TOP1, TEST, ROT)
        }
        story.evaluate(id_, RUNG, at_rung, number)
    values = [0.5] * len(story.records.objectives)
    story.tell(
        "verdict", number=number, epoch=RUNG, values=values, decision="stop", reason="asha: below the best third"
    )
    story.tell("told", number=number, state="pruned", reason="asha: below the best third of 9 at epoch 5")
    for id_ in ids:
        story.tell("end", id=id_, status="stopped", reason="asha: below the best third of 9 at epoch 5", seconds=80.0)


def fail(story: Story, params: dict[str, Any]) -> None:
    number, ids = story.propose(params)
    reason = "diverged: the loss was not finite at epoch 2 <nan>"
    for id_ in ids:
        story.tell("end", id=id_, status="failed", reason=reason, failure=True, seconds=30.0)
    story.tell("told", number=number, state="failed", reason=reason)


def test_the_synthetic_sweep_has_every_kind_of_configuration(tmp_path: Path) -> None:
    records = duet(tmp_path, count=12, seeds=2)
    states = [configuration.state for configuration in records.configurations.values()]
    assert states == ["complete"] * 12 + ["pruned", "failed", "running"]
    assert records.finished and records.configurations[7].violation == 0.2
    frame = records.frame()
    assert len(frame) == 30
    assert math.isclose(frame[TOP1][:2].mean(), records.configurations[0].values[0])
    assert len(records.progress(records.configurations[12].trials[0])) == RUNG

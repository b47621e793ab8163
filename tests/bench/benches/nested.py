"""The usual nesting: every Tune trial is a function that starts a TorchTrainer with one worker process.

    python nested.py TRIALS        prints {"seconds_per_trial": ...}

The worker trains the same no-op as the sweeps it is compared with. Two trials are in flight: the trial's own process
takes no CPU, else two of them would wait for each other for ever on two CPUs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.integration.ray_train import TuneReportCallback

from benches.sweeps import no_op
from sweep import cluster
from sweep.plan import Plan

BUDGET = 480  # seconds: an experiment that hangs ends by itself


def worker(config: dict[str, Any]) -> None:
    """One pretraining in a worker process."""
    import ray.train

    from trainables.core.config import resolve
    from trainables.core.fit import fit

    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(resolve(json.loads(config["resolved"])), None, Path(folder))
    ray.train.report({"loss": fitted.metrics["loss"]})


def trial(config: dict[str, Any]) -> None:
    """One Tune trial."""
    TorchTrainer(
        worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=config["name"],
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    ).fit()


class Watch(tune.Callback):
    """When the first trial began and how many have ended, so that the experiment's own start is not counted."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self.end, self.over = 0.0, 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.begin = self.begin or time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.end, self.over = time.perf_counter(), self.over + 1


def seconds_per_trial(trials: int) -> float:
    """Wall time from the first trial's start to the last one's end, over their number."""
    plan = Plan(no_op(trials), None)
    cluster.connect(None, dashboard=True)  # without it worker groups do not give their CPUs back
    watch = Watch()
    with tempfile.TemporaryDirectory() as storage:
        configs = [
            {
                "resolved": json.dumps(plan.pretraining({"method.x": (number + 1) / (trials + 1)}, 0)[1]),
                "name": f"nested-{number}",
                "storage": storage,
            }
            for number in range(trials)
        ]
        tune.Tuner(
            tune.with_resources(trial, PlacementGroupFactory([{"CPU": 0, "memory": 1}])),
            param_space=tune.grid_search(configs),
            tune_config=tune.TuneConfig(max_concurrent_trials=2, time_budget_s=BUDGET),
            run_config=tune.RunConfig(storage_path=storage, name="nesting", verbose=0, callbacks=[watch]),
        ).fit()
    if watch.over < trials or watch.begin is None:
        raise RuntimeError(f"{watch.over} of {trials} nested trials ended in {BUDGET} s")
    return (watch.end - watch.begin) / trials


if __name__ == "__main__":
    print(json.dumps({"seconds_per_trial": seconds_per_trial(int(sys.argv[1]))}))

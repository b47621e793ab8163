"""The one trainable of a sweep, as Ray sees it: it does a job (pretraining, features or evaluation) and reports.

A job is plain JSON and so is what comes back, one message a report:

    {"n": 4, "epochs": [{...}], "checkpoint": {...} | None, "outcome": {...} | None}

Exceptions become outcomes, since a failed function would cost the process, and the next trial 6 s of imports.
With one worker Ray Train runs in the Tune actor itself, which is reused; with several it starts a worker group.
This is the only module of `trainables` that imports ray.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import torch

from datasets.config import ConfigError
from trainables.core import dist
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import Diverged, fit
from trainables.core.state import CheckpointError
from trainables.evals.base import Request, Result
from trainables.evals.features import CheckpointSubject

EVERY = 0.5  # seconds between reports of epochs; a report costs the driver a few milliseconds
Send = Callable[[dict[str, Any]], None]


def work(config: dict[str, Any]) -> None:
    """Do one job. `config["job"]` is JSON: trial, stage, name, attempt, directory, payload, and where things are."""
    from ray import tune

    job = json.loads(config["job"])
    messages = Messages(lambda message: tune.report({"message": json.dumps(message)}))
    begin = time.perf_counter()
    with _logged(Path(job["sweep"]) / "trials" / job["trial"] / "log.txt", job["attempt"]):
        outcome = _outcome(job, messages)
    if outcome is not None:
        outcome["seconds"] = time.perf_counter() - begin
        messages.send(outcome=outcome)


class Messages:
    """Numbered messages to the driver; epochs are gathered for a while, since most are of no hurry."""

    LATE = 1_000_000  # numbers of a trial that speaks again after its worker group

    def __init__(self, send: Send) -> None:
        self._send, self._last = send, 0.0
        self.number = 0
        self._epochs: list[dict[str, float]] = []

    def epoch(self, epoch: int, metrics: dict[str, float], at_once: bool = False) -> None:
        """Report an epoch, at once or with the next message."""
        self._epochs.append({"epoch": epoch, **metrics})
        if at_once or time.perf_counter() - self._last > EVERY:
            self.send()

    def send(self, checkpoint: dict[str, Any] | None = None, outcome: dict[str, Any] | None = None) -> None:
        """Send everything gathered so far."""
        message = {"n": self.number, "epochs": self._epochs, "checkpoint": checkpoint, "outcome": outcome}
        self.number, self._epochs, self._last = self.number + 1, [], time.perf_counter()
        self._send(message)


def _outcome(job: dict[str, Any], messages: Messages) -> dict[str, Any] | None:
    try:
        torch.set_num_threads(max(1, int(job["cpu"])))
        folder = Path(job["sweep"]) / job["directory"]
        folder.mkdir(parents=True, exist_ok=True)
        return pretrain(job, messages) if job["stage"] == "pretrain" else judge(job, folder)
    except Diverged as error:
        return {"kind": "diverged", "reason": f"diverged: {error}"}
    except CheckpointError as error:
        damaged = [job["payload"]["checkpoint"]] if "checkpoint" in job["payload"] else []
        return {"kind": "corrupt" if damaged else "error", "reason": str(error), "damaged": damaged}
    except Exception as error:
        traceback.print_exc()
        return {"kind": "error", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}


# -- pretraining -------------------------------------------------------------------------------------------------


class Reporter:
    """The listener of `fit` inside a job."""

    def __init__(self, job: dict[str, Any], messages: Messages) -> None:
        self.job, self.messages = job, messages
        self.base = Path(job["sweep"])
        self.pruned = self.base / "trials" / job["trial"] / "stop"
        self.halted = self.base / "stop"

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Pass an epoch on, and leave a line in the trial's log."""
        print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.5g}" for name, value in metrics.items()), flush=True)
        self.messages.epoch(epoch, metrics)

    def checkpoint(self, epoch: int, path: Path, digest: str, metrics: dict[str, float]) -> None:
        """Pass a checkpoint on; the driver publishes it by an entry in the ledger."""
        where = path.relative_to(self.base).as_posix()
        self.messages.send(checkpoint={"epoch": epoch, "path": where, "digest": digest, "metrics": metrics})

    def stop(self) -> bool:
        """Whether the driver asked this trial, or the whole sweep, to stop."""
        return self.pruned.exists() or self.halted.exists()


def pretrain(job: dict[str, Any], messages: Messages) -> dict[str, Any] | None:
    """Train a segment under Ray Train and say how it ended; None where a worker group has said it already."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it explains its local mode at length, for every trial
    if job["workers"] == 1:
        ended: dict[str, Any] = {}

        def loop(_: dict[str, Any]) -> None:
            ended.update(segment(job, Reporter(job, messages)))

        TorchTrainer(loop, train_loop_config={}, scaling_config=ScalingConfig(num_workers=0)).fit()
        return ended
    from ray.train import FailureConfig
    from ray.tune.integration.ray_train import TuneReportCallback

    messages.number = messages.LATE
    TorchTrainer(
        group_loop,
        train_loop_config={"job": json.dumps(job)},
        scaling_config=ScalingConfig(
            num_workers=job["workers"],
            use_gpu=job["gpu"] > 0,
            resources_per_worker={"CPU": job["cpu"], **({"GPU": job["gpu"]} if job["gpu"] else {}), **job["custom"]},
        ),
        run_config=RunConfig(
            name=f"{job['trial']}-{job['attempt']}",
            storage_path=str(Path(job["sweep"]) / ".ray"),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # sends what rank 0 reports
            # retries are the sweep's: a group that fails must say so at once
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=2),  # type: ignore[call-arg]
        ),
    ).fit()
    return None


def group_loop(config: dict[str, Any]) -> None:
    """What each worker of a group runs; every rank reports equally often, as Ray Train asks."""
    import ray.train

    job = json.loads(config["job"])
    messages = Messages(lambda message: ray.train.report({"message": json.dumps(message)}))
    torch.set_num_threads(max(1, int(job["cpu"])))
    device = ray.train.torch.get_device() if job["gpu"] else "cpu"
    begin = time.perf_counter()
    try:
        outcome = segment(job, GroupReporter(job, messages), device)
    except Diverged as error:
        outcome = {"kind": "diverged", "reason": f"diverged: {error}"}
    messages.send(outcome={**outcome, "seconds": time.perf_counter() - begin})


class GroupReporter(Reporter):
    """Reports every epoch at once: `ray.train.report` is a barrier."""

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Pass an epoch on, on every rank."""
        self.messages.epoch(epoch, metrics, at_once=True)


def segment(job: dict[str, Any], reporter: Reporter, device: Any = None) -> dict[str, Any]:
    """Train from the newest whole checkpoint to the epoch that the payload names."""
    payload, base = job["payload"], Path(job["sweep"])
    config = resolve(payload["config"])
    if config.dump() != payload["config"]:
        raise ConfigError("the configuration that was built differs from the one that was asked for")
    fitted = fit(
        config,
        Path(job["root"]) if job["root"] else None,
        base / job["directory"],
        reporter,
        until=payload["until"],
        resume=[(base / path, digest) for path, digest in payload["checkpoints"]],
        device=device or ("cuda" if job["gpu"] and torch.cuda.is_available() else "cpu"),
    )
    kind = "segment"
    if fitted.ended == "interrupted":
        kind = "stopped" if reporter.pruned.exists() else "interrupted"
    damaged = [os.path.relpath(path, base) for path in fitted.damaged]
    reason = f"{damaged[0]} was damaged, went on from the one before" if damaged else ""
    metrics = fitted.metrics if dist.rank() == 0 else {}
    return {"kind": kind, "reason": reason, "metrics": metrics, "damaged": damaged, "built": fitted.built}


# -- judging a checkpoint ----------------------------------------------------------------------------------------


def judge(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compute the features of a checkpoint, or run one evaluation on it."""
    payload, base = job["payload"], Path(job["sweep"])
    subject = CheckpointSubject(
        base / payload["checkpoint"],
        Path(job["root"]) if job["root"] else None,
        Path(job["cache"]) / "features",
        device="cuda" if job["gpu"] and torch.cuda.is_available() else "cpu",
        out=folder,
    )
    if payload["digest"] and subject.meta.digest != payload["digest"]:
        raise CheckpointError(f"{payload['checkpoint']}: is not the checkpoint that was published")
    if job["stage"] == "features":
        for request in payload["config"]["requests"]:
            subject.features(Request(**request))
        return {"kind": "finished"}
    options = dict(payload["config"])
    inputs = {
        key: Result(given["metrics"], {name: base / path for name, path in given["artifacts"].items()})
        for key, given in payload["inputs"].items()
    }
    result = evaluate(subject, options.pop("name"), options, inputs=inputs)  # one seed for all: trials compare
    return {
        "kind": "finished",
        "metrics": {f"{job['name']}/{metric}": value for metric, value in result.metrics.items()},
        "artifacts": {name: os.path.relpath(path, base) for name, path in result.artifacts.items()},
    }


@contextlib.contextmanager
def _logged(path: Path, attempt: int) -> Iterator[None]:
    """Copy what a job prints into the trial's log, which `sweep logs` shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1) as file:
        file.write(f"--- attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        with contextlib.redirect_stdout(_Tee(sys.stdout, file)), contextlib.redirect_stderr(_Tee(sys.stderr, file)):
            yield


class _Tee:
    def __init__(self, first: TextIO, second: TextIO) -> None:
        self.first, self.second = first, second

    def write(self, text: str) -> int:
        if not self.second.closed:  # someone may have kept this stream beyond its job
            self.second.write(text)
        return self.first.write(text)

    def flush(self) -> None:
        self.first.flush()
        if not self.second.closed:
            self.second.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

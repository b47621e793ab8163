"""The one trainable of a sweep, as Ray sees it: it does a job (pretraining, features or evaluation) and reports.

A job is plain JSON and so is what comes back, one message a report:

    {"n": 4, "node": "10.0.0.7", "epochs": [{...}], "checkpoint": {...} | None, "outcome": {...} | None, "group": "",
     "note": ""}

Exceptions become outcomes, since a failed function would cost the process, and the next trial 6 s of imports.
With one worker Ray Train runs in the Tune actor itself, which is reused; with several it starts a worker group.
This is the only module of `trainables` that imports ray.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import torch

from datasets.atomic import private
from datasets.config import ConfigError
from datasets.patience import StorageError, patiently, trouble
from trainables.core import dist
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.core.method import Diverged
from trainables.core.state import CheckpointError
from trainables.core.store import Bucket, Folder, Store, open_store, scratch
from trainables.evals.base import Request, Result
from trainables.evals.features import CheckpointSubject

FAILURES = ("error", "corrupt", "diverged")
START = 3600  # seconds in which a worker group must find its nodes; an autoscaler takes minutes, Ray's default is one
LAST_LINES = 20  # of the log, kept with a failure
EVERY = 0.5  # seconds between reports of epochs; a report costs the driver a few milliseconds
Send = Callable[[dict[str, Any]], None]


def work(config: dict[str, Any]) -> None:
    """Do one job. `config["job"]` is JSON: trial, stage, name, attempt, directory, payload, and where things are."""
    from ray import tune

    job = json.loads(config["job"])
    messages = Messages(lambda message: tune.report({"message": json.dumps(message)}))
    begin = time.perf_counter()
    try:
        store = store_of(job)
        with _logged(log_of(job, store), job["attempt"]) as last_lines:
            outcome = _outcome(job, store, messages)
            if outcome is not None and outcome["kind"] in FAILURES:
                outcome["log"] = list(last_lines)
        if isinstance(store, Bucket):
            with contextlib.suppress(Exception):  # a log that does not arrive must not cost what the job found
                store.publish(f"{job['directory']}/log.txt")
    except OSError as error:  # the log itself cannot be written
        outcome = {"kind": "storage" if trouble(error) else "error", "reason": f"{job['sweep']}: {error}"}
    if outcome is not None:
        outcome["seconds"] = time.perf_counter() - begin
        messages.send(outcome=outcome)
        if outcome["kind"] == "interrupted" and store_of(job).exists(f"trials/{job['trial']}/leave"):
            os._exit(0)  # heard already; a process that stayed would be given the next trial, on a node that goes


def store_of(job: dict[str, Any]) -> Store:
    """Where this job reads and writes."""
    return open_store(job["store"], None if job["store"] else Path(job["sweep"]))


def log_of(job: dict[str, Any], store: Store) -> Path:
    """The trial's log; in a bucket each attempt has its own, which the driver puts together."""
    place = job["directory"] if isinstance(store, Bucket) else f"trials/{job['trial']}"
    return store.local(f"{place}/log.txt")


@functools.cache
def here() -> str:
    """The address of this node."""
    import ray

    return str(ray.util.get_node_ip_address())


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

    def note(self, text: str) -> None:
        """Say something to whoever watches the sweep, and in the log."""
        print(text, flush=True)
        self.send(note=text)

    def send(
        self,
        checkpoint: dict[str, Any] | None = None,
        outcome: dict[str, Any] | None = None,
        group: str = "",
        note: str = "",
    ) -> None:
        """Send everything gathered so far. `group`: the placement group of the worker group that speaks."""
        message = {
            "n": self.number, "node": here(), "epochs": self._epochs, "checkpoint": checkpoint, "outcome": outcome,
            "group": group, "note": note,
        }  # fmt: skip
        self.number, self._epochs, self._last = self.number + 1, [], time.perf_counter()
        self._send(message)


def _outcome(job: dict[str, Any], store: Store, messages: Messages) -> dict[str, Any] | None:
    try:
        torch.set_num_threads(max(1, int(job["cpu"])))
        folder = store.local(job["directory"])
        patiently(lambda: folder.mkdir(parents=True, exist_ok=True), 60 * job["patience"], messages.note)
        if job["stage"] == "pretrain":
            return pretrain(job, store, messages)
        stop = functools.partial(store.exists, "stop")
        return patiently(lambda: judge(job, store), 60 * job["patience"], messages.note, hurry=stop)
    except Diverged as error:
        return {"kind": "diverged", "reason": f"diverged: {error}"}
    except CheckpointError as error:
        damaged = [job["payload"]["checkpoint"]] if "checkpoint" in job["payload"] else []
        return {"kind": "corrupt" if damaged else "error", "reason": str(error), "damaged": damaged}
    except Exception as error:
        traceback.print_exc()
        return failure(error, job["sweep"])


def failure(error: Exception, where: str) -> dict[str, Any]:
    """An exception as an outcome: what the storage did is not the trial's fault, running out of memory is."""
    reason = str(error) if isinstance(error, StorageError) else trouble(error)
    if reason:
        return {"kind": "storage", "reason": f"{where}: {reason}"}
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return {"kind": "error", "reason": f"out of memory: {text}".rstrip(": ")}
    return {"kind": "error", "reason": f"{type(error).__name__}: {text}"}


# -- pretraining -------------------------------------------------------------------------------------------------


class Reporter:
    """The listener of `fit` inside a job."""

    def __init__(self, job: dict[str, Any], store: Store, messages: Messages) -> None:
        self.job, self.store, self.messages = job, store, messages
        self.trial = f"trials/{job['trial']}"

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Pass an epoch on, and leave a line in the trial's log."""
        self.say(epoch, metrics)
        self.messages.epoch(epoch, metrics)

    def say(self, epoch: int, metrics: dict[str, float]) -> None:
        """One line of the log."""
        print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.5g}" for name, value in metrics.items()), flush=True)

    def checkpoint(self, epoch: int, path: Path, digest: str, metrics: dict[str, float]) -> None:
        """Pass a checkpoint on; the driver publishes it by an entry in the ledger."""
        where = f"{self.job['directory']}/{path.name}"
        if dist.rank() == 0:
            self.wait(lambda: self.store.publish(where))
        self.messages.send(checkpoint={"epoch": epoch, "path": where, "digest": digest, "metrics": metrics})

    def wait(self, act: Callable[[], Any]) -> Any:
        """Do something with the storage, waiting where it is full or away."""
        return patiently(act, 60 * self.job["patience"], self.tell, hurry=self.halted)

    def tell(self, text: str) -> None:
        """Say what is waited for."""
        self.messages.note(text)

    def stop(self) -> bool:
        """Whether the driver asked this trial to stop or to leave its node, or the whole sweep to stop."""
        return self.pruned() or self.halted() or self.store.exists(f"{self.trial}/leave")

    def pruned(self) -> bool:
        """Whether this trial is to stop for good."""
        return self.store.exists(f"{self.trial}/stop")

    def halted(self) -> bool:
        """Whether the sweep is to stop."""
        return self.store.exists("stop")


def pretrain(job: dict[str, Any], store: Store, messages: Messages) -> dict[str, Any] | None:
    """Train a segment under Ray Train and say how it ended; None where a worker group has said it already."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it explains its local mode at length, for every trial
    if job["workers"] > 1:
        messages.number = messages.LATE
        _group(job, store).fit()
        return None
    ended: dict[str, Any] = {}

    def loop(_: dict[str, Any]) -> None:
        ended.update(segment(job, Reporter(job, store, messages)))

    TorchTrainer(loop, train_loop_config={}, scaling_config=ScalingConfig(num_workers=0)).fit()
    return ended


def _group(job: dict[str, Any], store: Store) -> Any:
    """A trainer that starts a group of workers for this job."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START))
    place: dict[str, Any] = {"storage_path": str(Path(job["sweep"]) / ".ray")}
    if isinstance(store, Bucket):
        place = {"storage_path": f"{store.root}/.ray", "storage_filesystem": store.arrow()}
    memory = {"memory": job["memory"]} if job["memory"] else {}
    return TorchTrainer(
        group_loop,
        train_loop_config={"job": json.dumps(job)},
        scaling_config=ScalingConfig(
            num_workers=job["workers"],
            use_gpu=job["gpu"] > 0,
            resources_per_worker={
                "CPU": job["cpu"], **({"GPU": job["gpu"]} if job["gpu"] else {}), **memory, **job["custom"],
            },
        ),
        run_config=RunConfig(
            name=f"{job['trial']}-{job['attempt']}",
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # sends what rank 0 reports
            # retries are the sweep's: a group that fails must say so at once
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=2),  # type: ignore[call-arg]
            **place,
        ),
    )  # fmt: skip


def group_loop(config: dict[str, Any]) -> None:
    """What each worker of a group runs; every rank reports equally often, as Ray Train asks."""
    import ray.train

    job = json.loads(config["job"])
    messages = Messages(lambda message: ray.train.report({"message": json.dumps(message)}))
    group = ray.util.get_current_placement_group()
    messages.send(group=group.id.hex() if group else "")  # so that the driver can give it back, whatever happens
    torch.set_num_threads(max(1, int(job["cpu"])))
    device = ray.train.torch.get_device() if job["gpu"] else "cpu"
    begin, store = time.perf_counter(), store_of(job)
    # rank 0 speaks for all in the trial's log
    logged = isinstance(store, Folder) and ray.train.get_context().get_world_rank() == 0
    with _logged(log_of(job, store), job["attempt"]) if logged else contextlib.nullcontext():
        try:
            outcome = segment(job, GroupReporter(job, store, messages), device)
        except Diverged as error:
            outcome = {"kind": "diverged", "reason": f"diverged: {error}"}
    messages.send(outcome={**outcome, "seconds": time.perf_counter() - begin})


class GroupReporter(Reporter):
    """Reports every epoch at once: `ray.train.report` is a barrier, so no rank may speak alone."""

    def tell(self, text: str) -> None:
        """Only in the log."""
        print(text, flush=True)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Pass an epoch on, on every rank."""
        self.say(epoch, metrics)
        self.messages.epoch(epoch, metrics, at_once=True)


def segment(job: dict[str, Any], reporter: Reporter, device: Any = None) -> dict[str, Any]:
    """Train from the newest whole checkpoint to the epoch that the payload names."""
    payload, store = job["payload"], reporter.store
    fetched: dict[Path, str] = {}

    def points() -> Iterator[tuple[Path, str]]:
        for path, digest in payload["checkpoints"]:
            local = reporter.wait(functools.partial(store.fetch, path))
            fetched[local] = path
            yield local, digest

    config = resolve(payload["config"])
    if config.dump() != payload["config"]:
        raise ConfigError("the configuration that was built differs from the one that was asked for")
    root = Path(job["root"]) if job["root"] else None
    config.source(root, "train", planned=job["data"])
    fitted = fit(
        config,
        root,
        store.local(job["directory"]),
        reporter,
        until=payload["until"],
        resume=points(),
        device=device or ("cuda" if job["gpu"] and torch.cuda.is_available() else "cpu"),
        storage=reporter.wait,
    )
    kind = "segment"
    if fitted.ended == "interrupted":
        kind = "stopped" if reporter.pruned() else "interrupted"
    damaged = [fetched[path] for path in fitted.damaged]
    reason = f"{damaged[0]} was damaged, went on from the one before" if damaged else ""
    metrics = fitted.metrics if dist.rank() == 0 else {}
    return {"kind": kind, "reason": reason, "metrics": metrics, "damaged": damaged, "built": fitted.built}


# -- judging a checkpoint ----------------------------------------------------------------------------------------


def judge(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """Compute the features of a checkpoint, or run one evaluation on it."""
    payload, folder = job["payload"], store.local(job["directory"])
    root = Path(job["root"]) if job["root"] else None
    subject = CheckpointSubject(
        store.fetch(payload["checkpoint"]),
        root,
        Path(job["cache"] or scratch(job["store"]) / "cache") / "features",
        device="cuda" if job["gpu"] and torch.cuda.is_available() else "cpu",
        out=folder,
    )
    if payload["digest"] and subject.meta.digest != payload["digest"]:
        raise CheckpointError(f"{payload['checkpoint']}: is not the checkpoint that was published")
    subject.resolved.source(root, "train", planned=job["data"])
    if job["stage"] == "features":
        for request in payload["config"]["requests"]:
            subject.features(Request(**request))
        return {"kind": "finished"}
    options = dict(payload["config"])
    inputs = {
        key: Result(given["metrics"], {name: store.fetch(path) for name, path in given["artifacts"].items()})
        for key, given in payload["inputs"].items()
    }
    result = evaluate(subject, options.pop("name"), options, inputs=inputs)  # one seed for all: trials compare
    for name, path in result.artifacts.items():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{job['name']}: its artifact {name} lies outside its folder: {path}")
    store.publish(job["directory"])
    return {
        "kind": "finished",
        "metrics": {f"{job['name']}/{metric}": value for metric, value in result.metrics.items()},
        "artifacts": {
            name: f"{job['directory']}/{path.relative_to(folder).as_posix()}" for name, path in result.artifacts.items()
        },
    }


@contextlib.contextmanager
def _logged(path: Path, attempt: int) -> Iterator[deque[str]]:
    """Copy what a job prints into the trial's log, which `sweep logs` shows; its last lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", buffering=1, opener=private) as file:
        file.write(f"--- attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        last = _LastLines()
        with (
            contextlib.redirect_stdout(_Tee(sys.stdout, file, last)),
            contextlib.redirect_stderr(_Tee(sys.stderr, file, last)),
        ):
            yield last.lines


class _LastLines:
    """The last whole lines of a text that arrives in pieces."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self._open = ""

    def add(self, text: str) -> None:
        *whole, rest = (self._open + text).split("\n")
        self._open = rest[-1000:]  # a bar that draws itself over and over ends no line
        self.lines.extend(line[:500] for line in whole)


class _Tee:
    def __init__(self, first: TextIO, second: TextIO, last: _LastLines) -> None:
        self.first, self.second, self.last = first, second, last

    def write(self, text: str) -> int:
        self.last.add(text)
        # someone may have kept this stream beyond its job; a full disk must not end a trial for its log's sake
        if not self.second.closed:
            with contextlib.suppress(OSError):
                self.second.write(text)
        return self.first.write(text)

    def flush(self) -> None:
        self.first.flush()
        if not self.second.closed:
            with contextlib.suppress(OSError):
                self.second.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

"""The driver: carries jobs from the graph to Ray Tune and what happens back into the ledger.

One Tune experiment holds every trial. Tune is a thin executor here: its search algorithm asks the graph for the next
job, its trials are that job's processes (reused between trials), and nothing of Tune's own state is ever read again.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ray.tune.search import Searcher

from datasets.patience import StorageError, patiently, trouble
from sweep.capacity import Capacity
from sweep.folder import is_behind, revision, size_of, write_atomic, write_record
from sweep.graph import Graph
from sweep.guard import Guard, explain_death
from sweep.jobs import Job, Outcome
from sweep.ledger import Event, Ledger, LedgerError, append_line
from sweep.paths import inside
from sweep.plan import Plan, share_of
from sweep.records import LEDGER, MANIFEST, Records, Stage
from sweep.tracking import Tracker
from sweep.tune import run_tune
from trainables.core.store import Bucket, open_store
from trainables.core.worker import LAST_LINES

DURABLE = {"configuration", "end", "told", "verdict"}
RECORDED = {"trial", "start", "checkpoint", "drop_checkpoint", "end", "retry"}
TICK = 0.5  # seconds between looks at the folder's stop file
WEIGH = 15.0  # seconds between sums of the folder's size
MOST_BREAKS = 3  # of Tune in a row, with no trial over in between
MIRROR = 10.0  # seconds between copies of the ledger to a bucket


@dataclass(frozen=True)
class Setting:
    """Where a sweep runs: folder, data, features, all absolute; `cache` None = each node's own.

    `store`: URL of the sweep's place in a bucket or on a mount, "" = its folder, which all nodes share then.
    """

    directory: Path
    root: Path | None
    cache: Path | None
    store: str = ""


class Driver:
    """Runs one sweep in this process until it is done or told to stop."""

    def __init__(
        self, plan: Plan, records: Records, setting: Setting, tracker: Tracker,
        watch: Callable[[Driver, Event], None], reuse: Records | None = None,
        warm: Sequence[Mapping[str, Any]] = (), clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`clock`: wall time, which may jump; all durations are measured otherwise."""
        self.plan, self.records, self.setting, self.tracker, self.watch = plan, records, setting, tracker, watch
        limits = plan.sweep.limits
        self.patience = 60 * limits.storage_minutes
        self.ledger = Ledger(setting.directory / LEDGER, self.patience, self._say, lambda: self.interrupted, clock)
        self.store = open_store(setting.store, setting.directory)
        self.guard = Guard(
            {
                "pretrain": 60 * limits.epoch_minutes,
                "features": 60 * limits.evaluation_minutes,
                "evaluation": 60 * limits.evaluation_minutes,
            },
            leave=lambda job: self.store.mark(f"trials/{job.trial}/leave"),
        )
        self.graph = Graph(plan.sweep, plan, records, self.emit, reuse, warm)
        self.capacity = Capacity()
        self.needs: dict[Stage, dict[str, float]] = {  # of one process
            "pretrain": share_of(plan.sweep, "pretrain"),
            "features": share_of(plan.sweep, "evaluation"),
            "evaluation": share_of(plan.sweep, "evaluation"),
        }
        self.jobs: dict[str, Job] = {}  # by Tune's trial id
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, int] = {}
        self.places: dict[str, str] = {}  # Tune's trial id -> address of its node
        self._unwritten: set[str] = set()  # trials whose record.json is behind the ledger
        self.stopping = False
        self.interrupted = False
        self._told_so = False
        self.broken: BaseException | None = None
        self._ticked = self._weighed = self._mirrored = 0.0

    @property
    def stop_file(self) -> Path:
        """Its existence asks running trials to checkpoint and end."""
        return self.setting.directory / "stop"

    def run(self) -> None:
        """Run to the end.

        Raises:
            whatever broke the driver itself, after Tune was ended in order; the folder is whole in any case.
        """
        commit, changed = revision()
        self.emit({"event": "session", "revision": f"{commit}{' (changed)' * changed}"})
        self._unwritten = {trial.id for trial in self.records.trials.values() if is_behind(self.records, trial)}
        self.graph.start()
        storage = Path(tempfile.mkdtemp(prefix="sweep-tune-"))
        try:
            if not self.graph.done:
                with self._interruptible():
                    self._tune_to_the_end(storage)
        finally:
            shutil.rmtree(storage, ignore_errors=True)
            with suppress(Exception):  # where Ray itself is gone there is nothing to give back
                self.guard.reap()
            self._clear_stop()
        if self.broken is not None:
            raise self.broken
        if self.graph.done and not self.stopping:
            stuck = [c.number for c in self.records.configurations.values() if c.state == "running"]
            if stuck:
                self.warn(
                    "stuck", f"configurations {stuck} wait for something that nobody does; `sweep retry --failed`"
                )
            self.emit({"event": "done"})
        self._mirror()

    def _clear_stop(self) -> None:
        with suppress(OSError):
            self.stop_file.unlink(missing_ok=True)
            self.store.remove("stop")

    def _say(self, text: str) -> None:
        """A line for whoever looks on, at a moment when nothing can be written."""
        with suppress(OSError):
            self.watch(self, {"event": "say", "text": text})

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def emit(self, event: Event) -> None:
        """Write an event, fold it in, and tell whoever looks on."""
        stamped = self.ledger.append(event, durable=event["event"] in DURABLE)
        self.records.apply(stamped)
        if event["event"] == "checkpoint" and _is_elsewhere(event["path"]):
            self._take_curve(event["id"], Path(event["path"]))
        self.tracker.event(self.records, stamped)
        if event["event"] in RECORDED:
            self._unwritten.add(event["id"])
        self._write_records()
        with suppress(OSError):  # a closed terminal must not break it off here
            self.watch(self, stamped)

    def _take_curve(self, trial: str, checkpoint: Path) -> None:
        """The curve of a trial that is taken over from another sweep, whose folder may be gone one day."""
        theirs = next((p / "progress.jsonl" for p in checkpoint.parents if p.name == trial), None)
        mine = self.setting.directory / "trials" / trial / "progress.jsonl"
        with suppress(OSError):
            if theirs is not None and not mine.exists():
                mine.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(mine, theirs.read_text())

    def _write_records(self) -> None:
        """Bring every `record.json` up to the ledger; what a full disk refuses is tried again with the next event."""
        with suppress(OSError):
            for id_ in tuple(self._unwritten):
                write_record(self.setting.directory, self.records.trials[id_])
                self._unwritten.remove(id_)

    def warn(self, kind: str, text: str) -> None:
        """A problem that no trial owns; it stands in the records and on the terminal."""
        self.emit({"event": "warning", "kind": kind, "text": text})

    # -- Tune's side ---------------------------------------------------------------------------------------------

    def _tune_to_the_end(self, storage: Path) -> None:
        """Run Tune, and run it anew where it breaks: out of memory in a process that just starts is too much for it."""
        breaks = 0
        while True:
            before = len(self.records.trials), sum(t.over for t in self.records.trials.values())
            try:
                workers = self.plan.sweep.resources.workers
                return run_tune(self, storage, self.needs, workers, self.guard.failed)
            except Exception as error:
                after = len(self.records.trials), sum(t.over for t in self.records.trials.values())
                breaks = breaks + 1 if before == after else 1
                if not self.jobs or self.broken or breaks >= MOST_BREAKS:
                    raise
                self.warn("Tune", f"Ray Tune broke off and was started anew: {' '.join(str(error).split())[:200]}")
                self._abandon(str(error))

    def _abandon(self, error: str) -> None:
        """All jobs in the air are over: who is dead died of what broke Tune, the others merely lost their process."""
        with self.guarded():
            dead = self.guard.kill_all()
            for tune_id in list(self.jobs):
                kind, reason = explain_death(error) if tune_id in dead else ("lost", "Ray Tune was started anew")
                self.outcomes.setdefault(tune_id, {"kind": kind, "reason": reason})
                self.ended(tune_id, None)

    def suggest(self, tune_id: str) -> dict[str, Any] | str | None:
        """The next job as a Tune configuration; None = nothing at present; FINISHED = nothing any more."""
        if self.broken or self.stopping:
            return None if self.jobs else Searcher.FINISHED
        job = self.graph.next(lambda stage: self.capacity.fits(self.needs[stage], self._processes(stage)))
        if job is None:
            return Searcher.FINISHED if self.graph.done else None
        for mark in ("stop", "leave"):
            self.store.remove(f"trials/{job.trial}/{mark}")
        self.jobs[tune_id] = job
        self.capacity.take(tune_id, self.needs[job.stage], self._processes(job.stage))
        return {"job": json.dumps(self._message(job))}

    def _processes(self, stage: Stage) -> int:
        return self.plan.sweep.resources.workers if stage == "pretrain" else 1

    def begun(self, tune_id: str, trial: Any) -> None:
        """A process works on a job now."""
        if tune_id in self.jobs:
            job = self.jobs[tune_id]
            self.guard.begin(tune_id, job, trial, grouped=self._processes(job.stage) > 1)

    def _message(self, job: Job) -> dict[str, Any]:
        resources = self.plan.sweep.resources
        share = resources.share(job.stage)
        judged = job.stage != "pretrain"
        trial = self.records.trials[job.trial]
        config = self.records.trials[trial.parent].config if judged and trial.parent else trial.config
        return {
            "data": self.plan.fingerprint(config, judged),
            "trial": job.trial, "stage": job.stage, "name": job.name, "attempt": job.attempt,
            "directory": job.directory, "payload": job.payload, "sweep": str(self.setting.directory),
            "root": str(self.setting.root or ""), "cache": str(self.setting.cache or ""), "store": self.setting.store,
            "cpu": share.cpu, "gpu": share.gpu, "memory": self.needs[job.stage].get("memory", 0),
            "custom": share.custom, "workers": self._processes(job.stage),
            "patience": self.plan.sweep.limits.storage_minutes,
        }  # fmt: skip

    def heard(self, tune_id: str, result: dict[str, Any], job: Job | None = None) -> None:
        """A report of a running trial."""
        job, message = job or self.jobs[tune_id], json.loads(result.get("message", "null"))
        if message is None or message["n"] <= self.seen.get(tune_id, -1):
            return  # Tune repeats the last report when a trial is over
        self.seen[tune_id] = message["n"]
        self.guard.heard(tune_id, message["group"])
        self.places[tune_id] = message["node"]
        if message["note"]:
            self._say(f"{job.name} {job.trial} on {message['node']}: {message['note']}")
        for epoch in message["epochs"]:
            self._progress(job, epoch)
        point = message["checkpoint"]
        if point:
            self.graph.checkpoint(job, point["epoch"], point["path"], point["digest"], point["metrics"])
        if message["outcome"]:
            self.outcomes[tune_id] = message["outcome"]
        self._tidy()

    def ended(self, tune_id: str, result: dict[str, Any] | None) -> None:
        """A trial is over; without a last word its process died."""
        job = self.jobs.pop(tune_id, None)
        if job is None:
            return
        self.capacity.give(tune_id)
        if result:
            self.heard(tune_id, result, job)
        self.seen.pop(tune_id, None)
        found = self._outcome(tune_id, job)
        self.guard.over(tune_id)
        if found["kind"] == "storage":
            self.broken = self.broken or self._full(found["reason"])
            self.stop()
        self._collect_files(job, found)
        self.graph.end(job, Outcome(**{**found, "damaged": tuple(found.get("damaged", ()))}))
        self._tidy()

    def _outcome(self, tune_id: str, job: Job) -> dict[str, Any]:
        """How a job ended: its own last word, or what is known of a process without one."""
        found = self.outcomes.pop(tune_id, None)
        place = self.places.pop(tune_id, "")
        if found is None:
            kind, reason = self.guard.fate(tune_id)
            found = {"kind": kind, "reason": reason, "log": self._last_lines(job)}
            place = place or self.guard.place_of(tune_id)  # it may have died before its first word
        elif found["kind"] == "error" and self.guard.is_node_lost(tune_id, found["reason"]):
            # a worker group that lost one of its nodes raises, and so may a process on a node that goes down
            found = {**found, "kind": "lost"}
        wrong = differences(found.pop("built", {}), self.records.trials[job.trial].config)
        if wrong:
            found = {"kind": "error", "reason": f"the worker built something else than it was asked for: {wrong}"}
        return {**found, "node": place}

    def _last_lines(self, job: Job) -> list[str]:
        with suppress(OSError):
            return (self.setting.directory / "trials" / job.trial / "log.txt").read_text().splitlines()[-LAST_LINES:]
        return []

    def _collect_files(self, job: Job, found: Mapping[str, Any]) -> None:
        """What a job left in a bucket and people look at here: its log, its artifacts."""
        if not isinstance(self.store, Bucket):
            return
        with suppress(OSError):
            for path in found.get("artifacts", {}).values():
                self.store.fetch(path)
            log = self.store.fetch(f"{job.directory}/log.txt")
            if log.exists():
                append_line(self.setting.directory / "trials" / job.trial / "log.txt", log.read_text().rstrip())

    def _progress(self, job: Job, epoch: dict[str, float]) -> None:
        path = self.setting.directory / "trials" / job.trial / "progress.jsonl"
        patiently(lambda: append_line(path, json.dumps(epoch)), self.patience, self._say, lambda: self.interrupted)
        number = int(epoch["epoch"])
        self.tracker.progress(job.trial, number, {k: v for k, v in epoch.items() if k != "epoch"})

    def _tidy(self) -> None:
        for id_ in self.graph.stops:
            self.store.mark(f"trials/{id_}/stop")
        self.graph.stops.clear()
        for path in self.graph.deletions:
            if not _is_elsewhere(path):
                inside(self.setting.directory, path)  # a folder of someone else's may name what it likes
                self.store.remove(path)
        self.graph.deletions.clear()

    # -- stopping ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called by Tune's loop all the time."""
        now = time.monotonic()
        if now - self._ticked < TICK:
            return
        self._ticked = now
        if not self.stopping and self.stop_file.exists():
            self.stop()
        self.guard.look()
        self._watch_disk(now)
        if now - self._mirrored > MIRROR:
            self._mirrored = now
            self._mirror()
        with suppress(OSError):
            if self.interrupted and not self._told_so:
                self._told_so = True
                self.watch(self, {"event": "interrupt"})
            self.watch(self, {"event": "tick"})

    def _watch_disk(self, now: float) -> None:
        limit = self.plan.sweep.budget.disk_gb
        if limit is None or self.graph.closed or now - self._weighed < WEIGH:
            return
        self._weighed = now
        used = size_of(self.setting.directory) / 2**30
        if used > limit:
            self.graph.closed = True
            self.warn("disk", f"{used:.2f} GB are used, budget.disk_gb is {limit:g}: no further configurations")

    def _mirror(self) -> None:
        """Copy the folder's truth to the bucket, from which it can be made again should this machine be lost."""
        if not isinstance(self.store, Bucket):
            return
        try:
            self.store.publish(MANIFEST)
            self.store.publish(LEDGER)
        except Exception as error:  # a cloud's library raises what it likes; the folder here is whole
            self._say(f"the ledger could not be copied to {self.setting.store}: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """End in order: running pretrainings write a checkpoint after their epoch, nothing new is started."""
        self.stopping = True
        with suppress(OSError):
            self.stop_file.touch()
            self.store.mark("stop")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """SIGINT or SIGTERM once: end in order. A second time: at once; the folder is whole then too."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True  # the next tick says so: printing is not safe inside a signal handler
            self.stop()

        previous = {}
        with suppress(ValueError):  # not in the main thread: the caller handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, interrupt)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """An exception in a search algorithm would kill the experiment: keep it, end in order, raise it at the end."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, StorageError) else trouble(error)
            if reason and not isinstance(error, LedgerError):
                error = self._full(f"{self.setting.directory}: {reason}")
            elif not isinstance(error, LedgerError):
                traceback.print_exc()
            self.broken = self.broken or error
            self.stop()

    def _full(self, what: str) -> StorageError:
        return StorageError(f"{what}; make room, then `sweep resume {self.setting.directory}`")


def differences(built: Mapping[str, Any], asked: Mapping[str, Any], path: str = "") -> str:
    """The first value of `built` that is not what `asked` has in its place, "" if all are."""
    for key, value in built.items():
        wanted = asked.get(key)
        if isinstance(value, dict) and isinstance(wanted, Mapping):
            found = differences(value, wanted, f"{path}{key}.")
        else:
            found = "" if value == wanted else f"{path}{key} is {value!r}, not {wanted!r}"
        if found:
            return found
    return ""


def _is_elsewhere(path: str) -> bool:
    """Whether a path belongs to another sweep, from which a result was taken over."""
    return "://" in path or Path(path).is_absolute()

"""The dependency graph of a sweep: a pure state machine, events in, jobs out. No Ray, no clock, no file.

    configuration --- pretraining (one a seed) --- checkpoint at each rung and at the end
                                                      +-- features (computed once, read by all evaluations)
                                                      +-- evaluation, evaluation (perhaps after another one)
    values of all seeds at a rung   -> verdict: go on or stop
    values of all seeds at the end  -> told to the sampler, once, as the mean

Everything that happens is an event of the ledger and folded by `Records.apply`; what this class keeps beside the
records (what is ready, what runs) is derived from them, so that a new driver continues from the ledger alone.

Configurations that differ in options of evaluations alone have the same pretrainings, each with its own evaluations.

A pretraining runs in segments: from its last checkpoint to the next epoch at which it must be judged. A retry and a
continuation are the same act, which is why nothing has to be paused.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from datasets.config import ConfigError
from sweep.jobs import DIVERGED, Blueprint, Job, Outcome
from sweep.ledger import Event
from sweep.records import Configuration, Records, Stage, Trial
from sweep.search import Proposals
from sweep.space import pretrained
from sweep.spec import Sweep
from sweep.trials import Maker
from sweep.verdicts import Verdicts

MOST_LOSSES = 20  # of its node without getting on, after which a trial is taken for the cause
PRIORITY: tuple[Stage, ...] = ("evaluation", "features", "pretrain")  # what waits to be judged goes first


class Graph:
    """The state machine.

    Attributes:
        records: the folded ledger. running: trial id -> job in the air.
        deletions: checkpoints no longer needed, for the driver to delete. stops: running trials to be told to stop.
    """

    def __init__(
        self,
        sweep: Sweep,
        blueprint: Blueprint,
        records: Records,
        emit: Callable[[Event], None],
        reuse: Records | None = None,
        warm: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.sweep, self.blueprint, self.records, self.emit = sweep, blueprint, records, emit
        self.proposals = Proposals(sweep, records, warm)
        self.running: dict[str, Job] = {}
        self.deletions: list[str] = []
        self.stops: list[str] = []
        self.closed = False  # no new configurations: the budget is spent or the grid is used up
        self._ready: dict[Stage, list[tuple[int, int, str]]] = {stage: [] for stage in PRIORITY}
        self._order = itertools.count()
        self._started = False
        self._dependents: dict[str, list[str]] = defaultdict(list)
        self._needs: dict[str, set[str]] = {}
        self.verdicts = Verdicts(sweep, records)
        self.maker = Maker(sweep, blueprint, records, emit, self.verdicts, reuse)

    # -- the driver's side ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up the sweep where the ledger left it: new evaluations are added, what was in the air waits again."""
        for configuration in list(self.records.configurations.values()):
            self.maker.pretrain(configuration)
            self.verdicts.remember(configuration)
            if configuration.state == "complete" and configuration.asked != self.verdicts.asked:
                self.emit({"event": "reopen", "number": configuration.number})  # other objectives since
                self.proposals.reopen()
        for configuration in list(self.records.configurations.values()):
            for id_ in configuration.trials:
                self._take_up(configuration, self.records.trials[id_])
        pretrainings = [trial for trial in self.records.trials.values() if trial.stage == "pretrain"]
        for trial in pretrainings:
            self._give_up_lost(trial)
        self._started = True  # what was said of evaluations may be out of date until then
        for configuration in list(self.records.configurations.values()):
            self._advance(configuration)
            if configuration.state != "running":
                self._release(configuration)  # the driver before may have died between telling and stopping
        for trial in pretrainings:
            self._collect(trial)

    def enqueue(self, points: Iterable[dict[str, Any]]) -> None:
        """Configurations given by hand, tried before the sampler's next."""
        for point in points:
            self.emit({"event": "enqueue", "params": point})

    def next(self, fits: Callable[[Stage], bool] = lambda stage: True) -> Job | None:
        """The next job whose stage fits in what is free now, marked as started; None if there is none at present."""
        while True:
            trial = self._pop(fits)
            if trial is not None:
                return self._launch(trial)
            if not (fits(self._proposed_stage()) and self._may_propose()) or self._is_ahead():
                return None
            self._propose()

    def checkpoint(self, job: Job, epoch: int, path: str, digest: str, metrics: dict[str, float]) -> None:
        """A pretraining has written a whole checkpoint."""
        self.emit(
            {"event": "checkpoint", "id": job.trial, "epoch": epoch, "path": path, "digest": digest, "metrics": metrics}
        )
        trial = self.records.trials[job.trial]
        if epoch in self.verdicts.milestones(trial.config):
            for owner in self._owners(trial):
                self._evaluate(owner, trial, epoch)
        self._collect(trial)

    def end(self, job: Job, outcome: Outcome) -> None:
        """A job is over, however."""
        self.running.pop(job.trial, None)
        trial = self.records.trials[job.trial]
        for path in outcome.damaged:
            self._lose_checkpoint(trial, path, outcome.reason)
        status, failure = self._status_after(trial, outcome)
        self.emit(
            {
                "event": "end", "id": trial.id, "status": status, "reason": outcome.reason, "failure": failure,
                "metrics": outcome.metrics, "artifacts": outcome.artifacts, "seconds": round(outcome.seconds, 3),
                "kind": outcome.kind, "node": outcome.node, **({"log": list(outcome.log)} if outcome.log else {}),
            }
        )  # fmt: skip
        self._settled(trial)
        if outcome.damaged:
            self._give_up_lost(self._pretraining(trial))

    @property
    def done(self) -> bool:
        """Whether nothing runs, nothing is ready and nothing new will be proposed."""
        return not self.running and not self._has_ready() and not self._may_propose()

    def _has_ready(self) -> bool:
        """Whether anything could run, were there room for it."""
        return any(self._may_run(self.records.trials[id_]) for heap in self._ready.values() for _, _, id_ in heap)

    # -- proposing -----------------------------------------------------------------------------------------------

    def _may_propose(self) -> bool:
        if self.closed:
            return False
        budget = self.sweep.budget
        if self.records.enqueued:
            return True
        if len(self.records.configurations) >= budget.trials:
            return False
        if budget.hours is not None and self.records.wall >= budget.hours * 3600:
            return False
        if budget.device_hours is None:
            return True
        spent = sum(seconds * self._devices(stage) for stage, seconds in self.records.seconds.items())
        return spent < budget.device_hours * 3600

    def _is_ahead(self) -> bool:
        """Whether so many configurations wait for the pretrainings of others that more of them would not help.

        They would be proposed without what the first of them teach, and no budget could end them.
        """
        if not self.running and not self._has_ready():
            return False
        return sum(self._is_waiting(c) for c in self.records.configurations.values()) >= self.sweep.search.startup

    def _is_waiting(self, configuration: Configuration) -> bool:
        """Whether a pretraining of another configuration, of any seed, must come to its end first."""
        if configuration.state != "running":
            return False
        trials = (self.records.trials[id_] for id_ in configuration.trials)
        return any(not trial.over and trial.configuration != configuration.number for trial in trials)

    def _proposed_stage(self) -> Stage:
        """What the next configuration needs room for; where evaluations alone are searched, only the first trains."""
        return "evaluation" if self.records.trials and not pretrained(self.sweep.space) else "pretrain"

    def _devices(self, stage: str) -> float:
        resources = self.sweep.resources
        share = resources.share(stage)
        return (share.gpu or share.cpu) * (resources.workers if stage == "pretrain" else 1)

    def _propose(self) -> None:
        number = len(self.records.configurations)
        proposed = self.proposals.propose(number, next(iter(self.records.enqueued), None))
        if proposed is None:
            self.closed = True
            return
        refusal = self.blueprint.refusal(proposed.params)  # of the sampler's choice, which cannot know
        ids = [] if refusal else [id_ for id_, _ in self.maker.pretrainings(proposed.params)]
        said = {"reason": refusal} if refusal else {}
        self.emit({"event": "configuration", "number": number, "trials": ids, **proposed._asdict(), **said})
        configuration = self.records.configurations[number]
        self.maker.pretrain(configuration)
        for id_ in ids:
            self._take_up(configuration, self.records.trials[id_])
        self._advance(configuration)

    def _pretraining(self, trial: Trial) -> Trial:
        """The one whose checkpoint a trial reads, or itself."""
        return trial if trial.parent is None else self.records.trials[trial.parent]

    def _owners(self, trial: Trial) -> list[Configuration]:
        """The configurations that a trial belongs to."""
        return [self.records.configurations[number] for number in self.records.owners.get(trial.id, ())]

    def retry_failed(self) -> int:
        """Give failed trials their attempts again, and their configurations another verdict; how many trials.

        Not those that diverged: they would again; nor those whose checkpoint is gone and not made again.
        """
        failed = [
            trial
            for trial in self.records.trials.values()
            if trial.status == "failed" and not trial.reason.startswith(DIVERGED) and not self._is_lost(trial)
        ]
        again = {trial.id for trial in failed} | {trial.parent for trial in failed}
        for trial in failed:
            self.emit({"event": "retry", "id": trial.id})
        for configuration in self.records.configurations.values():
            if configuration.state == "failed" and again.intersection(configuration.trials):
                self.emit({"event": "reopen", "number": configuration.number})
        self.proposals.reopen()
        return len(failed)

    # -- launching -----------------------------------------------------------------------------------------------

    def _launch(self, trial: Trial) -> Job:
        attempt = trial.attempts + 1
        self.emit({"event": "start", "id": trial.id, "attempt": attempt})
        directory = f"trials/{trial.id}/attempt-{attempt}"
        job = Job(trial.id, trial.stage, trial.name, attempt, directory, self._payload(trial))
        self.running[trial.id] = job
        return job

    def _payload(self, trial: Trial) -> dict[str, Any]:
        if trial.stage == "pretrain":
            points = [[point.path, point.digest] for point in reversed(trial.checkpoints)]
            return {"config": trial.config, "checkpoints": points, "until": self._until(trial)}
        assert trial.epoch is not None
        point = self._pretraining(trial).at(trial.epoch)
        assert point is not None
        payload: dict[str, Any] = {"checkpoint": point.path, "digest": point.digest, "config": trial.config}
        if trial.stage == "evaluation":
            payload["inputs"] = {name: self._result(id_) for name, id_ in self.maker.inputs[trial.id].items()}
        return payload

    def _result(self, id_: str) -> dict[str, Any]:
        trial = self.records.trials[id_]
        metrics = {name.removeprefix(f"{trial.name}/"): value for name, value in trial.metrics.items()}
        return {"metrics": metrics, "artifacts": trial.artifacts}

    def _until(self, trial: Trial) -> int:
        """The epoch at which a pretraining must be judged next."""
        return next(epoch for epoch in self.verdicts.milestones(trial.config) if epoch > trial.reached)

    def _pop(self, fits: Callable[[Stage], bool]) -> Trial | None:
        """The most urgent ready trial that fits; entries that something else has settled meanwhile are dropped."""
        for stage, heap in self._ready.items():
            while heap and not self._may_run(self.records.trials[heap[0][2]]):
                heapq.heappop(heap)
            if heap and fits(stage):
                return self.records.trials[heapq.heappop(heap)[2]]
        return None

    def _push(self, trial: Trial) -> None:
        if self._may_run(trial):
            # what already has work in it goes before what has not begun
            begun = int(trial.stage == "pretrain" and not trial.checkpoints)
            heapq.heappush(self._ready[trial.stage], (begun, next(self._order), trial.id))

    # -- the life of a pretraining -------------------------------------------------------------------------------

    def _take_up(self, configuration: Configuration, trial: Trial) -> None:
        """Bring the place of a configuration's pretraining in the graph up to date with its records."""
        try:
            self.maker.resolve(configuration, trial)
        except ConfigError as error:  # one that was begun when nobody refused it yet
            self.verdicts.refused[configuration.number] = str(error)
            return
        if trial.status == "stopped" and configuration.state == "running":
            self.emit({"event": "retry", "id": trial.id})  # for others, which says nothing of this one
        epochs, known = self.verdicts.milestones(trial.config), configuration.evaluations.get(trial.id, {})
        if trial.status == "waiting" and self._is_whole(trial):
            self.emit({"event": "end", "id": trial.id, "status": "finished"})  # the driver before died just here
        for epoch in epochs:
            again = epoch > trial.reached and epoch in known  # it was lost, and is made again
            if again or trial.at(epoch) or (trial.status == "finished" and epoch == epochs[-1]):
                self._evaluate(configuration, trial, epoch)
        if trial.status in ("finished", "stopped") and self._is_missed(trial):
            self.emit({"event": "retry", "id": trial.id})  # its checkpoint was cleaned away, and is asked for again
        self._push(trial)

    def _may_run(self, trial: Trial) -> bool:
        """Whether a trial can be worked on now: all it needs is there, and what it has reached was judged."""
        if trial.status != "waiting" or trial.id in self.running:
            return False
        if trial.stage != "pretrain":
            point = self._pretraining(trial).at(trial.epoch or 0)
            return not self._needs.get(trial.id) and point is not None
        if not self._is_wanted(trial):
            return False
        owners = self._owners(trial)
        due = [epoch for epoch in self.verdicts.milestones(trial.config) if epoch <= trial.reached]
        return all(any(owner.judged.get(epoch) == "go" for owner in owners) for epoch in due)

    def _is_wanted(self, trial: Trial) -> bool:
        """Whether a configuration that goes on, or an evaluation, needs more of a pretraining."""
        return any(owner.state == "running" for owner in self._owners(trial)) or self._is_missed(trial)

    def _is_missed(self, trial: Trial) -> bool:
        """Whether an evaluation waits for a checkpoint that was there and is gone."""
        return any(
            not self.records.is_over(child)
            for epoch, children in self.maker.children[trial.id].items()
            if epoch > trial.reached
            for child in children
        )

    def _evaluate(self, configuration: Configuration, trial: Trial, epoch: int) -> None:
        """Create what judges a checkpoint for a configuration (only what the objectives need before the end)."""
        if configuration.number in self.verdicts.refused:
            return
        known = configuration.evaluations.get(trial.id, {}).get(epoch)
        if known is None and any(said == "stop" and at < epoch for at, said in configuration.judged.items()):
            return  # the pretraining goes on for another one
        for child, needs in self.maker.evaluate(configuration, trial, epoch):
            self._await(child, needs)

    def _await(self, trial: Trial, needs: set[str]) -> None:
        """Let a trial wait for others; one that waits for another configuration already waits for the same."""
        if trial.over:
            return
        if trial.id not in self._needs:
            failed = [self.records.trials[need] for need in needs if self.records.trials[need].status == "failed"]
            if failed:
                self._fail_dependent(trial, failed[0])
                return
            self._needs[trial.id] = {need for need in needs if not self.records.is_over(need)}
            for need in self._needs[trial.id]:
                self._dependents[need].append(trial.id)
        if not self._needs[trial.id]:
            self._push(trial)

    def _fail_dependent(self, trial: Trial, cause: Trial) -> None:
        reason = f"{cause.name} it depends on failed: {cause.reason}"
        self.emit({"event": "end", "id": trial.id, "status": "failed", "reason": reason})
        self._settled(trial)

    # -- what follows from an end --------------------------------------------------------------------------------

    def _status_after(self, trial: Trial, outcome: Outcome) -> tuple[str, bool]:
        if trial.stage == "pretrain" and self._is_whole(trial):
            return "finished", False  # whatever befell its process after the last checkpoint
        if outcome.kind == "stopped" and self._is_wanted(trial):
            return "waiting", False  # by a configuration that was proposed since
        if outcome.kind in ("finished", "stopped"):
            return outcome.kind, False
        if outcome.kind in ("segment", "interrupted"):
            return "waiting", False
        if outcome.kind in ("lost", "storage"):
            return ("failed" if trial.losses >= MOST_LOSSES else "waiting"), False
        if outcome.kind == "diverged":
            return "failed", True
        return ("failed" if trial.failures >= self.sweep.retries else "waiting"), True

    @staticmethod
    def _is_whole(trial: Trial) -> bool:
        return trial.checkpoint is not None and trial.checkpoint.epoch == int(trial.config["train"]["epochs"])

    def _settled(self, trial: Trial) -> None:
        """Whatever waited for this trial may go on, or must fail."""
        if trial.stage == "pretrain":
            self._push(trial)
            self._give_up_lost(trial)
            for owner in self._owners(trial):
                self._advance(owner)
            self._release_trial(trial)
            self._collect(trial)
            return
        if not trial.over and self._is_lost(trial):
            self._give_up(trial)
            return
        if not trial.over:
            self._push(trial)
            return
        for dependent in self._dependents.pop(trial.id, []):
            child = self.records.trials[dependent]
            if trial.status == "failed" and not child.over:
                self._fail_dependent(child, trial)
                continue
            self._needs[dependent].discard(trial.id)
            if not self._needs[dependent]:
                self._push(child)
        for owner in self._owners(trial):
            self._advance(owner)
        self._release_trial(self._pretraining(trial))
        self._collect(self._pretraining(trial))

    def _lose_checkpoint(self, trial: Trial, path: str, reason: str) -> None:
        """A damaged checkpoint is forgotten; was it the last, its pretraining goes on from the one before."""
        owner = self._pretraining(trial)
        if any(point.path == path for point in owner.checkpoints):
            self.emit({"event": "drop_checkpoint", "id": owner.id, "path": path, "reason": reason})
            self.emit({"event": "warning", "kind": f"checkpoint {path}", "text": f"{path} was damaged and is not used"})
        if owner is not trial:
            self._push(owner)

    def _is_lost(self, trial: Trial) -> bool:
        """Whether what a trial reads is gone for good: its checkpoint was lost, and training is past it."""
        if trial.stage == "pretrain":
            return False
        parent, epoch = self._pretraining(trial), trial.epoch or 0
        return parent.reached > epoch and parent.at(epoch) is None

    def _give_up_lost(self, trial: Trial) -> None:
        """End what waits for a checkpoint of a pretraining that is gone for good: nobody would ever make it again."""
        for child in self.records.children_of(trial.id):
            never = trial.status == "failed" and trial.at(child.epoch or 0) is None
            if child.status == "waiting" and (never or self._is_lost(child)):
                self._give_up(child)

    def _give_up(self, trial: Trial) -> None:
        reason = f"checkpoint of epoch {trial.epoch} was damaged"
        self.emit({"event": "end", "id": trial.id, "status": "failed", "reason": reason})
        self._settled(trial)

    def _advance(self, configuration: Configuration) -> None:
        """Say what can be said of a configuration now, and do what follows from it."""
        while self._started and (said := self.verdicts.next(configuration)) is not None:
            self.emit(said)
            if said["event"] == "told":
                self.proposals.tell(configuration)
                self._release(configuration)
            elif said["decision"] == "go":
                for id_ in configuration.trials:
                    self._push(self.records.trials[id_])

    def _release(self, configuration: Configuration) -> None:
        for id_ in configuration.trials:
            self._release_trial(self.records.trials[id_])

    def _release_trial(self, trial: Trial) -> None:
        """Stop a pretraining that no running configuration wants any more."""
        if trial.over or self._is_wanted(trial):
            return
        if trial.id in self.running:
            self.stops.append(trial.id)
            return
        said = {"status": "stopped", "reason": self._owners(trial)[0].reason}
        end = self.verdicts.milestones(trial.config)[-1]
        if any(end in owner.evaluations.get(trial.id, {}) for owner in self._owners(trial)):
            said = {"status": "finished"}  # its end was judged, and the checkpoint of it lost since
        self.emit({"event": "end", "id": trial.id, **said})

    # -- disk ----------------------------------------------------------------------------------------------------

    def _is_kept(self, trial: Trial, epoch: int) -> bool:
        """Whether the sweep keeps a checkpoint that was evaluated."""
        if self.sweep.keep != "best":
            return self.sweep.keep == "all"
        return any(epoch not in self.verdicts.surpassed(owner, trial) for owner in self._owners(trial))

    def _collect(self, trial: Trial) -> None:
        """Give up checkpoints that neither an evaluation nor a restart needs.

        The one before the last stays until all evaluations are over: the last could turn out to be damaged.
        """
        if not self._started:
            return  # not all configurations have said yet what they need
        milestones, is_over = self.verdicts.milestones(trial.config), self.records.is_over
        last = self.maker.children[trial.id].get(milestones[-1], ())
        settled = trial.status in ("failed", "stopped") or (trial.over and all(map(is_over, last)))
        keep_last = 1 if settled else 2
        for point in trial.checkpoints[:-keep_last]:
            milestone = point.epoch in milestones
            if milestone and self._is_kept(trial, point.epoch):
                continue
            children = self.maker.children[trial.id].get(point.epoch, ())
            if not all(map(is_over, children)) or (milestone and not children):
                continue
            if trial.origin:
                continue
            self.emit({"event": "drop_checkpoint", "id": trial.id, "path": point.path})
            self.deletions.append(point.path)

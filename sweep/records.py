"""What a sweep's folder says: configurations, trials, checkpoints, results. Imports neither torch nor ray nor aim.

    DIR/sweep.json            the resolved sweep, versions, code revision
    DIR/ledger.jsonl          every event (see `ledger.py`); all below is folded from it by `Records.apply`
    DIR/trials/ID/record.json      the same for one trial, for people and other programs
    DIR/trials/ID/progress.jsonl   one line an epoch: {"epoch": 3, "loss": 9.1, ...}
    DIR/trials/ID/attempt-N/epoch-NNNN/      checkpoints
    DIR/trials/ID/attempt-N/...              artifacts of an evaluation

All paths in events are relative to DIR, so that a sweep can be moved.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datasets.config import ConfigError
from sweep.ledger import Event, read
from sweep.paths import check_event
from sweep.space import OPTION as OPTION

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
LEDGER = "ledger.jsonl"
MANIFEST = "sweep.json"

Stage = Literal["pretrain", "features", "evaluation"]
#   waiting -> running -> finished | failed | stopped;   running -> waiting at a rung, after a kill, for a retry
Status = Literal["waiting", "running", "finished", "failed", "stopped"]
ConfigurationState = Literal["running", "complete", "pruned", "failed"]


class NotASweep(ValueError):
    """A folder that holds no sweep, or one of another format; one line."""


@dataclass
class Checkpoint:
    """A published checkpoint: `path` relative to the sweep's folder, `digest` over its content."""

    epoch: int
    path: str
    digest: str


@dataclass
class Trial:
    """One trial: a pretraining, the features of a checkpoint, or an evaluation of a checkpoint.

    Attributes:
        id: 16 hex digits of the digest of everything that determines the result.
        name: the method's name, "features", or the evaluation's key in the sweep.
        parent: of features and evaluations: the pretraining trial; `epoch`: of its checkpoint.
        inputs: of an evaluation: name of another one whose result it reads -> that trial.
        configuration: the number of the first configuration that asked for it.
        metrics: pretraining: the last epoch's; evaluation: full names, `linear/all/val/top1`.
        seconds: compute time over all attempts.
        revision: of the code, when its last attempt began.
        origin: folder of another sweep from which the finished result was taken, or "".
        failures, losses: attempts that failed, or lost their node, since it last got on.
        log: the last lines of the last attempt that failed. node: address of the machine of the last attempt.
    """

    id: str
    stage: Stage
    name: str
    config: dict[str, Any]
    parent: str | None = None
    epoch: int | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    configuration: int = 0
    status: Status = "waiting"
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    origin: str = ""
    revision: str = ""
    log: list[str] = field(default_factory=list)
    node: str = ""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last published checkpoint."""
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("finished", "failed", "stopped")


@dataclass
class Configuration:
    """One point of the search space; it runs one pretraining per seed and is told to the sampler once, as the mean.

    Attributes:
        params: name in the space -> value (only the sampled ones).
        source: "known" | "enqueued" | "warm" | "sampler". notes: what the sampler keeps on it.
        trials: pretraining ids, one per seed. Other configurations may have the same ones. None where an option
            refuses its value, which `reason` says.
        evaluations: what judges it: pretraining -> epoch -> evaluation's key -> trial.
        rungs: epoch -> objective values, means over seeds.
        values: final objective values, in the order of the sweep's objectives; [] while there are none.
        spread: standard deviations over seeds, same order; 0.0 with one seed.
        asked: the objectives and constraints that `values`, `rungs` and `violation` belong to.
        violation: largest violation of a constraint (<= 0 is feasible), None without constraints.
    """

    number: int
    params: dict[str, Any]
    source: str
    trials: list[str]
    evaluations: dict[str, dict[int, dict[str, str]]] = field(default_factory=dict)
    state: ConfigurationState = "running"
    rungs: dict[int, list[float]] = field(default_factory=dict)
    judged: dict[int, str] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    violation: float | None = None
    reason: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)


class Records:
    """The state of a sweep, folded from its ledger.

    Attributes:
        directory: the sweep's folder.
        manifest: content of `sweep.json`; `spec` is its "sweep" part (see `sweep.spec.Sweep`).
        configurations: by number. trials: by id, in the order of proposal.
        owners: trial -> numbers of the configurations that it belongs to, in the order in which they asked for it.
        warnings: problems of the sweep itself that no trial owns (Aim unreachable, ...), the last for each kind.
    """

    def __init__(self, directory: Path, manifest: dict[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.configurations: dict[int, Configuration] = {}
        self.trials: dict[str, Trial] = {}
        self.owners: dict[str, dict[int, None]] = {}
        self.warnings: dict[str, str] = {}
        self.sessions = 0
        self.wall = 0.0  # seconds with a driver at work, over all sessions
        self.seconds = {"pretrain": 0.0, "features": 0.0, "evaluation": 0.0}  # of compute, by stage
        self.enqueued: list[dict[str, Any]] = []  # points given by hand that no configuration has taken yet
        self.finished = False
        self._up = 0.0
        self._revision = ""
        self._children: dict[str, list[Trial]] = {}  # of a pretraining, so that a frame of n trials takes n steps

    @property
    def spec(self) -> dict[str, Any]:
        """The resolved sweep."""
        spec: dict[str, Any] = self.manifest["sweep"]
        return spec

    @property
    def storage(self) -> str:
        """URL of the place of its checkpoints and artifacts, "" for the folder itself."""
        return str(self.manifest.get("options", {}).get("storage") or "")

    @property
    def objectives(self) -> list[dict[str, str]]:
        """[{"metric": "linear/all/val/top1", "direction": "max"}, ...]."""
        objectives: list[dict[str, str]] = self.spec["objectives"]
        return objectives

    def children_of(self, trial: str) -> list[Trial]:
        """The features and evaluations of all checkpoints of a pretraining, in the order in which they were made."""
        return self._children.get(trial, [])

    def evaluations_of(self, trial: str, epoch: int | None = None, configuration: int | None = None) -> list[Trial]:
        """The evaluation trials of a pretraining trial (of its checkpoint of `epoch`) (that judge a configuration)."""
        owners = (self.configurations[number] for number in self.owners.get(trial, ()))
        if configuration is not None and any(trial in owner.evaluations for owner in owners):
            judges = self.configurations[configuration].evaluations.get(trial, {})
            ids = [id_ for at in judges.values() for id_ in at.values()]
            children = [self.trials[id_] for id_ in ids if id_ in self.trials]
        else:  # a ledger of an older version does not say which judge a configuration: all of them
            children = [child for child in self.children_of(trial) if child.stage == "evaluation"]
        return [child for child in children if epoch in (None, child.epoch)]

    def final_metrics(self, trial: str, configuration: int | None = None) -> dict[str, float]:
        """The downstream metrics of a pretraining trial's last evaluated checkpoint, by full name.

        Args:
            configuration: whose; needed where several share the pretraining and differ in options of evaluations.
        """
        done = [child for child in self.evaluations_of(trial, None, configuration) if child.status == "finished"]
        last = max((child.epoch or 0 for child in done), default=0)
        return {name: v for child in done if (child.epoch or 0) == last for name, v in child.metrics.items()}

    def sampled(self, trial: Trial) -> dict[str, Any]:
        """The sampled values that a trial depends on, of those of the first configuration that asked for it."""
        owner = self.configurations.get(trial.configuration)
        evaluations = [trial] if trial.stage == "evaluation" else []
        for one in evaluations:  # and those it reads, which the loop comes to
            evaluations += [self.trials[id_] for id_ in one.inputs.values() if id_ in self.trials]
        options = tuple(f"{OPTION}{one.name}." for one in evaluations)
        params = owner.params.items() if owner else ()
        return {key: value for key, value in params if not key.startswith(OPTION) or key.startswith(options)}

    def progress(self, trial: str) -> list[dict[str, float]]:
        """One entry an epoch, the last attempt's where an epoch was trained twice."""
        path = self.directory / "trials" / trial / "progress.jsonl"
        by_epoch: dict[float, dict[str, float]] = {}
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # a line torn by a kill; its epoch is trained again
                by_epoch[entry["epoch"]] = entry
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def frame(self) -> pd.DataFrame:
        """One row per pretraining trial and configuration.

        Columns: configuration, trial, seed, state (of the configuration), status (of the trial), source, reason,
        epoch, seconds, one per sampled parameter (`method.lambda`), one per downstream metric (`linear/all/val/top1`).
        What several configurations share counts in the seconds of the one that asked first: they add up to all compute.
        """
        import pandas as pd

        rows = []
        spent: dict[tuple[int, str], float] = defaultdict(float)
        for trial in self.trials.values():
            spent[trial.configuration, trial.parent or trial.id] += trial.seconds
        for configuration in self.configurations.values():
            for trial in (self.trials[id_] for id_ in configuration.trials if id_ in self.trials):
                rows.append(
                    {
                        "configuration": configuration.number,
                        "trial": trial.id,
                        "seed": trial.config.get("seed"),
                        "state": configuration.state,
                        "status": trial.status,
                        "source": configuration.source,
                        "reason": configuration.reason or trial.reason,
                        "epoch": trial.checkpoint.epoch if trial.checkpoint else 0,
                        "seconds": spent[configuration.number, trial.id],
                        **configuration.params,
                        **self.final_metrics(trial.id, configuration.number),
                    }
                )
        return pd.DataFrame(rows)

    # -- folding ------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Fold one event in. The only place where this state changes."""
        # from a time that only goes on, since a wall clock may jump; it begins anew with every driver
        up = event.get("up", self._up)
        if event["event"] != "session":
            self.wall += max(0.0, up - self._up)
        self._up = up
        getattr(self, f"_on_{event['event']}", self._ignore)(event)

    def _ignore(self, event: Event) -> None:
        """Events of a newer minor version."""

    def _on_session(self, event: Event) -> None:
        self.sessions += 1
        self._revision = event.get("revision", "")
        self.finished = False
        for trial in self.trials.values():  # the driver before this one died or stopped with these in the air
            if trial.status == "running":
                trial.status = "waiting"

    def _on_configuration(self, event: Event) -> None:
        if event["source"] == "enqueued" and self.enqueued:
            self.enqueued.pop(0)
        self.configurations[event["number"]] = Configuration(
            number=event["number"],
            params=event["params"],
            source=event["source"],
            trials=event["trials"],
            notes=event.get("notes", {}),
            reason=event.get("reason", ""),
        )
        for id_ in event["trials"]:
            self._own(id_, event["number"])

    def _own(self, id_: str, number: int) -> None:
        self.owners.setdefault(id_, {})[number] = None

    def _on_evaluations(self, event: Event) -> None:
        number, ids = event["number"], event["ids"]
        evaluations = self.configurations[number].evaluations
        evaluations.setdefault(event["trial"], {})[event["epoch"]] = ids
        for id_ in ids.values():
            self._own(id_, number)

    def _on_enqueue(self, event: Event) -> None:
        self.enqueued.append(event["params"])

    def _on_trial(self, event: Event) -> None:
        known = {"id", "stage", "name", "config", "parent", "epoch", "inputs", "configuration", "origin"}
        trial = self.trials[event["id"]] = Trial(**{key: event[key] for key in known if key in event})
        if trial.parent is not None:
            self._children.setdefault(trial.parent, []).append(trial)

    def _on_start(self, event: Event) -> None:
        trial = self.trials[event["id"]]
        trial.status, trial.attempts, trial.reason = "running", event["attempt"], ""
        trial.started = trial.started or event["time"]
        trial.revision = self._revision

    def _on_checkpoint(self, event: Event) -> None:
        trial = self.trials[event["id"]]
        trial.checkpoints = [kept for kept in trial.checkpoints if kept.epoch < event["epoch"]]
        trial.checkpoints.append(Checkpoint(event["epoch"], event["path"], event["digest"]))
        trial.metrics = event.get("metrics", trial.metrics)
        trial.failures = trial.losses = 0  # it gets on: a machine that is taken away now and then may go on for ever

    def _on_drop_checkpoint(self, event: Event) -> None:
        trial = self.trials[event["id"]]
        last = trial.checkpoint
        trial.checkpoints = [kept for kept in trial.checkpoints if kept.path != event["path"]]
        if event.get("reason") and last is not None and last.path == event["path"]:  # it must be trained again
            trial.reason = event["reason"]
            trial.status = "waiting" if trial.status != "running" else trial.status

    def _on_end(self, event: Event) -> None:
        trial = self.trials[event["id"]]
        trial.status = event["status"]
        trial.reason = event.get("reason", "")
        trial.metrics = event.get("metrics") or trial.metrics
        trial.artifacts = event.get("artifacts") or trial.artifacts
        trial.seconds += event.get("seconds", 0.0)
        self.seconds[trial.stage] += event.get("seconds", 0.0)
        trial.failures += int(event.get("failure", False))
        trial.losses += int(event.get("kind") == "lost")
        trial.log = event.get("log", [] if trial.status == "finished" else trial.log)
        trial.node = event.get("node") or trial.node
        trial.ended = event["time"]

    def _on_retry(self, event: Event) -> None:
        trial = self.trials[event["id"]]
        trial.status, trial.failures, trial.losses, trial.reason = "waiting", 0, 0, ""

    def _on_verdict(self, event: Event) -> None:
        configuration = self.configurations[event["number"]]
        if event["values"]:  # none where an evaluation of the rung failed
            configuration.rungs[event["epoch"]] = event["values"]
            configuration.asked = event.get("asked", configuration.asked)
        configuration.judged[event["epoch"]] = event["decision"]
        configuration.reason = event.get("reason", configuration.reason)

    def _on_told(self, event: Event) -> None:
        configuration = self.configurations[event["number"]]
        configuration.state = event["state"]
        configuration.values = event.get("values", [])
        configuration.asked = event.get("asked", configuration.asked)
        configuration.spread = event.get("spread", [])
        configuration.violation = event.get("violation")
        configuration.reason = event.get("reason", "")

    def _on_reopen(self, event: Event) -> None:
        self.configurations[event["number"]].state = "running"

    def _on_warning(self, event: Event) -> None:
        self.warnings[event["kind"]] = event["text"]

    def _on_done(self, event: Event) -> None:
        self.finished = True


def load(directory: str | Path) -> Records:
    """The records of the sweep in `directory`.

    Raises:
        NotASweep: no such folder, no sweep in it, or one of another format.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise NotASweep(f"{directory}: no such folder; `sweep run NAME --dir {directory}` makes one")
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        version = manifest["format"]
    except FileNotFoundError:
        raise NotASweep(f"{directory}: holds no sweep (no {MANIFEST} in it)") from None
    except (ValueError, KeyError, TypeError):
        raise NotASweep(f"{directory / MANIFEST}: is not a sweep's manifest; restore it from a copy") from None
    if version != FORMAT:
        raise NotASweep(f"{directory}: has format {version}, this version reads {FORMAT}")
    records = Records(directory, manifest)
    for number, event in enumerate(read(directory / LEDGER), 1):
        try:
            check_event(event, records.trials)
            records.apply(event)
        except ConfigError as error:
            raise NotASweep(f"{directory / LEDGER}, line {number}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotASweep(f"{directory / LEDGER}, line {number}: no event of this version ({error!r})") from None
    return records


def as_dict(trial: Trial) -> dict[str, Any]:
    """A trial as `record.json` holds it."""
    return asdict(trial)

"""What a sweep consists of is made here: the pretrainings of a configuration, and what judges their checkpoints.

A trial is made once, by its identity: an equal one of another configuration is the same one, and one that another sweep
has finished is taken over from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from sweep.jobs import Blueprint, Node
from sweep.ledger import Event
from sweep.records import Configuration, Records, Stage, Trial
from sweep.spec import Sweep
from sweep.verdicts import Verdicts


class Maker:
    """Makes trials, each by an event.

    Attributes:
        children: pretraining -> epoch -> the evaluations that judge its checkpoint.
        inputs: evaluation -> name of another one whose result it reads -> that trial.
    """

    def __init__(
        self,
        sweep: Sweep,
        blueprint: Blueprint,
        records: Records,
        emit: Callable[[Event], None],
        verdicts: Verdicts,
        reuse: Records | None,
    ) -> None:
        self.sweep, self.blueprint, self.records, self.emit = sweep, blueprint, records, emit
        self.verdicts, self.reuse = verdicts, reuse
        self.children: dict[str, dict[int, set[str]]] = defaultdict(dict)
        self.inputs: dict[str, dict[str, str]] = {}
        self._nodes: dict[tuple[int, str], list[Node]] = {}  # of a configuration's pretraining
        metrics = [*(one.metric for one in sweep.objectives), *(one.metric for one in sweep.constraints)]
        self._needed_keys = {metric.split("/")[0] for metric in metrics}

    def pretrainings(self, params: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Identity and configuration of the pretrainings of a point, one a seed."""
        return [self.blueprint.pretraining(params, self.sweep.seed + index) for index in range(self.sweep.seeds)]

    def pretrain(self, configuration: Configuration) -> None:
        """Make what is missing of a configuration's pretrainings."""
        if any(id_ not in self.records.trials for id_ in configuration.trials):
            for id_, config in self.pretrainings(configuration.params):
                if id_ not in self.records.trials:
                    self._make(id_, "pretrain", config["method"]["name"], config, configuration=configuration.number)

    def resolve(self, configuration: Configuration, trial: Trial) -> None:
        """Find out what judges a configuration's pretraining.

        Raises:
            ConfigError: an option of an evaluation refuses its value.
        """
        place = configuration.number, trial.id
        if place not in self._nodes:
            self._nodes[place] = self.blueprint.evaluations(trial.config, configuration.params)

    def evaluate(self, configuration: Configuration, trial: Trial, epoch: int) -> list[tuple[Trial, set[str]]]:
        """What judges a checkpoint for a configuration, only what the search needs before the end; made if missing.

        Returns:
            Features and evaluations, each with the trials that must be over before it.
        """
        nodes = self._nodes[configuration.number, trial.id]
        if epoch < int(trial.config["train"]["epochs"]):
            nodes = self._needed(nodes)
        ids = {node.key: node.id_of(trial.id, epoch) for node in nodes}
        common = {"parent": trial.id, "epoch": epoch, "configuration": configuration.number}
        features = self._features(trial, epoch, nodes, ids, common)
        for node in nodes:
            id_ = ids[node.key]
            inputs = self.inputs[id_] = {name: ids[key] for name, key in node.inputs.items()}
            if id_ not in self.records.trials:
                config = {"name": node.name, **node.config}
                self._make(id_, "evaluation", node.key, config, inputs=inputs, **common)
        if ids != configuration.evaluations.get(trial.id, {}).get(epoch):
            self.emit(
                {"event": "evaluations", "number": configuration.number, "trial": trial.id, "epoch": epoch, "ids": ids}
            )
        self.children[trial.id].setdefault(epoch, set()).update(ids.values())
        first = {one.id for one in features}
        found = [(self.records.trials[id_], first | set(self.inputs[id_].values())) for id_ in ids.values()]
        return [*((one, set[str]()) for one in features), *found]

    def _features(
        self, trial: Trial, epoch: int, nodes: list[Node], ids: dict[str, str], common: dict[str, Any]
    ) -> list[Trial]:
        """The trial that computes what some evaluations of a checkpoint read; none if nothing has to be computed."""
        requests: dict[str, dict[str, Any]] = {}
        for node in nodes:
            requests.update({repr(sorted(request.items())): request for request in node.requests})
        wanted = list(requests.values())
        id_ = self.blueprint.features_id(trial.id, epoch, wanted)
        unfinished = any(not self.records.is_over(child) for child in ids.values())
        if wanted and unfinished and id_ not in self.records.trials:
            self._make(id_, "features", "features", {"requests": wanted}, **common)
        return [self.records.trials[id_]] if wanted and id_ in self.records.trials else []

    def _needed(self, nodes: list[Node]) -> list[Node]:
        """Those whose metrics the search needs, and those that they read."""
        wanted = set(self._needed_keys)
        for node in reversed(nodes):  # the plan orders nodes so that `inputs` points backwards
            if node.key in wanted:
                wanted.update(node.inputs.values())
        return [node for node in nodes if node.key in wanted]

    def _make(self, id_: str, stage: Stage, name: str, config: dict[str, Any], **more: Any) -> None:
        known = self._reusable(id_)
        origin = self._origin(known) if known else ""
        self.emit(
            {"event": "trial", "id": id_, "stage": stage, "name": name, "config": config, "origin": origin, **more}
        )
        if known is None:
            return
        for point in known.checkpoints[-1:]:
            path = point.path if known.origin else f"{origin}/{point.path}"
            self.emit({"event": "checkpoint", "id": id_, "epoch": point.epoch, "path": path, "digest": point.digest})
        artifacts = {name: path if known.origin else f"{origin}/{path}" for name, path in known.artifacts.items()}
        self.emit({"event": "end", "id": id_, "status": "finished", "metrics": known.metrics, "artifacts": artifacts})

    def _origin(self, known: Trial) -> str:
        """Where the files of another sweep's trial lie: there, or where that one took them from."""
        assert self.reuse is not None
        return known.origin or self.reuse.storage or str(self.reuse.directory.resolve())

    def _reusable(self, id_: str) -> Trial | None:
        """The equal trial of another sweep, if it is finished and, of a pretraining, its last checkpoint is there."""
        known = self.reuse.trials.get(id_) if self.reuse else None
        if known is None or known.status != "finished":
            return None
        last = self.verdicts.milestones(known.config)[-1] if known.stage == "pretrain" else None
        return known if last is None or known.at(last) else None

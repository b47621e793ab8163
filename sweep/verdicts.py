"""What can be said of a configuration: a verdict at each rung, and in the end the values that the sampler is told.

all seeds have reached a rung and were judged there -> verdict "go" or "stop"
all seeds are at the end and were judged            -> told "complete" with the mean, the spread and the violation
a rung said "stop", or a seed has collapsed         -> told "pruned", which speaks of the point
an option refuses its value                         -> told "pruned", at once
a seed or an evaluation has failed                  -> told "failed", which does not
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sweep.jobs import DIVERGED
from sweep.ledger import Event
from sweep.records import Configuration, Records, Trial
from sweep.spec import Sweep
from sweep.stopping import judge

Checkpoints = list[tuple[str, int]]  # of each seed: pretraining, epoch


class Verdicts:
    """Judges configurations by the values that their checkpoints got.

    Attributes:
        asked: objectives and constraints, as they stand beside every value: values of others are no history.
        refused: configurations of which an option refuses its value -> why.
    """

    def __init__(self, sweep: Sweep, records: Records) -> None:
        self.sweep, self.records = sweep, records
        self.asked: list[Any] = [
            [objective.metric for objective in sweep.objectives],
            [bound.dump() for bound in sweep.constraints],
        ]
        self.refused: dict[int, str] = {}
        self._rungs: dict[int, list[list[float]]] = defaultdict(list)  # what all got, by index of the rung

    def milestones(self, config: Mapping[str, Any]) -> list[int]:
        """The epochs after which a pretraining is judged, the last one among them."""
        epochs = int(config["train"]["epochs"])
        shares = {max(1, round(share * epochs)) for share in self.sweep.rungs}
        return [*sorted(share for share in shares if share < epochs), epochs]

    def remember(self, configuration: Configuration) -> None:
        """Take a configuration of an earlier session into the history of the rungs."""
        if configuration.asked != self.asked or not configuration.trials:
            return
        for index, epoch in enumerate(self._milestones_of(configuration)[:-1]):
            if epoch in configuration.rungs:
                self._rungs[index].append(configuration.rungs[epoch])

    def next(self, configuration: Configuration) -> Event | None:
        """The next thing to be said of a configuration, a "verdict" or "told"; None while something is on its way."""
        if configuration.state != "running":
            return None
        if configuration.number in self.refused or not configuration.trials:
            reason = self.refused.get(configuration.number, configuration.reason)
            return self._told(configuration, state="pruned", reason=reason)
        trials = [self.records.trials[id_] for id_ in configuration.trials]
        lost = next((trial for trial in trials if trial.status in ("failed", "stopped")), None)
        if lost is not None:
            return self._told(configuration, **self._loss(lost))
        if "stop" in configuration.judged.values():
            return self._told(configuration, state="pruned", reason=configuration.reason)
        milestones = [self.milestones(trial.config) for trial in trials]
        for index, epoch in enumerate(milestones[0][:-1]):
            if epoch not in configuration.judged:
                return self._at_rung(configuration, index, [epochs[index] for epochs in milestones])
        return self._at_end(configuration, [epochs[-1] for epochs in milestones])

    def surpassed(self, configuration: Configuration, trial: Trial) -> set[int]:
        """The milestones of a pretraining to which another one of it is better, or later and as good, in all values."""
        metrics = [objective.metric for objective in self.sweep.objectives]
        signs = [1.0 if objective.direction == "max" else -1.0 for objective in self.sweep.objectives]
        found = {}
        for epoch in self.milestones(trial.config):
            values, _ = self._values(configuration, metrics, [(trial.id, epoch)])
            if values:
                found[epoch] = [sign * value for sign, value in zip(signs, values[0], strict=True)]
        return {
            epoch for epoch, own in found.items()
            if any(all(a >= b for a, b in zip(other, own, strict=True)) and (other != own or later > epoch)
                   for later, other in found.items() if later != epoch)
        }  # fmt: skip

    def _at_rung(self, configuration: Configuration, index: int, epochs: list[int]) -> Event | None:
        points = self._reached(configuration, epochs)
        if not points:
            return None
        if any(epoch not in configuration.evaluations.get(id_, {}) for id_, epoch in points):
            return self._verdict(configuration, index, epochs[0], None)  # a reused result has only its last checkpoint
        values, problem = self._values(configuration, [o.metric for o in self.sweep.objectives], points)
        if values is None and not problem:
            return None
        return self._verdict(configuration, index, epochs[0], values)

    def _at_end(self, configuration: Configuration, epochs: list[int]) -> Event | None:
        points = self._reached(configuration, epochs)
        if not points:
            return None
        values, problem = self._values(configuration, [o.metric for o in self.sweep.objectives], points)
        if values is None:
            return self._told(configuration, state="failed", reason=problem) if problem else None
        columns = list(zip(*values, strict=True))
        told: dict[str, Any] = {
            "state": "complete",
            "values": [statistics.fmean(column) for column in columns],
            "spread": [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns],
        }
        if self.sweep.constraints:
            bounds, problem = self._values(configuration, [c.metric for c in self.sweep.constraints], points)
            if bounds is None:
                return self._told(configuration, state="failed", reason=problem) if problem else None
            means = [statistics.fmean(column) for column in zip(*bounds, strict=True)]
            told["violation"] = max(c.violation(v) for c, v in zip(self.sweep.constraints, means, strict=True))
        return self._told(configuration, **told)

    def _reached(self, configuration: Configuration, epochs: list[int]) -> Checkpoints:
        """The checkpoints of all seeds at these epochs; none while a seed is not there yet."""
        trials = [self.records.trials[id_] for id_ in configuration.trials]
        if any(trial.reached < due for trial, due in zip(trials, epochs, strict=True)):
            return []
        return [(trial.id, due) for trial, due in zip(trials, epochs, strict=True)]

    def _values(
        self, configuration: Configuration, metrics: list[str], points: Checkpoints
    ) -> tuple[list[list[float]] | None, str]:
        """Per seed the values of `metrics`; (None, "") while some are missing, (None, reason) when they never come."""
        rows = []
        for parent, epoch in points:
            judges = configuration.evaluations.get(parent, {}).get(epoch)
            if judges is None:
                return None, ""
            row = []
            for metric in metrics:
                key = metric.split("/")[0]
                if key not in judges:
                    return None, f"evaluation {key} does not apply"
                trial = self.records.trials[judges[key]]
                if not trial.over:
                    return None, ""
                value = trial.metrics.get(metric)
                if trial.status != "finished":
                    return None, f"evaluation {trial.name} {trial.status}: {trial.reason}"
                if value is None or not math.isfinite(value):
                    return None, f"evaluation {trial.name} gave no finite {metric}"
                row.append(value)
            rows.append(row)
        return rows, ""

    def _verdict(self, configuration: Configuration, index: int, epoch: int, values: list[list[float]] | None) -> Event:
        """Go on or stop, by what the others got at this rung; without values nothing speaks against going on."""
        means = [statistics.fmean(column) for column in zip(*values, strict=True)] if values else []
        decision, reason = "go", ""
        if means:
            directions = [objective.direction for objective in self.sweep.objectives]
            decision, reason = judge(
                self.sweep.stop, epoch / self._milestones_of(configuration)[-1], means, self._rungs[index], directions
            )
            self._rungs[index].append(means)
        return {
            "event": "verdict", "number": configuration.number, "epoch": epoch, "values": means,
            "decision": decision, "reason": reason, "asked": self.asked,
        }  # fmt: skip

    def _loss(self, trial: Trial) -> dict[str, str]:
        """A pretraining was lost: a collapse says something about the point, a broken machine does not."""
        diverged = trial.reason.startswith(DIVERGED) or trial.status == "stopped"
        reason = trial.reason or "stopped"
        if self.sweep.seeds > 1:
            reason = f"seed {trial.config['seed']}: {reason}"
        return {"state": "pruned" if diverged else "failed", "reason": reason}

    def _told(self, configuration: Configuration, **told: Any) -> Event:
        return {"event": "told", "number": configuration.number, "asked": self.asked, **told}

    def _milestones_of(self, configuration: Configuration) -> list[int]:
        return self.milestones(self.records.trials[configuration.trials[0]].config)

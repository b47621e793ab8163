"""What a tracker shows of a sweep: one page per pretraining and evaluation, made from the records. Pure data.

A pretraining's page has its whole configuration (`hparams`), the sampled values (`sampled`), its curves and every
downstream metric of its evaluations again: as `downstream["linear/all/val/top1"]`, and as the metric `top1` in the
context `{"evaluation": "linear", "part": "all", "subset": "val"}` at the checkpoint's epoch, since a tracker's
explorers compare within a run. A pretraining that several configurations share, since they differ in options of
evaluations alone, has a page for each of them; its curves are on the first one's. An evaluation's page names its parent
and has its metrics, figures, sounds and tables.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.records import Configuration, Records, Trial


@dataclass(frozen=True)
class Page:
    """What one Aim run shows.

    Attributes:
        run: the trial's id, which is also the Aim run's hash; of a further configuration of a pretraining a digest.
        metrics: (metric, value, epoch, context); artifacts: (name, path relative to the sweep, epoch, context).
        curve: whether the trial's progress.jsonl belongs on it.
        started, ended: seconds since 1970; `ended` 0.0 while the trial is not over.
    """

    run: str
    name: str
    experiment: str
    tags: tuple[str, ...]
    params: Mapping[str, Any]
    metrics: tuple[tuple[str, float, int, dict[str, str]], ...] = ()
    artifacts: tuple[tuple[str, str, int, dict[str, str]], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    curve: bool = False
    started: float = 0.0
    ended: float = 0.0

    def digest(self) -> str:
        """Equal for pages that show the same, the curve aside."""
        content = [self.name, self.tags, self.params, self.metrics, self.artifacts, sorted(self.figures), self.ended]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def pages(records: Records, only: Collection[str] | None = None, numbers: Collection[int] | None = None) -> list[Page]:
    """The pages of all started trials, or of those in `only`; "features" trials have none.

    Takes time for the chosen trials alone: the driver asks at every event.

    Args:
        numbers: the configurations whose pages of pretrainings are asked for; None = all.
    """
    chosen = records.trials.values() if only is None else [records.trials[id_] for id_ in only if id_ in records.trials]
    started = [trial for trial in chosen if trial.stage != "features" and (trial.attempts or trial.over)]
    found: list[Page] = []
    for trial in started:
        if trial.stage == "evaluation":
            found.append(_evaluation(records, trial))
            continue
        owners = [records.configurations[number] for number in records.owners.get(trial.id, ())]
        owners = owners or [Configuration(trial.configuration, {}, "", [])]
        found += [_pretraining(records, trial, one) for one in owners if numbers is None or one.number in numbers]
    return found


def _pretraining(records: Records, trial: Trial, owner: Configuration) -> Page:
    number = owner.number if owner.number in records.configurations else None
    evaluations = records.evaluations_of(trial.id, None, number)
    finished = sorted((e for e in evaluations if e.status == "finished"), key=lambda e: e.epoch or 0)
    params = _params(records, trial, owner, owner.params)
    params["sweep"]["epoch"] = trial.reached
    first = owner.number == trial.configuration
    return Page(
        run=trial.id if first else hashlib.sha256(f"{trial.id} {owner.number}".encode()).hexdigest()[:16],
        name=_name(trial, owner.number),
        experiment=str(records.spec["name"]),
        tags=("pretrain", trial.name, trial.status),
        params={**params, "downstream": records.final_metrics(trial.id, number)},
        metrics=tuple(point for evaluation in finished for point in _points(evaluation)),
        curve=first,
        started=trial.started,
        ended=trial.ended if trial.over else 0.0,
    )


def _evaluation(records: Records, trial: Trial) -> Page:
    parent = records.trials.get(trial.parent or "")
    owner = records.configurations.get(trial.configuration) or Configuration(trial.configuration, {}, "", [])
    params = _params(records, trial, owner, records.sampled(trial))
    params["sweep"] |= {"parent": trial.parent, "epoch": trial.epoch}
    context = {"evaluation": trial.name}
    return Page(
        run=trial.id,
        name=f"{trial.name} of {_name(parent, trial.configuration)}, epoch {trial.epoch}" if parent else trial.name,
        experiment=str(records.spec["name"]),
        tags=("evaluation", trial.name, trial.status),
        params=params,
        metrics=tuple(_points(trial)),
        artifacts=tuple((name, path, trial.epoch or 0, context) for name, path in trial.artifacts.items()),
        started=trial.started,
        ended=trial.ended if trial.over else 0.0,
    )


def _params(
    records: Records, trial: Trial, configuration: Configuration, sampled: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    facts = {key: getattr(trial, key) for key in ("stage", "status", "attempts", "seconds", "origin")}
    return {
        "hparams": trial.config,
        "sampled": sampled,
        "log10": _log10(records.spec.get("space", {}), sampled),
        "sweep": {
            **facts,
            "configuration": configuration.number,
            "name": records.spec["name"],
            "trial": trial.id,
            "seed": trial.config.get("seed"),
            "source": configuration.source,
            "state": configuration.state,
            "reason": trial.reason or configuration.reason,
        },
    }


def _log10(space: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, float]:
    """Values sampled on a log scale as their logarithm: a tracker's scatter plots have linear axes only."""
    logged = {key for key, dimension in space.items() if dimension.get("log")}
    return {key: math.log10(value) for key, value in params.items() if key in logged and value > 0}


def _name(trial: Trial, number: int) -> str:
    return f"{trial.name} #{number} seed {trial.config.get('seed', 0)}"


def _points(evaluation: Trial) -> Iterable[tuple[str, float, int, dict[str, str]]]:
    """`linear/all/val/top1` -> top1 in the context of linear, all, val."""
    for name, value in evaluation.metrics.items():
        *context, metric = name.split("/", 3)
        keys = ("evaluation", "part", "subset")
        yield metric, float(value), evaluation.epoch or 0, dict(zip(keys, context, strict=False))


def plotly_json(text: str) -> dict[str, Any] | None:
    """{"data": ..., "layout": ...} of a plotly figure saved as JSON or HTML; None if the text holds none."""
    parts: list[Any] = []
    _, call, text_after = text.rpartition("Plotly.newPlot(")
    rest = text_after.lstrip()
    try:
        for _ in range(3 if call else 1):  # newPlot("id", [data], {layout}, ...)
            part, end = json.JSONDecoder().raw_decode(rest)
            parts.append(part)
            rest = rest[end:].lstrip(" ,\n\t")
    except ValueError:
        return None
    figure = {"data": parts[1], "layout": parts[2]} if call else parts[0]
    return figure if isinstance(figure, dict) and isinstance(figure.get("data"), list) else None

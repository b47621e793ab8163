"""The records of a sweep as two frames, one row per pretraining trial and one per configuration."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweep.records import Configuration, Records

PROFILE = "profile"  # the evaluation that makes axes of the results of these
PROFILED = ("informativeness", "parameter_equivariance", "feature_equivariance", "invariance", "disentanglement")
STATES = ("complete", "running", "pruned", "failed")


def std(metric: str) -> str:
    """The column with the standard deviation over seeds (sample, ddof 1; missing with one seed)."""
    return f"{metric} std"


@dataclass(frozen=True)
class Results:
    """What the tables and figures are drawn from.

    Attributes:
        records: where it comes from.
        parameters: sampled parameters, in the order of the space.
        metrics: downstream metrics by full name: objectives first, then the others, those of the test split last.
        directions: of the objectives, "max" or "min".
        trials: `Records.frame()`, with every parameter and metric as a column even where it is empty.
        configurations: configuration, state, source, seeds (finished ones), parameters, mean and `std(metric)` of every
            metric, violation, seconds, epoch, reason; in the order of their numbers.
    """

    records: Records
    parameters: list[str]
    metrics: list[str]
    directions: dict[str, str]
    trials: pd.DataFrame
    configurations: pd.DataFrame

    @property
    def objectives(self) -> list[str]:
        """The metrics that are optimised."""
        return list(self.directions)

    @property
    def space(self) -> dict[str, dict[str, Any]]:
        """Parameter -> its entry in the search space."""
        return dict(self.records.spec.get("space", {}))

    @property
    def shown(self) -> list[str]:
        """The metrics of figures where none are named: objectives, and those that are not of the test split.

        Of a sweep with profiles without those that the profiles are made of, which are hundreds.
        """
        names = evaluations(self.records)
        made_of = {key for key, name in names.items() if name in PROFILED} if profiles(self.records) else set()
        return [
            metric
            for metric in self.metrics
            if metric in self.directions or not (is_test(metric) or metric.split("/")[0] in made_of)
        ]

    @property
    def finished(self) -> pd.DataFrame:
        """The configurations that ran to their end."""
        return self.configurations[self.configurations["state"] == "complete"]

    @property
    def competing(self) -> pd.DataFrame:
        """The configurations a winner may come from: complete, feasible, every objective a finite number."""
        done = self.finished
        feasible = ~(done["violation"] > 0)
        finite = np.isfinite(done[self.objectives].to_numpy(float)).all(axis=1)
        return done[feasible & finite]

    def known(self) -> set[int]:
        """Numbers of the configurations that are points from the literature rather than samples."""
        numbers = self.configurations.loc[self.configurations["source"] == "known", "configuration"]
        return {int(number) for number in numbers}


def evaluations(records: Records) -> dict[str, str]:
    """Key -> name of each evaluation that was begun."""
    trials = (trial for trial in records.trials.values() if trial.stage == "evaluation")
    return {trial.name: str(trial.config.get("name", trial.name)) for trial in trials}


def profiles(records: Records) -> list[str]:
    """The keys of the profiles."""
    return [key for key, name in evaluations(records).items() if name == PROFILE]


def is_test(metric: str) -> bool:
    """Whether a metric is of the test split, and so must not be chosen by."""
    return "test" in metric.split("/")


def matching(results: Results, patterns: Iterable[str]) -> list[str]:
    """The metrics that match one of the shell `patterns` (`linear/*/test/top1`), in the patterns' order.

    Raises:
        ValueError: a pattern that no metric matches.
    """
    metrics: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(results.metrics, pattern)
        if not found:
            raise ValueError(
                f"{pattern}: matches none of the {len(results.metrics)} metrics, such as {results.metrics[0]}"
            )
        metrics |= dict.fromkeys(found)
    return list(metrics)


def varied(results: Results) -> list[str]:
    """The parameters in which complete configurations differ, where they are active."""
    done = results.finished
    return [name for name in results.parameters if done[name].dropna().map(str).nunique() > 1]


def collect(records: Records, patterns: Iterable[str] = ()) -> Results:
    """Read the records once; works for a sweep without any result too.

    `patterns`: where one of them begins with `train/`, what training reported last is among the metrics (`train/loss`).
    """
    directions = {entry["metric"]: entry["direction"] for entry in records.objectives}
    parameters = _parameters(records)
    metrics = _metrics(records, directions)
    trials = records.frame()
    if any(pattern.startswith("train/") for pattern in patterns) and len(trials):
        ends = [(records.progress(id_) or [{}])[-1] for id_ in trials["trial"]]
        told = pd.DataFrame(ends, trials.index).drop(columns=["epoch", "step", "time"], errors="ignore")
        trials = pd.concat([trials, told.add_prefix("train/")], axis=1)
        metrics += [f"train/{name}" for name in told]
    for column in ["configuration", "trial", "seed", "state", "status", "source", "reason", "epoch", "seconds"]:
        if column not in trials:
            trials[column] = pd.Series(dtype=object)
    missing = [name for name in [*parameters, *metrics] if name not in trials]
    trials = pd.concat([trials, pd.DataFrame(np.nan, trials.index, missing)], axis=1)
    trials[metrics] = trials[metrics].astype(float)
    return Results(
        records, parameters, metrics, directions, trials, _configurations(records, trials, parameters, metrics)
    )


def _parameters(records: Records) -> list[str]:
    sampled = {name for configuration in records.configurations.values() for name in configuration.params}
    space = list(records.spec.get("space", {}))
    return space + sorted(sampled - set(space))


def _metrics(records: Records, objectives: Iterable[str]) -> list[str]:
    found = {metric for trial in records.trials.values() if trial.stage == "evaluation" for metric in trial.metrics}
    others = sorted(found - set(objectives), key=lambda metric: (is_test(metric), metric))
    return [*objectives, *others]


def _configurations(records: Records, trials: pd.DataFrame, parameters: list[str], metrics: list[str]) -> pd.DataFrame:
    configurations = sorted(records.configurations.values(), key=lambda entry: entry.number)
    index = pd.Index([entry.number for entry in configurations], name="configuration")
    first = pd.DataFrame(
        [
            {
                "state": entry.state,
                "source": entry.source,
                **{name: entry.params.get(name) for name in parameters},
                "violation": entry.violation,
                "trials": " ".join(entry.trials),
                "reason": entry.reason,
            }
            for entry in configurations
        ],
        index,
        ["state", "source", *parameters, "violation", "trials", "reason"],
    )
    # a seed that failed beside finished ones holds a rung's numbers at best, which do not belong in the mean
    finished = trials["status"] == "finished"
    counted = trials[finished | (trials["state"] != "complete")]
    groups = counted.groupby("configuration")[metrics]
    means, stds = groups.mean().reindex(index), groups.std(ddof=1).reindex(index).rename(columns=std)
    whole = trials.groupby("configuration")
    sums = pd.DataFrame(
        {
            "seeds": finished.groupby(trials["configuration"]).sum().reindex(index, fill_value=0).astype(int),
            "seconds": whole["seconds"].sum().reindex(index, fill_value=0.0).astype(float),
            "epoch": whole["epoch"].max().reindex(index, fill_value=0).astype(int),
        }
    )
    first["reason"] = [
        own or _reasons(records, entry) for own, entry in zip(first["reason"], configurations, strict=True)
    ]
    frame = pd.concat([first.astype({"violation": float}), means, stds, sums], axis=1)
    frame = frame.copy().reset_index()  # one block a dtype: pandas warns of many columns joined one by one
    columns = ["configuration", "state", "source", "seeds", *parameters]
    columns += [name for metric in metrics for name in (metric, std(metric))]
    return frame[[*columns, "violation", "seconds", "epoch", "trials", "reason"]].copy()


def _reasons(records: Records, configuration: Configuration) -> str:
    reasons = [records.trials[id_].reason for id_ in configuration.trials if id_ in records.trials]
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))

"""Which searched parameter matters for which metric, with Optuna's evaluators on a study rebuilt from the records."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis.chart import Axis, Bars, Chart, Heat, Panel
from analysis.frames import Results, collect
from analysis.style import COLORS
from sweep.records import Records

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator
    from optuna.trial import FrozenTrial

Evaluator = Literal["ped-anova", "fanova"]
FEWEST = 10
WHICH = " (which)"
UNSURE = 30


@dataclass(frozen=True)
class Importance:
    """Shares (parameters x metrics); a column sums to 1 over the parameters that vary. `notes`: what limits them."""

    shares: pd.DataFrame
    notes: list[str]


def importance(records: Records, metrics: list[str] | None = None, evaluator: Evaluator = "ped-anova") -> Importance:
    """The importance of every searched parameter for `metrics` (default: all but those of the test split).

    PED-ANOVA (Watanabe, Bansal, Hutter 2023) says what tells the best configurations from all; fANOVA (Hutter, Hoos,
    Leyton-Brown 2014) splits the variance over the whole space. For a metric that is no objective "best" means high.
    Only complete configurations inside the space count; a conditional parameter is judged where it is active.

    Raises:
        ValueError: an unknown evaluator or metric.
    """
    if evaluator not in ("ped-anova", "fanova"):
        raise ValueError(f"evaluator '{evaluator}': must be 'ped-anova' or 'fanova'")
    results = collect(records)
    if unknown := set(metrics or []) - set(results.metrics):
        raise ValueError(f"{sorted(unknown)[0]}: no such metric in this sweep")
    return of_results(results, metrics, evaluator)


def of_results(results: Results, metrics: list[str] | None = None, evaluator: Evaluator = "ped-anova") -> Importance:
    """`importance` of records that were collected before."""
    chosen = metrics or results.shown
    varying, notes = _varying(results)
    columns = {}
    for metric in chosen:
        shares, note = _shares(results, metric, varying, evaluator)
        if shares is not None:
            columns[metric] = shares
        notes += [note] if note else []
    frame = pd.DataFrame(columns, index=pd.Index(varying, name="parameter"), dtype=float)
    if len(frame.columns):
        objectives = [metric for metric in results.objectives if metric in frame] or list(frame.columns)
        frame = frame.loc[frame[objectives].mean(axis=1).sort_values(ascending=False, kind="stable").index]
    return Importance(frame, list(dict.fromkeys(notes)))


def _varying(results: Results) -> tuple[list[str], list[str]]:
    done = results.finished
    inside = [name for name in results.parameters if name in results.space]
    varying = [name for name in inside if done[name].dropna().map(str).nunique() > 1]
    constant = [name for name in inside if name not in varying]
    return varying, [f"left out, since it never varied: {', '.join(constant)}"] if constant and len(done) > 1 else []


def _shares(results: Results, metric: str, parameters: list[str], evaluator: Evaluator) -> tuple[pd.Series | None, str]:
    done = results.finished[np.isfinite(results.finished[metric].to_numpy(float))]
    rows = [row for row in done.to_dict("records") if _in_space(results, row)]
    if len(rows) < FEWEST or not parameters:
        what = "that vary in a parameter " if not parameters else ""
        return (
            None,
            f"importance needs at least {FEWEST} complete configurations {what}inside the space; there are {len(rows)}",
        )
    if len({row[metric] for row in rows}) < 2:
        return None, f"{metric}: is the same in every configuration, so nothing is important for it"
    found = _evaluate(results, metric, rows, parameters, evaluator)
    notes = []
    if len(rows) < UNSURE:
        notes.append(f"only {len(rows)} configurations: shares below {UNSURE} configurations are a first hint")
    if len(rows) < len(done):
        notes.append(f"{len(done) - len(rows)} configurations outside the space are left out")
    total = sum(found.values())
    shares = pd.Series(found).reindex(parameters) / (total or 1.0)
    return shares, "; ".join(notes)


def _distribution(entry: dict[str, Any]) -> BaseDistribution:
    """Optuna's form of a range or choice; without the step, since points given by hand may lie between."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if entry["kind"] == "choice":
        return CategoricalDistribution([_category(value) for value in entry["values"]])
    if entry["kind"] == "int":
        return IntDistribution(int(entry["low"]), int(entry["high"]), log=bool(entry.get("log")))
    return FloatDistribution(entry["low"], entry["high"], log=bool(entry.get("log")))


def _category(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _encoded(name: str, entry: dict[str, Any], value: Any) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A parameter as Optuna's; single values beside the range (`also`) make a second one that says which it is."""
    from optuna.distributions import CategoricalDistribution

    inner = _category(value) if entry["kind"] == "choice" else int(value) if entry["kind"] == "int" else float(value)
    params, distributions = {name: inner}, {name: _distribution(entry)}
    if also := list(entry.get("also", ())):
        which = str(float(value)) if value in also else "range"
        if value in also:
            params, distributions = {}, {}
        params[name + WHICH] = which
        distributions[name + WHICH] = CategoricalDistribution(["range", *(str(float(single)) for single in also)])
    return params, distributions


def _in_space(results: Results, row: dict[str, Any]) -> bool:
    for name, entry in results.space.items():
        value = row.get(name)
        if _missing(value) or value in entry.get("also", ()):
            continue
        if entry["kind"] == "choice":
            if _category(value) not in [_category(choice) for choice in entry["values"]]:
                return False
        elif not entry["low"] <= value <= entry["high"]:
            return False
    return True


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _evaluate(
    results: Results, metric: str, rows: list[dict[str, Any]], parameters: list[str], evaluator: Evaluator
) -> dict[str, float]:
    if evaluator == "ped-anova":  # handles a conditional parameter as a parameter of its own regime
        return _optuna(results, metric, rows, parameters, evaluator)
    partial = [name for name in parameters if any(_partial(results, name, row) for row in rows)]
    always = [name for name in parameters if name not in partial]
    found = _optuna(results, metric, rows, always, evaluator) if always else {}
    for name in partial:
        active = [row for row in rows if not _partial(results, name, row)]
        if len(active) >= FEWEST:
            share = _optuna(results, metric, active, [*always, name], evaluator)[name]
            found[name] = share * len(active) / len(rows)
    return found


def _partial(results: Results, name: str, row: dict[str, Any]) -> bool:
    return _missing(row[name]) or row[name] in results.space[name].get("also", ())


def _optuna(
    results: Results, metric: str, rows: list[dict[str, Any]], parameters: list[str], evaluator: Evaluator
) -> dict[str, float]:
    import optuna

    direction: Literal["minimize", "maximize"] = "minimize" if results.directions.get(metric) == "min" else "maximize"
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials([_trial(results, row, metric, parameters) for row in rows])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few trials in a regime: said in the notes
            found = optuna.importance.get_param_importances(study, evaluator=_evaluator(evaluator, len(rows)))
    finally:
        optuna.logging.set_verbosity(level)
    return {name: found.get(name, 0.0) + found.get(name + WHICH, 0.0) for name in parameters}


def _trial(results: Results, row: dict[str, Any], metric: str, parameters: list[str]) -> FrozenTrial:
    from optuna.trial import create_trial

    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name in parameters:
        if not _missing(row[name]):
            more = _encoded(name, results.space[name], row[name])
            params.update(more[0])
            distributions.update(more[1])
    return create_trial(params=params, distributions=distributions, value=float(row[metric]))


def _evaluator(name: Evaluator, trials: int) -> BaseImportanceEvaluator:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    if name == "fanova":
        return FanovaImportanceEvaluator(seed=0)
    return PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(0.5, 5 / trials)))  # five trials above it


def chart(results: Results, evaluator: Evaluator = "ped-anova") -> Chart:
    """Bars for every objective, and a heat map over all metrics where there are more than the objectives."""
    found = of_results(results, evaluator=evaluator)
    shares, notes = found.shares, ". ".join(found.notes)
    title = f"Parameter importance ({'PED-ANOVA' if evaluator == 'ped-anova' else 'fANOVA'}, shares of 1)"
    if not len(shares.columns) or not len(shares):
        return Chart(title, [Panel(note=found.notes[-1] if found.notes else "no parameter is searched")], 1, (6, 2.6))
    if len(shares.columns) <= len(results.objectives):
        panels = [
            Panel(metric, Axis("share"), bars=Bars(list(shares.index), shares[metric].to_numpy(float), COLORS["blue"]))
            for metric in shares
        ]
        return Chart(title, panels, min(3, len(panels)), (4.4, 1.4 + 0.4 * len(shares)), footnote=notes)
    heat = Heat(shares.T.to_numpy(float), list(shares.columns), list(shares.index), 0.0, 1.0)
    size = (4.4 + 0.75 * len(shares), 2.0 + 0.36 * len(shares.columns))
    return Chart(title, [Panel(heat=heat)], 1, size, footnote=notes)

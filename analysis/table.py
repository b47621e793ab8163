"""The results of a sweep as a table, the files it can be written to, and the best of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.frames import STATES, Results, collect, is_test, matching, std, varied
from analysis.pareto import UNRANKED, front, ranks
from sweep.records import Records

By = Literal["configuration", "trial", "evaluation"]
SURE = 2.0  # standard errors; about 95 % for the difference of two means


def table(records: Records, by: By = "configuration") -> pd.DataFrame:
    """One row per configuration (mean and standard deviation over seeds), pretraining trial or evaluation.

    Objectives come first; complete rows before running, pruned and failed ones, feasible before infeasible, then by the
    objective, or by non-dominated rank (column `rank`, 0 = front) where there are several.

    Raises:
        ValueError: another `by`.
    """
    if by == "evaluation":
        return _evaluations(records)
    results = collect(records)
    if by == "trial":
        return _sorted(results, results.trials, _trial_columns(results))
    if by != "configuration":
        raise ValueError(f"by '{by}': must be configuration, trial or evaluation")
    return of_results(results)


def of_results(results: Results) -> pd.DataFrame:
    """`table` per configuration of records that were collected before."""
    frame = results.configurations
    several = frame["seeds"].max() > 1 if len(frame) else False
    others = [metric for metric in results.metrics if metric not in results.directions]
    columns = ["configuration", "state", *_with_std(results.objectives, several)]
    columns += [*results.parameters, *_with_std(others, several), "seeds", "epoch", "seconds", "source", "reason"]
    if len(results.objectives) > 1:
        frame = frame.assign(rank=_ranks(results))
        columns.insert(2, "rank")
    if frame["violation"].notna().any():
        columns.insert(2, "violation")
    return _sorted(results, frame, columns)


def _with_std(metrics: list[str], several: bool) -> list[str]:
    return [name for metric in metrics for name in ((metric, std(metric)) if several else (metric,))]


def _trial_columns(results: Results) -> list[str]:
    columns = ["configuration", "trial", "seed", "state", "status", *results.metrics[: len(results.objectives)]]
    columns += [*results.parameters, *results.metrics[len(results.objectives) :]]
    return [*columns, "epoch", "seconds", "source", "reason"]


def _ranks(results: Results) -> pd.Series:
    """Among the competing configurations; missing for the others."""
    done = results.competing
    found = ranks(done[results.objectives].to_numpy(float), list(results.directions.values()))
    return pd.Series(found, index=done.index, dtype="Int64").where(lambda rank: rank != UNRANKED)


def _sorted(results: Results, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    first = results.objectives[0]
    sign = -1.0 if results.directions[first] == "max" else 1.0
    keys = pd.DataFrame({"state": frame["state"].map({state: place for place, state in enumerate(STATES)})})
    if "violation" in frame:
        keys["violation"] = frame["violation"].clip(lower=0).fillna(0)
    if "rank" in frame:
        keys["rank"] = frame["rank"].astype(float)
    keys["value"] = frame[first].astype(float) * sign
    keys["number"] = frame["configuration"].astype(float)
    order = keys.sort_values(list(keys), kind="stable").index
    return frame.loc[order, columns].reset_index(drop=True)


def _evaluations(records: Records) -> pd.DataFrame:
    rows = []
    for trial in records.trials.values():
        if trial.stage != "evaluation":
            continue
        parent = records.trials.get(trial.parent or "")
        rows.append(
            {
                "evaluation": trial.name,
                "id": trial.id,
                "trial": trial.parent,
                "epoch": trial.epoch,
                "configuration": trial.configuration,
                "seed": parent.config.get("seed") if parent else None,
                "status": trial.status,
                **records.sampled(trial),
                **trial.metrics,
                "attempts": trial.attempts,
                "seconds": trial.seconds,
                "reason": trial.reason,
            }
        )
    frame = pd.DataFrame(rows)
    if not len(frame):
        return pd.DataFrame(columns=["evaluation", "id", "trial", "epoch", "configuration", "seed", "status"])
    last = ["attempts", "seconds", "reason"]
    frame = frame[[*(name for name in frame if name not in last), *last]]
    return frame.sort_values(["configuration", "trial", "epoch", "evaluation"], kind="stable").reset_index(drop=True)


# -- files ----------------------------------------------------------------------------------------------------------


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as .csv, .parquet, .md or .json, whole or not at all.

    Raises:
        ValueError: another ending.
    """
    writers = {".csv": _csv, ".parquet": _parquet, ".md": _markdown, ".json": _json}
    if path.suffix not in writers:
        raise ValueError(f"{path}: a table is written as {', '.join(sorted(writers))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writers[path.suffix](frame, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    """Columns of mixed kinds, such as a choice between a number and a word, become text: Parquet has one type each."""
    mixed = [name for name in frame if frame[name].dtype == object and frame[name].dropna().map(type).nunique() > 1]
    lists = [name for name in frame if frame[name].map(lambda value: isinstance(value, list | tuple | dict)).any()]
    text = {name: frame[name].map(lambda value: None if _missing(value) else _text(value)) for name in {*mixed, *lists}}
    frame.assign(**text).to_parquet(path, index=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(frame: pd.DataFrame, path: Path) -> None:
    rows = [
        {key: None if _missing(value) else _plain(value) for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
    path.write_text(json.dumps(rows, indent=1))


def _markdown(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(markdown(frame))


def markdown(frame: pd.DataFrame) -> str:
    """A table of a Markdown document; numbers with four significant digits."""
    head = [str(name).replace("|", "\\|") for name in frame]
    rows = [[cell(value).replace("|", "\\|") for value in row] for row in frame.itertuples(index=False)]
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def chosen(records: Records, patterns: Sequence[str]) -> pd.DataFrame:
    """A table as papers have it: a row per complete configuration, in the order of their numbers, of text.

    Columns are the parameters that differ, the number of seeds, and the metrics that match one of the shell `patterns`
    (`linear/*/test/top1`; `train/nce` is what training reported last) in the patterns' order, each as "mean +- standard
    deviation over seeds".

    Raises:
        ValueError: a pattern that no metric matches.
    """
    results = collect(records, patterns)
    metrics, done = matching(results, patterns), results.finished
    differ = varied(results)
    rows = [
        {
            "configuration": row["configuration"],
            **{name: cell(row[name]) for name in differ},
            "seeds": row["seeds"],
            **{metric: spread(row[metric], row[std(metric)]) for metric in metrics},
        }
        for row in done.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["configuration", *differ, "seeds", *metrics])


def spread(mean: float, deviation: float) -> str:
    """A mean with as many digits as its deviation supports: two digits of the deviation."""
    if _missing(mean) or _missing(deviation) or deviation <= 1e-9 * abs(mean):
        return cell(mean)
    digits = min(6, max(0, 1 - int(f"{deviation:.1e}".split("e")[1])))
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def cell(value: Any) -> str:
    """A value as a table for people shows it."""
    if _missing(value):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value).replace("\n", " ")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value))


# -- the best -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Best:
    """The answer of a sweep.

    Attributes:
        frame: the best configuration, or the Pareto set of several objectives: objectives with standard deviation over
            seeds, parameters, the test metrics beside them (never used for choosing), ids of the trials.
        rivals: with one objective, the configurations that the seeds' noise cannot tell from the best.
        decided: whether the best stands out of the seeds' noise; False where there is no way to know.
        notes: what limits the answer, one line each.
    """

    frame: pd.DataFrame
    rivals: pd.DataFrame
    decided: bool
    notes: list[str] = field(default_factory=list)


def best(records: Records) -> Best:
    """The best complete, feasible configuration, or the non-dominated ones for several objectives."""
    return best_of(collect(records))


def best_of(results: Results) -> Best:
    """`best` of records that were collected before."""
    done = results.competing
    if not len(done):
        return Best(_shown(results, done), _shown(results, done), False, [_nothing(results)])
    if len(results.objectives) > 1:
        return _pareto_set(results, done)
    metric, word = next(iter(results.directions.items()))
    ordered = done.sort_values(metric, ascending=word == "min", kind="stable")
    margins = (ordered[metric] - ordered[metric].iloc[0]).abs().to_numpy(float)
    error = _noise(results, metric)
    leader, others = ordered.iloc[:1], ordered.iloc[1:]
    if error is None:
        note = (
            "no winner declared: with one seed a configuration the noise between seeds is unknown; repeat with seeds: 3"
        )
        return Best(_shown(results, leader), _shown(results, others.iloc[:0]), False, [note] if len(others) else [])
    limit = SURE * error * np.sqrt(1 / ordered["seeds"].iloc[0] + 1 / ordered["seeds"].to_numpy(float))
    close = others[margins[1:] <= limit[1:]]
    notes = [_undecided(metric, leader, close, error)] if len(close) else []
    return Best(_shown(results, leader), _shown(results, close), not len(close) and len(others) > 0, notes)


def _noise(results: Results, metric: str) -> float | None:
    """The standard deviation between seeds, pooled over configurations; None where none has two seeds."""
    done = results.finished
    spread, freedom = done[std(metric)].to_numpy(float), done["seeds"].to_numpy(float) - 1
    usable = np.isfinite(spread) & (freedom > 0)
    if not usable.any():
        return None
    return float(np.sqrt((freedom[usable] * spread[usable] ** 2).sum() / freedom[usable].sum()))


def _undecided(metric: str, leader: pd.DataFrame, close: pd.DataFrame, deviation: float) -> str:
    margin = abs(float(leader[metric].iloc[0]) - float(close[metric].iloc[0]))
    seeds = int(leader["seeds"].iloc[0])
    names = ", ".join(str(number) for number in close["configuration"][:8])
    names += f" and {len(close) - 8} more" if len(close) > 8 else ""
    first = int(leader["configuration"].iloc[0])
    start = (
        f"no winner declared inside the seeds' noise: configuration {first} leads {names} by {margin:.3g} "
        f"or more on {metric}, "
        f"the standard deviation between seeds is {deviation:.3g}"
    )
    if margin == 0:
        return f"{start}; they are tied"
    needed = int(np.ceil(2 * (SURE * deviation / margin) ** 2))
    return (
        f"{start}; about {max(needed, seeds + 1)} seeds each (now {seeds}) would settle a true difference of that size"
    )


def _pareto_set(results: Results, done: pd.DataFrame) -> Best:
    words = list(results.directions.values())
    first = results.objectives[0]
    chosen = done[front(done[results.objectives].to_numpy(float), words)]
    chosen = chosen.sort_values(first, ascending=results.directions[first] == "min", kind="stable")
    notes = [f"{len(chosen)} of {len(done)} configurations are on the Pareto front"]
    known = True
    for metric in results.objectives:
        error = _noise(results, metric)
        known &= error is not None
        if error is not None:
            limit = SURE * error * np.sqrt(2 / done["seeds"].median())
            notes.append(f"differences below {limit:.3g} on {metric} are inside the seeds' noise")
    if not known:
        notes.append("with one seed a configuration the noise between seeds is unknown; repeat with seeds: 3")
    return Best(_shown(results, chosen), _shown(results, done.iloc[:0]), known, notes)


def _shown(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    several = bool(len(rows)) and rows["seeds"].max() > 1
    tests = [metric for metric in results.metrics if is_test(metric)]
    columns = ["configuration", *_with_std(results.objectives, several), *results.parameters]
    columns += [*_with_std(tests, several), "seeds", "seconds", "source", "trials"]
    return rows[columns].reset_index(drop=True)


def _nothing(results: Results) -> str:
    frame = results.configurations
    done = results.finished
    counts = ", ".join(
        f"{(frame['state'] == state).sum()} {state}" for state in STATES if (frame["state"] == state).any()
    )
    if not len(done):
        return f"no configuration is complete yet ({counts or 'none was proposed'})"
    violations = done["violation"]
    if (violations > 0).all():
        nearest = done.loc[violations.idxmin()]
        return (
            f"none of the {len(done)} complete configurations meets the constraints; the nearest is configuration "
            f"{nearest['configuration']}, outside by {nearest['violation']:.3g}"
        )
    return f"no complete, feasible configuration has a finite value of every objective ({counts})"

"""One coefficient against every downstream metric, and the training curves coloured by a coefficient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.chart import Array, Axis, Chart, Marker, Panel, Scale, Series, log_ticks, number, parameter_axis
from analysis.frames import Results, std
from analysis.style import COLORS, CYCLE
from sweep.records import OPTION

MAX_CURVES = 60
MAX_PLACES = 200
NOT_FINAL = "not final: running, pruned or failed"


def sensitivity(results: Results, parameter: str, metrics: list[str] | None = None) -> Chart:
    """One panel a metric: every seed, every configuration's mean, and their trend along the coefficient.

    Where no metrics are named: the objectives, and all of the validation split that vary.

    The trend is the mean where each value was tried by several configurations or the values are few (a grid), else a
    running median. The band is the middle half of the configurations near by, or mean +- standard deviation over
    seeds for a grid; the other coefficients vary along with this one unless the sweep held them.

    Raises:
        ValueError: a parameter that the sweep does not search.
    """
    if parameter not in results.parameters:
        raise ValueError(
            f"{parameter}: is not searched by this sweep; searched: {', '.join(results.parameters) or 'none'}"
        )
    active = results.configurations[results.configurations[parameter].notna()]
    axis, places = parameter_axis(parameter, results.space.get(parameter), list(active[parameter]))
    if axis.limits is not None:
        places = places + _jitter(len(places))
    position = dict(zip(active["configuration"], places, strict=True))
    chosen = metrics or [metric for metric in results.shown if _tells(results, metric)]
    panels = [_sensitivity_panel(results, metric, axis, position) for metric in chosen]
    when = results.space.get(parameter, {}).get("when")
    condition = f" where {', '.join(f'{key} = {value}' for key, value in when.items())}" if when else ""
    done = int((active["state"] == "complete").sum())
    note = f"{done} complete configurations{condition}; {_trend_note(axis, is_grid(results, places))}"
    return Chart(f"Sensitivity to {parameter}", panels, columns=min(3, max(1, len(panels))), footnote=note)


def _tells(results: Results, metric: str) -> bool:
    """Whether a metric is worth a panel: an objective, or one that is not constant."""
    values = results.configurations[metric]
    return metric in results.directions or values.nunique() > 1


def _jitter(count: int) -> Array:
    """Small fixed offsets that keep the points of one category apart."""
    return np.array([0.3 * ((place * 0.618) % 1.0 - 0.5) for place in range(count)])


def _trend_note(axis: Axis, grid: bool) -> str:
    if axis.limits is not None:
        return "square: mean of each value, with the standard deviation over configurations and seeds"
    if grid:
        return "line: mean of each value; band: standard deviation over configurations and seeds"
    return "line: running median over neighbouring configurations; band: their middle half"


def is_grid(results: Results, places: Array) -> bool:
    """Whether values were tried often enough for a mean each; those of a grid were meant to be."""
    if results.records.spec.get("search", {}).get("sampler") == "grid":
        return True
    different = len(np.unique(places[np.isfinite(places)]))
    return different <= 12 and (different <= 8 or len(places) >= 2 * different)


def _sensitivity_panel(results: Results, metric: str, axis: Axis, position: dict[int, float]) -> Panel:
    word = results.directions.get(metric)
    title = f"{metric} (objective, {word})" if word else metric
    rows = results.configurations.dropna(subset=[metric])
    rows = rows[rows["configuration"].isin(list(position))]
    done = rows[rows["state"] == "complete"]
    if not len(rows):
        return Panel(title, note="no value yet")
    if not len(done):  # values of shorter trainings do not compare with final ones, so they only fill the gap before
        return Panel(title, axis, Axis(), [_points(rows, metric, position, NOT_FINAL, COLORS["grey"], "x")])
    seeds = results.trials[results.trials["configuration"].isin(done["configuration"])]
    seeds = seeds[seeds["status"] == "finished"].dropna(subset=[metric])
    several = seeds["configuration"].duplicated().any()
    series = _trend(results, done, seeds, metric, axis, position)
    if several:
        series.append(_points(seeds, metric, position, "one seed", COLORS["sky"], size=9, alpha=0.75))
    series.append(_points(done, metric, position, "configuration (mean over seeds)" if several else "configuration"))
    known = done[done["configuration"].isin(results.known())]
    series.append(_points(known, metric, position, "known point", COLORS["red"], "diamond", size=44))
    return Panel(title, axis, Axis(), [one for one in series if len(one.x)])


def _points(
    frame: pd.DataFrame,
    metric: str,
    position: dict[int, float],
    label: str,
    color: str = COLORS["blue"],
    marker: Marker = "circle",
    size: float = 20,
    alpha: float = 1.0,
) -> Series:
    spread = frame[std(metric)].to_numpy(float) if std(metric) in frame and marker == "circle" else None
    return Series(
        np.array([position[number_] for number_ in frame["configuration"]]),
        frame[metric].to_numpy(float),
        label=label,
        color=color,
        marker=marker,
        size=size,
        alpha=alpha,
        error_y=spread,
        hover=[f"configuration {number_}" for number_ in frame["configuration"]],
    )


def _trend(
    results: Results, done: pd.DataFrame, seeds: pd.DataFrame, metric: str, axis: Axis, position: dict[int, float]
) -> list[Series]:
    """What the points say together; a zero beside a logarithmic range is no neighbour of it and stays out."""

    def points(frame: pd.DataFrame) -> tuple[Array, Array]:
        x = np.array([position[number_] for number_ in frame["configuration"]])
        inside = x > (axis.gap if axis.gap is not None else -np.inf)
        return x[inside], frame[metric].to_numpy(float)[inside]

    if axis.limits is not None:
        x, y = points(seeds)
        places, means, low, _ = grid_trend(np.round(x), y)
        mark = Series(places, means, "mean of the value", COLORS["orange"], "square", 46, error_y=means - low)
        return [mark]
    x, y = points(done)
    if len(x) < 3:
        return []
    grid = is_grid(results, x)
    places, middle, low, high = grid_trend(*points(seeds)) if grid else running_median(x, y)
    return [Series(places, middle, "trend", COLORS["orange"], "none", line=1.8, band=(low, high))]


def grid_trend(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Per different value of x: (value, mean, mean - std, mean + std), sorted by x."""
    values = np.unique(x)
    means = np.array([y[x == value].mean() for value in values])
    spread = np.array([y[x == value].std(ddof=1) if (x == value).sum() > 1 else 0.0 for value in values])
    return values, means, means - spread, means + spread


def running_median(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """At different x: (x, median, lower and upper quartile) of a fifth of the points around it, at least five.

    At every x, or at `MAX_PLACES` of them: more are not seen in a figure, and each costs a look at a fifth of all.
    """
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    places = np.unique(x)
    places = places[np.linspace(0, len(places) - 1, min(len(places), MAX_PLACES)).round().astype(int)]
    half = max(2, len(x) // 10)
    starts, ends = np.searchsorted(x, places, "left"), np.searchsorted(x, places, "right") - 1
    middles = (starts + ends) // 2
    windows = [
        y[max(0, min(start, middle - half)) : max(end, middle + half) + 1]
        for start, middle, end in zip(starts, middles, ends, strict=True)
    ]
    low, median, high = np.array([np.quantile(part, (0.25, 0.5, 0.75)) for part in windows]).T
    return places, median, low, high


def training(results: Results, parameter: str | None = None) -> Chart:
    """One panel a quantity that training reports, one line a trial, coloured by `parameter`.

    Default is the first that training depends on; a trial of several configurations has one line.
    """
    parameter = parameter or next((name for name in results.parameters if not name.startswith(OPTION)), None)
    every = results.trials.drop_duplicates("trial")
    trials = _thinned(every, parameter)
    histories = {row["trial"]: results.records.progress(row["trial"]) for row in trials.to_dict("records")}
    names = list(dict.fromkeys(key for history in histories.values() for entry in history for key in entry))
    names = [name for name in names if name not in ("epoch", "step", "time")]
    values = list(trials[parameter]) if parameter else [None] * len(trials)
    colors, scale = _coloring(results, parameter, values)
    panels = [_training_panel(name, trials, histories, colors) for name in names]
    if not panels:
        panels = [Panel(note="no epoch has been trained yet")]
        scale = None
    left_out = len(every) - len(trials)
    note = f"{len(trials)} of {len(every)} trials, evenly along {parameter}" if left_out else ""
    by = f", coloured by {parameter}" if parameter else ""
    return Chart(f"Training curves{by}", panels, min(3, len(panels)), scale=scale, footnote=note)


def _thinned(trials: pd.DataFrame, parameter: str | None) -> pd.DataFrame:
    if len(trials) <= MAX_CURVES:
        return trials
    ordered = trials.sort_values(parameter, key=lambda column: column.map(str)) if parameter else trials
    if parameter and pd.api.types.is_numeric_dtype(trials[parameter]):
        ordered = trials.sort_values(parameter)
    return ordered.iloc[np.linspace(0, len(ordered) - 1, MAX_CURVES).round().astype(int)]


def _coloring(results: Results, parameter: str | None, values: list[Any]) -> tuple[list[Any], Scale | None]:
    """A colour for each value: numbers on a scale, or for categories fixed colours."""
    if parameter is None or not values:
        return [COLORS["blue"]] * len(values), None
    axis, places = parameter_axis(parameter, results.space.get(parameter), values)
    if axis.limits is not None:
        return [CYCLE[int(place) % len(CYCLE)] if np.isfinite(place) else COLORS["grey"] for place in places], None
    if not np.isfinite(places).any():
        return [COLORS["grey"]] * len(values), None
    low, high = float(np.nanmin(places)), float(np.nanmax(places))
    high = high if high > low else low * 1.1 + (low == 0)
    ticks = axis.ticks or [(float(place), number(float(place))) for place in np.linspace(low, high, 5)]
    if axis.log and not axis.gap:
        ticks = log_ticks(low, high)
    return [np.array([place]) for place in places], Scale(parameter, low, high, axis.log, ticks)


def _training_panel(
    name: str, trials: pd.DataFrame, histories: dict[str, list[dict[str, float]]], colors: list[Any]
) -> Panel:
    series = []
    for row, color in zip(trials.to_dict("records"), colors, strict=True):
        points = [(entry["epoch"], entry[name]) for entry in histories[row["trial"]] if name in entry]
        if points:
            x, y = np.array(points, float).T
            hover = [f"configuration {row['configuration']}, seed {row['seed']} ({row['status']})"] * len(points)
            one = Series(x, y, "", color, "none", line=1.0, alpha=0.8, dash=row["status"] != "finished", hover=hover)
            series.append(one if len(points) > 1 else Series(x, y, "", color, size=12, hover=hover))
    return Panel(name, Axis("epoch"), Axis(), series)

"""Where metrics agree and disagree, all coordinates of a sweep at once, and several sweeps beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.chart import Array, Axis, Chart, Heat, Panel, Parallel, Scale, Series, number, parameter_axis
from analysis.frames import Results, collect, std, varied
from analysis.pareto import front, hypervolume, reference_point
from analysis.style import COLORS, CYCLE, wrapped
from sweep.records import Records

FEWEST = 4


def correlation(results: Results, metrics: list[str] | None = None) -> pd.DataFrame:
    """Spearman's rank correlation between downstream metrics over complete configurations (metrics x metrics).

    Missing where fewer than 4 configurations have both metrics, or where one never changes.
    """
    chosen = metrics or results.shown
    ordered = results.finished[chosen]
    found = pd.DataFrame(np.nan, index=chosen, columns=chosen)
    for row in chosen:
        for column in chosen:
            pair = ordered[[row, column]].dropna() if row != column else ordered[[row]].dropna()
            ranked = pair.rank()
            if len(pair) >= FEWEST and (ranked.nunique() > 1).all():
                found.loc[row, column] = 1.0 if row == column else np.corrcoef(ranked.T)[0, 1]
    return found


def disagreements(results: Results) -> list[str]:
    """One line for each pair of objectives that pull against each other (rank correlation of "better" below -0.2)."""
    signs = pd.Series({metric: 1.0 if word == "max" else -1.0 for metric, word in results.directions.items()})
    matrix = correlation(results, results.objectives).mul(signs, axis=0).mul(signs, axis=1)
    lines = []
    for place, first in enumerate(results.objectives):
        for second in results.objectives[place + 1 :]:
            value = matrix.loc[first, second]
            if value < -0.2:
                lines.append(f"{first} and {second} pull against each other (rank correlation {value:.2f})")
    return lines


def correlation_chart(results: Results) -> Chart | None:
    """The matrix as a heat map; None with fewer than two metrics."""
    matrix = correlation(results)
    if len(matrix) < 2:
        return None
    title = "Rank correlation of downstream metrics (Spearman, over complete configurations)"
    if matrix.isna().all(axis=None):
        note = f"needs at least {FEWEST} complete configurations; there are {len(results.finished)}"
        return Chart(title, [Panel(note=note)], 1, (6, 2.6))
    names = list(matrix.columns)
    heat = Heat(matrix.to_numpy(float), names, names, -1.0, 1.0, diverging=True)
    side = 2.6 + 0.55 * len(matrix)
    footnote = "; ".join(disagreements(results))
    return Chart(title, [Panel(heat=heat)], 1, (side + 1.2, side), footnote=footnote)


def parallel_chart(results: Results) -> Chart | None:
    """Parameters and objectives as parallel axes, coloured by the first objective; None without a result."""
    rows = results.finished
    if not len(rows) or not results.parameters:
        return None
    axes, columns = [], []
    for name in results.parameters:
        axis, places = parameter_axis(name, results.space.get(name), list(rows[name]))
        axis, places = _linear(axis, places)
        axes.append(axis)
        columns.append(places)
    for metric in results.objectives:
        values = rows[metric].to_numpy(float)
        axis, values = _linear(Axis(metric), values, "no value")
        axes.append(axis)
        columns.append(values)
    first = results.objectives[0]
    color = rows[first].to_numpy(float)
    if not np.isfinite(color).any():
        return None
    low, high = float(np.nanmin(color)), float(np.nanmax(color))
    scale = Scale(first, low, high if high > low else low + 1e-9)
    title = "Every complete configuration, coloured by " + first
    size = (1.35 * len(axes) + 1.5, 4.6)
    return Chart(title, [], 1, size, scale, Parallel(axes, np.column_stack(columns), color))


def _linear(axis: Axis, places: Array, absent: str = "inactive") -> tuple[Axis, Array]:
    """An axis whose positions are linear (logarithms taken), where missing values have a tick of their own below."""
    ticks = axis.ticks
    if axis.log:
        places = np.log10(places)
        ticks = [(float(np.log10(place)), text) for place, text in axis.ticks or []]
    inside = places[np.isfinite(places)]
    low, high = (float(inside.min()), float(inside.max())) if len(inside) else (0.0, 0.0)
    if ticks is None:
        evenly = np.linspace(low, high, 5 if high > low else 1)
        if len(inside) and (inside == inside.round()).all():
            evenly = np.unique(evenly.round())
        ticks = [(float(place), number(float(f"{place:.3g}"))) for place in evenly]
    if len(inside) < len(places):
        below = low - 0.15 * ((high - low) or 1.0)
        places = np.where(np.isfinite(places), places, below)
        ticks = [(below, absent), *ticks] if len(inside) else [(below, absent)]
    return Axis(axis.label, ticks=ticks), places


def configurations_chart(results: Results, metrics: list[str]) -> Chart | None:
    """One panel a metric, one line a complete configuration, with the values of its seeds; None without a result.

    A configuration is named by what differs from the others.
    """
    done = results.finished.iloc[::-1]  # the first on top
    if not len(done):
        return None
    places = {number_: float(place) for place, number_ in enumerate(done["configuration"])}
    named = zip(places.values(), labels(results, done), strict=True)
    ticks = [(place, wrapped(label, 34)) for place, label in named]
    axis = Axis(ticks=ticks, limits=(-0.6, len(done) - 0.4))
    seeds = results.trials[results.trials["configuration"].isin(places) & (results.trials["status"] == "finished")]
    panels = []
    for metric in metrics:
        one = seeds.dropna(subset=[metric])
        rows = done.dropna(subset=[metric])
        spread = rows[std(metric)].to_numpy(float)
        y = np.array([places[number_] for number_ in rows["configuration"]])
        drawn = [
            Series(rows[metric].to_numpy(float), y, "mean and deviation over seeds", COLORS["blue"], error_x=spread),
            Series(one[metric].to_numpy(float), np.array([places[n] for n in one["configuration"]]), "one seed",
                   COLORS["sky"], size=9, alpha=0.75),
        ]  # fmt: skip
        panels.append(Panel(metric, Axis(), axis, drawn))
    height = 1.0 + 0.36 * len(done)
    return Chart("Configurations beside each other", panels, min(3, len(panels)), (4.6, height))


def labels(results: Results, rows: pd.DataFrame) -> list[str]:
    """A name for each of some configurations: its number and that in which complete ones differ."""
    names = varied(results)
    return [
        f"#{row['configuration']} " + ", ".join(_said(name, row[name]) for name in names if _said(name, row[name]))
        for row in rows.to_dict("records")
    ]


def _said(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    shown = (
        " ".join(map(str, value))
        if isinstance(value, list | tuple)
        else number(value)
        if isinstance(value, float)
        else value
    )
    return f"{name.split('#')[0].rsplit('.', 1)[-1]} {shown}"


def titles(sweeps: Sequence[Records]) -> list[str]:
    """A name for each sweep, with its folder where two have the same name."""
    names = [str(records.spec["name"]) for records in sweeps]
    return [
        f"{name} ({records.directory.name})" if names.count(name) > 1 else name
        for name, records in zip(names, sweeps, strict=True)
    ]


def compare(sweeps: Sequence[Records]) -> pd.DataFrame:
    """One row a sweep: counts, cost, the best value of every shared objective, and the hypervolume of its front.

    All hypervolumes have the same reference point: the worst value of each objective over all sweeps, moved outwards
    by a tenth of the range. The column `share` is the hypervolume over that of all sweeps together.

    Raises:
        ValueError: no sweep, no shared objective, or one that has two directions.
    """
    results, directions = _together(sweeps)
    metrics, words = list(directions), list(directions.values())
    everything = np.concatenate([one.competing[metrics].to_numpy(float) for one in results])
    reference = reference_point(everything, words) if len(everything) else None
    whole = hypervolume(everything, words, reference) if reference is not None else np.nan
    rows = []
    for name, one in zip(titles(sweeps), results, strict=True):
        values = one.competing[metrics]
        volume = hypervolume(values.to_numpy(float), words, reference) if reference is not None else np.nan
        states = one.configurations["state"].value_counts()
        rows.append(
            {
                "sweep": name,
                **{
                    metric: values[metric].max() if word == "max" else values[metric].min()
                    for metric, word in directions.items()
                },
                "hypervolume": volume,
                "share": volume / whole if whole else np.nan,
                "front": int(front(values.to_numpy(float), words).sum()) if len(values) else 0,
                **{state: int(states.get(state, 0)) for state in ("complete", "pruned", "failed", "running")},
                "hours": sum(trial.seconds for trial in one.records.trials.values()) / 3600,
            }
        )
    return pd.DataFrame(rows)


def compare_chart(sweeps: Sequence[Records]) -> Chart:
    """The fronts of several sweeps in one figure, in the first two shared objectives (or the values of the only one).

    Raises:
        ValueError: as `compare`.
    """
    results, directions = _together(sweeps)
    summary = compare(sweeps)
    x, y = [*directions, ""][:2] if len(directions) > 1 else ("", next(iter(directions)))
    series = [
        part
        for place, (name, one) in enumerate(zip(titles(sweeps), results, strict=True))
        for part in _compared(
            one, directions, (x, y), name, CYCLE[place % len(CYCLE)], summary.loc[place, "hypervolume"]
        )
    ]
    x_axis = Axis(wrapped(f"{x} ({directions[x]})", 50)) if x else Axis("configuration")
    panel = Panel("", x_axis, Axis(wrapped(f"{y} ({directions[y]})", 36)), series)
    if not series:
        panel = Panel(note="no sweep has a complete, feasible configuration yet")
    return Chart(
        f"{len(results)} sweeps compared", [panel], 1, (7.5, 5), footnote="HV: hypervolume to a common reference point"
    )


def _together(sweeps: Sequence[Records]) -> tuple[list[Results], dict[str, str]]:
    if not sweeps:
        raise ValueError("no sweep to compare; name at least one")
    results = [collect(records) for records in sweeps]
    shared = [metric for metric in results[0].objectives if all(metric in one.directions for one in results)]
    if not shared:
        own = "; ".join(
            f"{name}: {', '.join(one.objectives)}" for name, one in zip(titles(sweeps), results, strict=True)
        )
        raise ValueError(f"the sweeps share no objective ({own})")
    for metric in shared:
        if len({one.directions[metric] for one in results}) > 1:
            raise ValueError(f"{metric}: one sweep maximises it and another minimises it, so they do not compare")
    return results, {metric: results[0].directions[metric] for metric in shared}


def _compared(
    one: Results, directions: dict[str, str], axes: tuple[str, str], name: str, color: str, volume: Any
) -> list[Series]:
    x, y = axes
    done = one.competing
    if not len(done):
        return []
    xs = done[x].to_numpy(float) if x else done["configuration"].to_numpy(float)
    on_front = front(done[list(directions)].to_numpy(float), list(directions.values()))
    rest = np.flatnonzero(~on_front)
    order = np.flatnonzero(on_front)[np.argsort(xs[on_front])]
    ys = done[y].to_numpy(float)
    steps = "" if len(directions) != 2 else "pre" if directions[x] == "max" else "post"
    hover = [f"{name}, configuration {number_}" for number_ in done["configuration"]]
    errors = done[std(y)].to_numpy(float)
    return [
        Series(xs[rest], ys[rest], color=color, size=16, alpha=0.35, hover=[hover[i] for i in rest]),
        Series(
            xs[order], ys[order], f"{name} (HV {volume:.4g})", color, size=44, line=1.4 if steps else 0.0, steps=steps,
            error_y=errors[order], hover=[hover[i] for i in order],
        ),
    ]  # fmt: skip


def best_so_far(results: Results) -> Chart:
    """How the search went: value (or hypervolume, with several objectives) of the best found so far."""
    done = results.competing
    words = list(results.directions.values())
    if not len(done):
        return Chart("Progress of the search", [Panel(note="no complete, feasible configuration yet")], 1, (6.5, 2.6))
    numbers, values = done["configuration"].to_numpy(float), done[results.objectives].to_numpy(float)
    if len(words) > 1:
        reference = reference_point(values, words)
        volumes = _volumes(values, words, reference)
        line = Series(
            numbers, volumes, "hypervolume of the front so far", COLORS["orange"], "circle", 14, 1.6, steps="post"
        )
        return Chart(
            "Progress of the search", [Panel("", Axis("configuration"), Axis("hypervolume"), [line])], 1, (6.5, 3.4)
        )
    metric = results.objectives[0]
    best = np.maximum.accumulate(values[:, 0]) if words[0] == "max" else np.minimum.accumulate(values[:, 0])
    series = [
        Series(numbers, values[:, 0], "configuration", COLORS["blue"], error_y=done[std(metric)].to_numpy(float)),
        Series(numbers, best, "best so far", COLORS["orange"], "none", line=1.8, steps="post"),
    ]
    panel = Panel("", Axis("configuration"), Axis(wrapped(f"{metric} ({words[0]})", 30)), series)
    return Chart("Progress of the search", [panel], 1, (6.5, 3.4))


def _volumes(values: Array, words: list[str], reference: Array) -> Array:
    """The hypervolume after every point; computed anew only where a point joins the front."""
    best = np.empty((0, len(words)))
    volumes: list[float] = []
    for point in values:
        together = np.vstack([best, point])
        on_front = front(together, words)
        if on_front[-1] or not volumes:
            best = together[on_front]
            volumes.append(hypervolume(best, words, reference))
        else:
            volumes.append(volumes[-1])
    return np.array(volumes)

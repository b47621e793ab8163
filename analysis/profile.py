"""Four axes of a representation: of configurations beside each other, and against what was searched.

Axes are metrics of the evaluation `profile`, whose module says how they are made of the results of five others:
informativeness, equivariance of parameters and of features, invariance, disentanglement, each in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.chart import Axis, Chart, Marker, Panel, Series, parameter_axis
from analysis.compare import labels
from analysis.curves import grid_trend, is_grid, running_median
from analysis.frames import PROFILE, PROFILED, Results, profiles, std
from analysis.style import COLORS, CYCLE, wrapped
from analysis.table import best_of

CHANCE = "invariance_chance"
NOTHING = "features that say nothing"
MOST = len(CYCLE)  # configurations that colours tell apart
LIMITS = (-0.04, 1.06)


def charts(results: Results) -> dict[str, Chart]:
    """`profile`, and `profile-PARAMETER` of each that was varied; none where no configuration has a profile."""
    rows = results.finished
    places = _places(results)
    if not places or not len(rows):
        return {}
    found = {PROFILE: configurations(results, places)}
    for name in results.parameters:
        if rows[name].dropna().map(str).nunique() > 1:
            found[f"{PROFILE}-{name}"] = against(results, name, places)
    return found


def _places(results: Results) -> list[str]:
    """`KEY/PART/val` of every profile."""
    keys = profiles(results.records)
    found = (metric.rpartition("/") for metric in results.metrics if metric.split("/")[0] in keys)
    return list(dict.fromkeys(place for place, _, name in found if name == CHANCE and place.endswith("/val")))


def _title(place: str, places: list[str]) -> str:
    """The part, with the evaluation's key where there are several."""
    key, part, _ = place.split("/", 2)
    return part if len({one.split("/")[0] for one in places}) == 1 else f"{key}: {part}"


def configurations(results: Results, places: list[str]) -> Chart:
    """A panel for each part, a line over the axes for each configuration; of many the best ones."""
    rows = results.finished
    best = best_of(results).frame
    first = list(best["configuration"]) if len(best) else []
    order = [*first, *(number for number in rows["configuration"] if number not in first)][:MOST]
    chosen = rows[rows["configuration"].isin(order)]
    named = [wrapped(label, 40) for label in labels(results, chosen)]
    panels = []
    for place in places:
        series = [_nothing(chosen, place)]
        for number, (label, (_, row)) in enumerate(zip(named, chosen.iterrows(), strict=True)):
            x = np.arange(len(PROFILED), dtype=np.float64)
            x += 0.08 * (number - (len(chosen) - 1) / 2)
            metrics = [f"{place}/{axis}" for axis in PROFILED]
            spread = row[[std(metric) for metric in metrics]].to_numpy(float)
            y = row[metrics].to_numpy(float)
            series.append(Series(x, y, label, CYCLE[number], size=26, line=1.0, alpha=0.9, error_y=spread))
        ticks = [(float(at), name.replace("_", "\n")) for at, name in enumerate(PROFILED)]
        x_axis = Axis(ticks=ticks, limits=(-0.5, len(PROFILED) - 0.5))
        panels.append(Panel(_title(place, places), x_axis, Axis("share", limits=LIMITS), series))
    shown = f"{len(chosen)} of {len(rows)} configurations, the best first; " if len(chosen) < len(rows) else ""
    note = f"{shown}means over seeds with standard deviations, split val"
    return Chart("Profile: four axes of each part", panels, min(3, len(panels)), (4.8, 3.1), footnote=note)


def _nothing(rows: pd.DataFrame, place: str) -> Series:
    """What every axis is of features that say nothing; of invariance the mean chance of the rows."""
    levels = np.array([0.0, 0.0, 0.0, float(rows[f"{place}/{CHANCE}"].mean()), 1.0])
    return Series(np.arange(len(PROFILED), dtype=float), levels, NOTHING, COLORS["grey"], "x", size=40)


def against(results: Results, parameter: str, places: list[str]) -> Chart:
    """A panel for each part, a colour for each axis, along a parameter."""
    rows = results.finished[results.finished[parameter].notna()]
    axis, at = parameter_axis(parameter, results.space.get(parameter), list(rows[parameter]))
    panels = []
    for place in places:
        series = []
        for number, name in [(len(PROFILED), CHANCE), *enumerate(PROFILED)]:
            y = rows[f"{place}/{name}"].to_numpy(float)
            color = COLORS["grey"] if name == CHANCE else CYCLE[number]
            spread = rows[std(f"{place}/{name}")].to_numpy(float)
            marker: Marker = "x" if name == CHANCE else "circle"
            points = Series(at, y, name.replace("_", " "), color, marker, size=16, alpha=0.8, error_y=spread)
            apart = 0.1 * (number - len(PROFILED) / 2)  # of categories
            series += _of_categories(points, apart) if axis.limits is not None else _along(results, axis, points)
        panels.append(Panel(_title(place, places), axis, Axis("share", limits=LIMITS), series))
    trend = "line: mean of each value" if is_grid(results, at) else "line: running median"
    trend = "square: mean of each value" if axis.limits is not None else trend
    note = f"{len(rows)} configurations, split val; {trend}; grey: cosine of different items"
    return Chart(f"Profile along {parameter}", panels, min(3, len(panels)), (4.6, 3.1), footnote=note)


def _of_categories(points: Series, apart: float) -> list[Series]:
    """Points beside those of other axes, with the mean of each category."""
    there = np.isfinite(points.x) & np.isfinite(points.y)
    x, means, *_ = grid_trend(points.x[there], points.y[there])
    return [
        replace(points, x=points.x + apart, size=12, alpha=0.5, label=""),
        Series(x + apart, means, points.label, points.color, "square", 34),
    ]


def _along(results: Results, axis: Axis, points: Series) -> list[Series]:
    """Points and their trend; a value beside a logarithmic range has no part in it."""
    x, y = points.x, points.y
    inside = np.isfinite(x) & np.isfinite(y) & (x > (axis.gap if axis.gap is not None else -np.inf))
    if inside.sum() < 2:
        return [points]
    x, middle, *_ = (grid_trend if is_grid(results, x) else running_median)(x[inside], y[inside])
    return [points, Series(x, middle, color=points.color, marker="none", line=1.6, dash=points.color == COLORS["grey"])]

"""Several objectives at once: non-dominated ranks, front, knee and hypervolume, and the figure of the front.

Values are arrays (n, k) of n points under k objectives; directions are k words, "max" or "min". A row with a missing
value is dominated by everything and belongs to no front.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.chart import Axis, Chart, Marker, Panel, Series
from analysis.frames import Results, std
from analysis.style import COLORS, wrapped

Array = NDArray[np.float64]
UNRANKED = -1


def costs(values: Array, directions: Sequence[str]) -> Array:
    """The values with every objective turned so that lower is better, (n, k).

    Raises:
        ValueError: a direction that is neither "max" nor "min", or one too many or too few.
    """
    values = np.asarray(values, float).reshape(-1, len(directions))
    if wrong := set(directions) - {"max", "min"}:
        raise ValueError(f"direction {sorted(wrong)[0]!r}: must be 'max' or 'min'")
    return values * np.where(np.array(directions) == "max", -1.0, 1.0)


def ranks(values: Array, directions: Sequence[str]) -> NDArray[np.int64]:
    """Non-dominated rank of every point (Deb et al. 2002, NSGA-II): 0 = front; -1 where a value is missing."""
    points = costs(values, directions)
    rank = np.full(len(points), UNRANKED, np.int64)
    left = np.flatnonzero(np.isfinite(points).all(axis=1))
    level = 0
    while len(left):
        dominated = _dominated(points[left])
        rank[left[~dominated]] = level
        left, level = left[dominated], level + 1
    return rank


def front(values: Array, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Which points no other point dominates."""
    points = costs(values, directions)
    on_front = np.zeros(len(points), bool)
    complete = np.flatnonzero(np.isfinite(points).all(axis=1))
    on_front[complete] = ~_dominated(points[complete])
    return on_front


def _dominated(points: Array) -> NDArray[np.bool_]:
    """Which rows of costs (n, k) another row is no worse than everywhere and better than somewhere."""
    found = np.zeros(len(points), bool)
    for column, point in enumerate(points):  # a row at a time: n x n x k would not fit for large sweeps
        found[column] = ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    return found


def reference_point(values: Array, directions: Sequence[str]) -> Array:
    """The worst value of every objective, moved outwards by a tenth of its range, so that extreme points count, (k,).

    Raises:
        ValueError: no point without missing values.
    """
    points = costs(values, directions)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError("no point with a finite value of every objective, so there is no reference point")
    worst, extent = points.max(axis=0), np.ptp(points, axis=0)
    return costs((worst + 0.1 * np.where(extent > 0, extent, 1.0))[None], directions)[0]


def hypervolume(values: Array, directions: Sequence[str], reference: Array) -> float:
    """The volume that the points dominate, bounded by `reference` (k,); exact for every k, in the objectives' units."""
    bound = costs(np.asarray(reference, float)[None], directions)[0]
    points = costs(values, directions)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[(points < bound).all(axis=1)]
    return _volume(points, bound)


def _volume(points: Array, bound: Array) -> float:
    """Of costs (n, k) below `bound` (k,): cut into slices along the last objective, whose cross-section is constant."""
    if not len(points):
        return 0.0
    if len(bound) == 1:
        return float(bound[0] - points[:, 0].min())
    points = points[~_dominated(points)]
    points = points[np.argsort(points[:, -1], kind="stable")]
    tops = np.append(points[1:, -1], bound[-1])
    heights = tops - points[:, -1]
    if len(bound) == 2:  # along a front of two objectives the best so far is the last
        return float((heights * (bound[0] - np.minimum.accumulate(points[:, 0]))).sum())
    return sum(
        float(height) * _volume(points[: index + 1, :-1], bound[:-1]) for index, height in enumerate(heights) if height
    )


def knee(values: Array, directions: Sequence[str]) -> int | None:
    """The index of the best compromise: after scaling the front to [0, 1], the smallest sum of costs.

    With two objectives this is the point farthest from the line between the two ends of the front (Das 1999). None if
    the front has fewer than three points.
    """
    on_front = np.flatnonzero(front(values, directions))
    if len(on_front) < 3:
        return None
    points = costs(values, directions)[on_front]
    extent = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    return int(on_front[scaled.sum(axis=1).argmin()])


def chart(results: Results) -> Chart | None:
    """The front in every pair of objectives; None with fewer than two objectives."""
    if len(results.objectives) < 2:
        return None
    pairs = list(combinations(results.objectives, 2))
    panels = [_panel(results, x, y) for x, y in pairs]
    directions = ", ".join(f"{metric} ({word})" for metric, word in results.directions.items())
    return Chart(
        f"Pareto front of {directions}",
        panels,
        columns=min(len(panels), 3),
        size=(6.4, 4.8) if len(panels) == 1 else (5.0, 4.3),
    )


def _panel(results: Results, x: str, y: str) -> Panel:
    parts = [*_competing(results, x, y), _others(results, x, y)]
    series = [part for part in parts if len(part.x)]
    empty = "" if series else "no configuration with both objectives yet"
    return Panel("", Axis(_better(results, x)), Axis(_better(results, y)), series, note=empty)


def _better(results: Results, metric: str) -> str:
    return wrapped(f"{metric} ({'higher' if results.directions[metric] == 'max' else 'lower'} is better)", 38)


def _others(results: Results, x: str, y: str) -> Series:
    """Infeasible points; while nothing competes, also values of trainings that are not over or were stopped."""
    rest = (results.finished if len(results.competing) else results.configurations).drop(results.competing.index)
    rest = rest.dropna(subset=[x, y])
    return Series(
        rest[x].to_numpy(float),
        rest[y].to_numpy(float),
        label="infeasible" if len(results.competing) else "infeasible or not final",
        color=COLORS["grey"],
        marker="x",
        hover=_hover(results, rest),
    )


def _competing(results: Results, x: str, y: str) -> list[Series]:
    done = results.competing
    words = list(results.directions.values())
    values = done[results.objectives].to_numpy(float)
    on_front = front(values, words)
    best = done[on_front].sort_values(x)
    middle = knee(values, words)
    # where dominated values end: a maximised x is reached by the next point, a minimised one by the last
    steps = ("pre" if results.directions[x] == "max" else "post") if len(words) == 2 else ""
    known = done[done["configuration"].isin(results.known())]
    parts: list[tuple[str, pd.DataFrame, str, Marker, float]] = [
        ("dominated", done[~on_front], COLORS["sky"], "circle", 28),
        ("front", best, COLORS["orange"], "circle", 46),
        ("known point", known, COLORS["black"], "ring", 90),
        ("knee", done.iloc[[middle]] if middle is not None else done.iloc[:0], COLORS["purple"], "star", 150),
    ]
    return [
        Series(
            frame[x].to_numpy(float),
            frame[y].to_numpy(float),
            label=label,
            color=color,
            marker=marker,
            size=size,
            line=1.3 if steps and label == "front" else 0.0,
            steps=steps,
            error_x=frame[std(x)].to_numpy(float) if label == "front" else None,
            error_y=frame[std(y)].to_numpy(float) if label == "front" else None,
            hover=_hover(results, frame),
            tags=[f"{number}" for number in frame["configuration"]] if label == "front" and len(frame) <= 15 else None,
        )
        for label, frame, color, marker, size in parts
    ]


def _hover(results: Results, frame: pd.DataFrame) -> list[str]:
    return [
        "<br>".join(
            [f"configuration {row['configuration']} ({row['state']})"]
            + [f"{name} = {row[name]}" for name in results.parameters if row[name] is not None]
        )
        for row in frame.to_dict("records")
    ]

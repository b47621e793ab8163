"""The stopping rules: pure functions of the downstream values that configurations reached at one rung.

Values of several objectives are reduced to a rank first: the number of the non-dominated front (Deb et al. 2002), ties
broken by the larger crowding distance. One objective is the special case in which the fronts are the sorted values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweep.spec import Stopping


def judge(
    rule: Stopping, share: float, values: Sequence[float], others: Sequence[Sequence[float]], directions: Sequence[str]
) -> tuple[str, str]:
    """("go" | "stop", reason) for a configuration with `values` at a rung that `others` reached before.

    Args:
        share: of the training at which the rung stands; rungs before `rule.grace` never stop.
        directions: "max" or "min" of each objective.
    """
    if rule.rule == "none" or share < rule.grace or len(others) + 1 < rule.min_trials:
        return "go", ""
    place = ranks([*others, values], directions)[-1]
    total = len(others) + 1
    if rule.rule == "asha":
        keep = max(1, math.floor(total / rule.reduction))
        if place < keep:
            return "go", ""
        return "stop", f"asha: place {place + 1} of {total} at this rung, the best {keep} go on"
    if place <= (total - 1) / 2:
        return "go", ""
    return "stop", f"median: place {place + 1} of {total} at this rung is in the worse half"


def ranks(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """The place of each point, 0 = best; the later of two equal points comes after the earlier."""
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    costs = np.asarray(points, dtype=float) * signs
    costs = np.where(np.isfinite(costs), costs, np.inf)
    fronts = _fronts(costs)
    crowding = np.zeros(len(costs))
    for front in range(int(fronts.max()) + 1):
        members = np.flatnonzero(fronts == front)
        crowding[members] = _crowding(costs[members])
    order = sorted(range(len(costs)), key=lambda i: (fronts[i], -crowding[i], i))
    places = [0] * len(order)
    for place, index in enumerate(order):
        places[index] = place
    return places


def _fronts(costs: np.ndarray) -> np.ndarray:
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(-1)
    better = (costs[:, None, :] < costs[None, :, :]).any(-1)
    dominates = no_worse & better
    fronts = np.full(len(costs), -1)
    front = 0
    while (fronts < 0).any():
        left = fronts < 0
        free = left & ~(dominates & left[:, None]).any(0)
        fronts[free] = front
        front += 1
    return fronts


def _crowding(costs: np.ndarray) -> np.ndarray:
    """Distances to the neighbours of a front; equal points count once, else the last of them would be an end of it."""
    points, which = np.unique(costs, axis=0, return_inverse=True)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        low, high = column[order[0]], column[order[-1]]
        distance[order[[0, -1]]] = np.inf
        if len(points) > 2 and np.isfinite([low, high]).all() and high > low:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / (high - low)
    crowding: np.ndarray = distance[which.reshape(-1)]
    return crowding

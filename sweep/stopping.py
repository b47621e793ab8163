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
    if len(directions) == 1:
        order = np.argsort(costs[:, 0], kind="stable")
    else:
        fronts, crowding = _fronts(costs), np.zeros(len(costs))
        for front in range(int(fronts.max()) + 1):
            members = np.flatnonzero(fronts == front)
            crowding[members] = _crowding(costs[members])
        order = np.lexsort((-crowding, fronts))  # stable too
    places = np.empty(len(order), dtype=int)
    places[order] = np.arange(len(order))
    return [int(place) for place in places]


def _fronts(costs: np.ndarray) -> np.ndarray:
    """Number of the front of each point by counts of its dominators (Deb et al. 2002), O(n^2) in time and memory."""
    no_worse = np.ones((len(costs), len(costs)), dtype=bool)
    for column in costs.T:
        no_worse &= column[:, None] <= column
    dominates = no_worse & ~no_worse.T  # no worse anywhere, and better somewhere
    dominators = dominates.sum(0)
    fronts, number = np.zeros(len(costs), dtype=int), 0
    while (free := np.flatnonzero(dominators == 0)).size:
        fronts[free] = number
        dominators -= dominates[free].sum(0)
        dominators[free] = -1
        number += 1
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

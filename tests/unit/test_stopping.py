"""The stopping rules, against their definitions."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.spec import Stopping
from sweep.stopping import _fronts, judge, ranks

UP, DOWN = ["max"], ["min"]
ASHA = Stopping(rule="asha", reduction=3, min_trials=4)
MEDIAN = Stopping(rule="median", min_trials=3)


def ones(*values: float) -> list[list[float]]:
    return [[value] for value in values]


def test_no_rule_stops_nothing() -> None:
    assert judge(Stopping(), 0.5, [0.0], ones(1, 2, 3, 4, 5), UP) == ("go", "")


def test_no_rule_judges_before_enough_have_come_or_within_the_grace() -> None:
    assert judge(ASHA, 0.5, [0.0], ones(1, 2), UP)[0] == "go"
    assert judge(ASHA, 0.5, [0.0], ones(1, 2, 3), UP)[0] == "stop"
    grace = Stopping(rule="asha", min_trials=1, grace=0.3)
    assert judge(grace, 0.2, [0.0], ones(1, 2, 3), UP)[0] == "go"
    assert judge(grace, 0.3, [0.0], ones(1, 2, 3), UP)[0] == "stop"


def test_asha_keeps_the_best_third() -> None:
    others = ones(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # with the judged one 9, of which 3 go on
    assert judge(ASHA, 0.5, [0.65], others, UP) == ("go", "")
    verdict, reason = judge(ASHA, 0.5, [0.55], others, UP)
    assert verdict == "stop"
    assert reason == "asha: place 4 of 9 at this rung, the best 3 go on"
    assert judge(ASHA, 0.5, [0.25], others, DOWN)[0] == "go"
    assert judge(ASHA, 0.5, [0.35], others, DOWN)[0] == "stop"


def test_asha_always_keeps_the_best_one() -> None:
    assert judge(Stopping(rule="asha", reduction=100, min_trials=1), 0.5, [9.0], ones(1, 2), UP)[0] == "go"
    assert judge(Stopping(rule="asha", reduction=100, min_trials=1), 0.5, [9.0], [], UP)[0] == "go"


@pytest.mark.parametrize(("value", "verdict"), [(0.9, "go"), (0.5, "go"), (0.45, "go"), (0.35, "stop"), (0.1, "stop")])
def test_median_stops_the_worse_half(value: float, verdict: str) -> None:
    assert judge(MEDIAN, 0.5, [value], ones(0.2, 0.4, 0.5, 0.8), UP)[0] == verdict


def test_the_later_of_two_equals_is_the_worse() -> None:
    assert ranks(ones(1, 1, 1), UP) == [0, 1, 2]
    assert ranks([[2, 1], [1, 2], [2, 1], [1, 2], [2, 1]], ["max", "max"]) == [0, 1, 2, 3, 4]
    assert judge(ASHA, 0.5, [0.1], ones(0.1, 0.1, 0.1, 0.1, 0.1), UP)[0] == "stop", "at chance like all before it"
    assert judge(Stopping(rule="asha", reduction=2, min_trials=2), 0.5, [1.0], ones(1), UP)[0] == "stop"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("directions", [UP, DOWN])
def test_what_is_not_finite_is_last(bad: float, directions: list[str]) -> None:
    assert ranks(ones(1, bad, 2), directions)[1] == 2


def test_two_objectives_are_ranked_by_fronts() -> None:
    points = [[1, 4], [4, 1], [2, 2], [1, 1], [0, 0]]  # both up: the first three are the front
    places = ranks(points, ["max", "max"])
    assert set(places[:3]) == {0, 1, 2}
    assert places[3:] == [3, 4]
    assert ranks(points, ["min", "min"])[4] == 0
    assert ranks([[1, 1], [2, 0]], ["max", "min"]) == [1, 0]


def test_ends_of_a_front_come_before_its_crowd() -> None:
    points = [[0.0, 10.0], [5.0, 5.0], [5.1, 4.9], [5.2, 4.8], [10.0, 0.0]]
    places = ranks(points, ["max", "max"])
    assert {places[0], places[4]} == {0, 1}
    assert places[2] == 4, "the most crowded comes last"


def test_two_objectives_stop_the_dominated() -> None:
    others = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.6]]
    rule = Stopping(rule="asha", reduction=2, min_trials=4)
    assert judge(rule, 0.5, [0.2, 0.2], others, ["max", "max"])[0] == "stop"
    assert judge(rule, 0.5, [0.95, 0.95], others, ["max", "max"])[0] == "go"


values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


@given(values)
def test_one_objective_is_sorting(numbers: list[float]) -> None:
    places = ranks(ones(*numbers), DOWN)
    assert sorted(places) == list(range(len(numbers)))
    assert [numbers[places.index(place)] for place in range(len(numbers))] == sorted(numbers)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_a_dominated_point_never_comes_before_its_dominator(points: list[tuple[int, int]]) -> None:
    places = ranks(points, ["max", "min"])
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            if a != b and a[0] >= b[0] and a[1] <= b[1]:
                assert places[i] < places[j]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=14))
def test_fronts_are_peeled_off_one_after_another(points: list[tuple[int, int, int]]) -> None:
    """Each front is what nothing of the rest dominates (all down)."""
    found, left, number = _fronts(np.array(points, dtype=float)).tolist(), set(range(len(points))), 0

    def dominated(i: int) -> bool:
        return any(points[j] != points[i] and all(map(operator.le, points[j], points[i])) for j in left)

    while left:
        free = {i for i in left if not dominated(i)}
        assert {i for i in left if found[i] == number} == free
        left -= free
        number += 1

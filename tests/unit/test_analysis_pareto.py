"""Ranks, fronts, knees and hypervolumes against values worked out by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.pareto import front, hypervolume, knee, ranks, reference_point

MAX2 = ["max", "max"]


def test_ranks_by_hand_with_a_missing_value_and_a_twin() -> None:
    values = np.array([[1, 5], [2, 4], [2, 4], [1, 4], [0, 0], [np.nan, 9]], float)
    assert ranks(values, MAX2).tolist() == [0, 0, 0, 1, 2, -1]
    assert front(values, MAX2).tolist() == [True, True, True, False, False, False]


def test_directions_turn_the_front_around() -> None:
    values = np.array([[1, 1], [2, 2], [3, 3]], float)
    assert front(values, ["max", "max"]).tolist() == [False, False, True]
    assert front(values, ["min", "min"]).tolist() == [True, False, False]
    assert front(values, ["max", "min"]).all()


@pytest.mark.parametrize("directions", [["higher"], ["max", "up"]])
def test_a_wrong_direction_is_named(directions: list[str]) -> None:
    with pytest.raises(ValueError, match="must be 'max' or 'min'"):
        ranks(np.ones((2, len(directions))), directions)


def test_no_points_have_no_front_and_no_volume() -> None:
    empty = np.empty((0, 2))
    assert ranks(empty, MAX2).shape == (0,)
    assert hypervolume(empty, MAX2, np.zeros(2)) == 0
    with pytest.raises(ValueError, match="no reference point"):
        reference_point(empty, MAX2)


def test_hypervolume_of_two_objectives_by_hand() -> None:
    values = np.array([[1, 3], [2, 2], [3, 1], [1, 1], [-1, 9], [np.nan, 5]], float)
    assert hypervolume(values, MAX2, np.zeros(2)) == pytest.approx(6)
    assert hypervolume(-values, ["min", "min"], np.zeros(2)) == pytest.approx(6)
    assert hypervolume(values * [1, -1], ["max", "min"], np.zeros(2)) == pytest.approx(6)


def test_hypervolume_of_one_and_three_objectives_by_hand() -> None:
    assert hypervolume(np.array([[2.0], [5.0]]), ["max"], np.array([1.0])) == pytest.approx(4)
    boxes = np.array([[2, 2, 1], [1, 1, 2]], float)
    assert hypervolume(boxes, ["max"] * 3, np.zeros(3)) == pytest.approx(4 + 2 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=8), st.integers(1, 3))
def test_hypervolume_counts_the_dominated_unit_cells(points: list[tuple[int, ...]], k: int) -> None:
    values = np.array(points, float)[:, :k]
    cells = np.stack(np.meshgrid(*[np.arange(6)] * k), axis=-1).reshape(-1, k)
    dominated = sum(bool((cell < values).all(axis=1).any()) for cell in cells)
    assert hypervolume(values, ["max"] * k, np.zeros(k)) == pytest.approx(float(dominated))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_a_rank_is_one_more_than_the_worst_that_dominates(points: list[tuple[int, int]]) -> None:
    values = np.array(points, float)
    found = ranks(values, ["max", "min"])
    turned = values * [1, -1]
    for place, point in enumerate(turned):
        above = (turned >= point).all(axis=1) & (turned > point).any(axis=1)
        assert found[place] == (found[above].max() + 1 if above.any() else 0)


def test_the_knee_is_the_balanced_point_whatever_the_units() -> None:
    values = np.array([[0, 1], [0.8, 0.8], [1, 0], [0.1, 0.1]], float)
    assert knee(values, MAX2) == 1
    assert knee(values * [1000, 0.001], MAX2) == 1
    assert knee(values[:2], MAX2) is None


def test_the_reference_point_lies_a_tenth_of_the_range_beyond_the_worst() -> None:
    values = np.array([[0, 10], [1, 20], [np.nan, 90]], float)
    assert reference_point(values, ["max", "min"]) == pytest.approx([-0.1, 21])

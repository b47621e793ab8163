"""The search space: dimensions, conditions, grids, ends, points given by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets.config import ConfigError
from sweep.space import (
    Choice,
    Dimension,
    Float,
    Int,
    Space,
    active,
    check_point,
    corner_points,
    describe,
    every_point,
    grid,
    in_order,
)

CONDITIONAL: Space = {
    "kappa": Float(0.5, 30, log=True, when={"target": "vm"}),
    "sharp": Choice([True, False], when={"kappa": 0.5}),
    "target": Choice(["ga", "vm", "js"]),
    "sigma": Float(0.07, 0.5, when={"target": ["ga", "js"]}),
}


def test_short_forms_are_the_long_ones() -> None:
    assert Dimension.model_validate({"float": [1, 2], "log": True}) == Float(1, 2, log=True)
    assert Dimension.model_validate({"int": [1, 2]}) == Int(1, 2)
    assert Dimension.model_validate({"choice": [1, [2, 3]]}) == Choice([1, [2, 3]])
    assert Dimension.model_validate(Float(1, 2, also=(0,)).dump()) == Float(1, 2, also=(0,))


@pytest.mark.parametrize(
    "values",
    [
        {"float": [2, 1]}, {"float": [1, 1]}, {"float": [1]}, {"float": [0, 1], "log": True}, {"int": [1.5, 3]},
        {"float": [1, math.inf]}, {"float": [math.nan, 1]}, {"float": [1, 2], "log": True, "step": 1}, {"choice": []},
        {"choice": [1, 1]}, {"choice": [[1], [1]]}, {"choice": "ab"}, {"float": [1, 2], "step": 0}, {"kind": "float"},
        {"float": [1, 2], "points": 1}, {"text": [1, 2]},
        {"int": [1, math.inf]}, {"int": [-math.inf, 3]}, {"int": [math.nan, 3]}, {"float": [1, 2], "step": math.inf},
        {"float": [1, 2], "also": [math.nan]}, {"int": [1, 2], "also": [math.inf]},
    ],
)  # fmt: skip
def test_what_cannot_be_a_dimension(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dimension.model_validate(values)


def test_one_and_true_and_a_list_are_different_choices() -> None:
    dimension = Choice([1, True, "1", [1], None])
    assert all(dimension.contains(value) for value in (1, True, "1", [1], (1,), None))
    assert not dimension.contains(False)


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Float(1, 10, log=True), [1, 10, 3.3], [0.99, 10.01, "3", True, None, math.nan]),
        (Float(1, 10, log=True, also=(0, -1)), [0, -1, 5], [0.5]),
        (Int(2, 9), [2, 9, 4.0], [2.5, 1, 10, math.inf, -math.inf, math.nan, 10**400]),
    ],
)
def test_contains(dimension: Dimension, inside: list[Any], outside: list[Any]) -> None:
    assert all(dimension.contains(value) for value in inside)
    assert not any(dimension.contains(value) for value in outside)


def test_grid_values() -> None:
    assert Float(1, 10000, log=True, points=5).grid() == pytest.approx([1, 10, 100, 1000, 10000])
    assert Float(0, 1, step=0.25).grid() == [0, 0.25, 0.5, 0.75, 1]
    assert Float(0, 1, step=0.3).grid() == pytest.approx([0, 0.3, 0.6, 0.9])
    assert Float(1, 3, points=3, also=(0,)).grid() == [0, 1, 2, 3]
    assert Int(1, 4).grid() == [1, 2, 3, 4]
    assert Int(1, 16, log=True, points=5).grid() == [1, 2, 4, 8, 16]
    assert Int(1, 3, log=True, points=5).grid() == [1, 2, 3], "rounded values come once"
    assert Choice(["b", "a"]).grid() == ["b", "a"]


numbers = st.floats(1e-6, 1e6, allow_nan=False)


@given(numbers, numbers, st.booleans(), st.integers(2, 20))
def test_a_grid_lies_in_its_range_up_to_rounding(a: float, b: float, log: bool, points: int) -> None:
    low, high = min(a, b), max(a, b) + 1.0
    values = Float(low, high, log=log, points=points).grid()
    assert values == sorted(values)
    assert values[0] == low
    assert values[-1] == pytest.approx(high)
    assert len(values) == points


def test_dimensions_come_after_those_they_depend_on() -> None:
    assert [key for key, _ in in_order(CONDITIONAL)] == ["target", "kappa", "sigma", "sharp"]


def test_conditions_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="'targte' is not searched; did you mean 'target'"):
        in_order({"target": Choice([1, 2]), "x": Float(0, 1, when={"targte": 1})})
    with pytest.raises(ConfigError, match="3 cannot be a value of 'target'"):
        in_order({"target": Choice([1, 2]), "x": Float(0, 1, when={"target": [1, 3]})})
    with pytest.raises(ConfigError, match="circle"):
        in_order({"x": Choice([1, 2], when={"y": 1}), "y": Choice([1, 2], when={"x": 1})})
    with pytest.raises(ConfigError, match="circle"):
        in_order({"x": Choice([1, 2], when={"x": 1})})


def test_active_follows_the_chain() -> None:
    assert active(CONDITIONAL["kappa"], {"target": "vm"})
    assert not active(CONDITIONAL["kappa"], {"target": "ga"})
    assert not active(CONDITIONAL["kappa"], {})
    assert active(CONDITIONAL["sigma"], {"target": "js"})
    assert not active(CONDITIONAL["sharp"], {"target": "ga"})


def test_a_point_is_complete_and_drops_what_is_inactive() -> None:
    point = {"target": "ga", "sigma": 0.1, "kappa": 3.0}
    assert check_point(CONDITIONAL, point, "known[0]") == {"target": "ga", "sigma": 0.1}
    with pytest.raises(ConfigError, match=r"known\[0\]: 'kappa' is missing"):
        check_point(CONDITIONAL, {"target": "vm"}, "known[0]")
    with pytest.raises(ConfigError, match=r"known\[0\]: sigma = 0.6 is outside \[0.07, 0.5\]"):
        check_point(CONDITIONAL, {"target": "ga", "sigma": 0.6}, "known[0]")
    with pytest.raises(ConfigError, match="'tagret' is not searched; did you mean 'target'"):
        check_point(CONDITIONAL, {"tagret": "ga"}, "known[0]")


def test_a_grid_has_no_two_points_that_differ_in_inactive_dimensions_only() -> None:
    space = {"target": Choice(["ga", "vm"]), "kappa": Float(1, 3, points=3, when={"target": "vm"})}
    assert grid(space) == [{"target": "ga"}, *({"target": "vm", "kappa": kappa} for kappa in (1, 2, 3))]


def test_every_grid_point_is_a_point_of_the_space() -> None:
    points = grid(CONDITIONAL)
    assert len(points) == 2 * 5 + 4 + 2
    assert all(check_point(CONDITIONAL, point, "grid") == point for point in points)


def test_the_ends_of_every_dimension_are_visited_in_valid_points() -> None:
    points = corner_points(CONDITIONAL)
    assert all(check_point(CONDITIONAL, point, "corner") == point for point in points)
    seen = {(key, value) for point in points for key, value in point.items()}
    assert {("target", "ga"), ("target", "vm"), ("kappa", 0.5), ("kappa", 30), ("sharp", False)} <= seen


def test_ends_are_few() -> None:
    space = {f"x{i}": Float(0, 1) for i in range(12)}
    assert len(corner_points(space)) == 13
    for point, other in itertools.combinations(corner_points(space), 2):
        assert point != other


def test_a_small_space_has_all_its_points() -> None:
    points = every_point(CONDITIONAL, 1000)
    assert all(check_point(CONDITIONAL, point, "every") == point for point in points)
    corners = [json.dumps(point, sort_keys=True) for point in corner_points(CONDITIONAL)]
    assert set(corners) <= {json.dumps(point, sort_keys=True) for point in points}
    assert every_point({"a": Int(1, 9), "b": Choice([True, False])}, 18)[3] == {"a": 2, "b": False}
    assert every_point({"a": Int(1, 9), "b": Choice([True, False])}, 17) == []
    assert [point["a"] for point in every_point({"a": Int(1, 9, step=2, also=(0,))}, 9)] == [0, 1, 3, 5, 7, 9]
    assert every_point({"a": Float(0.5, 2), "b": Float(0, 1, step=0.5)}, 6, Dimension.every)[0] == {"a": 0.5, "b": 0.0}
    assert every_point({"a": Int(1, 10**12)}, 200) == []
    assert every_point(CONDITIONAL, 1000, Dimension.grid) == grid(CONDITIONAL)


def test_a_step_holds_on_a_grid_of_few_numbers() -> None:
    assert Int(1, 5, step=2).grid() == [1, 3, 5]
    assert Int(1, 5).grid() == [1, 2, 3, 4, 5]


def test_describe() -> None:
    assert describe(Float(0.1, 1e4, log=True, also=(0,))) == "[0.1, 10000] log or 0"
    assert describe(Float(0, 1, step=0.1)) == "[0, 1] step 0.1"
    assert describe(Choice([1, "a"])) == "{1, a}"

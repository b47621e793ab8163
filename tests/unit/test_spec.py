"""A sweep as it is written, in Python, YAML or on the command line, and as it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datasets.config import ConfigError
from sweep.space import Choice, Float, Int, assigned, grid, pretrained
from sweep.spec import (
    Constraint,
    Objective,
    Sweep,
    build,
    load_sweep,
    nested,
    option_of,
    put,
    read_yaml,
    settings_of,
    with_settings,
)
from trainables.core.load import names

PLAIN: dict[str, Any] = {
    "method": "duet",
    "data": "digits",
    "space": {"method.lambda": {"float": [1, 100], "log": True}},
    "objectives": ["max linear/all/val/top1"],
    "evals": ["linear"],
}


def sweep(**changes: Any) -> Sweep:
    return build({**PLAIN, **changes}, "test")


@pytest.mark.parametrize("name", names("space"))
def test_a_stored_sweep_is_the_same_sweep(name: str) -> None:
    loaded = load_sweep(name)
    assert build(json.loads(json.dumps(loaded.dump())), "stored") == loaded
    assert loaded.checked() is loaded


def test_yaml_and_python_say_the_same(tmp_path: Path) -> None:
    text = """
method: duet
data: digits
base: {train.epochs: 3, views: {tx: [sca, rot]}}
space:
  method.lambda: {float: [1e-1, 1e4], log: true, also: [0]}
  method.target: {choice: [ga, vm]}
  method.kappa: {float: [0.5, 30], when: {method.target: vm}}
objectives: [max linear/all/val/top1, {metric: knn/all/val/top1, direction: min}]
evals: [linear, {probe: {name: linear, limit: 50}}, knn]
"""
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "mine.py").write_text(
        "from sweep.space import Choice, Float\nfrom sweep.spec import Sweep\n"
        "SWEEP = Sweep(name='mine', method='duet', data='digits',"
        " base={'train': {'epochs': 3}, 'views.tx': ['sca', 'rot']},"
        " space={'method.lambda': Float(0.1, 1e4, log=True, also=(0,)), 'method.target': Choice(['ga', 'vm']),"
        " 'method.kappa': Float(0.5, 30, when={'method.target': 'vm'})},"
        " objectives=('max linear/all/val/top1', 'min knn/all/val/top1'),"
        " evals={'linear': {}, 'probe': {'name': 'linear', 'limit': 50}, 'knn': {}})\n"
    )
    written = load_sweep(str(tmp_path / "mine.yaml"))
    assert written == load_sweep(str(tmp_path / "mine.py"))
    assert written.name == "mine"
    assert written.evals["probe"].dump() == {"name": "linear", "options": {"limit": 50}, "after": {}}


def test_a_sweep_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_of_mine").mkdir()
    (tmp_path / "lab_of_mine" / "first.py").write_text(
        f"from sweep.spec import build\nSWEEP = build({ {**PLAIN, 'name': 'first'}!r}, 'here')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_sweep("lab_of_mine.first").name == "first"


def test_settings_reach_the_base_or_the_sweep() -> None:
    sets = ["train.epochs=3", "budget.trials=5", "views.tx=[rot, fli]", "method.kappa=1e1", "resources.workers=2"]
    changed = with_settings(sweep(base={"train.lr": 0.1}), settings_of(sets), "--set")
    assert changed.base == {
        "train": {"lr": 0.1, "epochs": 3}, "views": {"tx": ["rot", "fli"]}, "method": {"kappa": 10.0},
    }  # fmt: skip
    assert (changed.budget.trials, changed.resources.workers) == (5, 2)


def test_settings_can_change_space_evaluations_method_and_objectives() -> None:
    sets = [
        "space.method.lambda={float: [1, 2]}", "space.method.bins={choice: [4]}", "method=simclr",
        "evals.knn={k: 3}", "objectives=[max knn/all/val/top1]",
    ]  # fmt: skip
    changed = with_settings(sweep(), settings_of(sets), "--set").checked()
    assert changed.space == {"method.lambda": Float(1, 2), "method.bins": Choice([4])}
    assert changed.method == "simclr"
    assert changed.evals["knn"].options == {"k": 3}
    assert changed.objectives == (Objective(metric="knn/all/val/top1", direction="max"),)


@pytest.mark.parametrize("key", ["evals.linear.limit", "evals.linear.options.limit"])
def test_an_option_of_one_evaluation_can_be_set(key: str) -> None:
    changed = with_settings(sweep(), settings_of([f"{key}=9"]), "--set")
    assert changed.evals["linear"].name == "linear" and changed.evals["linear"].options == {"limit": 9}


def test_options_of_an_evaluation_that_the_sweep_had_not_can_be_set() -> None:
    changed = with_settings(sweep(), settings_of(["evals.knn.k=3", "evals.knn.limit=9"]), "--set")
    assert changed.evals["knn"].name == "knn" and changed.evals["knn"].options == {"k": 3, "limit": 9}


def test_smoke_is_small_and_can_be_changed_further() -> None:
    small = load_sweep("demo", ["budget.trials=2"], smoke=True)
    assert small.budget.trials == 2
    assert small.base["train"]["epochs"] < load_sweep("demo").base["train"]["epochs"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("-2E+4", -2e4), ("1.e3", 1e3), ("1e", "1e"), ("e3", "e3"), ("0x1e3", 0x1E3), ("a1e3", "a1e3")],
)
def test_numbers_as_people_write_them(text: str, value: Any) -> None:
    assert read_yaml(text) == value
    assert read_yaml(f"a: [{text}, {{b: {text}}}]") == {"a": [value, {"b": value}]}
    assert read_yaml(f"'{text}'") == text
    assert settings_of([f"a.b={text}"])["a.b"] == value


def test_values_of_settings_are_yaml() -> None:
    found = settings_of(["a=true", "b=null", "c=[1, x]", "d={e: 1}", "f=a=b", "g="])
    assert found == {"a": True, "b": None, "c": [1, "x"], "d": {"e": 1}, "f": "a=b", "g": None}


def test_nesting() -> None:
    assert nested({"a.b.c": 1, "a": {"b": {"d": 2}, "e.f": 3}}) == {"a": {"b": {"c": 1, "d": 2}, "e": {"f": 3}}}
    assert nested({"a.b.c": 1, "a.b.d": 2}) == {"a": {"b": {"c": 1, "d": 2}}}
    assert nested({"views.options": {"lab.Turn": {"x": 1}}}) == {"views": {"options": {"lab.Turn": {"x": 1}}}}


@pytest.mark.parametrize("twice", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a.b": 1, "a": {"b": 2}}])
def test_a_setting_that_is_there_twice_is_refused(twice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set twice"):
        nested(twice)


def test_put_makes_what_is_missing_and_refuses_what_is_a_value() -> None:
    values: dict[str, Any] = {"a": {"b": 1}}
    put(values, "a.c.d", 2, "here")
    assert values == {"a": {"b": 1, "c": {"d": 2}}}
    with pytest.raises(ConfigError, match=r"here a\.b\.x: 'b' is a value"):
        put(values, "a.b.x", 2, "here")


@pytest.mark.parametrize(
    ("bound", "value", "violation"),
    [
        ({"at_least": 0.5}, 0.4, 0.1),
        ({"at_least": 0.5}, 0.6, -0.1),
        ({"at_most": 0.0}, 0.2, 0.2),
        ({"at_most": 2}, 1, -1),
    ],
)
def test_violation_of_a_constraint(bound: dict[str, float], value: float, violation: float) -> None:
    constraint = Constraint.model_validate({"metric": "linear/all/val/top1", **bound})
    assert constraint.violation(value) == pytest.approx(violation)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max loss", "training value"), ("max linear/all/test/top1", "test split"),
        ("best linear/all/val/top1", "write"),
        ("max linear/val/top1", "no metric name"), ("max linear/all/val/top 1", "no metric name"), ("max", "write"),
        ("max linear/all/valid/top1", "no metric name"),
    ],
)  # fmt: skip
def test_objectives_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sweep(objectives=[text])


def test_an_objective_may_name_any_part_and_a_train_value_of_an_evaluation() -> None:
    metrics = ["max linear/group/val/top1", "min linear/all/train/top1", "max linear/all/val/top1_hue_shift@25"]
    assert [objective.metric for objective in sweep(objectives=metrics).objectives] == [m[4:] for m in metrics]


def test_a_named_sweep_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        sweep().name = "other"  # type: ignore[misc]


# -- options of evaluations -----------------------------------------------------------------------------------------


def test_a_dimension_may_be_an_option_of_an_evaluation(tmp_path: Path) -> None:
    text = """
method: duet
data: digits
space:
  evals.linear.steps: {int: [100, 1000], log: true}
  evals.linear.probe: {choice: [sgd, mlp]}
  evals.linear.hidden#mlp: {choice: [[64], [64, 64]], when: {evals.linear.probe: mlp}}
  evals.near.by.k: {int: [1, 50]}
known: [{evals.linear.steps: 500, evals.linear.probe: sgd, evals.near.by.k: 9}]
objectives: [max linear/all/val/top1]
evals: {linear: {}, near: {name: knn}, near.by: {name: knn}}
"""
    (tmp_path / "mine.yaml").write_text(text)
    found = load_sweep(str(tmp_path / "mine.yaml"))
    assert found.space["evals.linear.steps"] == Int(100, 1000, log=True)
    assert build(json.loads(json.dumps(found.dump())), "stored") == found
    assert option_of("evals.near.by.k", found.evals) == ("near.by", "k"), "the longest key"
    assert option_of("evals.near.k", found.evals) == ("near", "k")
    assert option_of("evals.far.k", found.evals) is None
    assert option_of("method.linear.k", found.evals) is None


def test_an_option_that_is_searched_cannot_be_set() -> None:
    tuned = sweep(space={"evals.linear.limit": Int(2, 9)})
    with pytest.raises(ConfigError, match=r"evals\.linear\.limit: is searched by this sweep; set space\.evals\.linear"):
        with_settings(tuned, {"evals.linear.limit": 5}, "--set")
    changed = with_settings(tuned, settings_of(["space.evals.linear.limit={int: [3, 4]}"]), "--set")
    assert changed.space["evals.linear.limit"] == Int(3, 4)


@pytest.mark.parametrize("key", ["evals.edits.after.reconstruction", "evals.edits.after"])
def test_whose_result_an_evaluation_reads_can_be_set(key: str) -> None:
    value = "small" if key.endswith("reconstruction") else {"reconstruction": "small"}
    given = sweep(evals={"linear": {}, "edits": {"name": "controlled_generation", "limit": 9}})
    changed = with_settings(given, {key: value}, "--set")
    assert changed.evals["edits"].after == {"reconstruction": "small"}
    assert changed.evals["edits"].options == {"limit": 9}


def test_the_settings_of_a_point_are_its_dimensions_without_labels() -> None:
    point = {"evals.linear.lr#a": 1, "method.lambda": 2}
    assert assigned(point) == {"evals.linear.lr": 1, "method.lambda": 2}
    assert pretrained(point) == {"method.lambda": 2}
    with pytest.raises(
        ConfigError, match=r"space.evals.linear.lr#b: sets evals.linear.lr where evals.linear.lr#a does"
    ):
        assigned({**point, "evals.linear.lr#b": 3})


def test_a_grid_varies_options_of_evaluations_slowest() -> None:
    space = {"method.x": Choice([1, 2]), "evals.a.b": Choice([3, 4]), "method.y": Choice([5, 6])}
    points = grid(space)
    assert [(p["evals.a.b"], p["method.x"], p["method.y"]) for p in points] == [
        (3, 1, 5), (3, 1, 6), (3, 2, 5), (3, 2, 6), (4, 1, 5), (4, 1, 6), (4, 2, 5), (4, 2, 6),
    ]  # fmt: skip

"""What every named sweep keeps, found by itself: a new file in `search_spaces/` is tested without a line here."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from datasets.base import DataError
from sweep.plan import Plan
from sweep.space import check_point
from sweep.spec import Sweep, load_sweep
from trainables.core.load import ROOT, load, names
from trainables.core.presets import expand


def planned(sweep: Sweep) -> Plan:
    """The plan, or a skip where it needs data that are not there."""
    root = os.environ.get("SWEEP_DATA")
    try:
        return Plan(sweep, Path(root) if root else None)
    except DataError as error:
        if root:
            raise
        pytest.skip(f"real data: set SWEEP_DATA to their folder ({error})")


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("name", names("space"))
def test_it_plans(name: str, smoke: bool) -> None:
    plan = planned(load_sweep(name, smoke=smoke))
    assert all(objective.metric in plan.metrics for objective in plan.sweep.objectives)
    assert plan.check_resources({"CPU": 1.0, "memory": 2.0**33}) == 1, "it runs on one CPU without a GPU"
    assert plan.describe()


@pytest.mark.parametrize("name", names("space"))
def test_its_smoke_form_is_small(name: str) -> None:
    sweep = load_sweep(name, smoke=True)
    assert sweep.budget.trials <= 3
    assert sweep.seeds == 1
    assert sweep.base["train"]["epochs"] <= 3
    assert sweep.base["data"]["limit"] <= 1000


@pytest.mark.parametrize("name", names("space"))
def test_it_starts_with_a_known_point(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.name == name
    assert sweep.description
    assert sweep.known
    assert all(check_point(sweep.space, point, "known") == point for point in sweep.known)
    assert all(
        dimension.contains(sweep.known[0].get(key)) for key, dimension in sweep.space.items() if not dimension.when
    )


@pytest.mark.parametrize("name", names("space"))
def test_a_training_loss_is_no_objective(name: str) -> None:
    sweep = load_sweep(name)
    assert all(objective.metric.split("/")[0] in sweep.evals for objective in sweep.objectives)


@pytest.mark.parametrize("name", names("space"))
def test_it_searches_a_coefficient_of_its_method_or_an_evaluation(name: str) -> None:
    sweep = load_sweep(name)
    coefficients = load("method", expand(sweep.method, {})[0]).METHOD.coefficients
    searched = [one for one in coefficients if _searches(sweep, f"method.{one}")]
    assert searched or not coefficients or all(key.startswith("evals.") for key in sweep.space)


@pytest.mark.parametrize("method", ["duet", "essl", "sie", "vicreg", "equimod", "augself", "gim", "cpc", "sim"])
def test_some_sweep_searches_what_weighs_the_terms_of_a_method(method: str) -> None:
    """All coefficients but SIM's other three, which `gim` and `cpc` search in the loss that they share."""
    wanted = set(load("method", method).METHOD.coefficients)
    wanted -= {"kl_reduction", "prediction_steps", "negatives"} if method == "sim" else set()
    sweeps = [sweep for sweep in map(load_sweep, names("space")) if sweep.method == method]
    searched = [{one for one in wanted if _searches(sweep, f"method.{one}")} for sweep in sweeps]
    assert wanted and any(found == wanted for found in searched), "one of them searches all"


def test_the_sweeps_of_v3_search_what_weighs_its_terms_together() -> None:
    """All but what regroups pages of two digits or eight phonemes, and the target of the rank."""
    sweeps = [sweep for sweep in map(load_sweep, names("space")) if expand(sweep.method, {})[0] == "v3"]
    wanted = set(load("method", "v3").METHOD.coefficients)
    wanted -= {"supersample_content", "widen_style", "compat", "rank_target"}
    assert wanted <= {one for one in wanted for sweep in sweeps if _searches(sweep, f"method.{one}")}


def _searches(sweep: Sweep, name: str) -> bool:
    """Whether a dimension sets an option, whole or one of its parts, such as `method.kl_weight.0`."""
    return any(key == name or key.startswith(f"{name}.") for key in sweep.space)


@pytest.mark.parametrize("name", names("space"))
def test_its_docstring_holds_command_time_and_result(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "search_spaces" / f"{name}.py").read_text())) or ""
    assert f"sweep run {name}" in text
    assert "Time: " in text
    assert "Result: " in text
    assert "Time: TIME" not in text and "Result: RESULT" not in text
    assert text.splitlines()[0].endswith((".", "?"))

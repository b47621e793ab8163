"""The studies of profiles: they plan, and hold what they compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datasets.base import DataError
from sweep.plan import Plan
from sweep.spec import load_sweep
from trainables.evals.profile import AXES

STUDIES = Path(__file__).parents[2] / "docs" / "studies"
NAMES = ("profile", "profile-digits")


def planned(name: str, smoke: bool) -> Plan:
    root = os.environ.get("SWEEP_DATA")
    try:
        return Plan(load_sweep(str(STUDIES / f"{name}.yaml"), smoke=smoke), Path(root) if root else None)
    except DataError as error:
        if root or name == "profile-digits":
            raise
        pytest.skip(f"real data: set SWEEP_DATA to their folder ({error})")


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_all_axes(name: str, smoke: bool) -> None:
    plan = planned(name, smoke)
    assert {f"profile/all/{split}/{axis}" for split in ("val", "test") for axis in AXES} <= set(plan.metrics)
    assert plan.sweep.seeds == (1 if smoke else 3) and plan.sweep.budget.trials == (2 if smoke else 5)


@pytest.mark.parametrize("name", NAMES)
def test_duet_at_three_lambdas_beside_simclr_and_an_encoder_that_is_not_trained(name: str) -> None:
    points: list[dict[str, Any]] = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())["known"]
    assert [point.get("method.lambda") for point in points] == [10, 100, 1000, None, None]
    assert {point["method"] for point in points[:3]} == {"duet"} and points[3]["method"] == points[4]["method"]
    still = {key for key in points[3] if points[3][key] != points[4][key]}
    assert still == {"train.lr", "train.epochs"} and float(points[4]["train.lr"]) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_of_the_untrained_encoder_changes_no_weight(name: str) -> None:
    """Adam moves a weight by about the rate in a step; single precision does not see it beside the weight."""
    study = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    rate = float(study["known"][-1]["train.lr"])
    weight = np.float32(0.01)
    assert weight - np.float32(rate) == weight and rate < float(study["known"][0]["train.lr"]) / 1e6

"""Four axes of encoders that are known: one that sees colours, one that a transform does not reach, one of noise."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_factor_evals import QUICK, SPEC, Seen, colours, noise, run

from datasets.config import ConfigError
from trainables.evals import (
    base,
    disentanglement,
    feature_equivariance,
    informativeness,
    invariance,
    linear,
    parameter_equivariance,
    profile,
)
from trainables.evals.base import Result


def profiled(subject: Seen, transforms: tuple[str, ...] = ("brightness_shift@sane",)) -> dict[str, float]:
    """The four axes of an encoder, of two factors; of the split `test`."""
    five: dict[str, Result] = {}
    for module, options in (
        (informativeness, {"factors": ("brightness", "class"), **QUICK}),
        (parameter_equivariance, {"transforms": transforms, **QUICK}),
        (feature_equivariance, {"transforms": transforms, **QUICK}),
        (invariance, {"transforms": transforms}),
        (disentanglement, {"factors": ("brightness", "class"), "transforms": ("hue_shift", "saturation_shift")}),
    ):
        name = module.__name__.rpartition(".")[2]
        five[name] = run(module, subject, {"informativeness": five.get("informativeness", Result({}))}, **options)
    found = run(profile, subject, five)
    with found.artifacts["profile.csv"].open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    for axis in profile.AXES:
        own = [float(row["share"]) for row in rows if row["axis"] == axis]
        assert found.metrics[f"all/test/{axis}"] == pytest.approx(np.mean(own)) and 0 <= min(own) <= max(own) <= 1
    for name, file in (("informativeness", "factors"), ("parameter_equivariance", "parameters"),
                       ("feature_equivariance", "predicted"), ("disentanglement", "quarters")):  # fmt: skip
        assert five[name].artifacts[f"{file}_test.png"].stat().st_size > 5_000
    quarters = {row["of"].rpartition("@")[2] for row in rows if row["axis"] == "disentanglement"}
    assert quarters == {"75", "100"} and {row["probe"] for row in rows} == {"slp", "mlp", ""}
    return {name.rpartition("/")[2]: value for name, value in found.metrics.items() if name.startswith("all/test/")}


def test_profiles_of_encoders_that_are_known(tmp_path: Path) -> None:
    """One that sees colours, one that a transform does not reach, and noise."""
    seeing = profiled(Seen(tmp_path, colours))
    blind = profiled(Seen(tmp_path, lambda clean, seen, request: colours(clean, clean, request)))
    says_nothing = profiled(Seen(tmp_path, noise, width=6))
    assert min(seeing["informativeness"], blind["informativeness"]) > 0.75 > 0.1 > says_nothing["informativeness"]
    assert seeing["parameter_equivariance"] > 0.7 and seeing["feature_equivariance"] > 0.7
    for name in ("parameter_equivariance", "feature_equivariance"):
        assert blind[name] < 0.1 and says_nothing[name] < 0.1, name
    assert blind["invariance"] == pytest.approx(1) and blind["disentanglement"] == pytest.approx(1)
    assert blind["invariance_chance"] < seeing["invariance"] + 0.2
    assert abs(says_nothing["invariance"] - says_nothing["invariance_chance"]) < 0.1
    assert says_nothing["disentanglement"] > 0.8 > seeing["disentanglement"]


def test_the_cosine_of_different_items() -> None:
    z = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    cosines = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    expected = (cosines.sum() - cosines.trace()) / (7 * 6)
    assert profile.others(z) == pytest.approx(float(expected), abs=1e-6)


def test_classes_and_tags_are_shares_of_what_the_baseline_leaves() -> None:
    values = {"class_slp_accuracy": 0.7, "class_baseline_accuracy": 0.4, "class_slp_balanced_accuracy": 0.9,
              "tags_mlp_ap": 0.2, "tags_baseline_ap": 0.2, "size_slp_r2": -3.0, "size_baseline_rmse": 2.0}  # fmt: skip
    values |= {"hue_slp_r2": 1.0, "hue_baseline_rmse": 0.0}  # gray images
    moved = {
        "class_rot_slp_accuracy_diff": -0.3,
        "hue_rot_slp_rmse_diff": 0.0,
        "size_rot@25_mlp_rmse_diff": -1.0,
        "size_rot@100_mlp_rmse_diff": -3.0,
    }
    five = {axis: Result({}) for axis in profile.AXES}
    for axis, own in (("informativeness", values), ("disentanglement", moved)):
        five[axis] = Result({f"all/val/{name}": value for name, value in own.items()})
    found = profile.shares(five, "all", "val")
    assert found["informativeness"] == pytest.approx({("class", "slp"): 0.5, ("tags", "mlp"): 0, ("size", "slp"): 0})
    assert found["disentanglement"] == pytest.approx({("class_rot", "slp"): 0.5, ("size_rot@100", "mlp"): 0})
    five["informativeness"] = Result({"all/val/hue_slp_r2": 1.0, "all/val/hue_baseline_rmse": 0.0})
    found = profile.shares(five, "all", "val")
    assert (found["informativeness"], found["disentanglement"]) == ({("", ""): 0.0}, {("", ""): 1.0})


def test_a_profile_of_what_the_five_do_not_judge_is_refused() -> None:
    capabilities, parts = {}, {"all": 3, "inv": 2}
    five = {"informativeness": informativeness.Config(), "invariance": invariance.Config(parts=("*",))}
    with pytest.raises(ConfigError, match="parts: reads 'inv' of informativeness; add it"):
        base.check(profile, profile.Config(parts=("inv",)), SPEC, parts, capabilities, five)
    every: dict[str, Any] = {"informativeness": informativeness.Config(parts=("*",)), "linear": linear.Config()}
    assert base.check(profile, profile.Config(parts=("inv",)), SPEC, parts, capabilities, every), "linear is not read"
    five["informativeness"] = informativeness.Config(parts=("*",), measures=("r2",))
    with pytest.raises(ConfigError, match="reads r2, accuracy, ap of informativeness"):
        base.check(profile, profile.Config(parts=("inv",)), SPEC, parts, capabilities, five)

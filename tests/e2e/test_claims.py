"""What DUET promises, on digits with fixed seeds: the group part knows the angle, SimCLR and lambda 0 do not.

The numbers of the claims are those of the method's description; thresholds have a margin, see `docs/studies/duet.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import Silent, fit
from trainables.evals.features import CheckpointSubject

COMMON = {
    "data": {"name": "digits"},
    "views": {"tx": ["sca", "rot"]},
    "train": {"epochs": 15, "warmup_epochs": 2, "batch_size": 128, "lr": 2e-3, "checkpoint_every": 15},
    "seed": 0,
}
SMALL = {"encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 128, "head_out": 64}
VM = {"name": "duet", "bins": 8, "target": "vm", "kappa": 3.0, "equi_tx": ["rot"]}
CHANCE = 0.2117  # of the group loss with these targets: no prediction that ignores the image is better
Measured = dict[str, float]


def measured(method: dict[str, Any], folder: Path) -> Measured:
    """Metrics of the trained method, and the means of its last epoch as `train/NAME`."""
    listener = Silent()
    fit(resolve({**COMMON, "method": {**SMALL, **method}}), None, folder, listener)
    subject = CheckpointSubject(listener.checkpoints[-1], None, folder / "features", out=folder / "out")
    found = dict(evaluate(subject, "transform_parameter", {"parts": ["*"]}).metrics)
    if method["name"] == "duet":
        for name in ("group_calibration", "equivariance_roll"):
            found |= evaluate(subject, name).metrics
    return {**found, **{f"train/{name}": value for name, value in listener.epochs[-1].items()}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    folder, threads = tmp_path_factory.mktemp("claims"), torch.get_num_threads()
    torch.set_num_threads(1)
    found = {f"duet {weight:g}": measured({**VM, "lambda": weight}, folder / str(weight)) for weight in (0, 100, 1000)}
    found["simclr"] = measured({"name": "simclr"}, folder / "simclr")
    torch.set_num_threads(threads)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "test"])
def test_claim_1_the_group_loss_falls_below_chance_and_not_without_its_weight(
    trained: dict[str, Measured], split: str
) -> None:
    assert trained["duet 1000"][f"marginal/{split}/group_loss"] < 0.19
    assert trained["duet 0"][f"marginal/{split}/group_loss"] > CHANCE - 0.005
    assert trained["duet 1000"][f"marginal/{split}/chance"] == pytest.approx(CHANCE, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "test"])
def test_claim_2_the_angle_is_read_from_the_group(trained: dict[str, Measured], split: str) -> None:
    duet, without, simclr = trained["duet 1000"], trained["duet 0"], trained["simclr"]
    assert duet[f"marginal/{split}/rot_angle_error"] < 40
    assert duet[f"group/{split}/rot_r2"] > duet[f"content/{split}/rot_r2"] + 0.2
    assert duet[f"all/{split}/rot_r2"] > simclr[f"all/{split}/rot_r2"] + 0.15
    assert without[f"marginal/{split}/rot_angle_error"] > 60
    assert without[f"group/{split}/rot_r2"] < without[f"content/{split}/rot_r2"] + 0.2
    assert without[f"all/{split}/rot_r2"] < simclr[f"all/{split}/rot_r2"] + 0.15


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "test"])
def test_claim_3_rolling_by_the_right_number_of_bins_predicts_the_turned_image(
    trained: dict[str, Measured], split: str
) -> None:
    duet, without = trained["duet 1000"], trained["duet 0"]
    assert duet[f"all/{split}/margin"] > 0, "better than every other shift, no shift among them"
    assert duet[f"all/{split}/roll_cosine"] > duet[f"all/{split}/same_cosine"]
    assert without[f"all/{split}/margin"] < 0


@pytest.mark.slow
def test_claim_5_a_larger_weight_lowers_the_group_loss_and_raises_the_contrastive_one(
    trained: dict[str, Measured],
) -> None:
    losses = [trained[f"duet {weight}"] for weight in (0, 100, 1000)]
    assert losses[0]["train/group_loss"] > losses[1]["train/group_loss"] > losses[2]["train/group_loss"]
    assert losses[1]["train/nce"] < losses[2]["train/nce"]

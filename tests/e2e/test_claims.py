"""What DUET promises, on digits with fixed seeds: the group part knows the angle, SimCLR and lambda 0 do not."""

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


def measured(method: dict[str, Any], folder: Path) -> dict[str, float]:
    listener = Silent()
    fit(resolve({**COMMON, "method": {**SMALL, **method}}), None, folder, listener)
    subject = CheckpointSubject(listener.checkpoints[-1], None, folder / "features", out=folder / "out")
    return evaluate(subject, "transform_parameter", {"parts": ["*"]}).metrics


@pytest.mark.slow
def test_duet_reads_the_angle_from_its_group_and_the_controls_do_not(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    vm = {"name": "duet", "bins": 8, "target": "vm", "kappa": 3.0, "equi_tx": ["rot"]}
    duet = measured({**vm, "lambda": 1000.0}, tmp_path / "duet")
    without = measured({**vm, "lambda": 0.0}, tmp_path / "without")
    simclr = measured({"name": "simclr"}, tmp_path / "simclr")

    for split in ("val", "test"):
        assert duet[f"marginal/{split}/rot_angle_error"] < 40
        assert duet[f"group/{split}/rot_r2"] > duet[f"content/{split}/rot_r2"] + 0.2
        assert duet[f"all/{split}/rot_r2"] > simclr[f"all/{split}/rot_r2"] + 0.15
        assert without[f"marginal/{split}/rot_angle_error"] > 60
        assert without[f"group/{split}/rot_r2"] < without[f"content/{split}/rot_r2"] + 0.2
        assert without[f"all/{split}/rot_r2"] < simclr[f"all/{split}/rot_r2"] + 0.15

"""Training in half precision: the loss is scaled, and a resumed run has the same scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core import state
from trainables.core.config import Resolved, resolve
from trainables.core.fit import fit


def config(precision: str, **train: Any) -> Resolved:
    small = {"encoder": {"channels": 12, "content": 8, "style": 8}}
    training = {"epochs": 2, "batch_size": 16, "warmup_epochs": 0, "checkpoint_every": 1, "precision": precision}
    return resolve({
        "method": {"name": "v3", **small}, "data": {"name": "pages", "train": 64}, "views": {"count": 1},
        "train": {**training, **train},
    })  # fmt: skip


@pytest.mark.parametrize("train", [{}, {"clip_norm": 0.5}])
def test_a_run_in_float16_is_near_float32_and_resumes_bit_for_bit(tmp_path: Path, train: dict[str, Any]) -> None:
    whole = fit(config("fp16", **train), None, tmp_path / "whole")
    plain = fit(config("float32", **train), None, tmp_path / "plain")
    assert whole.metrics["loss"] == pytest.approx(plain.metrics["loss"], rel=0.02)
    assert whole.metrics["loss"] != plain.metrics["loss"]
    first = tmp_path / "whole" / "epoch-0001"
    resumed = fit(config("fp16", **train), None, tmp_path / "again", resume=[(first, state.read_meta(first).digest)])
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    kept = torch.load(tmp_path / "again" / "epoch-0002" / "optimizer.pt", weights_only=True)
    assert kept["scaler"] == torch.load(tmp_path / "whole" / "epoch-0002" / "optimizer.pt", weights_only=True)["scaler"]


def test_a_step_whose_gradients_overflow_is_left_out(tmp_path: Path) -> None:
    huge = config("fp16", epochs=4, checkpoint_every=4)
    fit(resolve({**huge.dump(), "method": {**huge.dump()["method"], "weights": {"recon": 1e4}}}), None, tmp_path)
    kept = torch.load(tmp_path / "epoch-0004" / "optimizer.pt", weights_only=True)
    halved = 16 - round(math.log2(kept["scaler"]["scale"]))  # it starts at 2^16
    assert 0 < halved < 16
    assert {int(moments["step"]) for moments in kept["state"].values()} == {16 - halved}

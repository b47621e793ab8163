"""Losses and targets of DUET against values of its original code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainables.core import dist
from trainables.core.config import TrainConfig
from trainables.core.optim import lr_multiplier
from trainables.losses.classification import (
    binary_cross_entropy,
    cross_entropy,
    fold,
    smooth_one_hot,
    squared_error,
    topk_hits,
)
from trainables.losses.contrast import lp_normalize, nt_xent
from trainables.losses.divergence import jensen_shannon, log_gaussian, log_von_mises
from trainables.nets.duet_layer import POOL, as_groups, pool_content


def golden(name: str) -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parent / "duet" / f"{name}_a.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}


def close(actual: torch.Tensor | None, expected: torch.Tensor, tolerance: float) -> None:
    """Equal within a tolerance that is absolute for values of order 1 and else relative to the largest."""
    assert actual is not None
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        actual.to(expected.dtype).reshape(expected.shape), expected, rtol=0, atol=tolerance * scale
    )


def test_lp_normalize() -> None:
    g = golden("lp_normalize")
    x = g["x"].requires_grad_()
    y = lp_normalize(x, float(g["p"]), float(g["eps"]))
    (y * g["w"]).sum().backward()
    close(y, g["y"], 1e-12)
    close(x.grad, g["grad_x"], 1e-12)


def test_nt_xent() -> None:
    g = golden("nt_xent")
    e1, e2 = g["e1"].requires_grad_(), g["e2"].requires_grad_()
    result = nt_xent(e1, e2, float(g["temperature"]))
    loss = dist.mean(result.values)
    loss.backward()
    close(result.values, g["loss_per_sample"], 1e-10)
    close(loss, g["loss_mean"], 1e-10)
    close(e1.grad, g["grad_e1"], 1e-10)
    close(e2.grad, g["grad_e2"], 1e-10)
    for name, hits in result.hits.items():
        close(hits.mean(), g[f"{name}_mean"], 1e-4)


@pytest.mark.parametrize(
    ("name", "log_target", "width", "raw_tolerance"),
    [("targets_gaussian", log_gaussian, "std", 1e-9), ("targets_vonmises", log_von_mises, "concentration", 1e-6)],
)
def test_targets(name: str, log_target: Any, width: str, raw_tolerance: float) -> None:
    g = golden(name)
    bins, spread = int(g["size"]), float(g[width])
    close(log_target(g["params"], bins, spread).exp(), g["target_sum"], 1e-9)
    close(log_target(g["params"], bins, spread, normalise=False).exp(), g["target_none"], raw_tolerance)


def test_jensen_shannon() -> None:
    g = golden("js_loss")
    logits, q = g["logits"].requires_grad_(), g["q"].requires_grad_()
    value = jensen_shannon(logits.log_softmax(-1), q.log()).mean()
    value.backward()
    close(value, g["js"], 1e-11)
    close(logits.grad, g["grad_logits"], 1e-11)
    close(q.grad, g["grad_q"], 1e-11)
    close(jensen_shannon(g["p"].log(), q[:, 0].log()).mean(), g["js_probs"], 1e-11)


@pytest.mark.parametrize("pooler", POOL)
def test_duet_layer(pooler: Any) -> None:
    g = golden("duet_layer")
    joint = as_groups(g["z"], int(g["num_groups"]), int(g["group_elements"]))
    close(joint, g["joint"], 1e-12)
    close(pool_content(joint, pooler), g[f"content_{pooler}_concat"], 1e-12)
    close(pool_content(joint, pooler, across_groups=True), g[f"content_{pooler}_joint"], 1e-12)


def test_classification() -> None:
    g = golden("classification_losses")
    logits, labels = g["logits"].requires_grad_(), g["labels"]
    rows = cross_entropy(logits, labels)
    rows.mean().backward()
    close(rows.mean(), g["ce_mean"], 1e-10)
    close(logits.grad, g["ce_grad"], 1e-10)
    close(fold(rows), g["ce_folded"], 1e-10)
    smooth = smooth_one_hot(labels, logits.shape[1], float(g["smoothing"]), logits.dtype)
    close(smooth, g["smooth_one_hot"], 1e-6)
    close(cross_entropy(logits, smooth).mean(), g["ce_smoothed"], 1e-6)
    soft = cross_entropy(logits, g["soft_targets"])
    close(soft.mean(), g["ce_soft_mean"], 1e-10)
    close(fold(soft), g["ce_soft_folded"], 1e-10)
    binary = binary_cross_entropy(logits, g["bin_targets"])
    close(binary.mean(), g["bce_mean"], 1e-6)
    close(fold(binary), g["bce_folded"], 1e-6)


def test_top_k() -> None:
    g = golden("classification_losses")
    rates = torch.stack([topk_hits(g["logits"], g["labels"], k).mean() for k in (1, 3, 5)])
    close(rates, g["topk_1_3_5"], 1e-6)
    assert topk_hits(g["logits"], g["labels"], 50).mean() == 100  # k is capped at the number of classes
    one_hot = F.one_hot(g["labels"], g["logits"].shape[1])
    assert torch.equal(topk_hits(g["logits"], one_hot, 3), topk_hits(g["logits"], g["labels"], 3))


def test_mean_squared_error() -> None:
    g = golden("mse_loss")
    x = g["x"].requires_grad_()
    loss = F.mse_loss(x, g["y"])
    loss.backward()
    close(loss, g["loss_mean"], 1e-12)
    close(x.grad, g["grad_x"], 1e-12)
    close(squared_error(x, g["y"]), g["loss_per_sample"], 1e-12)


def test_lr_schedule() -> None:
    g = golden("lr_schedule")
    options: dict[str, Any] = {"epochs": int(g["epochs"]), "warmup_epochs": int(g["warmup"])}
    cosine, constant = TrainConfig(**options), TrainConfig(**options, schedule="constant")
    epochs = range(options["epochs"] + 1)
    multipliers = torch.tensor([lr_multiplier(cosine, epoch) for epoch in epochs], dtype=torch.float64)
    close(multipliers, g["multiplier"], 1e-12)
    close(multipliers[:-1] * g["base_lr"], g["lr_per_epoch"], 1e-15)
    flat = torch.tensor([lr_multiplier(constant, epoch) for epoch in epochs], dtype=torch.float64)
    close(flat, g["multiplier_constant_variant"], 1e-12)

"""Supervised losses and accuracies. Each returns one value per row; `dist.mean` or `.mean()` makes the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.losses.precision import full_precision


@full_precision
def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross entropy in nats, (B, classes) -> (B,).

    Args:
        target: (B,) int64 classes, or (B, classes) probabilities (soft targets: -sum t ln softmax).
    """
    return F.cross_entropy(logits, target, reduction="none")


def smooth_one_hot(labels: Tensor, classes: int, smoothing: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B,) int64 -> (B, classes): 1 - e on the true class and e / (classes - 1), not e / classes, on each other one."""
    hot = F.one_hot(labels, classes).to(dtype)
    return hot * (1 - smoothing) + (1 - hot) * (smoothing / (classes - 1))


@full_precision
def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Sigmoid cross entropy in nats of each entry, (B, classes) -> (B, classes); the loss is the mean over all."""
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")


@full_precision
def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """(x - y)^2 *summed* over all axes but the first: (B, ...) -> (B,). The loss is `F.mse_loss`, a mean over all."""
    return (x - y).square().flatten(1).sum(1)


@full_precision
def topk_hits(logits: Tensor, target: Tensor, k: int) -> Tensor:
    """(B, classes) -> (B,) 100 where the target is among the k best, else 0; k is capped at the number of classes.

    Args:
        target: (B,) int64 classes, or (B, classes) probabilities, of which the largest counts.
    """
    labels = target if target.ndim == 1 else target.argmax(1)
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1) * logits.new_tensor(100.0)


def fold(rows: Tensor) -> Tensor:
    """Two views stacked, (2B, ...) -> (B, ...): the mean of each item's two values."""
    return rows.unflatten(0, (2, -1)).mean(0)

"""Optimisers and the learning-rate schedule.

The schedule is a pure function of where training stands, so that a resumed run needs no stored scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from trainables.core.config import TrainConfig

FLOOR = 1e-3  # of the peak, in the first epoch of a warm-up that is followed by a cosine


def build_optimizer(module: nn.Module, train: TrainConfig) -> Optimizer:
    """The optimiser over all trainable parameters of `module`, weight decay on all of them (LARS: see there)."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if train.optimizer in ("adamw", "adam"):
        adam = AdamW if train.optimizer == "adamw" else Adam
        return adam(parameters, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay)
    kind = SGD if train.optimizer == "sgd" else LARS
    return kind(parameters, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)


def lr_multiplier(train: TrainConfig, epoch: int, step: int = 0, steps_per_epoch: int = 1) -> float:
    """The learning rate as a fraction of its peak `train.lr`.

    With W warm-up epochs of E epochs, at e = epoch, or e = epoch + step / steps_per_epoch if `schedule_per` is "step":

        cosine      e <= W: max(e / W, 1e-3)      e > W: f + (1 - f) (1 + cos(pi (e - W) / T)) / 2
        constant    min(e / W, 1)
        exponential e <= W: e / W                 e > W: max(f, decay^((e - W) / decay_epochs))

    W = 0 means no warm-up, f is `final_lr`, T is `period`, by default E - W. Source: the recipe of DUET (arXiv
    2306.16058); its constant variant has no floor, so its first epoch stands still when the schedule goes by epochs. By
    steps the warm-up begins at 0. A constant warm-up (`warmup_lr`: e < W, as in V3, arXiv 2407.03824) does not rise.

    Args:
        step: of this epoch, from 0.
    """
    warmup = train.warmup_epochs
    now = epoch + step / steps_per_epoch if train.schedule_per == "step" else float(epoch)
    if warmup and train.warmup_lr is not None and now < warmup:
        return train.warmup_lr
    if train.schedule == "constant":
        return min(now / warmup, 1.0) if warmup else 1.0
    if train.schedule == "exponential":
        return (
            now / warmup if now < warmup else max(train.final_lr, train.decay ** ((now - warmup) / train.decay_epochs))
        )
    if now <= warmup and train.warmup_lr is None:
        floor = FLOOR if train.schedule_per == "epoch" else 0.0
        return max(now / warmup, floor) if warmup else 1.0
    fallen = 0.5 * (1 + math.cos(math.pi * (now - warmup) / (train.period or max(train.epochs - warmup, 1))))
    return train.final_lr + (1 - train.final_lr) * fallen


def set_lr(optimizer: Optimizer, train: TrainConfig, epoch: int, step: int = 0, steps_per_epoch: int = 1) -> float:
    """Give every parameter group the learning rate of this moment, and return it."""
    lr = train.lr * lr_multiplier(train, epoch, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017, arXiv 1708.03888).

    For a weight w with gradient g, decay b and trust coefficient c:

        r = c |w| / (|g| + b |w|)      v <- m v + r (g + b w)      w <- w - lr v

    Biases and normalisation parameters (at most one axis) get neither adaptation nor decay, as in SimCLR
    (arXiv 2002.05709, appendix B.9). Where |w| or |g| is 0, r = 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; returns what `closure` returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if parameter.ndim > 1:
            w_norm, g_norm, decay = parameter.norm(), grad.norm(), group["weight_decay"]
            ratio = group["trust"] * w_norm / (g_norm + decay * w_norm)
            ratio = torch.where((w_norm > 0) & (g_norm > 0), ratio, torch.ones_like(ratio))
            grad = ratio * grad.add(parameter, alpha=decay)
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        velocity: Tensor = state["momentum_buffer"]
        velocity.mul_(group["momentum"]).add_(grad)
        parameter.add_(velocity, alpha=-group["lr"])

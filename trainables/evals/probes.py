"""Linear probes that try every penalty (or learning rate) at once, on features that are already computed.

Protocol, the same for every probe: it sees features of the *train* split only. A seeded part of its items (all draws of
an item together, so that no image stands on both sides) is held out to choose the penalty; the probe is then fit on the
whole train split with that penalty. The splits that are reported, `val` and `test`, choose nothing.

Features are standardised with the train split's mean and standard deviation, and the intercept is never penalised.
Without an intercept (`bias` false) nothing is centred, and the scale is the root mean square.
Penalties are relative to unit-variance features and independent of the number of rows n: ridge minimises
|Y - X W|^2 / n + penalty |W|^2 (scikit-learn's `Ridge(alpha=n * penalty)`), logistic regression the mean cross entropy
+ penalty / 2 |W|^2 (scikit-learn's `LogisticRegression(C=1 / (n * penalty))`).

Sources: all ridge penalties from one eigendecomposition, for regression and classification against one-hot targets, is
the idea of big_vision's few-shot evaluator (Beyer et al.). The bound on the Hessian that makes the logistic
problem well conditioned is Boehning, "Multinomial logistic regression algorithm", 1992. The SGD heads train every
learning rate and choose on held-out rows, since a fixed rate decides the ranking of encoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import one_hot

from datasets.atomic import replacing

ProbeKind = Literal["logistic", "ridge", "sgd"]

# Strongest first: where two penalties do equally well on the held-out part, the stronger one is taken.
RIDGE_PENALTIES: tuple[float, ...] = tuple(10.0**e for e in range(3, -7, -1))
LOGISTIC_PENALTIES: tuple[float, ...] = tuple(10.0**e for e in range(0, -6, -1))
SGD_RATES: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
WIDE = 8192  # features from which on, if there are fewer rows, logistic regression is solved in the rows' own space


@dataclass(frozen=True)
class Linear:
    """A fitted probe: scores = (x - mean) / scale @ weight + bias.

    Attributes:
        weight: (d, t); bias: (t,), one column per target or class.
        mean: (d,), scale: (d,), of the features it was fitted on; a constant feature has scale 1.
        chosen: the penalty, or the learning rate of an SGD probe.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    chosen: float

    def __call__(self, x: Tensor) -> Tensor:
        """x (n, d) -> predictions or class scores (n, t)."""
        return (x.to(self.mean.dtype) - self.mean) / self.scale @ self.weight + self.bias

    def save(self, path: Path) -> Path:
        """Write the probe as safetensors, whole or not at all."""
        tensors = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        metadata = {"chosen": repr(self.chosen)}
        with replacing(path) as temporary:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata)
        return path


# -- regression ---------------------------------------------------------------------------------------------------


def ridge(x: Tensor, y: Tensor, held_out: Tensor, penalties: tuple[float, ...] = RIDGE_PENALTIES) -> Linear:
    """Ridge regression, exact, with one penalty for all targets: the one with the best mean R2 on the held-out rows.

    Args:
        x: (n, d) features. y: (n, t) targets. held_out: (n,) bool, see `hold_out`.
    """
    x, y = x.double(), y.double()
    keep, held = ~held_out, held_out
    scores = [float(r2(fit(x[held]), y[held]).mean()) for fit in _ridges(x[keep], y[keep], penalties)]
    best = int(np.argmax(scores))
    return _ridges(x, y, (penalties[best],))[0]


def _ridges(x: Tensor, y: Tensor, penalties: tuple[float, ...], bias: bool = True) -> list[Linear]:
    """The solution for every penalty from one eigendecomposition, of X'X (d <= n) or X X' (d > n)."""
    mean, scale = standardisation(x, bias)
    z, target = (x - mean) / scale, y.mean(0) if bias else torch.zeros_like(y[0])
    n, d = z.shape
    wide = d > n
    values, vectors = torch.linalg.eigh((z @ z.T if wide else z.T @ z) / n)
    values = values.clamp_min(0)
    centred = y - target
    inner = vectors.T @ (centred if wide else z.T @ centred) / n
    fits = []
    for penalty in penalties:
        solved = vectors @ (inner / (values + penalty)[:, None])
        fits.append(Linear(z.T @ solved if wide else solved, target, mean, scale, penalty))
    return fits


def r2(prediction: Tensor, target: Tensor) -> Tensor:
    """Coefficient of determination per target, (t,): 1 - residual / total sum of squares about the target's own mean.

    A constant target gives 1.0 if it is predicted exactly, else 0.0, so that the value is always finite.
    """
    prediction, target = prediction.double(), target.double()
    residual = (target - prediction).square().sum(0)
    total = (target - target.mean(0)).square().sum(0)
    constant = total <= 1e-12 * target.square().sum(0)
    flat = (residual <= 1e-12 * target.square().sum(0)).double()
    return torch.where(constant, flat, 1 - residual / total.masked_fill(constant, 1.0))


# -- classification -----------------------------------------------------------------------------------------------


def classifier(
    x: Tensor,
    y: Tensor,
    classes: int,
    held_out: Tensor,
    kind: ProbeKind = "logistic",
    rng: np.random.Generator | None = None,
    bias: bool = True,
) -> Linear:
    """A linear classifier whose penalty or learning rate has the best accuracy on the held-out rows.

    Args:
        x: (n, d) features. y: (n,) int64 classes. held_out: (n,) bool.
        kind: "logistic" (multinomial, exact), "ridge" (one-hot regression, exact, fastest), "sgd" (linear heads at
            all learning rates in one pass; the chosen head is not fitted again on the held-out rows).
        rng: order of the SGD batches. bias: whether it has an intercept.
    """
    keep, held = ~held_out, held_out
    if kind == "ridge":
        x, target = x.double(), one_hot(y, classes).double()
        best = _most_accurate(_ridges(x[keep], target[keep], RIDGE_PENALTIES, bias), x[held], y[held])
        return _ridges(x, target, (RIDGE_PENALTIES[best],), bias)[0]
    if kind == "sgd":
        heads = sgd_heads(x[keep], y[keep], classes, rng=rng or np.random.default_rng(0), bias=bias)
        return heads[_most_accurate(heads, x[held], y[held])]
    best = _most_accurate(logistic(x[keep], y[keep], classes, bias=bias), x[held], y[held])
    return logistic(x, y, classes, (LOGISTIC_PENALTIES[best],), bias=bias)[0]


def _most_accurate(fits: list[Linear], x: Tensor, y: Tensor) -> int:
    return int(np.argmax([accuracy(fit(x), y) for fit in fits]))


def logistic(
    x: Tensor,
    y: Tensor,
    classes: int,
    penalties: tuple[float, ...] = LOGISTIC_PENALTIES,
    iterations: int = 100,
    tolerance: float = 3e-4,
    dtype: torch.dtype = torch.float32,
    bias: bool = True,
) -> list[Linear]:
    """Multinomial logistic regression for every penalty at once: one matrix product an iteration serves them all.

    The softmax's Hessian is bounded by (X'X / n) / 2, whatever the weights. In the eigenvectors of X'X, scaled by that
    bound, every problem is well conditioned and a step of length 1 always descends; L-BFGS does the rest.

    Args:
        x: (n, d). y: (n,) int64. tolerance: on the largest entry of the scaled gradient.
    """
    n = len(x)
    mean, scale = standardisation(x.double(), bias)
    z = (x.double() - mean) / scale
    values, vectors = _axes(z)
    penalty = torch.tensor([*penalties], dtype=torch.float64)[:, None]
    bound_PD = (values.clamp_min(0) / 2 + penalty).rsqrt()  # (p, axes)
    ridge_PD = penalty.expand(-1, len(values))
    rotated = z @ vectors
    if bias:
        rotated = torch.cat([rotated, torch.ones(n, 1, dtype=z.dtype)], 1)
        bound_PD = torch.cat([bound_PD, torch.full_like(penalty, math.sqrt(2))], 1)
        ridge_PD = torch.cat([ridge_PD, torch.zeros_like(penalty)], 1)
    rotated, bound_PD, ridge_PD = rotated.to(dtype), bound_PD.to(dtype), ridge_PD.to(dtype)
    target = one_hot(y, classes).to(dtype)

    def objective(u: Tensor) -> tuple[Tensor, Tensor]:
        return _cross_entropy(u, rotated, target, bound_PD, ridge_PD)

    start = torch.zeros(len(penalties), rotated.shape[1] * classes, dtype=dtype)
    solved = minimise(objective, start, iterations, tolerance).view(len(penalties), -1, classes)
    weights = solved * bound_PD[..., None]
    unrotated = vectors.to(dtype) @ weights[:, : len(values)]
    intercepts = weights[:, -1] if bias else torch.zeros_like(weights[:, -1])
    mean, scale = mean.to(dtype), scale.to(dtype)
    return [Linear(w, b, mean, scale, p) for w, b, p in zip(unrotated, intercepts, penalties, strict=True)]


def _axes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (r,) and eigenvectors (d, r) of Z'Z / n, of unpooled frames those alone in which the rows z lie."""
    n, d = z.shape
    if d <= max(n, WIDE):
        found: tuple[Tensor, Tensor] = torch.linalg.eigh(z.T @ z / n)
        return found
    values, vectors = torch.linalg.eigh(z @ z.T / n)
    there = values > 1e-12 * values[-1]  # beyond them a penalised weight is zero
    return values[there], z.T @ (vectors[:, there] / (n * values[there]).sqrt())


def _cross_entropy(u: Tensor, x: Tensor, target: Tensor, bound_PD: Tensor, ridge_PD: Tensor) -> tuple[Tensor, Tensor]:
    """Penalised mean cross entropy (p,) and its gradient (p, m) in the scaled coordinates u (p, m)."""
    (n, classes), problems = target.shape, len(u)
    w_PDK = u.view(problems, -1, classes) * bound_PD[..., None]
    logits = (x @ w_PDK.permute(1, 0, 2).reshape(x.shape[1], -1)).view(n, problems, classes)
    top = logits.amax(-1, keepdim=True)
    weights = (logits - top).exp_()
    sums = weights.sum(-1, keepdim=True)
    value = (top + sums.log()).squeeze(-1).mean(0) - torch.einsum("npk,nk->p", logits, target) / n
    value = value + (ridge_PD[..., None] * w_PDK.square()).sum((1, 2)) / 2
    error = weights.div_(sums).sub_(target[:, None]).view(n, -1)
    gradient = (x.T @ error).view(x.shape[1], problems, classes).permute(1, 0, 2) / n + ridge_PD[..., None] * w_PDK
    return value, (gradient * bound_PD[..., None]).reshape(problems, -1)


Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


def minimise(objective: Objective, start: Tensor, iterations: int, tolerance: float, history: int = 10) -> Tensor:
    """L-BFGS on p independent convex problems in one batch: each has its own step length and history.

    Args:
        objective: points (p, m) -> values (p,), gradients (p, m).

    Returns:
        The last points, (p, m); a problem stops when its gradient's largest entry is below `tolerance`, when no step
        descends any more (rounding), or after `iterations`.
    """
    point = start
    value, gradient = objective(point)
    active = gradient.abs().amax(1) > tolerance
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(iterations):
        if not bool(active.any()):
            break
        direction = -_two_loop(gradient, pairs) * active[:, None]
        moved, value, new = _backtrack(objective, point, value, gradient, direction)
        step, change = moved - point, new - gradient
        curvature = (step * change).sum(1)
        curved = curvature > 1e-12  # a problem that did not move adds a pair without effect
        pairs.append((step, change, torch.where(curved, 1 / curvature.masked_fill(~curved, 1.0), 0.0)))
        pairs = pairs[-history:]
        point, gradient = moved, new
        active = active & (gradient.abs().amax(1) > tolerance) & (step.abs().amax(1) > 0)
    return point


def _two_loop(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian's estimate times the gradient; rho = 0 marks a pair to be skipped."""
    q, used = gradient.clone(), []
    for step, change, rho in reversed(pairs):
        alpha = rho * (step * q).sum(1)
        q -= alpha[:, None] * change
        used.append(alpha)
    for (step, change, rho), alpha in zip(pairs, reversed(used), strict=True):
        q += (alpha - rho * (change * q).sum(1))[:, None] * step
    return q


def _backtrack(
    objective: Objective, point: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each problem's step until it descends enough (Armijo); one that never does stays where it is."""
    slope = (gradient * direction).sum(1)
    rounding = 8 * torch.finfo(value.dtype).eps * value.abs()
    length = torch.ones_like(value)
    for _ in range(12):
        moved = point + length[:, None] * direction
        new_value, new_gradient = objective(moved)
        good = (new_value <= value + 1e-4 * length * slope + rounding) | (slope == 0)
        if bool(good.all()):
            return moved, new_value, new_gradient
        length = torch.where(good, length, length / 2)
    good = good[:, None]
    kept = torch.where(good[:, 0], new_value, value)
    return torch.where(good, moved, point), kept, torch.where(good, new_gradient, gradient)


def sgd_heads(
    x: Tensor,
    y: Tensor,
    classes: int,
    rng: np.random.Generator,
    rates: tuple[float, ...] = SGD_RATES,
    epochs: int = 30,
    batch_size: int = 256,
    bias: bool = True,
) -> list[Linear]:
    """Linear heads at all learning rates in one pass: SGD, momentum 0.9, cosine to 0, no weight decay.

    Every batch is read once for all heads, and the gradient of the softmax cross entropy is written out, so that a step
    is two matrix products. A head that diverges has scores that are not finite, and accuracy 0.
    """
    mean, scale = standardisation(x.double(), bias)
    mean, scale = mean.float(), scale.float()
    z = torch.cat([(x.float() - mean) / scale, torch.ones(len(x), int(bias))], 1)
    target = one_hot(y, classes).float()
    rate = torch.tensor(rates).repeat_interleave(classes)
    weight = torch.zeros(z.shape[1], len(rates) * classes)
    momentum = torch.zeros_like(weight)
    steps, done = epochs * math.ceil(len(x) / batch_size), 0
    for _ in range(epochs):
        for rows in torch.from_numpy(rng.permutation(len(x))).split(batch_size):
            batch = z[rows]
            p = (batch @ weight).view(len(rows), len(rates), classes).softmax(-1)
            error = (p - target[rows][:, None]).view(len(rows), -1)
            momentum.mul_(0.9).add_(batch.T @ error / len(rows))
            weight -= 0.5 * (1 + math.cos(math.pi * done / steps)) * rate * momentum
            done += 1
    heads = weight.view(-1, len(rates), classes).unbind(1)
    d, none = x.shape[1], torch.zeros(classes)
    return [Linear(h[:d], h[d] if bias else none, mean, scale, r) for h, r in zip(heads, rates, strict=True)]


# -- measures and splits ------------------------------------------------------------------------------------------


def hold_out(index: Tensor, rng: np.random.Generator, fraction: float = 0.2) -> Tensor:
    """(n,) bool: the rows of a seeded `fraction` of the items, all draws of an item on the same side.

    Args:
        index: (n,) which item each row belongs to; at least two different ones.
    """
    items = np.unique(index.numpy())
    count = min(max(1, round(fraction * len(items))), len(items) - 1)
    chosen = rng.permutation(items)[:count]
    return torch.from_numpy(np.isin(index.numpy(), chosen))


def top_k(scores: Tensor, y: Tensor, k: int) -> float:
    """Share of rows whose class is among the `k` highest scores; k is capped at the number of classes."""
    scores = scores.masked_fill(~scores.isfinite(), -math.inf)
    usable = scores.isfinite().all(1)
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float(((best == y[:, None]).any(1) & usable).double().mean())


def accuracy(scores: Tensor, y: Tensor) -> float:
    """Share of rows whose highest score is the right class; a row with a score that is not finite counts as wrong."""
    return top_k(scores, y, 1)


def auc(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve, ties counted half; 0.5 where only one class is present."""
    yes = positive.bool().numpy()
    count, others = int(yes.sum()), int((~yes).sum())
    if not count or not others:
        return 0.5
    ranks = rankdata(score.double().numpy())
    return float((ranks[yes].sum() - count * (count + 1) / 2) / (count * others))


def chance(train: Tensor, y: Tensor) -> float:
    """Accuracy of always answering the most frequent class of `train`."""
    return float((y == train.bincount().argmax()).double().mean())


def standardisation(x: Tensor, bias: bool = True) -> tuple[Tensor, Tensor]:
    """Mean and deviation of features (n, d), the latter 1 of constant ones; without `bias` 0 and root mean square."""
    mean, scale = x.mean(0), x.std(0, correction=0)
    if not bias:
        mean, scale = torch.zeros_like(mean), x.square().mean(0).sqrt()
    constant = scale <= 1e-7 * x.abs().amax(0)
    return mean, scale.masked_fill(constant, 1.0)

"""Divergences between distributions over bins, and the targets of DUET's group axis: in log space, natural logs.

Also that of a Gaussian from the standard normal distribution, of SIM.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.losses.precision import full_precision

FINE = 100  # grid points per bin


@full_precision
def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """JS(p, q) = (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, over the last axis: (..., G) -> (...), in [0, ln 2].

    Takes log-probabilities (`log_softmax` of logits, `.log()` of probabilities), so nothing overflows; a log of -inf
    counts as 0 ln 0 = 0.
    """
    floor = torch.finfo(log_p.dtype).min / 4
    log_p, log_q = log_p.clamp_min(floor), log_q.clamp_min(floor)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * terms.sum(-1)


@full_precision
def standard_normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp logvar) || N(0, 1)) of each entry: (mean^2 + exp logvar - 1 - logvar) / 2."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def log_gaussian(p: Tensor, bins: int, std: float, normalise: bool = True) -> Tensor:
    """ln of a Gaussian around p, collected into bins over [0, 1]: (...) -> (..., bins).

    On n = 100 bins points t_f = f / (n - 1), bin g collects f = 100 g .. 100 g + 99:
    t_g ~ sum_f exp(-(t_f - p)^2 / (2 std^2)). Normalised to sum 1 (so the Gaussian is truncated to [0, 1]); else the
    Riemann sum of the density with step 1 / n. Source: DUET (arXiv 2306.16058).
    """
    log_density = -0.5 * ((_grid(p, bins) - p[..., None]) / std).square()
    constant = -math.log(std * math.sqrt(2 * math.pi)) - math.log(FINE * bins)
    return _collect(log_density, bins, constant, normalise)


def log_von_mises(p: Tensor, bins: int, kappa: float, normalise: bool = True) -> Tensor:
    """ln of a von Mises distribution around the angle 2 pi p, collected into bins: (...) -> (..., bins).

    On the grid of `log_gaussian`, t_g ~ sum_f exp(kappa cos(2 pi t_f - 2 pi p)). Normalised to sum 1; else the Riemann
    sum of the density exp(kappa cos) / (2 pi I0(kappa)) with step 2 pi / n. p = 0 and p = 1 are the same angle.
    Source: DUET (arXiv 2306.16058).
    """
    log_density = kappa * torch.cos(2 * math.pi * (_grid(p, bins) - p[..., None]))
    log_i0 = math.log(torch.special.i0e(torch.tensor(kappa, dtype=torch.float64)).item()) + kappa
    return _collect(log_density, bins, -log_i0 - math.log(FINE * bins), normalise)


def _grid(p: Tensor, bins: int) -> Tensor:
    return torch.linspace(0, 1, FINE * bins, dtype=p.dtype, device=p.device)


def _collect(log_density: Tensor, bins: int, constant: float, normalise: bool) -> Tensor:
    log_t = log_density.unflatten(-1, (bins, FINE)).logsumexp(-1)
    return log_t.log_softmax(-1) if normalise else log_t + constant


def chance(log_targets: Tensor) -> float:
    """The mean JS to targets (M, G) of a model that says nothing: a uniform prediction."""
    bins = log_targets.shape[-1]
    return float(jensen_shannon(torch.full_like(log_targets, -math.log(bins)), log_targets).mean())


def best_constant(log_targets: Tensor) -> float:
    """The mean JS to targets (M, G) of the best prediction that ignores the input; below it a model has learned.

    The problem is convex in the prediction; it is solved by L-BFGS on its logits.
    """
    log_targets = log_targets.detach()
    logits = log_targets.logsumexp(0).requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        return jensen_shannon(logits.log_softmax(-1).expand_as(log_targets), log_targets).mean()

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        optimizer.step(closure)
    return float(loss().detach())

"""Densities from samples by Gaussian kernels, and how much their dimensions tell of each other (total correlation)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 2**22  # values of a matrix of distances in memory at once
RIDGE = 1e-6  # added to the diagonal of a correlation matrix, which is singular of few samples


def entropy(x: Tensor, bandwidth: float) -> float:
    """-mean ln p of samples x (n, d) in nats, p the kernel estimate from the same samples, each one's own included."""
    n, d = x.shape
    constant = math.log(n) + 0.5 * d * math.log(2 * math.pi * bandwidth**2)
    total = 0.0
    for some in x.split(max(1, BLOCK // n)):
        apart = torch.cdist(some, x, compute_mode="donot_use_mm_for_euclid_dist").square()
        total += float((apart / (-2 * bandwidth**2)).logsumexp(1).sum())
    return constant - total / n


def marginal_entropies(x: Tensor, bandwidth: float) -> Tensor:
    """`entropy` of each dimension of x (n, d) by itself: (d,)."""
    n = len(x)
    constant = math.log(n) + 0.5 * math.log(2 * math.pi * bandwidth**2)
    found = []
    for column in x.unbind(1):
        sums = [
            ((some[:, None] - column).square_() / (-2 * bandwidth**2)).exp_().sum(1).log().sum()
            for some in column.split(max(1, BLOCK // n))
        ]
        found.append(constant - torch.stack(sums).sum() / n)
    return torch.stack(found)


def total_correlation(x: Tensor, bandwidth: float) -> float:
    """Sum of the entropies of the dimensions less that of all together, x (n, d), in nats."""
    x = x.double()
    return float(marginal_entropies(x, bandwidth).sum()) - entropy(x, bandwidth)


def gaussian_total_correlation(x: Tensor) -> float:
    """-1/2 ln det of the correlation matrix of x (n, d): the total correlation if x were Gaussian, in nats.

    Dimensions that do not vary are left out, being independent of all others.
    """
    x = x.double()
    centred, size = x - x.mean(0), x.std(0)
    centred = centred[:, size > 1e-12 * size.max().clamp_min(1e-300)]
    if centred.shape[1] < 2:
        return 0.0
    unit = centred / centred.norm(dim=0)
    correlation = unit.T @ unit
    return float(-0.5 * torch.linalg.slogdet(correlation + RIDGE * torch.eye(len(correlation), dtype=x.dtype))[1])


def curve(x: Tensor, at: Tensor, factor: float) -> Tensor:
    """Density of samples x (n,) at points (m,), kernels as wide as `factor` times their deviation (m,)."""
    width = max(factor * float(x.double().std()), 1e-12)
    apart = (at.double()[:, None] - x.double()) / width
    return (-0.5 * apart.square()).exp().mean(1) / (width * math.sqrt(2 * math.pi))

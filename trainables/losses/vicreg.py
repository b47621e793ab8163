"""Variance and covariance of embeddings over the *global* batch, which keep them from collapsing.

Source: Bardes, Ponce, LeCun, "VICReg", ICLR 2022, arXiv 2105.04906, in the form of SIE (arXiv 2302.10283): the hinge is
halved for each of two views, the covariance is not, and the variance on a prediction has half weight too. Under data
parallelism every rank computes the same value from all rows, so that the average of the ranks' gradients is that of
one process. All in float32 at least.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainables.core import dist
from trainables.losses.precision import full_precision

EPSILON = 1e-4  # under the root of a variance


@full_precision
def variance(x: Tensor) -> Tensor:
    """mean_j max(0, 1 - std_j) of embeddings (b, d), std unbiased; 1 at collapse, 0 where every column is spread."""
    std = (dist.gather(x).var(0) + EPSILON).sqrt()
    return (1 - std).relu().mean()


@full_precision
def covariance(x: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of the covariance matrix of (b, d), over d."""
    rows = dist.gather(x)
    centred = rows - rows.mean(0)
    matrix = centred.T @ centred / (len(rows) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / x.shape[1]


@full_precision
def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows and columns of (a - b)^2, of (b, d) each, over all ranks."""
    return dist.mean((a - b).square().mean(1))


@full_precision
def spread(x: Tensor) -> Tensor:
    """Mean over columns of the deviation of rows (b, d) on the unit sphere: 1 / sqrt(d) = spread out, 0 = collapse."""
    return F.normalize(dist.gather(x)).std(0).mean()


@full_precision
def correlation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean off-diagonal entry of the correlation matrix of (b, d), signed and absolute.

    Strong correlations of both signs cancel in the first, which the original reports.
    """
    rows = dist.gather(x)
    standard = (rows - rows.mean(0)) / (rows.std(0) + 1e-5)
    matrix = standard.T @ standard / (len(rows) - 1)
    entries = matrix.numel() - len(matrix)
    signed, absolute = ((values.sum() - values.trace()) / entries for values in (matrix, matrix.abs()))
    return signed, absolute

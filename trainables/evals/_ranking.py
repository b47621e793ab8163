"""Retrieval among rows by Euclidean distance: precision, recall and F1 at k, and the equal error rate of pairs.

Every row is a query, all others are ranked; those with its label are hits. Source: Wu, Wang, Raj, Xia, ICLR 2025,
arXiv 2407.03824. Its area is a sum of rectangles over the numbers k, from the first k on, so that what is found among
the first k alone is no part of it and a perfect ranking has less than 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

KEYS = 2**21  # queries times rows that are ranked at once: 16 MB of sortable numbers, and a few times as much beside
FIXED = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
OLD = (1, 2, 5, 10, 20, 50, 75, 100, 200, 300, 400, 500, 750, 1000, 1500, 2000, 2500, 3000)


@dataclass(frozen=True)
class Curve:
    """Means over queries at the numbers `ks` (m,), float64 each."""

    ks: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def auc(self) -> float:
        """Sum of precisions times the growth of recall since the k before."""
        return float((np.diff(self.recall) * self.precision[1:]).sum())

    @property
    def best_f1(self) -> float:
        """The largest over k."""
        return float(self.f1.max())


def adaptive(labels: Tensor) -> list[int]:
    """The numbers k that the published evaluation looks at, for labels (n,); -1 = none."""
    most = int(labels[labels >= 0].bincount().max()) - 1 if bool((labels >= 0).any()) else 0
    if most < 1:
        return [1]
    return sorted({*FIXED, *(round(share * most) for share in SHARES)} - {0})


def within(ks: Sequence[int], rows: int, old: bool) -> list[int]:
    """Those of k that there are rows for, each once: what is larger counts as all other rows; in the old form not."""
    return sorted({k for k in ks if k < rows} if old else {min(k, rows - 1) for k in ks})


def curves(
    x: Tensor, labels: Mapping[str, Tensor], ks: Mapping[str, Sequence[int]], old: bool = False
) -> dict[str, Curve]:
    """What the ranking of rows x (n, d), n > 1, says of each factor; of rows equally far the first comes first.

    Args:
        labels: factor -> (n,) int64, -1 = none: such rows are no queries, and hits of none. ks: factor -> numbers, see
            `within`.
        old: the form of the published tables: a query ranks first in its own list, and is no hit.
    """
    n = len(x)
    z = (x - x.mean(0)).float()
    z = z.ldexp(-z.abs().max().frexp().exponent)  # squares neither vanish nor overflow, and nothing is rounded
    squared, place = z.square().sum(1), np.arange(n, dtype=np.uint64)
    asked = {factor: np.array(within(some, n, old)) for factor, some in ks.items()}
    sums = {factor: np.zeros((3, len(some))) for factor, some in asked.items()}
    of = {factor: _Factor(np.asarray(y), asked[factor] - old) for factor, y in labels.items()}
    longest = max(int(some.max()) for some in asked.values())
    for rows in torch.arange(n).split(max(1, KEYS // n)):
        apart = (squared[rows, None] + squared - 2 * (z[rows] @ z.T)).clamp_min_(0)
        keys = apart.numpy().view(np.uint32).astype(np.uint64) << np.uint64(32) | place
        keys[np.arange(len(rows)), rows.numpy()] = np.iinfo(np.uint64).max  # itself
        keys.sort(1)
        order = (keys[:, :longest] & np.uint64(2**32 - 1)).astype(np.int64)
        for factor, one in of.items():
            sums[factor] += one.measured(order, rows.numpy(), asked[factor])
    return {factor: Curve(asked[factor], *(sums[factor] / max(one.queries, 1))) for factor, one in of.items()}


class _Factor:
    """Hits of one factor."""

    def __init__(self, y: np.ndarray, ks: np.ndarray) -> None:
        """`y`: (n,) labels. `ks`: at which of the ranks hits are counted."""
        self.y, self.ks = y, ks
        self.positives = np.maximum(np.bincount(y[y >= 0], minlength=1)[np.maximum(y, 0)] - 1, 1)
        self.queries = int((y >= 0).sum())

    def measured(self, order: np.ndarray, rows: np.ndarray, ks: np.ndarray) -> np.ndarray:
        """(3, m) sums over the queries at `rows` (b,) of precision, recall and F1; order: (b, ranks)."""
        known = self.y[rows] >= 0
        rows, order = rows[known], order[known, : int(self.ks.max())]
        found = (self.y[order] == self.y[rows, None]).cumsum(1, dtype=np.int32)
        hits = np.concatenate([np.zeros((len(rows), 1), np.int32), found], 1)[:, self.ks].astype(np.float64)
        precision, recall = hits / ks, hits / self.positives[rows, None]
        f1 = 2 * precision * recall / (precision + recall + 1e-8)
        return np.stack([one.sum(0) for one in (precision, recall, f1)])


def chance(labels: Tensor, ks: np.ndarray, old: bool = False) -> float:
    """The area of a random order of rows with labels (n,), at the numbers k of a curve."""
    known = labels[labels >= 0]
    if not len(known):
        return 0.0
    share = float((known.bincount()[known].double() - 1).mean()) / (len(labels) - 1)
    recall = (ks - old) / (len(labels) - 1)
    return float((np.diff(recall) * share * ((ks - old) / ks)[1:]).sum())


def distances(x: Tensor) -> Tensor:
    """(n, d) -> (n, n) Euclidean distances, float64, exact near 0."""
    return torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")


def equal_error_rate(apart: Tensor, same: Tensor) -> float:
    """Share of pairs (p,) of two classes that are taken for one, where as large a share of the others is missed.

    Pairs up to a distance are taken for one; of all distances it is the one where the two shares are nearest to each
    other, the smallest of several. 0.5 where all pairs are of one kind, or equally far apart.

    Args:
        apart: their distances. same: (p,) bool, whether they are of one class.
    """
    genuine = int(same.sum())
    others = len(same) - genuine
    if not genuine or not others or bool((apart == apart[0]).all()):
        return 0.5
    values, which = apart.unique(return_inverse=True)
    taken = [torch.bincount(which[kind], minlength=len(values)).cumsum(0).double() for kind in (same, ~same)]
    missed = torch.cat([torch.ones(1, dtype=torch.float64), 1 - taken[0] / genuine])
    wrong = torch.cat([torch.zeros(1, dtype=torch.float64), taken[1] / others])
    return float(wrong[(wrong - missed).abs().argmin()])


def error_rate_of(x: Tensor, labels: Tensor) -> float:
    """The equal error rate of all pairs of rows x (n, d) that have labels (n,)."""
    x, labels = x[labels >= 0], labels[labels >= 0]
    first, second = torch.triu_indices(len(x), len(x), 1)
    if not len(first):
        return 0.5
    return equal_error_rate(distances(x)[first, second], labels[first] == labels[second])

"""Train sets whose classes are distributed otherwise: at given divergences from the data, and evenly.

Source: a removed and unfinished part of synesis (Plachouras et al., arXiv 2505.06224), which found distributions but
trained nothing on them. A distribution is the first of up to 1,000 draws from a flat Dirichlet whose divergence
KL(data || it) is within a tenth of the target, at least 0.01; where there is none, of all of them the nearest.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

TRIES = 1000
Floats = np.ndarray


class Dirichlet(Protocol):
    """What draws are asked of."""

    def dirichlet(self, alpha: Floats) -> Floats: ...


def targets(count: int, most: float) -> Floats:
    """So many divergences from 0 to `most`, in nats."""
    return np.linspace(0, most, count)


def divergence(p: Floats, q: Floats) -> float:
    """KL(p || q) in nats, of distributions (k,)."""
    there = p > 0
    with np.errstate(divide="ignore"):
        return float((p[there] * np.log(p[there] / q[there])).sum())


def distribution(p: Floats, target: float, rng: Dirichlet) -> tuple[Floats, bool]:
    """A distribution (k,) at divergence `target` from p (k,), and whether it is near enough."""
    nearest, off = p, np.inf
    for _ in range(TRIES):
        q = rng.dirichlet(np.ones(len(p)))
        apart = abs(divergence(p, q) - target)
        if apart <= max(0.1 * target, 0.01):
            return q, True
        if apart < off:
            nearest, off = q, apart
    return nearest, False


def subset(y: Floats, q: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Rows of about `size` items with classes y (n,) in the proportions q (k,), each at most once, in increasing order.

    Of a class that has fewer items all are taken; what rounding leaves over is of the last class.
    """
    counts = np.floor(size * q).astype(int)
    counts[-1] = size - counts[:-1].sum()
    rows = [rng.permutation(np.flatnonzero(y == k))[:count] for k, count in enumerate(counts)]
    return np.sort(np.concatenate(rows))


def subsets(
    y: Floats, classes: int, count: int, most: float, rng: np.random.Generator
) -> dict[str, tuple[Floats, float]]:
    """Name -> rows of items with classes y (n,), and the divergence of what they are drawn from: "balanced", and
    "shift0", "shift1", ... at growing divergences; of many classes few draws are near a small one or a large one.

    All are as large as the balanced one, where the classes have that many items: the smallest class times the classes.
    """
    shares = np.bincount(y, minlength=classes).astype(float)
    there = shares > 0
    size = int(shares[there].min()) * int(there.sum())
    p, kinds = shares[there] / shares.sum(), np.flatnonzero(there)
    even = there / there.sum()
    found = {"balanced": (subset(y, even, size, rng), divergence(p, even[there]))}
    for number, target in enumerate(targets(count, most)):
        q = np.zeros(classes)
        q[kinds] = distribution(p, float(target), rng)[0]
        found[f"shift{number}"] = subset(y, q, size, rng), divergence(p, q[there])
    return found

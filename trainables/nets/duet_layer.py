"""The two-dimensional reading of a representation: K groups of G rows (bins of a parameter) by C columns (content).

z (B, D) is viewed as (B, K, G, C) with D = K G C, row-major: index = (k G + g) C + c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Pooler = Literal["sum", "mean", "max", "L1", "L2", "std"]
POOL: dict[Pooler, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x.sum(-2),
    "mean": lambda x: x.mean(-2),
    "max": lambda x: x.amax(-2),
    "L1": lambda x: x.abs().sum(-2),
    "L2": lambda x: x.norm(dim=-2),
    "std": lambda x: x.std(-2),
}


def as_groups(z: Tensor, groups: int, bins: int) -> Tensor:
    """(B, D) -> (B, K, G, C)."""
    return z.unflatten(1, (groups, bins, -1))


def pool_content(z_BKGC: Tensor, pooler: Pooler, across_groups: bool = False) -> Tensor:
    """Collapse the rows: per group and concatenated, (B, K C); or over K and G at once, (B, C)."""
    rows = z_BKGC.flatten(1, 2) if across_groups else z_BKGC
    return POOL[pooler](rows).flatten(1)


def marginal_logits(z_BKGC: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """Collapse the columns: (B, K, G), whose softmax over G is the distribution over a parameter's bins."""
    return z_BKGC.mean(-1) if reduction == "mean" else z_BKGC.sum(-1)

"""Contrastive losses between two views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.core import dist
from trainables.losses.classification import topk_hits
from trainables.losses.precision import full_precision

Negatives = Literal["both", "cross"]


def lp_normalize(x: Tensor, p: float = 2.0, eps: float = 1e-12) -> Tensor:
    """x / max(sum |x|^p, eps)^(1/p) along the last axis. The floor is on the power sum, not on the norm."""
    power = x.abs().pow(p).sum(-1, keepdim=True)
    return x / power.clamp_min(eps).pow(1 / p)


@dataclass(frozen=True)
class NTXent:
    """Per-row values of NT-Xent, for the rows of this rank.

    Attributes:
        values: (b,) l_a(i) + l_b(i).
        hits: name -> (b,) 100 where the positive is among the best 1 or 5 of the 2B columns, else 0; the mean is the
            matching accuracy in percent. `ABAA`: view 1 against views 2 and 1, `BABB`: view 2 against 1 and 2, `total`:
            their mean.
    """

    values: Tensor
    hits: dict[str, Tensor]


@full_precision
def nt_xent(e1: Tensor, e2: Tensor, temperature: float, negatives: Negatives = "both") -> NTXent:
    """The normalised, temperature-scaled cross entropy of SimCLR (arXiv 2002.05709), both directions *summed*.

    With u = x / |x| (a for view 1, b for view 2), sample i and temperature T:

        l_a(i) = -ln [ exp(a_i.b_i / T) / ( sum_j exp(a_i.b_j / T) + sum_{j != i} exp(a_i.a_j / T) ) ]

    and l_b(i) with the roles exchanged. The mean over i is twice SimCLR's average over 2B; DUET's lambda is calibrated
    against it. With equal logits it is 2 ln(2B - 1). Across ranks the queries are this rank's rows and the keys
    everybody's, so `dist.mean(values)` is the loss of the joint batch.

    Args:
        e1: (b, d) embeddings of view 1.
        e2: (b, d) of view 2.
        negatives: "cross" leaves out the second sum, the sample's own view: 2 ln B with equal logits, B columns.
    """
    a, b = lp_normalize(e1), lp_normalize(e2)
    counts = dist.sizes(len(a))
    keys_a, keys_b = dist.gather(torch.cat([a, b], dim=1), counts).chunk(2, dim=1)
    column = torch.arange(len(a), device=a.device) + dist.offset(counts)
    logits = {
        "ABAA": _against(a, keys_b, keys_a if negatives == "both" else None, column) / temperature,
        "BABB": _against(b, keys_a, keys_b if negatives == "both" else None, column) / temperature,
    }
    values = sum((F.cross_entropy(rows, column, reduction="none") for rows in logits.values()), a.new_zeros(len(a)))
    hits = {}
    for k in (1, 5):
        each = {name: topk_hits(rows.detach(), column, k) for name, rows in logits.items()}
        each["total"] = (each["ABAA"] + each["BABB"]) / 2
        hits.update({f"ntxent_{name}_top{k}": rows for name, rows in each.items()})
    return NTXent(values, hits)


def _against(query: Tensor, other: Tensor, same: Tensor | None, column: Tensor) -> Tensor:
    """Similarities to the other view, then, if it is given, to the same view without oneself: (b, B) or (b, 2B)."""
    if same is None:
        return query @ other.T
    within = query @ same.T
    within = within.scatter(1, column[:, None], float("-inf"))
    return torch.cat([query @ other.T, within], dim=1)

"""Is the predicted embedding of a turned object nearest to the real one? In blocks, for galleries of any size.

Source: PRE, MRR and H@k of SIE (Garrido, Najman, LeCun, ICML 2023, arXiv 2302.10283). Items lie object by object, view
by view; the source of a prediction is view 0 of its object, the queries are all its views, view 0 included.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**24  # products held at once: 64 MB of float32
HITS = (1, 2, 5, 10)


def normalized(predicted: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Both (..., d) on the unit sphere, with the original's floors."""
    return F.normalize(predicted, dim=-1), gallery / (gallery.norm(dim=-1, keepdim=True) + 1e-8)


def nearest(predicted: Tensor, *galleries: Tensor) -> list[Tensor]:
    """For each gallery the index (n,) of the row with the largest product among it and those before it.

    Indices count through all galleries, so that the products with a first one are also those with the first two.

    Args:
        predicted: (n, d). galleries: (m, d) each.
    """
    best, index, start = torch.full((len(predicted),), -torch.inf), torch.zeros(len(predicted), dtype=torch.int64), 0
    found = []
    for gallery in galleries:
        size = max(1, BLOCK // len(gallery))
        tops = [(rows @ gallery.T).max(1) for rows in predicted.split(size)]
        score = torch.cat([top.values for top in tops])
        index = torch.where(score > best, start + torch.cat([top.indices for top in tops]), index)
        best, start = torch.maximum(best, score), start + len(gallery)
        found.append(index)
    return found


def rotation_error(true: Tensor, found: Tensor) -> Tensor:
    """1 - <q, q'>^2 in [0, 1] of unit quaternions (n, 4): sin^2 of half the angle between them; their sign is free."""
    return 1 - (true * found).sum(1).square()


def ranks(predicted: Tensor, gallery: Tensor) -> Tensor:
    """1-based place (o, w) of each view's own embedding among those of its object, by the product.

    Args:
        predicted: (o, w, d), of the last w views. gallery: (o, v, d), of all.

    The own product is taken from the same matrix as the others: one computed apart differs in its last bit.
    """
    found = []
    views = gallery.shape[1]
    first = views - predicted.shape[1]
    for p, g in zip(*(x.split(max(1, BLOCK // views**2)) for x in (predicted, gallery)), strict=True):
        products = p @ g.mT
        own = products.diagonal(first, dim1=1, dim2=2)[..., None]
        found.append(1 + (products > own).sum(2))
    return torch.cat(found)


def rates(places: Tensor) -> dict[str, float]:
    """Mean reciprocal rank and the share of places up to 1, 2, 5, 10."""
    hits = {f"h{k}": float((places <= k).double().mean()) for k in HITS}
    return {"mrr": float((1 / places.double()).mean()), **hits}


def chance(views: int) -> dict[str, float]:
    """The same of a random order, or of a predictor that returns what it is given: MRR = H_v / v."""
    return rates(torch.arange(1, views + 1))

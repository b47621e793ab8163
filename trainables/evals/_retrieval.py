"""Is the predicted embedding of a turned object nearest to the real one? In blocks, for galleries of any size.

Source: PRE, MRR and H@k of SIE (Garrido, Najman, LeCun, ICML 2023, arXiv 2302.10283). Items lie object by object, view
by view; the source of a prediction is view 0 of its object, the queries are all its views, view 0 included.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, COLUMNS = 512, 16_384  # products held at once: 32 MB of float32
HITS = (1, 2, 5, 10)


def normalized(x: Tensor) -> Tensor:
    """Embeddings (..., d) on the unit sphere, with the original's floor."""
    return x / (x.norm(dim=-1, keepdim=True) + 1e-8)


def nearest(predicted: Tensor, *galleries: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each gallery the index (n,) of the row with the largest product among it and those before it: as embeddings
    are, and with the gallery's rows on the unit sphere. How long a prediction is makes no difference.

    Indices count through all galleries; each product of two embeddings is computed once.

    Args:
        predicted: (n, d). galleries: (m, d) each.
    """
    best = torch.full((2, len(predicted)), -torch.inf)
    index = torch.zeros(2, len(predicted), dtype=torch.int64)
    found, start = [], 0
    for gallery in galleries:
        for columns in gallery.split(COLUMNS):
            lengths = columns.norm(dim=1) + 1e-8
            for at in torch.arange(len(predicted)).split(ROWS):
                products = predicted[at] @ columns.T
                for form, scores in enumerate((products, products / lengths)):
                    top = scores.max(1)
                    better = top.values > best[form, at]
                    index[form, at] = torch.where(better, start + top.indices, index[form, at])
                    best[form, at] = torch.maximum(best[form, at], top.values)
            start += len(columns)
        found.append((index[0].clone(), index[1].clone()))
    return found


def rotation_error(true: Tensor, found: Tensor) -> Tensor:
    """1 - <q, q'>^2 in [0, 1] of unit quaternions (n, 4): sin^2 of half the angle between them; their sign is free."""
    return 1 - (true * found).sum(1).square()


def ranks(predicted: Tensor, gallery: Tensor) -> Tensor:
    """1-based place (o, w) of each view's own embedding among those of its object, by the product; float64.

    Equal products share their places, so that embeddings which are all the same find nothing.

    Args:
        predicted: (o, w, d), of the last w views. gallery: (o, v, d), of all.

    The own product is taken from the same matrix as the others: one computed apart differs in its last bit.
    """
    found = []
    views = gallery.shape[1]
    first = views - predicted.shape[1]
    for p, g in zip(*(x.split(max(1, ROWS * COLUMNS // views**2)) for x in (predicted, gallery)), strict=True):
        products = p @ g.mT
        own = products.diagonal(first, dim1=1, dim2=2)[..., None]
        found.append(1 + (products > own).sum(2).double() + ((products == own).sum(2).double() - 1) / 2)
    return torch.cat(found)


def rates(places: Tensor) -> dict[str, float]:
    """Mean reciprocal rank and the share of places up to 1, 2, 5, 10."""
    hits = {f"h{k}": float((places <= k).double().mean()) for k in HITS}
    return {"mrr": float((1 / places).mean()), **hits}


def chance(views: int) -> dict[str, float]:
    """The same of a random order, or of a predictor that returns what it is given: MRR = H_v / v."""
    return rates(torch.arange(1, views + 1))

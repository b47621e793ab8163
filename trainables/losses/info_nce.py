"""InfoNCE between a context and what comes later in the same item: along time (sound) and down the rows of a grid.

Sources: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748;
Löwe, O'Connor, Veeling, "Putting An End to End-to-End", NeurIPS 2019, arXiv 1905.11786; Denoodt, de Boer, Oramas,
"Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936.

Across ranks the queries are this rank's items and the negatives come from everybody's, drawn for the global batch, so
that `dist.mean(values)` is the loss of the joint batch, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.core import dist
from trainables.core.draws import Draws
from trainables.losses.precision import full_precision

Sampling = Literal["exclusive", "any", "sequence"]  # Greedy InfoMax's 0, 1 and 2
TINY = 1e-11  # inside the logarithm, on a grid


@dataclass(frozen=True)
class InfoNCE:
    """Per-item values, for the items of this rank.

    Attributes:
        values: (b,) the loss in nats; ln(N + 1) at chance.
        hits: (b,) percent of an item's queries whose positive scores highest.
    """

    values: Tensor
    hits: Tensor


@dataclass(frozen=True)
class Negatives:
    """Which frames are the negatives of `info_nce`, for a global batch of B items of L frames each.

    A window of W frames from `start` on holds contexts and positives. Step j has M = B (W - j) queries, in the order of
    items, then of time. `drawn` says for N negatives and any query r of them:

        any         (N, B L), permutations of all frames of all items: the last M entries belong to the queries
        exclusive   one (N, M) for each step, offsets o: the positive of query r + o (mod M), never one's own
        sequence    (N, W), permutations of the frames `other` .. `other` + W - 1 of the query's own item; at step j the
                    first j entries belong to no query

    Attributes:
        total, first: items of the global batch, and the first that this rank holds.
    """

    sampling: Sampling
    drawn: Tensor | list[Tensor]
    total: int
    first: int = 0
    start: int = 0
    other: int = 0

    def frames(self, j: int, items: int, length: int, window: int) -> Tensor:
        """(N, m) rows among the flat frames that negatives are taken from, for this rank's m queries of step j."""
        queries = window - j
        drawn = self.drawn[j - 1] if isinstance(self.drawn, list) else self.drawn
        low, high = self.first * queries, (self.first + items) * queries
        if self.sampling == "any":
            end = self.total * (length - queries)  # frames that no query is given
            return drawn[:, end + low : end + high]
        if self.sampling == "exclusive":
            of = (torch.arange(low, high, device=drawn.device) + drawn[:, low:high]) % (self.total * queries)
            return of // queries * length + self.start + j + of % queries
        own = torch.arange(items, device=drawn.device)[:, None] * length + self.other
        return (own + drawn[:, None, j:]).flatten(1)


def draw_negatives(
    draws: Draws, name: str, sampling: Sampling, count: int, length: int, steps: int, window: int | None
) -> Negatives:
    """Draw a window and `count` negatives for every query of every step.

    Args:
        name: of the draw; each module has its own.
        length: L. window: its frames at most; None = all.
    """
    size = length if window is None else min(length, window)
    starts = [draws.integer(f"{name} {what}", length - size) if length > size else 0 for what in ("window", "other")]
    drawn: Tensor | list[Tensor]
    if sampling == "exclusive":
        rows = [draws.total * (size - j) for j in range(1, steps + 1)]
        drawn = [draws.integers(f"{name} offsets {j}", 1, m, (count, m)) for j, m in enumerate(rows)]
    else:
        drawn = draws.permutations(f"{name} order", count, size if sampling == "sequence" else draws.total * length)
    return Negatives(sampling, drawn, draws.total, draws.first, starts[0], starts[1])


@full_precision
def info_nce(prediction: Tensor, z: Tensor, negatives: Negatives) -> InfoNCE:
    """The mean over steps j = 1 .. k and queries t of -ln softmax([q.z_{t+j}, q.n_1, .., q.n_N])_0, q = W_j c_t.

    No temperature, no normalisation and no stopped gradient. A negative may be the positive, except with "exclusive".

    Args:
        prediction: (b, W, k C), of the contexts in the window; columns (j - 1) C .. j C are W_j c. W > k.
        z: (b, L, C), all frames.
    """
    (items, length, size), window = z.shape, prediction.shape[1]
    own, distinct = negatives.sampling == "sequence", negatives.sampling != "exclusive"
    pool = (z if own else dist.gather(z)).flatten(0, 1)
    targets = z[:, negatives.start : negatives.start + window]
    losses, hits = [], []
    for j, predicted in enumerate(prediction.split(size, dim=2), start=1):
        query, positive = predicted[:, : window - j].flatten(0, 1), targets[:, j:].flatten(0, 1)
        index = negatives.frames(j, items, length, window)
        scores = torch.cat([(query * positive).sum(1)[None], dots(query, pool, index, distinct)])
        losses.append((scores.logsumexp(0) - scores[0]).unflatten(0, (items, window - j)).mean(1))
        hits.append(_best(scores).unflatten(0, (items, window - j)).mean(1))
    return InfoNCE(torch.stack(losses).mean(0), 100 * torch.stack(hits).mean(0))


def draw_cells(draws: Draws, name: str, count: int, rows: int, columns: int, steps: int, skip: int = 1) -> list[Tensor]:
    """For each step k the negatives of `grid_info_nce`, drawn with replacement: (rows - k - skip, columns, B, N)."""
    drawn = []
    for k in range(1, steps + 1):
        cells = ((rows - k - skip), columns, draws.total)
        pool = cells[0] * cells[1] * cells[2]
        drawn.append(draws.mine(draws.integers(f"{name} cells {k}", 0, pool, (*cells, count)), axis=2))
    return drawn


@full_precision
def grid_info_nce(context: Tensor, projected: Tensor, drawn: list[Tensor], skip: int = 1) -> InfoNCE:
    """The mean over steps k = 1 .. K and cells of -ln(p_0 + 1e-11), p = softmax([c.W_k z, c.W_k n_1, .., c.W_k n_N]).

    The positive of a context lies k + `skip` rows below it in the same column; negatives are any projected targets of
    that step, of all items.

    Args:
        context: (b, H, W, C).
        projected: (b, H, W, K C), of the targets; columns (k - 1) C .. k C are W_k z. H > K + skip.
        drawn: for each step (H - k - skip, W, b, N) int64, cells of the pool of that step in the order row, column,
            item of the global batch.
    """
    items, rows, _, size = context.shape
    everybody = dist.gather(projected)
    losses, hits = [], []
    for k, index in enumerate(drawn, start=1):
        below, columns = k + skip, slice((k - 1) * size, k * size)
        query = context[:, : rows - below].permute(1, 2, 0, 3)  # row, column, item
        positive = projected[:, below:, :, columns].permute(1, 2, 0, 3)
        pool = everybody[:, below:, :, columns].permute(1, 2, 0, 3).flatten(0, 2)
        negative = dots(query.flatten(0, 2), pool, index.flatten(0, 2).T, False)
        scores = torch.cat([(query * positive).sum(3).flatten()[None], negative])
        cells = query.shape[:2].numel()
        losses.append(-(scores.softmax(0)[0] + TINY).log().unflatten(0, (cells, items)).mean(0))
        hits.append(_best(scores).unflatten(0, (cells, items)).mean(0))
    return InfoNCE(torch.stack(losses).mean(0), 100 * torch.stack(hits).mean(0))


def _best(scores: Tensor) -> Tensor:
    """(1 + N, m) -> (m,) 1 where the first is the largest, else 0."""
    return (scores[0] >= scores[1:].amax(0)).to(scores.dtype).detach()


def dots(query: Tensor, pool: Tensor, index: Tensor, distinct: bool) -> Tensor:
    """query (m, C), pool (R, C), index (N, m) -> (N, m): query r with row index[i, r] of the pool.

    Args:
        distinct: no row of `index` holds a number twice, which makes the gradient faster.
    """
    found: Tensor = _Dots.apply(query, pool, index, distinct)  # type: ignore[no-untyped-call]
    return found


class _Dots(torch.autograd.Function):
    """Gathers the rows again for the gradient: kept, they were (N, m, C) for every step, gigabytes at full size."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, pool: Tensor, index: Tensor, distinct: bool) -> Tensor:
        ctx.save_for_backward(query, pool, index)
        ctx.distinct = distinct
        return torch.stack([(query * pool.index_select(0, rows)).sum(1) for rows in index])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None]:
        query, pool, index = ctx.saved_tensors
        to_query, to_pool = torch.zeros_like(query), torch.zeros_like(pool)
        for rows, grad in zip(index, grads[0], strict=True):
            to_query.addcmul_(grad[:, None], pool.index_select(0, rows))
            if ctx.distinct:
                to_pool.index_add_(0, rows, grad[:, None] * query)
            else:  # on a GPU the sum of equal rows would depend on the order in which threads come
                to_pool.index_put_((rows,), grad[:, None] * query, accumulate=True)
        return to_query, to_pool, None, None

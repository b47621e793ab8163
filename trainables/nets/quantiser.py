"""A vector quantiser whose codebook follows the data by running averages, as V3 uses it.

    code = nearest atom, the first of equals (Euclidean)    q = e[code], atoms before this step's update
    training: z_q = x + sg(q - x), commit = mean (sg(q) - x)^2          evaluation: z_q = q, commit = 0
    update:   N <- a N + (1 - a) n     m <- a m + (1 - a) s             n, s: members of each code, and their sum
              e = m / N',  N' = (N + 1e-5) / (sum N + 1e-5 K) sum N     a: `decay`
    dead codes, N < t after the update, take distinct vectors of this batch: e = x, N = t, m = t x
    the first training batch makes the codebook by 10 iterations of k-means, from K of its vectors

t is a fraction of the uniform usage, t = `dead` b n / K, so that it stands for the same with any batch; 0 = never.

Counts and sums are those of the *global* batch, summed over ranks in one message a step. What is drawn follows from the
step's seed alone, and all state lies in buffers, so a resumed run has the same codebook bit for bit. An evaluation
touches none of it, also before training (codes are then 0).

vector-quantize-pytorch 1.18.0, which the published code uses, gives the golden numbers; it is not used here: it draws
from the global generator, initialises in evaluations too, knows dead codes by a fixed count alone, and sums over ranks
in a message for every quantity.

Source: van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017, arXiv 1711.00937,
appendix A.1; Wu et al., ICLR 2025, arXiv 2407.03824.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from trainables.core import dist
from trainables.core.draws import Draws

SMOOTHING = 1e-5
ITERATIONS = 10


@dataclass(frozen=True)
class Quantised:
    """z_q (b, n, d), codes (b, n) int64, and the commitment loss of each page (b,)."""

    z_q: Tensor
    codes: Tensor
    commit: Tensor


class Quantiser(nn.Module):
    """K atoms of d dimensions.

    Attributes:
        frozen: training leaves the codebook as it is.
        embed: (K, d) atoms. sums: (K, d) and counts: (K,) running sums and counts. initialised: () bool.
    """

    embed: Tensor
    sums: Tensor
    counts: Tensor
    initialised: Tensor

    def __init__(self, atoms: int, width: int, decay: float = 0.98, dead: float = 0.5, exact: bool = True) -> None:
        """Build the empty codebook.

        Args:
            decay: a. dead: fraction of the uniform usage. exact: z_q is q to the last bit, where x + (q - x), the
                published form, differs by 1e-7 between vectors of one code; gradients are the same.
        """
        super().__init__()
        self.atoms, self.width, self.decay, self.dead, self.exact = atoms, width, decay, dead, exact
        self.frozen = False
        self.register_buffer("embed", torch.zeros(atoms, width))
        self.register_buffer("sums", torch.zeros(atoms, width))
        self.register_buffer("counts", torch.ones(atoms))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self._seen = False  # that it is initialised; asking the buffer waits for the device

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._seen = False

    def nearest(self, x: Tensor) -> Tensor:
        """(..., d) -> (...) int64, the nearest atom of each vector."""
        flat = x.detach().reshape(-1, self.width)
        # the codebook's own first axis, and no matrix product: what a vector gets does not depend on the batch
        return torch.cdist(flat, self.embed, compute_mode="donot_use_mm_for_euclid_dist").argmin(1).view(x.shape[:-1])

    def forward(self, x: Tensor, draws: Draws | None = None) -> Quantised:
        """Quantise pages x (b, n, d); in training mode the codebook moves. Collective in training.

        Args:
            draws: of this step; training alone needs them.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.embed.dtype)
            learning = self.training and not self.frozen
            if learning:
                assert draws is not None, "a training step draws"
                self._begin(x.detach(), draws)
            codes = self.nearest(x)
            q = self.embed[codes]
            if not self.training:
                return Quantised(q, codes, q.new_zeros(len(x)))
            if learning:
                assert draws is not None
                self._update(x.detach(), codes, draws)
            z_q = q + (x - x.detach()) if self.exact else x + (q - x).detach()
            return Quantised(z_q, codes, (q - x).square().flatten(1).mean(1))

    @torch.no_grad()
    def _begin(self, x: Tensor, draws: Draws) -> None:
        """Make the codebook of the first training batch."""
        if self._seen:
            return
        if not bool(self.initialised):
            vectors = x.reshape(-1, self.width)
            start = self._rows(vectors, self.chosen(draws, "first", x.shape[1]), draws, x.shape[1])
            means, members = kmeans(vectors, _summed(start))
            self.embed.copy_(means)
            self.sums.copy_(means * members[:, None])
            self.counts.copy_(members)
            self.initialised.fill_(True)
        self._seen = True

    @torch.no_grad()
    def _update(self, x: Tensor, codes: Tensor, draws: Draws) -> None:
        vectors = x.reshape(-1, self.width)
        parts = [_members(vectors, codes.reshape(-1), self.atoms)]
        if self.dead:
            parts.append(self._rows(vectors, self.chosen(draws, "dead", x.shape[1]), draws, x.shape[1]))
        total = _summed(torch.cat(parts, 1))
        sums, members, candidates = total.split([self.width, 1, self.width if self.dead else 0], 1)
        self.counts.lerp_(members[:, 0], 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        whole = self.counts.sum()
        smooth = (self.counts + SMOOTHING) / (whole + self.atoms * SMOOTHING) * whole
        self.embed.copy_(self.sums / smooth[:, None])
        if self.dead:
            least = self.dead * draws.total * x.shape[1] / self.atoms
            dead = self.counts < least
            if self.atoms > draws.total * x.shape[1]:  # rows occur again among so many: dead codes take the first ones
                candidates = candidates[(dead.cumsum(0) - 1).clamp_min(0)]
            self.embed.copy_(torch.where(dead[:, None], candidates, self.embed))
            self.sums.copy_(torch.where(dead[:, None], candidates * least, self.sums))
            self.counts.masked_fill_(dead, least)

    def chosen(self, draws: Draws, name: str, n: int) -> Tensor:
        """(K,) distinct vectors of the global batch, by number; some twice where there are fewer than K."""
        rows = draws.total * n
        repeats = math.ceil(self.atoms / rows)
        return draws.permutations(f"codebook {name}", repeats, rows).flatten()[: self.atoms]

    def _rows(self, vectors: Tensor, chosen: Tensor, draws: Draws, n: int) -> Tensor:
        """(K, d) those of the chosen vectors that this rank holds, 0 elsewhere: the sum over ranks is them all."""
        mine = chosen - draws.first * n
        held = (mine >= 0) & (mine < len(vectors))
        if not len(vectors):
            return vectors.new_zeros(self.atoms, self.width)
        return torch.where(held[:, None], vectors[mine.clamp(0, len(vectors) - 1)], 0.0)


@torch.no_grad()
def kmeans(vectors: Tensor, start: Tensor, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations over the vectors of all ranks; an empty cluster keeps its centroid. Collective.

    Args:
        vectors: (N, d) of this rank. start: (K, d), the same on all ranks.

    Returns:
        Centroids (K, d), and members (K,) of the assignment that made them.
    """
    means, members = start, start.new_zeros(len(start))
    for _ in range(iterations):
        codes = torch.cdist(vectors, means, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        total = _summed(_members(vectors, codes, len(start)))
        members = total[:, -1]
        means = torch.where((members > 0)[:, None], total[:, :-1] / members.clamp_min(1)[:, None], means)
    return means, members


def _members(vectors: Tensor, codes: Tensor, atoms: int) -> Tensor:
    """(K, d + 1) sum and number of each code's vectors; as a product, whose order of sums is always the same."""
    hot = nn.functional.one_hot(codes, atoms).to(vectors.dtype)
    return hot.T @ torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1)


def _summed(x: Tensor) -> Tensor:
    """Over ranks, without a gradient."""
    if dist.world() > 1:
        x = x.contiguous()
        torch_dist.all_reduce(x)
    return x


def perplexity(codes: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """exp of the entropy of the usage of codes in nats, in 1 .. K, and the number of codes in use; scalars."""
    share = torch.bincount(codes.reshape(-1), minlength=atoms).double() / max(codes.numel(), 1)
    return torch.special.entr(share).sum().exp(), (share > 0).sum().double()

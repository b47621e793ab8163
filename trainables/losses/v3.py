"""The V3 loss (variance versus invariance): content varies inside a page and not across pages, style the other way.

A page is n fragments in order. With the mean pairwise distance D, contents z_c, their quantised form z_q, styles z_s
and page means z-:

    Vcf = mean over pages of (D(z_c) + D(z_q)) / 2     Vcp = (D(z-_c) + D(z-_q)) / 2     fragments, pages; of content
    Vsf = mean over pages of  D(z_s)                   Vsp =  D(z-_s)                    of style
    h(q) = max(0, r - q) / r    e = 1e-5               r the relativity
    content = h(Vcf / (Vcp + e))    style = h(Vsp / (Vsf + e))
    sample = h(Vsp / (Vcp + e))     fragment = h(Vcf / (Vsf + e))

and recon (mean squared error over all elements) and commit (of the quantiser, a mean over all elements); the loss is
their weighted sum. No gradient is stopped. All are statistics of the *global* batch: every rank computes the same loss
from the gathered pages, whose gradient, averaged over ranks, is that of a single process.

Adapted form, for short pages: `supersample` takes Vcp, and the Vsp of `sample`, over regrouped pages (see `regroup`);
`widen` smooths z_s along a page first. `original` keeps the arithmetic of the published code: a widening whose centre
counts twice and whose ends wrap around, used for Vsf and, beside supersampling alone, for the Vsp of `style`; and no
commitment in the sum.

Source: Wu, Wang, Raj, Xia, "Unsupervised Disentanglement of Content and Style via Variance-Invariance Constraints",
ICLR 2025, arXiv 2407.03824.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.config import ConfigError, near
from trainables.core import dist
from trainables.core.method import Diverged
from trainables.losses.precision import full_precision

EPS = 1e-5
TERMS = ("recon", "content", "style", "sample", "fragment", "commit")


class NotFinite(Diverged):
    """A term of the loss is NaN or infinite; the text names every term."""


@dataclass(frozen=True)
class Adapted:
    """The adapted form.

    Attributes:
        supersample: regroup contents. widen: fragments of the window over styles, odd; 0 = none.
        original: the published arithmetic.
    """

    supersample: bool = False
    widen: int = 0
    original: bool = False

    def __post_init__(self) -> None:
        if self.widen and (self.widen < 3 or self.widen % 2 == 0):
            raise ConfigError(f"widen_style: 0, or an odd number of at least 3 fragments (got {self.widen})")


@dataclass(frozen=True)
class Statistics:
    """Vcf, Vcp, Vsf and Vsp, scalars; `compared` is the Vsp of `sample`."""

    content_fragment: Tensor
    content_page: Tensor
    style_fragment: Tensor
    style_page: Tensor
    compared: Tensor

    def detached(self) -> dict[str, Tensor]:
        """By name, for reports."""
        names = ("content_fragment", "content_page", "style_fragment", "style_page")
        return {name: getattr(self, name).detach() for name in names}


@dataclass(frozen=True)
class Pages:
    """What the loss is made of: this rank's b pages of n fragments.

    Attributes:
        recon: (b,) mean squared error of each page. commit: (b,) the quantiser's loss of each page.
        z_c, z_q: (b, n, d_c) content before and after the quantiser. z_s: (b, n, d_s).
        codes: (b, n) int64. With them the z_q of equal codes are equal, and so are pages' means of equal codes; None:
            as the published code, whose straight-through sum leaves a rounding error of 1e-7 there, and a distance of
            1e-7 has a gradient of length one in a direction of chance.
    """

    recon: Tensor
    commit: Tensor
    z_c: Tensor
    z_q: Tensor
    z_s: Tensor
    codes: Tensor | None = None


@full_precision
def mean_pairwise_distance(z: Tensor, same: Tensor | None = None) -> Tensor:
    """Sum over all ordered pairs of |z_i - z_j|, not squared, over n (n - 1): (n, d) -> (), or (b, n, d) -> (b,).

    Pairs without distance have no gradient. One vector alone: NaN.

    Args:
        same: (..., n, n) bool, pairs that count as equal.
    """
    n = z.shape[-2]
    # not by matrix products, whose cancellation gives close vectors a wrong distance
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    if same is not None:
        distance = distance.masked_fill(same, 0)
    return distance.sum((-2, -1)) / (n * (n - 1) if n > 1 else math.nan)


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each page: (b, n, ...) -> (b,)."""
    x_hat = x_hat.float() if x_hat.dtype in (torch.float16, torch.bfloat16) else x_hat
    return F.mse_loss(x_hat, x.to(x_hat.dtype), reduction="none").flatten(1).mean(1)


def grouping(b: int, n: int) -> tuple[int, int]:
    """Pages and fragments after regrouping: the most square ones, n' the largest divisor of b n up to its root."""
    n_new = next(size for size in range(math.isqrt(b * n), 0, -1) if b * n % size == 0)
    return b * n // n_new, n_new


def regroup(z: Tensor) -> Tensor:
    """All fragments in their order, as other pages: (b, n, d) -> (b', n', d)."""
    return z.reshape(*grouping(*z.shape[:2]), *z.shape[2:])


def widened(z: Tensor, width: int, original: bool = False) -> Tensor:
    """Styles smoothed along each page, the ends repeated: (b, n, d) -> (b, n, d).

    The original counts the centre twice, rolls the padded page around, and keeps the padding: (b, n + width - 1, d).
    """
    radius = (width - 1) // 2
    padded = F.pad(z.transpose(1, 2), (radius, radius), mode="replicate").transpose(1, 2)
    if original:
        rolled = (padded.roll(shift, 1) for shift in range(-radius, radius + 1))
        return (padded + sum(rolled)) / width
    return padded.unfold(1, width, 1).mean(-1)


def _equal(rows: Tensor) -> Tensor:
    """(..., n, k) int64 -> (..., n, n): which rows are equal in all k."""
    return (rows[..., :, None, :] == rows[..., None, :, :]).all(-1)


def _content_spread(z_c: Tensor, z_q: Tensor, codes: Tensor | None) -> Tensor:
    same = None if codes is None else _equal(codes[..., None])
    return 0.5 * (mean_pairwise_distance(z_c) + mean_pairwise_distance(z_q, same))


def _content_pages(z_c: Tensor, z_q: Tensor, codes: Tensor | None) -> Tensor:
    """Vcp of pages (b, n, d); means of pages that hold the same codes in any order are equal."""
    same = None if codes is None else _equal(codes.sort(1).values)
    return 0.5 * (mean_pairwise_distance(z_c.mean(1)) + mean_pairwise_distance(z_q.mean(1), same))


@full_precision
def statistics(
    z_c: Tensor, z_q: Tensor, z_s: Tensor, codes: Tensor | None = None, adapted: Adapted | None = None
) -> Statistics:
    """The four spreads of the pages of all ranks. Collective.

    Args:
        z_c, z_q, z_s, codes: as in `Pages`. adapted: None = the plain form.

    Raises:
        ValueError: fewer than two pages in the global batch, or than two fragments.
    """
    adapted = adapted or Adapted()
    counts = dist.sizes(len(z_c))
    if sum(counts) < 2 or z_c.shape[1] < 2:
        raise ValueError(f"V3: needs at least 2 pages of 2 fragments (got {sum(counts)} of {z_c.shape[1]})")
    soft = widened(z_s, adapted.widen, adapted.original) if adapted.widen else z_s
    spreads = torch.stack([_content_spread(z_c, z_q, codes), mean_pairwise_distance(soft)], 1)
    content, style = dist.gather(spreads, counts).mean(0)
    raw = adapted.original and not adapted.supersample
    style_page = mean_pairwise_distance(dist.gather((z_s if raw else soft).mean(1), counts))
    # fragments are needed where pages are regrouped or compared by their codes; means are smaller
    if adapted.supersample:
        z_c, z_q = regroup(dist.gather(z_c, counts)), regroup(dist.gather(z_q, counts))
        compared = mean_pairwise_distance(regroup(dist.gather(z_s, counts)).mean(1))
    else:
        z_c, z_q = (dist.gather(z.mean(1, keepdim=True), counts) for z in (z_c, z_q))
        compared = style_page
    if codes is not None:
        codes = _of_all(codes, counts)
        codes = codes.reshape(len(z_c), -1)
    return Statistics(content, _content_pages(z_c, z_q, codes), style, style_page, compared)


def _of_all(codes: Tensor, counts: list[int]) -> Tensor:
    """Codes of all ranks; as floats, which hold them exactly and which every backend gathers."""
    return dist.gather(codes.double(), counts).long()


def hinge(ratio: Tensor, relativity: float) -> Tensor:
    """max(0, r - ratio) / r, in [0, 1]."""
    return F.relu(relativity - ratio) / relativity


def v3_terms(pages: Pages, relativity: float, adapted: Adapted | None = None) -> tuple[dict[str, Tensor], Statistics]:
    """The six terms of the global batch by name (`TERMS`), and the statistics they were made of. Collective.

    Raises:
        ValueError: as `statistics` says.
    """
    found = statistics(pages.z_c, pages.z_q, pages.z_s, pages.codes, adapted)
    recon, commit = dist.gather(torch.stack([pages.recon, pages.commit], 1)).mean(0)
    terms = {
        "recon": recon,
        "content": hinge(found.content_fragment / (found.content_page + EPS), relativity),
        "style": hinge(found.style_page / (found.style_fragment + EPS), relativity),
        "sample": hinge(found.compared / (found.content_page + EPS), relativity),
        "fragment": hinge(found.content_fragment / (found.style_fragment + EPS), relativity),
        "commit": commit,
    }
    return terms, found


def weighed(terms: Mapping[str, Tensor], weights: Mapping[str, float], adapted: Adapted | None = None) -> Tensor:
    """The weighted sum; a term without a weight is off. The published adapted form leaves `commit` out."""
    check_weights(weights)
    off = ("commit",) if adapted is not None and adapted.original else ()
    total = torch.zeros_like(terms["recon"])
    for name, weight in weights.items():
        if name not in off:
            total = total + weight * terms[name]
    return total


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of unknown terms, and negative ones.

    Raises:
        ConfigError: one line.
    """
    for name, weight in weights.items():
        if name not in TERMS:
            raise ConfigError(f"weights: no term '{name}'{near(name, TERMS)}")
        if not 0 <= weight < math.inf:
            raise ConfigError(f"weights.{name}: must be at least 0 (got {weight})")


def chosen_form(options: Mapping[str, Any]) -> Adapted | None:
    """Plain (None) or adapted, as the published code chooses: by the presence of either key, even if it is false.

    Args:
        options: `supersample_content` (bool) and `widen_style` (fragments) are read.
    """
    if "supersample_content" not in options and "widen_style" not in options:
        return None
    return Adapted(bool(options.get("supersample_content")), int(options.get("widen_style") or 0))


def guard(terms: Mapping[str, Tensor]) -> None:
    """Refuse terms that are NaN or infinite; waits for the device.

    Raises:
        NotFinite: one line with all terms.
    """
    values = torch.stack([term.detach().double() for term in terms.values()]).tolist()
    if not all(map(math.isfinite, values)):
        shown = ", ".join(f"{name} {value:g}" for name, value in zip(terms, values, strict=True))
        raise NotFinite(f"V3: a term of the loss is not finite: {shown}")

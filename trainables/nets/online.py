"""What can be read from a representation while it is trained: classes, and the transformation between the views.

Heads on *detached* representations and embeddings, trained by the same optimiser, their losses added to the method's.
Source: the online evaluation of SIE (Garrido, Najman, LeCun, ICML 2023, arXiv 2302.10283), whose regressors are as
wide as their input of two views, 44 million weights at its published size; `hidden` makes them small.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.core import dist
from trainables.losses.classification import topk_hits
from trainables.nets.predictors import regressor


class OnlineEvaluator(nn.Module):
    """A linear classifier on each part that is to be invariant, a regressor on each that is to be equivariant.

    Parts that are both (a whole representation) have one of each.
    """

    def __init__(
        self, invariant: Mapping[str, int], equivariant: Mapping[str, int], classes: int, k: int, hidden: int | None
    ) -> None:
        """Part -> number of dimensions; `k` numbers are regressed; `hidden` units, None = as many as two views give."""
        super().__init__()
        self.classifiers = nn.ModuleDict({part: nn.Linear(d, classes) for part, d in invariant.items() if classes})
        self.regressors = nn.ModuleDict(
            {part: regressor(2 * d, hidden or 2 * d, k) for part, d in equivariant.items() if k}
        )

    def forward(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], labels: Tensor | None, g: Tensor
    ) -> dict[str, Tensor]:
        """Losses and rates of the global batch.

        Args:
            first, second: part -> (B, d) of the two views.
            labels: (B,) classes. g: (B, k), what leads from the first to the second.

        Returns:
            "online_loss", the sum of all heads' losses, and `online_ce_PART`, `online_top1_PART`, `online_top5_PART`,
            `online_mse_PART`, `online_r2_PART` (against the one mean of all entries of g, as SIE has it).
        """
        found: dict[str, Tensor] = {}
        losses = [g.new_zeros(())]
        for part, head in self.classifiers.items():
            assert labels is not None
            logits, both = head(torch.cat([first[part], second[part]]).detach()), labels.repeat(2)
            rows = F.cross_entropy(logits, both, reduction="none")
            losses.append(_mean_of_both(rows))
            found[f"online_ce_{part}"] = losses[-1].detach()
            for k in (1, 5):
                found[f"online_top{k}_{part}"] = _mean_of_both(topk_hits(logits.detach(), both, k))
        for part, head in self.regressors.items():
            read = head(torch.cat([first[part], second[part]], dim=1).detach())
            losses.append(dist.mean((read - g).square().mean(1)))
            found[f"online_mse_{part}"] = losses[-1].detach()
            found[f"online_r2_{part}"] = one_mean_r2(dist.gather(read.detach()), dist.gather(g))
        return {"online_loss": torch.stack(losses).sum(), **found}


def _mean_of_both(rows: Tensor) -> Tensor:
    """Mean over the rows (2b,) of two views, first view first, of all ranks."""
    return dist.mean(rows.view(2, -1).mean(0))


def one_mean_r2(read: Tensor, true: Tensor) -> Tensor:
    """1 - sum (t - o)^2 / sum (t - mean of all entries)^2 of (n, k): columns of different means give a constant 0.2."""
    return 1 - (true - read).square().sum() / (true - true.mean()).square().sum()

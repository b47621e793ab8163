"""From features to rows with one class each: pooled items, unpooled ones, or frames with labels of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.config import ConfigError
from trainables.evals.base import Features


@dataclass(frozen=True)
class Labelled:
    """Rows that a probe is fitted on or judged by.

    Attributes:
        x: (n, d) float32. y: (n,) int64 classes.
        row: (n,) never falling; rows with the same number are frames of one item, else every row has its own.
        item: (n,) its position in the split. owner: (n,) what is held out together.
        draws: of the latents of each item, whose rows follow each other.
    """

    x: Tensor
    y: Tensor
    row: Tensor
    item: Tensor
    owner: Tensor
    draws: int

    def few(self, per_class: int, rng: np.random.Generator) -> Labelled:
        """All rows of at most `per_class` items of each class, drawn."""
        chosen = []
        for label in self.y.unique():
            items = self.item[self.y == label].unique().numpy()
            chosen.append(rng.permutation(items)[:per_class])
        kept = torch.from_numpy(np.isin(self.item.numpy(), np.concatenate(chosen)))
        rows = {name: getattr(self, name)[kept] for name in ("x", "y", "row", "item", "owner")}
        return replace(self, **rows)


def labelled(features: Features, part: str, factor: str, draws: int = 0) -> Labelled:
    """The rows of a part: of every item, unpooled frames side by side; or of frames, where they are labelled.

    Raises:
        ConfigError: the part has fewer frames than there are labels.
    """
    x, y = features.parts[part], features.labels[factor]
    row = torch.arange(len(x))
    if y.ndim == 2:
        x, y, row = framewise(x, y)
    return Labelled(x.flatten(1), y, row, features.index[row], features.owner[row], max(draws, 1))


def framewise(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames x (n, L, d) with labels (n, F), -1 = none -> labelled frames (m, d), (m,), and the item (m,) of each.

    Of a few frames more than labels the first ones are left out (GIM, SIM: the last F are kept); of more than one and a
    half for each label their means are taken. Of a few labels more than frames the last are left out.

    Raises:
        ConfigError: there are far fewer frames than labels.
    """
    n, count, length = len(x), labels.shape[1], x.shape[1]
    if length < 0.75 * count:
        raise ConfigError(f"parts: {length} frames are too coarse for {count} labels; take a part with more frames")
    if length >= 1.5 * count:
        x = F.adaptive_avg_pool1d(x.transpose(1, 2), count).transpose(1, 2)
    usable = min(count, length)
    x, labels = x[:, x.shape[1] - usable :], labels[:, :usable]
    known = labels >= 0
    return x[known], labels[known], torch.arange(n)[:, None].expand(n, usable)[known]

"""Items of one length, of tracks of any length: the tracks cut one behind the other, and the source of the items.

A track of n samples has ceil(n / T) items of T samples; `extra` gives it floor(n / T) + 1, so one of silence where T
divides n, as synesis has it. What is left of a last item is silence, or (`repeat`) its own beginning stands before it
as often as it takes, cut to T: 1 2 3 becomes 1 2 1 2 3 of five. Every item has its track's labels, and "object", which
track of the split that is: evaluations hold the items of a track out together, and may average them.

Source: Plachouras et al., "Towards a Unified Representation Evaluation Framework Beyond Downstream Tasks", IJCNN 2025,
arXiv 2505.06224.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datasets._sound import Pieces, Sounds
from datasets.base import Batch, Spec
from datasets.memory import Arrays

Padding = Literal["repeat", "zero"]


class Items(Sounds):
    """The items of one split's tracks, (1, T) in [-1, 1]; a batch of them may be any positions in any order.

    Attributes:
        spec: of the items, T is its shape's; with the label "object".
        places: (n, 2) int64, which track an item is of, and which one of its items. owner: (n,) the first of them.
    """

    def __init__(
        self,
        tracks: Pieces,
        spec: Spec,
        labels: Arrays,
        padding: Padding = "repeat",
        extra: bool = False,
        limit: int | None = None,
        affine: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        """`labels`: factor -> one of each track. `limit`: only the first so many items. `affine`: see `Sounds`."""
        cut, places = itemised(tracks, spec.shape[-1], extra)
        kept = np.arange(len(cut))[:limit]
        self.places = places[kept]
        self.owner = self.places[:, 0]
        self.padding = padding
        self._of_tracks = {name: torch.from_numpy(np.asarray(value)) for name, value in labels.items()}
        super().__init__(cut.take(kept), replace(spec, labels={**spec.labels, "object": 0}), {}, affine=affine)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,); `rng` is not used."""
        batch = super().fetch(index, rng)
        if self.padding == "repeat":
            repeated(batch.views[0], self._sound.count[index.numpy()].tolist())
        track = torch.from_numpy(self.owner[index.numpy()])
        batch.labels = {name: value[track] for name, value in self._of_tracks.items()}
        batch.labels["object"] = track.float()
        return batch


def items_of(counts: np.ndarray, length: int, extra: bool = False) -> np.ndarray:
    """(n,) how many items of `length` tracks of `counts` samples have."""
    return counts // length + 1 if extra else -(-counts // length)


def itemised(tracks: Pieces, length: int, extra: bool = False) -> tuple[Pieces, np.ndarray]:
    """The items of all tracks, a last one as short as it is, and (n, 2) the track of each and its number in that."""
    per = items_of(tracks.count, length, extra)
    owner = np.repeat(np.arange(len(per)), per)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(per) - per, per)
    begin, left = number * length, tracks.count[owner]
    cut = Pieces(tracks.flat, tracks.begin[owner] + begin, np.minimum(left - begin, length))
    return cut, np.stack([owner, number], 1)


def repeated(x: Tensor, counts: Sequence[int]) -> Tensor:
    """In place, of x (B, ..., T): rows of which fewer samples are there move behind repeats of their beginning."""
    length = x.shape[-1]
    for row, count in zip(x, counts, strict=True):
        if 0 < count < length:
            head = min(length - count, count)  # the beginning that is repeated
            times = -(-(length - count) // head)
            row.copy_(torch.cat([row[..., :head]] * times + [row[..., :count]], -1)[..., :length])
    return x

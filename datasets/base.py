"""The three things a data set is made of: a `Spec` (what it promises), a `Source` (delivers) and a `Batch` (delivered).

Every data set module has

    class Config(datasets.config.Config)                  its options, all with defaults
    def open(cfg: Config, root: Path | None, split: "train" | "val" | "test") -> Source
    DOWNLOAD: str                                         one line: what is fetched, how large, under which licence

`open` raises `DataError` with one line where the data are missing or broken. Where training has pairs of items, or
items that are altered at random, `evaluated(cfg) -> Config` gives the options with which evaluations see them one by
one, as they are. `draw(cfg, root, out) -> lines` makes pictures of its own for `sweep data`, beside the sheet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# of a parameter's unit: a number; a turn, 0 and 1 the same; one of two values; one of four quarter turns
Kind = Literal["continuous", "circular", "binary", "zero_one", "quarter"]


class DataError(RuntimeError):
    """Data that are missing, incomplete or broken; one line with what, where and the command that mends it."""


@dataclass(frozen=True)
class Spec:
    """What a method or an evaluation may rely on.

    Attributes:
        shape: one item: (C, H, W) image, (C, T) sound, (n, ...) a page of n fragments.
        labels: factor -> number of classes; 0 = continuous.
        params: known generative parameters, or those of the applied transforms -> their width, e.g. {"rot": 1}.
        views: number of views a batch holds.
        rate: sample rate in Hz for sound, else None.
        fingerprint: digest of the content, so that a result names the data it came from.
        note: one line for the user, e.g. that only a part of the official set is present; "" if all is well.
        kinds: transforms of the stack among `params` -> how their unit is to be read, e.g. {"rot": "circular"}.
        relations: what is known to relate view 1 to view 2 -> its width, e.g. {"rotation": 4}.
        frames: those of `labels` that are given per frame -> samples of a frame, e.g. {"phone": 160}; of pages
            fragments of a frame, mostly 1.
        fragments: n of pages, whose shape begins with it; 0 = items are no pages.
        tags: those of `labels` that are tags, in their order: an item has any number of them. Each is a factor of its
            own with the classes 0 (has it not) and 1, so `torch.stack([labels[tag] for tag in spec.tags], 1)` is
            multi-hot (B, T). "object", where it is among `labels`, says which track or object an item is a part of.
    """

    shape: tuple[int, ...]
    labels: dict[str, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    views: int = 1
    rate: int | None = None
    fingerprint: str = ""
    note: str = ""
    kinds: dict[str, Kind] = field(default_factory=dict)
    relations: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    fragments: int = 0
    tags: tuple[str, ...] = ()

    def labels_of(self, factor: str) -> int:
        """Labels of an item, of a factor that is labelled per frame."""
        return (self.fragments or self.shape[-1]) // self.frames[factor]


@dataclass
class Question:
    """An auxiliary batch, and what is to be predicted from it (see `datasets.auxiliary`).

    Attributes:
        x: (n B, C, h, w), version-major: all items of version 0, then of version 1, ...
        target: (n B,) int64 classes, or (B, 1) numbers.
    """

    x: Tensor
    target: Tensor

    def to(self, device: torch.device | str) -> Question:
        """The same on `device`."""
        return Question(self.x.to(device, non_blocking=True), self.target.to(device, non_blocking=True))


@dataclass
class Batch:
    """One batch of B items.

    Attributes:
        views: V tensors (B, *shape), float. Images are in [0, 1] as a source delivers them, and in [-0.5, 0.5] after
            `Views`; sound in [-1, 1].
        index: (B,) int64, position of each item in its split.
        params: name -> (V, B, k), what was drawn for each view, in natural units (degrees, pixels, factors, masks).
        units: name -> (V, B, 1), the same as the one number a target is built from, mostly in [0, 1].
        labels: factor -> (B,) int64 or (B,) float; of one given per frame (B, F) int64, -1 where there is none.
        question: an auxiliary view and what is to be predicted from it, where the method asks for one.
        relations: name -> (B, k), the transformation from view 1 to view 2; none where there is one view.
        seed: of what a method itself draws in this step, the same on all ranks (see `trainables.core.draws`).
    """

    views: list[Tensor]
    index: Tensor
    params: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)
    question: Question | None = None
    relations: dict[str, Tensor] = field(default_factory=dict)
    seed: int = 0

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""

        def move(named: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.to(device, non_blocking=True) for name, value in named.items()}

        return replace(
            self,
            views=[view.to(device, non_blocking=True) for view in self.views],
            index=self.index.to(device),
            params=move(self.params),
            units=move(self.units),
            labels=move(self.labels),
            question=None if self.question is None else self.question.to(device),
            relations=move(self.relations),
        )


@runtime_checkable
class Source(Protocol):
    """One split of a data set."""

    spec: Spec

    def __len__(self) -> int:
        """Number of items."""
        ...

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """A whole batch at once, never item by item. `index` is (B,) int64; `rng` drives draws such as crops of sound.

        What is drawn for an item may depend on `rng` and on the item's position alone (see `datasets._draws`): ranks
        fetch slices of one batch with equal generators. A source of whole images ignores `rng`.

        A source whose fetching takes long may also have `prefetch(index, rng)`: training calls it with what it fetches
        next, and a generator in the state that one will have.
        """
        ...


def in_order(source: Source, batch_size: int, seed: int = 0) -> Iterator[Batch]:
    """Every item of `source` once, in order, in batches of at most `batch_size`."""
    for start in range(0, len(source), batch_size):
        rng = torch.Generator().manual_seed(seed + start)
        yield source.fetch(torch.arange(start, min(start + batch_size, len(source))), rng)

"""Pages: items that are short sequences of fragments (digits of a number, poses of a character), or their fragments.

A page is what methods of content and style learn from: (L, C, H, W), L being `Spec.fragments`, labels of its fragments
(B, L), which `Spec.frames` names, labels of the page (B,). Fragments one by one, (C, H, W), have all labels (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datasets._draws import below, mixed, salt_of
from datasets.base import Batch, Spec
from datasets.memory import Arrays

Items = Literal["pages", "fragments"]
Augment = Literal["train", "all"]
# changes fragments (B, L, C, H, W) in [0, 1] of the pages at positions (B,), by draws that belong to (salt, position)
Alter = Callable[[Tensor, np.ndarray, int], Tensor]


@dataclass(frozen=True)
class Book:
    """Fragments one after the other, and which of them are a page.

    Attributes:
        x: (F, C, H, W) uint8 or uint16, the largest of which is 1.
        begin: (P,) first fragment of each page. count: (P,) how many it has.
        per_fragment: factor -> (F,) int64. per_page: factor -> (P,) int64 or float32.
    """

    x: np.ndarray
    begin: np.ndarray
    count: np.ndarray
    per_fragment: Arrays
    per_page: Arrays

    def take(self, rows: np.ndarray) -> Book:
        """Some of the pages."""
        own = {name: value[rows] for name, value in self.per_page.items()}
        return replace(self, begin=self.begin[rows], count=self.count[rows], per_page=own)


class Pages:
    """Items are pages of n fragments."""

    def __init__(
        self,
        book: Book,
        spec: Spec,
        draw: Literal["run", "ring", "any"] = "run",
        alter: Alter | None = None,
    ) -> None:
        """No page may have fewer than L fragments, unless consecutive ones are drawn.

        Args:
            book: what there is.
            spec: its shape is (L, C, H, W).
            draw: which fragments of a longer page: consecutive ones (a shorter page begins anew behind its end); with
                "ring" also from the last on to the first, of a page of L too; or any, in a random order. A page of L
                is whole.
            alter: what is done to the pixels, one draw a page.
        """
        self.spec = replace(spec, fragments=spec.shape[0], frames=dict.fromkeys(book.per_fragment, 1))
        self._book, self._draw, self._alter = book, draw, alter
        self._length = spec.shape[0]

    def __len__(self) -> int:
        return len(self._book.begin)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """Pages (B, L, C, H, W) in [0, 1]; which fragments of longer ones and what is altered follow from `rng`."""
        rows, salt, book = index.numpy(), salt_of(rng), self._book
        fragments = book.begin[rows][:, None] + self._places(rows, salt)
        x = _scaled(book.x[fragments])
        labels = {
            **{name: torch.from_numpy(value[fragments]) for name, value in book.per_fragment.items()},
            **{name: torch.from_numpy(value[rows]) for name, value in book.per_page.items()},
        }
        return Batch([self._alter(x, rows, salt) if self._alter else x], index, labels=labels)

    def _places(self, rows: np.ndarray, salt: int) -> np.ndarray:
        """(B, L), the chosen fragments counted from their page's first."""
        count, steps = self._book.count[rows], np.arange(self._length)
        if self._draw == "ring":
            return (below(salt, rows, count)[:, None] + steps) % count[:, None]
        if self._draw == "run" or (count == self._length).all():
            return (below(salt, rows, np.maximum(count - self._length, 0) + 1)[:, None] + steps) % count[:, None]
        keys = np.stack([mixed(salt + 1 + place, rows, 0) for place in range(int(count.max()))], 1)
        keys[np.arange(keys.shape[1]) >= count[:, None]] = np.iinfo(keys.dtype).max
        drawn = np.argsort(keys, 1, kind="stable")[:, : self._length]
        return np.where((count == self._length)[:, None], steps, drawn)


class Fragments:
    """Items are all fragments of all pages, in order; what is altered is altered alike within a page, every time."""

    def __init__(self, book: Book, spec: Spec, alter: Alter | None = None, seed: int = 0) -> None:
        """`spec`: its shape is (C, H, W). `seed`: of what `alter` draws, once and for all."""
        self.spec = spec
        self._book, self._alter, self._seed = book, alter, seed
        self._page = np.repeat(np.arange(len(book.begin)), book.count)
        first = np.cumsum(book.count) - book.count
        self._fragment = np.arange(len(self._page)) - np.repeat(first - book.begin, book.count)

    def __len__(self) -> int:
        return len(self._page)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """Fragments (B, C, H, W) in [0, 1] with their own labels and those of their page; `rng` is not used."""
        page, fragment, book = self._page[index.numpy()], self._fragment[index.numpy()], self._book
        x = _scaled(book.x[fragment])
        labels = {
            **{name: torch.from_numpy(value[fragment]) for name, value in book.per_fragment.items()},
            **{name: torch.from_numpy(value[page]) for name, value in book.per_page.items()},
        }
        return Batch([self._alter(x[:, None], page, self._seed)[:, 0] if self._alter else x], index, labels=labels)


def _scaled(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x.astype(np.float32)).mul_(1 / np.iinfo(x.dtype).max)


def uniform(salt: int, items: np.ndarray, draw: int, low: float, high: float) -> Tensor:
    """(B,) float32 of U(low, high), the draw with this number of the items at these positions."""
    share = mixed(salt + 1 + draw, items, 1).astype(np.float64) / 2.0**64
    return torch.from_numpy(low + (high - low) * share).float()

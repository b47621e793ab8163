"""CPU time of delivering one epoch's batches, without a model."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.base import Source


class ByItem(Protocol):
    """What makes a batch one item after the other."""

    def batch(self, index: Tensor, rng: np.random.Generator) -> object: ...


def epoch_by_item(usual: ByItem, count: int, size: int) -> float:
    """CPU seconds for `count` items in batches of `size`."""
    rng, begin = np.random.default_rng(0), time.process_time()
    for index in torch.randperm(count).split(size):
        usual.batch(index, rng)
    return time.process_time() - begin


def epoch_shared(source: Source, size: int) -> float:
    """CPU seconds for all items of a source in batches of `size`."""
    rng, begin = torch.Generator().manual_seed(0), time.process_time()
    for index in torch.randperm(len(source)).split(size):
        source.fetch(index, rng)
    return time.process_time() - begin

"""What tests of data sets share: every split of a set, all its items, the one line of an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.base import SPLITS, DataError, Split


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every(module: Any, root: Path | None, **options: Any) -> dict[Split, Any]:
    cfg = module.Config(**options)
    return {one: module.open(cfg, root, one) for one in SPLITS}


def whole(source: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """All items (n, *shape), and their labels; of sound with one channel (n, T)."""
    batch = source.fetch(torch.arange(len(source)), rng())
    x = batch.views[0]
    return x[:, 0] if x.dim() == 3 else x, batch.labels


def one_line(module: Any, root: Path | None, split: Split = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        module.open(module.Config(**options), root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)

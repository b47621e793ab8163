"""Sixteen vectors of four numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from datasets.base import Batch, Spec, Split
from datasets.config import Config as Base

DOWNLOAD = "nothing"
VERSION = 1


class Config(Base):
    """No options."""


class Vectors:
    spec = Spec(shape=(4,), labels={"class": 2}, fingerprint="cheap")

    def __len__(self) -> int:
        return 16

    def fetch(self, index: torch.Tensor, rng: torch.Generator) -> Batch:
        x = torch.sin(index[:, None] * torch.arange(1.0, 5.0))
        return Batch(views=[x], index=index, labels={"class": index % 2})


def open(cfg: Config, root: Path | None, split: Split) -> Vectors:
    return Vectors()

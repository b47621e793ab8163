"""Images of a source with another number of channels, for an encoder that was trained on others."""

from __future__ import annotations

from dataclasses import replace

import torch

from datasets.base import Batch, Source
from datasets.config import ConfigError
from datasets.transforms.color import luma


class Channels:
    """A source whose images have `channels`: gray ones three times, coloured ones as their luma (ITU-R BT.601)."""

    def __init__(self, source: Source, channels: int) -> None:
        """Wrap a source.

        Raises:
            ConfigError: there is no such change, as from 2 channels to 3.
        """
        have = source.spec.shape[0]
        if {have, channels} != {1, 3}:
            raise ConfigError(f"data: images of {have} channels cannot be shown to an encoder of {channels}")
        self.source, self.channels = source, channels
        self.spec = replace(source.spec, shape=(channels, *source.spec.shape[1:]))

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: torch.Tensor, rng: torch.Generator) -> Batch:
        """A batch of the source, with its channels changed."""
        batch = self.source.fetch(index, rng)
        if self.channels == 3:
            return replace(batch, views=[view.expand(-1, 3, -1, -1) for view in batch.views])
        return replace(batch, views=[luma(view) for view in batch.views])

"""The published linear probe of SIM, GIM and CPC: one linear layer by Adam, every setting as given, nothing chosen.

Each epoch sees every item once, in an order of its own; a step sees `batch_size` items, and with labels per frame all
frames of each of them. Where a probe is fitted on several draws of the latents, epoch e sees draw e mod k of each item,
as a sampling encoder gives new samples in every epoch. No last batch is dropped.

Published: syllables, vowels and speakers 1e-3, 50 epochs, batches of 64 (recipe for LibriSpeech: 10, of 8, clipped at
1.0); phones 1e-4, 20 epochs, one utterance a step in the order of the list, weights start by Xavier; few labels (V-GIM)
1e-3, weight decay 1e-5, 100 epochs; images 1e-3, 20 epochs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.config import Config
from trainables.evals.probes import Linear, standardisation


class Adam(Config):
    """Settings of the probe `adam`."""

    lr: float = Field(1e-3, gt=0, le=10, description="learning rate (SIM: 1e-3; phones: 1e-4)")
    epochs: int = Field(50, ge=1, le=100_000, description="passes over the train items (SIM: 50; phones: 20)")
    batch_size: int = Field(64, ge=1, le=65_536, description="items of a step (SIM: 64; phones: 1)")
    weight_decay: float = Field(0.0, ge=0, le=10, description="added to the gradient (SIM: 0; V-GIM: 1e-5)")
    clip_norm: float | None = Field(None, gt=0, description="gradient clipping; None = none (SIM, LibriSpeech: 1.0)")
    start: Literal["default", "xavier"] = Field("default", description="of the weights (phones: xavier)")
    shuffle: bool = Field(True, description="items in a new order each epoch (phones: off)")
    standardise: bool = Field(False, description="features by the train split's mean and deviation (SIM: off)")


def fit(
    x: Tensor, y: Tensor, row: Tensor, classes: int, cfg: Adam, rng: np.random.Generator, draws: int = 1,
    bias: bool = True, start: nn.Linear | None = None,
) -> tuple[Linear, list[float]]:  # fmt: skip
    """The probe, and the mean loss of a step in each epoch.

    Args:
        x: (n, d). y: (n,) int64. row: (n,) never falling: rows with the same number, frames of one item, stay together;
            of `draws` of an item the numbers follow each other.
        start: the layer before the first step; None = as `cfg` and `rng` say.
    """
    mean, scale = standardisation(x, bias) if cfg.standardise else (torch.zeros_like(x[0]), torch.ones_like(x[0]))
    ends = row.unique_consecutive(return_counts=True)[1].cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    single = len(ends) == len(x)
    layer = start or _layer(x, classes, cfg, bias, int(rng.integers(2**31)))
    optimizer = torch.optim.Adam(layer.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    losses = []
    for epoch in range(cfg.epochs):
        items = torch.arange(epoch % draws, len(ends), draws)
        if cfg.shuffle:
            items = items[torch.from_numpy(rng.permutation(len(items)))]
        steps = [
            _step(layer, optimizer, (x[rows] - mean) / scale, y[rows], cfg.clip_norm)
            for some in items.split(cfg.batch_size)
            for rows in [some if single else _rows(starts[some], ends[some])]
        ]
        losses.append(float(torch.stack(steps).mean()))
    weight = layer.weight.detach().T.contiguous()
    return Linear(weight, layer.bias.detach() if bias else weight.new_zeros(classes), mean, scale, cfg.lr), losses


def _step(layer: nn.Linear, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: float | None) -> Tensor:
    with torch.enable_grad():
        loss = F.cross_entropy(layer(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(layer.parameters(), clip)
    optimizer.step()
    return loss.detach()


def _layer(x: Tensor, classes: int, cfg: Adam, bias: bool, seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(x.shape[1], classes, bias=bias, dtype=x.dtype)
        if cfg.start == "xavier":
            nn.init.xavier_normal_(layer.weight)
    return layer


def _rows(starts: Tensor, ends: Tensor) -> Tensor:
    return torch.cat([torch.arange(int(a), int(b)) for a, b in zip(starts, ends, strict=True)])

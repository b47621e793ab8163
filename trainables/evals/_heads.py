"""A small network on features that are already computed, where a linear probe is not what was published."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from datasets.atomic import replacing
from trainables.evals.probes import accuracy, r2

RATES = (3e-4, 1e-3, 3e-3)
BATCH = 256


class Head(nn.Module):
    """Standardised features (n, d) -> (n, t) by Linear-ReLU for each hidden size and a last Linear."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, hidden: Sequence[int], d_out: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        layers: list[nn.Module] = []
        d_in = len(mean)
        for size in hidden:
            layers += [nn.Linear(d_in, size), nn.ReLU()]
            d_in = size
        self.net = nn.Sequential(*layers, nn.Linear(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """x (n, d) -> (n, t)."""
        out: Tensor = self.net((x - self.mean) / self.scale)
        return out

    def save(self, path: Path) -> Path:
        """Write it as safetensors, whole or not at all."""
        with replacing(path) as temporary:
            save_file(self.state_dict(), temporary)
        return path


def regressor(
    x: Tensor, y: Tensor, held_out: Tensor, hidden: Sequence[int], epochs: int, rng: np.random.Generator
) -> Head:
    """A network fit to targets (n, t) by their squared error, chosen by the mean R2 of the targets."""
    return _fit(
        x, y, y.shape[1], held_out, hidden, epochs, rng, F.mse_loss, lambda read, true: float(r2(read, true).mean())
    )


def classifier(
    x: Tensor, y: Tensor, classes: int, held_out: Tensor, hidden: Sequence[int], epochs: int, rng: np.random.Generator
) -> Head:
    """A network fit to classes (n,) by their cross entropy, chosen by accuracy."""
    return _fit(x, y, classes, held_out, hidden, epochs, rng, F.cross_entropy, accuracy)


def _fit(
    x: Tensor, y: Tensor, d_out: int, held_out: Tensor, hidden: Sequence[int], epochs: int, rng: np.random.Generator,
    loss: Callable[[Tensor, Tensor], Tensor], score: Callable[[Tensor, Tensor], float],
) -> Head:  # fmt: skip
    """Adam in batches of 256; of three learning rates and all epochs the best on the held-out rows.

    Args:
        x: (n, d). held_out: (n,) bool, rows that choose and are not fit.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.ones_like(scale))
    best, chosen = -np.inf, None
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for rate in RATES:
            torch.manual_seed(int(rng.integers(2**31)))
            head = Head(mean, scale, hidden, d_out)
            for _ in _epochs(head, x, y, ~held_out, rate, epochs, loss):
                with torch.no_grad():
                    reached = float(np.nan_to_num(score(head(x[held_out]), y[held_out]), nan=-np.inf))
                if chosen is None or reached > best:
                    best, chosen = reached, copy.deepcopy(head)
    assert chosen is not None  # there is at least one epoch
    return chosen.eval().requires_grad_(False)


def _epochs(
    head: Head, x: Tensor, y: Tensor, kept: Tensor, rate: float, epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[int]:  # fmt: skip
    """Train, and stop for a moment after each epoch."""
    rows = kept.nonzero()[:, 0]
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    for epoch in range(epochs):
        for some in rows[torch.randperm(len(rows))].split(BATCH):
            value = loss(head(x[some]), y[some])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield epoch

"""A small network on features that are already computed, where a linear probe is not what was published."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainables.evals.probes import r2

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


def regressor(
    x: Tensor, y: Tensor, held_out: Tensor, hidden: Sequence[int], epochs: int, rng: np.random.Generator
) -> Head:
    """A network fit to targets (n, t) by Adam; of three learning rates and all epochs the best on the held-out rows.

    Args:
        x: (n, d). held_out: (n,) bool, rows that choose and are not fit.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.ones_like(scale))
    best, chosen = -np.inf, None
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for rate in RATES:
            torch.manual_seed(int(rng.integers(2**31)))
            head = Head(mean, scale, hidden, y.shape[1])
            for score in _epochs(head, x, y, held_out, rate, epochs):
                if score > best:
                    best, chosen = score, copy.deepcopy(head)
    assert chosen is not None  # the first epoch of the first rate is better than nothing
    return chosen.eval().requires_grad_(False)


def _epochs(head: Head, x: Tensor, y: Tensor, held_out: Tensor, rate: float, epochs: int):  # type: ignore[no-untyped-def]
    """Train, and give the score on the held-out rows after each epoch: mean R2, a little better than minus infinity."""
    kept = (~held_out).nonzero()[:, 0]
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    for _ in range(epochs):
        for rows in kept[torch.randperm(len(kept))].split(BATCH):
            loss = (head(x[rows]) - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            yield float(r2(head(x[held_out]), y[held_out]).mean().nan_to_num(-1e300))

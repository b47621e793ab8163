"""A small network on features that are already computed, where a linear probe is not what was published."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from datasets.atomic import replacing
from trainables.evals.probes import accuracy, r2

RATES = (3e-4, 1e-3, 3e-3)
BATCH, LOOKS = 256, 16
PASSES, LEAST, MOST = 10, 2000, 50_000
Hidden = tuple[Annotated[int, Field(ge=1, le=65_536)], ...]
STEPS = "of the mlp, of 256 rows each; None = 10 passes over the rows, 2,000 at least, 50,000 at most (SIE: 300 epochs)"


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
    x: Tensor, y: Tensor, held_out: Tensor, hidden: Sequence[int], steps: int | None, rng: np.random.Generator
) -> Head:
    """A network fit to targets (n, t) by their squared error, chosen by the mean R2 of the targets."""

    def score(read: Tensor, true: Tensor) -> float:
        return float(r2(read, true).mean())

    return _fit(x, y, y[~held_out].mean(0), held_out, hidden, steps, rng, F.mse_loss, score)


def classifier(
    x: Tensor,
    y: Tensor,
    classes: int,
    held_out: Tensor,
    hidden: Sequence[int],
    steps: int | None,
    rng: np.random.Generator,
) -> Head:
    """A network fit to classes (n,) by their cross entropy, chosen by accuracy."""
    prior = (1 + y[~held_out].bincount(minlength=classes).float()).log()
    return _fit(x, y, prior, held_out, hidden, steps, rng, F.cross_entropy, accuracy)


def _fit(
    x: Tensor, y: Tensor, start: Tensor, held_out: Tensor, hidden: Sequence[int], steps: int | None,
    rng: np.random.Generator, loss: Callable[[Tensor, Tensor], Tensor], score: Callable[[Tensor, Tensor], float],
) -> Head:  # fmt: skip
    """Adam in batches of 256, whatever the number of rows: three learning rates for a quarter of the steps, then the
    best of them for the rest. Of all states looked at, 16 of a whole run, the best on the held-out rows; also of the
    first one, which answers `start` whatever it sees: features that say nothing shall not be read for the worse.

    Args:
        x: (n, d). start: (t,). held_out: (n,) bool, rows that choose and are not fit.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.ones_like(scale))
    rows = (~held_out).nonzero()[:, 0]
    length = steps or min(max(PASSES * len(rows) // BATCH, LEAST), MOST)
    chosen: list[tuple[float, Head]] = []

    def look(head: Head) -> float:
        """The score on the held-out rows; the best head so far is kept."""
        with torch.no_grad():
            reached = float(np.nan_to_num(score(head(x[held_out]), y[held_out]), nan=-np.inf))
        if not chosen or reached > chosen[0][0]:
            chosen[:] = [(reached, copy.deepcopy(head))]
        return reached

    def train(head: Head, optimizer: torch.optim.Optimizer, looks: int) -> float:
        """The best score of so many looks, each after a sixteenth of the steps; keeps what reached it."""
        best = -np.inf
        for _ in range(looks):
            for _ in range(max(1, length // LOOKS)):
                some = rows[torch.randint(len(rows), (BATCH,))]
                optimizer.zero_grad()
                loss(head(x[some]), y[some]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            best = max(best, look(head))
        return best

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        runs = []
        for rate in RATES:
            torch.manual_seed(int(rng.integers(2**31)))
            head = Head(mean, scale, hidden, len(start))
            last = cast(nn.Linear, head.net[-1])
            nn.init.zeros_(last.weight)
            last.bias.data.copy_(start)
            look(head)
            optimizer = torch.optim.Adam(head.parameters(), lr=rate)
            runs.append((train(head, optimizer, LOOKS // 4), head, optimizer))
        _, head, optimizer = max(runs, key=lambda run: run[0])
        train(head, optimizer, LOOKS - LOOKS // 4)
    return chosen[0][1].eval().requires_grad_(False)

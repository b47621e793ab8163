"""Training a decoder on a frozen representation, whatever is decoded: images, sounds, spectrograms.

Features are standardised with the train split's mean and deviation; latents that are asked for anew at every step
(`Latents`) are taken as they are. The decoder is trained by AdamW on four fifths of the train split; the epoch that is
best on the other fifth is kept, so that a split that is reported never chooses. Everything random comes from the seed.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datasets.atomic import replacing
from datasets.config import Config, ConfigError
from trainables.core.draws import generator
from trainables.evals.probes import hold_out

Loss = Callable[[Tensor, Tensor], Tensor]  # decoded, true -> one value per item (n,)


class Training(Config):
    """How to train a decoder."""

    epochs: int = Field(30, ge=1, le=10_000, description="passes over the train split")
    batch_size: int = Field(128, ge=2, le=65_536, description="items of a step")
    lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of AdamW")
    weight_decay: float = Field(1e-4, ge=0, le=10, description="on all parameters")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, from 0: half a cosine."""
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs))


class Latents(Protocol):
    """What a decoder is fed with, where it may be another draw each time.

    Attributes:
        width: last dimension.
    """

    width: int

    def __call__(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The latents (b, ..., width) of items, by their rows; `rng` draws."""
        ...


def squared(decoded: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of each item: (n, ...) -> (n,)."""
    return (decoded - true).square().flatten(1).mean(1)


@dataclass
class Decoder:
    """A trained decoder.

    Attributes:
        net: (n, d) standardised features -> items. mean, std: (d,) of the train split.
        best: the epoch that was kept, from 1. held_out: its mean loss on the held-out items.
    """

    net: nn.Module
    mean: Tensor
    std: Tensor
    best: int
    held_out: float

    @torch.no_grad()
    def __call__(self, z: Tensor, block: int = 512) -> Tensor:
        """Features (n, d) or (n, L, d) -> items, on the CPU."""
        self.net.eval()
        return torch.cat([self.net(self.scaled(part)).cpu() for part in z.split(block)])

    def scaled(self, z: Tensor) -> Tensor:
        """What the net is shown for features, where it lies."""
        device = next(self.net.parameters()).device
        return (z.to(device) - self.mean.to(device)) / self.std.to(device)

    def to(self, device: torch.device | str) -> Decoder:
        """The same, its net on `device`."""
        self.net.to(device)
        return self

    def losses(self, z: Tensor, true: Tensor, loss: Loss = squared) -> Tensor:
        """The loss of each item: (n, d), (n, ...) -> (n,)."""
        return torch.cat([loss(self(a), b) for a, b in zip(z.split(512), true.split(512), strict=True)])

    def save(self, path: Path, form: dict[str, Any]) -> Path:
        """Write weights and standardisation as safetensors; `form`: plain values to build the net from again."""
        tensors = {f"net.{name}": value.cpu().contiguous() for name, value in self.net.state_dict().items()}
        meta = {"best": json.dumps(self.best), "held_out": json.dumps(self.held_out), "form": json.dumps(form)}
        with replacing(path) as temporary:
            save_file({**tensors, "mean": self.mean, "std": self.std}, temporary, metadata=meta)
        return path


Watch = Callable[[Decoder], None]


def restore(path: Path, build: Callable[[dict[str, Any]], nn.Module]) -> tuple[Decoder, dict[str, Any]]:
    """The decoder that `Decoder.save` wrote, and its form; `build` makes the net from the form.

    Raises:
        ConfigError: the file is no such decoder.
    """
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            meta = file.metadata() or {}
        form = json.loads(meta["form"])
        net = build(form)
        net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
        found = Decoder(net, tensors["mean"], tensors["std"], int(meta["best"]), float(meta["held_out"]))
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{path}: is no decoder that can be used here ({str(error).splitlines()[0]})") from None
    return found, form


def train(
    build: Callable[[], nn.Module], z: Tensor | Latents, true: Tensor, index: Tensor, cfg: Training, seed: int,
    loss: Loss = squared, device: torch.device | str = "cpu", watch: Watch | None = None,
) -> Decoder:  # fmt: skip
    """Train a decoder.

    Args:
        build: makes the net; its weights are drawn from `seed`. z: (n, d) features, or what gives latents.
        true: (n, ...) what they encode. index: (n,) which item a row is of: rows of one item are held out together.
        device: where the net is trained, and stays. watch: called after each epoch.

    Raises:
        ConfigError: the loss is not finite.
    """
    if isinstance(z, Tensor):
        features, mean, std = z, z.mean(0), z.std(0).clamp_min(1e-6)
        latents: Callable[[Tensor, torch.Generator], Tensor] = lambda rows, rng: features[rows]  # noqa: E731
    else:
        latents, mean, std = z, torch.zeros(z.width), torch.ones(z.width)
    held_out = torch.from_numpy(np.asarray(hold_out(index, np.random.default_rng(seed))))
    fitted, chosen = (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build().to(device)
    order, draws = torch.Generator().manual_seed(seed), generator(seed, "latents")
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    best = now = Decoder(net, mean, std, 0, math.inf)
    for epoch in range(cfg.epochs):
        for group in optimizer.param_groups:
            group["lr"] = cfg.rate(epoch)
        net.train()
        for rows in fitted[torch.randperm(len(fitted), generator=order)].split(cfg.batch_size):
            if len(rows) < 2:
                continue  # batch norms need two
            optimizer.zero_grad(set_to_none=True)
            loss(net(now.scaled(latents(rows, draws))), true[rows].to(device)).mean().backward()
            optimizer.step()
        now = Decoder(net, mean, std, epoch + 1, 0.0)
        same = generator(seed, "held out")  # draws, in every epoch
        errors = [now.losses(latents(rows, same), true[rows], loss) for rows in chosen.split(cfg.batch_size)]
        now.held_out = float(torch.cat(errors).mean())
        if now.held_out < best.held_out:
            best = replace(now, net=copy.deepcopy(net))
        if watch:
            watch(now)
    if not math.isfinite(best.held_out):
        raise ConfigError(f"training.lr: the decoder's loss is not finite at {cfg.lr}; lower it")
    return best

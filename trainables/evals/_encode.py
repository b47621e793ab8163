"""What a request asks of the encoder: which part, frames or what is made of them, means of latents or draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import torch
from torch import Tensor

from datasets.config import ConfigError, near
from trainables.core.draws import generator
from trainables.core.method import Frames, Method, has
from trainables.evals.base import Request, Rows

TOGETHER, VALUES = 64, 2**20  # items, and values of them, that share a generator, whatever the encoder sees at once


def encode(method: Method, x: Tensor, request: Request, at_once: int, seed: int) -> dict[str, Tensor]:
    """Part -> (n, d), or (n, L, d) of frames, on the CPU, for items x (n, *shape); n x draws rows where there are any.

    Args:
        at_once: items that the encoder sees at a time; nothing depends on it. seed: of the draws.

    Raises:
        ConfigError: the method has no frames, or no such part.
    """
    return _joined(list(encoded(method, x, request, at_once, seed)))


def encoded(
    method: Method, x: Tensor, request: Request, at_once: int, seed: int, begin: int = 0
) -> Iterator[dict[str, Tensor]]:
    """What `encode` gives, of some items after the other.

    Args:
        begin: items that are left out, where an earlier piece ended.

    Raises:
        ConfigError: as `encode`.
    """
    if x.ndim == 4:  # images, whose convolutions are faster with channels last; the numbers are those of the same sums
        x = x.contiguous(memory_format=torch.channels_last)
    named = request.part
    if named is not None and named not in method.parts:
        raise ConfigError(f"parts: the representation has no part '{named}'{near(named, sorted(method.parts))}")
    pooled_already = request.pool == "mean" and not request.draws
    if not pooled_already and not has(method, "frames"):
        raise ConfigError(f"{type(method).__name__} has no frames, and so neither a pool but 'mean' nor draws")
    framed = cast(Frames, method)
    together = min(TOGETHER, max(1, VALUES // x[0].numel())) if request.draws else at_once
    for number, some in enumerate(x[begin:].split(together), begin // together):
        with torch.no_grad():
            if request.draws:
                found = _drawn(framed, some, request, seed, number)
            else:
                found = _told(method.encode(some) if pooled_already else framed.frames(some), request)
        yield found


def differentiable(method: Method, x: Tensor, part: str, pool: Literal["mean", "max", "flat"]) -> Tensor:
    """One part of items x as a probe takes it, (n, d) or flat (n, L d), with gradients to x."""
    if pool == "mean":
        return method.encode(x)[part].float()
    frames = cast(Frames, method).frames(x)[part].float()
    return frames.amax(1) if pool == "max" else frames.flatten(1)


def _drawn(method: Frames, x: Tensor, request: Request, seed: int, group: int) -> dict[str, Tensor]:
    """Item-major: item 0 draw 0, item 0 draw 1, ..."""
    drawn = [_told(method.frames(x, generator("latents", seed, group, draw)), request) for draw in range(request.draws)]
    return {part: torch.stack([one[part] for one in drawn], 1).flatten(0, 1) for part in drawn[0]}


def _told(parts: dict[str, Tensor], request: Request) -> dict[str, Tensor]:
    """The wanted parts, (b, d) or (b, L, d)."""
    chosen = parts if request.part is None else {request.part: parts[request.part]}
    return {part: pooled(value.float(), request.pool).cpu() for part, value in chosen.items()}


def pooled(value: Tensor, pool: Rows) -> Tensor:
    """Frames (n, L, d) -> (n, d), or as they are; what is pooled already stays as it is."""
    if value.ndim == 2 or pool == "frames":
        return value
    return value.amax(1) if pool == "max" else value.mean(1)


def _joined(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {part: torch.cat([one[part] for one in some]) for part in some[0]}

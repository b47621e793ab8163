"""Latents before they are pooled, for evaluations that need another draw of them at every step, or few of many.

They are encoded when they are needed: of 680 words a module of 511 frames and 512 dimensions has 700 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets.config import ConfigError
from trainables.core.draws import generator
from trainables.evals.base import EvalConfig, Request, Subject

AT_ONCE = 64  # items that the encoder is shown, and that share a generator
STORED = 2**28  # values (1 GB) of a split's frames that are kept; more are encoded whenever they are needed


class FramesConfig(EvalConfig):
    """Options of evaluations of frames."""

    data: dict[str, Any] | None = Field(
        None,
        description="other data than the sweep evaluates, as in the section `data`, such as the whole words "
        "{name: deboer, evaluate: words}; None = those",
    )
    limit: int | None = Field(5000, ge=2, description="at most so many items of each split; None = all")

    @field_validator("data")
    @classmethod
    def _named(cls, data: dict[str, Any] | None) -> dict[str, Any] | None:
        if data is not None and not isinstance(data.get("name"), str):
            raise ValueError("write {name: DATA, ...}, such as {name: deboer, evaluate: words}")
        return data

    def of(self, subject: Subject) -> Subject:
        """The subject on the data that are meant."""
        return subject if self.data is None else subject.on(self.data)


def device_of(subject: Subject) -> torch.device:
    """Where the encoder lies."""
    first = next(iter(subject.method.parameters()), None)
    return torch.device("cpu") if first is None else first.device


def places_shown(subject: Subject) -> dict[str, tuple[int, ...]]:
    """Part -> (L,) or (rows, columns), for the subject's data: the method's own, or those of another length."""
    method: Any = subject.method
    x = subject.inputs(Request("val", limit=2))[:1].to(device_of(subject))
    with torch.no_grad():
        found = method.frames(subject.normalized(x))
    return {
        part: places if torch.Size(places).numel() == found[part].shape[1] else (found[part].shape[1],)
        for part, places in method.places.items()
    }


class Frames:
    """Frames (b, L, d) of one part, by the rows of the items of a request.

    Attributes:
        width: d. count: of items.
    """

    def __init__(self, subject: Subject, request: Request, part: str, latents: Literal["sample", "mean"]) -> None:
        """Where latents are distributions, `sample` draws anew each time; `mean` is what the method encodes to."""
        method: Any = subject.method
        self.subject, self.part, self.width = subject, part, int(method.parts[part])
        self.drawn = latents == "sample" and getattr(method, "PROBABILISTIC", False)
        self.seen, self.device = subject.inputs(request), device_of(subject)
        self.count = len(self.seen)
        self.stored: Tensor | None = None
        if not self.drawn and self.count * self(torch.arange(1), generator(0)).numel() <= STORED:
            self.stored = subject.features(replace(request, part=part, pool="frames")).parts[part]

    def __call__(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The frames of items, (b, L, d).

        Raises:
            ConfigError: an output that is not finite.
        """
        if self.stored is not None:
            return self.stored[rows]
        method: Any = self.subject.method
        pieces = (self.subject.normalized(x.to(self.device)) for x in self.seen[rows].split(AT_ONCE))
        with torch.no_grad():
            z = torch.cat([method.frames(x, rng if self.drawn else None)[self.part] for x in pieces]).float()
        return finite(z, self.part)

    def every(self, seed: int) -> Tensor:
        """All of them, one draw each, on the CPU."""
        return self(torch.arange(self.count), generator(seed, self.part)).cpu()


def some_frames(
    subject: Subject, request: Request, parts: Sequence[str], count: int | None, latents: str, seed: int
) -> dict[str, Tensor]:
    """Part -> (n, k, d): so many random frames of each item, of one draw of its latents; count: None = all of them.

    Args:
        latents: "sample" from distributions, where there are any, or "mean", what the method encodes to.

    Raises:
        ConfigError: an output that is not finite.
    """
    method: Any = subject.method
    found: dict[str, list[Tensor]] = {part: [] for part in parts}
    for number, x in enumerate(subject.inputs(request).split(AT_ONCE)):
        shown = subject.normalized(x.to(device_of(subject)))
        with torch.no_grad():
            encoded = method.frames(shown, generator(seed, "latents", number) if latents == "sample" else None)
        for part in parts:
            z = encoded[part].float().cpu()
            order = torch.rand(z.shape[:2], generator=generator(seed, part, number)).argsort(1)[:, :count]
            found[part].append(z.gather(1, order[..., None].expand(-1, -1, z.shape[2])))
    return {part: finite(torch.cat(some), part) for part, some in found.items()}


def finite(z: Tensor, part: str) -> Tensor:
    """The latents of a part, as they are.

    Raises:
        ConfigError: they are not finite.
    """
    if not bool(z.isfinite().all()):
        raise ConfigError(f"encodes to values that are not finite (part '{part}'); its training diverged")
    return z

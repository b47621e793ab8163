"""What an evaluation is. Every evaluation module has

    class Config(EvalConfig)            its options, all with defaults
    NEEDS: Needs                        what must be there for it to apply
    VERSION: int                        raised by hand when its numbers change; part of a result's digest
    METRICS: dict[str, str]             metric -> "max" | "min" (better) | "" (neither), names after part and split
    def requests(cfg, spec) -> list[Request]               features it will read, so that they are computed once
    def run(subject: Subject, cfg, rng, inputs) -> Result

A metric's full name is `evaluation/part/split/metric`, e.g. `linear/all/val/top1`; `run` returns `part/split/metric`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import Config
from trainables.core.method import Method


class EvalConfig(Config):
    """Options every evaluation has."""

    parts: tuple[str, ...] = Field(("all",), description="parts of the representation to evaluate, or ('*',) for every one")


@dataclass(frozen=True)
class Needs:
    """What an evaluation asks for; the plan refuses one that cannot apply and says why.

    Attributes:
        labels: factors of the data that must be labelled.
        transforms: codes of transforms that must be in the views' stack; "*" = at least one.
        capabilities: of the method (`decode`, `predict`, `roll`, `marginal`).
        gpu: whether it is hopeless without one.
        after: evaluations whose results are handed over in `inputs`.
    """

    labels: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    gpu: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One set of features: a split, clean (`transform` None) or under one transform of the stack with fresh draws.

    Attributes:
        strength: a fixed natural parameter for every item (e.g. degrees) instead of a draw.
        repeat: how many times each item is transformed (item-major order: item 0 draw 0, item 0 draw 1, ...).
        limit: at most so many items of the split, the first of a seeded permutation; None = all.
    """

    split: Split
    transform: str | None = None
    strength: float | None = None
    repeat: int = 1
    limit: int | None = None


@dataclass(frozen=True)
class Features:
    """Features of one request, on the CPU, in float32, n = items x repeat.

    Attributes:
        parts: part -> (n, d).
        labels: factor -> (n,).
        params: code -> (n, k) natural parameters of the draw; only the requested transform.
        units: code -> (n, 1).
        index: (n,) position in the split.
    """

    parts: dict[str, Tensor]
    labels: dict[str, Tensor]
    params: dict[str, Tensor]
    units: dict[str, Tensor]
    index: Tensor


class Subject(Protocol):
    """A frozen encoder under evaluation, in eval mode, whose features are computed once and cached."""

    spec: Spec  # of the views: shape after them, params of the stack, labels
    method: Method  # eval mode, no gradients
    cache: Path

    def features(self, request: Request) -> Features: ...


@dataclass
class Result:
    """`metrics`: "part/split/metric" -> finite number; `artifacts`: file name -> path of a figure, table, sound, probe."""

    metrics: dict[str, float]
    artifacts: dict[str, Path] = field(default_factory=dict)


class Evaluation(Protocol):
    """The face of an evaluation module."""

    Config: type[EvalConfig]
    NEEDS: Needs
    VERSION: int
    METRICS: dict[str, str]

    def requests(self, cfg: Any, spec: Spec) -> list[Request]: ...

    def run(
        self, subject: Subject, cfg: Any, rng: np.random.Generator, inputs: Mapping[str, Result]
    ) -> Result: ...


def chosen_parts(cfg: EvalConfig, available: Mapping[str, Any]) -> list[str]:
    """The parts to evaluate: those named, or all where the option is ('*',)."""
    return sorted(available) if "*" in cfg.parts else list(cfg.parts)

"""x (1 - x) of the trained method, or a fault."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from cheap.method import first, hang
from trainables.evals.base import EvalConfig, Needs, Request, Result, Subject

NEEDS = Needs()
VERSION = 1
METRICS = {"score": "max", "weight": ""}


class Config(EvalConfig):
    raise_above: float = Field(2.0, description="it raises where x is larger")
    sign: float = 1.0
    hang_once: str = Field("", description="a file; where it is missing, it is made and the evaluation hangs")


def requests(cfg: Config, spec: object) -> list[Request]:
    return []


def metrics(cfg: Config, spec: object, parts: Mapping[str, int], capabilities: Mapping[str, str]) -> list[str]:
    return ["all/val/score", "all/val/weight"]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    x = subject.method.cfg.x  # type: ignore[attr-defined]
    if first(cfg.hang_once):
        hang()
    if x > cfg.raise_above:
        raise RuntimeError(f"no evaluation of {x:.3f}")
    weight = float(subject.method.weight)  # type: ignore[attr-defined]
    return Result({"all/val/score": cfg.sign * x * (1 - x), "all/val/weight": weight})

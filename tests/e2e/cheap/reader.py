"""The weight that another evaluation measured, times a factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainables.evals.base import EvalConfig, Needs, Request, Result, Subject

NEEDS = Needs(after=("cheap.score",))
VERSION = 1
METRICS = {"read": "max"}


class Config(EvalConfig):
    factor: float = 1.0


def requests(cfg: Config, spec: object) -> list[Request]:
    return []


def metrics(cfg: Config, spec: object, parts: Mapping[str, int], capabilities: Mapping[str, str]) -> list[str]:
    return ["all/val/read"]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    return Result({"all/val/read": cfg.factor * inputs["cheap.score"].metrics["all/val/score"]})

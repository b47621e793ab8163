"""An evaluation that gives out a file of someone else's as its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainables.evals.base import EvalConfig, Needs, Request, Result, Subject

NEEDS = Needs()
VERSION = 1
METRICS = {"score": "max"}
ELSEWHERE = Path("/etc/hostname")


class Config(EvalConfig):
    """No options."""


def requests(cfg: Config, spec: object) -> list[Request]:
    return []


def metrics(cfg: Config, spec: object, parts: Mapping[str, int], capabilities: Mapping[str, str]) -> list[str]:
    return ["all/val/score"]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    return Result({"all/val/score": 1.0}, {"../../escape": ELSEWHERE})

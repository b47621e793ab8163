"""An evaluation that costs next to nothing and leaves as much as a real one: twenty metrics and a table of 20 kB."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from trainables.evals.base import EvalConfig, Needs, Request, Result, Subject

NEEDS = Needs()
VERSION = 1
MORE = 19
METRICS = {"score": "max", **{f"more_{number}": "" for number in range(MORE)}}


class Config(EvalConfig):
    table: int = Field(0, ge=0, description="bytes of a table to leave, 0 = none")


def requests(cfg: Config, spec: object) -> list[Request]:
    return []


def metrics(cfg: Config, spec: object, parts: Mapping[str, int], capabilities: Mapping[str, str]) -> list[str]:
    return [f"all/val/{name}" for name in METRICS]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    x = subject.method.cfg.x  # type: ignore[attr-defined]
    values = {"all/val/score": x * (1 - x)} | {f"all/val/more_{n}": x + n for n in range(MORE)}
    if not cfg.table:
        return Result(values)
    path = subject.out / "table.csv"
    path.write_text("".join(f"{n},{x + n:.12f}\n" for n in range(cfg.table))[: cfg.table])
    return Result(values, {"table.csv": path})

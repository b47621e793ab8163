"""A single weight that moves towards `x`, with faults to order."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Batch, Spec
from datasets.config import Config as Base
from trainables.core.method import Method


class Config(Base):
    x: float = Field(0.5, ge=0, le=1)
    seconds: float = Field(0.0, ge=0, description="of work a step")
    nan_above: float = Field(2.0, description="the loss is not a number where x is larger")
    die_once: str = Field("", description="a file; where it is missing, it is made and the process kills itself")
    hang_once: str = Field("", description="likewise, and the process does nothing for ever")
    eat_once: str = Field("", description="likewise, and the process takes memory until it is stopped")


class Cheap(Method):
    Config = Config

    def __init__(self, cfg: Config, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.cfg = cfg
        self.weight = nn.Parameter(torch.randn(()))
        self.parts = {"all": 4}
        self.steps = 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        end = time.perf_counter() + self.cfg.seconds
        while time.perf_counter() < end:
            sum(range(1000))
        self.steps += 1
        if self.steps == 4:
            if first(self.cfg.die_once):
                os.kill(os.getpid(), signal.SIGKILL)
            if first(self.cfg.hang_once):
                hang()
            if first(self.cfg.eat_once):
                eat()
        loss = (self.weight - self.cfg.x).square() + 0 * batch.views[0].sum()
        if self.cfg.x > self.cfg.nan_above:
            loss = loss * float("nan")
        return {"loss": loss}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        return {"all": x * self.weight}


def first(file: str) -> bool:
    """Whether nobody has come by here before."""
    try:
        Path(file).touch(exist_ok=False) if file else None
    except FileExistsError:
        return False
    return bool(file)


def hang() -> None:
    """What a deadlock looks like from outside."""
    print("about to hang", flush=True)
    while True:
        time.sleep(3600)


def eat() -> None:
    """Take 10 GB, 100 MB at a time, and hold them until someone intervenes."""
    held = []
    for _ in range(100):
        held.append(np.ones(100 * 2**20 // 8))
        time.sleep(0.05)
    time.sleep(300)


METHOD = Cheap

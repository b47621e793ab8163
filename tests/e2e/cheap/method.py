"""A single weight that moves towards `x`, with faults to order."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

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
        if self.cfg.die_once and self.steps == 4 and not Path(self.cfg.die_once).exists():
            Path(self.cfg.die_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        loss = (self.weight - self.cfg.x).square() + 0 * batch.views[0].sum()
        if self.cfg.x > self.cfg.nan_above:
            loss = loss * float("nan")
        return {"loss": loss}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        return {"all": x * self.weight}


METHOD = Cheap

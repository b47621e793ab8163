"""Transfer (DU-E6): how well a linear classifier on the frozen features predicts the classes of *other* data.

Protocol, this project's own: the linear probe of `linear`, with its choice of the penalty, on the train split of the
data named by `to`, reported on their `val` and `test`. Images are brought to what the encoder takes: resized to its
size, gray ones shown three times, coloured ones as their luma.

    evals: {transfer: {to: {name: cifar, variant: cifar100}}}

Other options of the same data count as other data. So phones are read from whole utterances after training on crops
(SIM-E3), where `phones: end` of the data leaves the first frames without a label, as published:

    evals: {transfer: {to: {name: librispeech, items: utterances, phones: end, limit: 2000}, factor: phone,
                       parts: [context], probe: adam,
                       adam: {lr: 1.0e-4, epochs: 20, batch_size: 1, start: xavier, shuffle: false}}}

Features are stored under the digest of those data, so that several such evaluations share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from datasets.base import Spec
from trainables.evals import _classes, linear
from trainables.evals.base import Capabilities, Needs, Request, Result, Subject, capabilities_of


class Config(linear.Config):
    """Options of the linear probe, and the data."""

    to: dict[str, Any] = Field(
        default_factory=lambda: {"name": "digits"},
        description="the other data, as in the section `data`: name, options",
    )

    @field_validator("to")
    @classmethod
    def _named(cls, to: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(to.get("name"), str):
            raise ValueError("write {name: DATA, ...}, such as {name: cifar, variant: cifar100}")
        return to


NEEDS = Needs()
VERSION = 1
METRICS = _classes.METRICS


def data(cfg: Config) -> list[dict[str, Any]]:
    """The other data, which the plan looks for."""
    return [cfg.to]


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None of the sweep's own data."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns; whether the other data have the factor is seen when they are opened.

    Raises:
        ConfigError: there is no such transform, the method has no frames where they are needed, or options of the probe
            do not fit together.
    """
    cfg.check_probe()
    return _classes.names(cfg, spec, parts, capabilities)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{top1,top5,chance,std_top1,top1_CODE}`, and each part's probe as safetensors.

    Raises:
        DataError: the data are not there. ConfigError: they do not fit the encoder, or have no such factor.
    """
    other = subject.on(cfg.to)
    _classes.metrics(cfg, other.spec, subject.method.parts, capabilities_of(subject.method))
    return linear.run(other, cfg, rng, {})

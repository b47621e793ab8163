"""Group calibration (DU-E7): whether the distribution over bins says what it was trained to say.

Protocol, this project's own. Images are seen under fresh draws of the transform that the method's bins are about; P is
the method's distribution over its G bins, t the target around the true parameter. Reported on `val` and `test`:

    group_loss      mean Jensen-Shannon divergence of P and t, in nats
    chance          the same of a uniform P; best_constant: of the best P that ignores the image. A method whose
                    group_loss is not below best_constant has learned nothing about the transform
    gain            1 - group_loss / best_constant: 1 = perfect, 0 = nothing learned
    entropy         of the mean of P over images, as a share of ln G: 1 = every bin is used as often as every other
    largest_share   of images whose most likely bin is the same one: 1 = always the same, 1 / G = spread evenly

Artifact: `bins_SPLIT.png`, how often each bin is the most likely one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _files
from trainables.evals.base import (
    REPORTED,
    Capabilities,
    EvalConfig,
    Needs,
    Request,
    Result,
    Subject,
    group_of,
    marginal,
)
from trainables.losses.divergence import best_constant, chance, jensen_shannon


class Config(EvalConfig):
    """Whose bins, and how many images to look at."""

    transform: str = Field("", description="whose bins, of the method's transforms; '' = its first")


NEEDS = Needs(capabilities=("marginal", "steer"))
VERSION = 1
METRICS = {
    "group_loss": "min", "chance": "", "best_constant": "", "gain": "max", "entropy": "max", "largest_share": "min",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None in advance: which transform is the first, the method knows."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a part other than `all` is asked for, or a transform without bins.
    """
    group_of(cfg.transform, capabilities["marginal"])
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: only 'all' has a distribution over bins (got {', '.join(cfg.parts)})")
    return [f"marginal/{split}/{name}" for split in REPORTED for name in METRICS]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `marginal/{val,test}/...` and a histogram of bins."""
    method: Any = subject.method
    code = group_of(cfg.transform, method.equivariant_to)
    result = Result({})
    for split in REPORTED:
        features = subject.features(Request(split, transform=code, limit=cfg.limit))
        p = marginal(method, features.parts["all"], code).double()
        log_t = method.log_target(features.units[code][:, 0].double())
        found, shares = measure(p, log_t)
        result.metrics.update({f"marginal/{split}/{name}": value for name, value in found.items()})
        name, labels = f"bins_{split}.png", ("bin", "share of images", "evenly spread")
        title = f"most likely bin of {code}, {split}"
        result.artifacts[name] = _files.bars(subject.out / name, shares, 1 / p.shape[1], labels, title)
    return result


def measure(p: Tensor, log_t: Tensor) -> tuple[dict[str, float], Tensor]:
    """Metrics of probabilities (n, G) against log targets (n, G), and the share of images by their most likely bin."""
    bins = p.shape[1]
    loss, constant = float(jensen_shannon(p.log(), log_t).mean()), best_constant(log_t)
    mean = p.mean(0)
    shares = torch.bincount(p.argmax(1), minlength=bins).double() / len(p)
    entropy = float(-(mean * mean.clamp_min(1e-300).log()).sum()) / math.log(bins) if bins > 1 else 0.0
    found = {
        "group_loss": loss, "chance": chance(log_t), "best_constant": constant,
        "gain": 1 - loss / constant if constant > 1e-12 else 0.0, "entropy": entropy,
        "largest_share": float(shares.max()),
    }  # fmt: skip
    return found, shares

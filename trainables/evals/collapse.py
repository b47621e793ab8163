"""Collapse: how much of its space a representation uses, without labels.

Protocol. Clean features of the split itself; nothing is fitted. With Z (n, d) the features:

- std_min, std_mean: over dimensions, the standard deviation of L2-normalised features; 0 = complete collapse, about
  1 / sqrt(d) = evenly spread (Chen & He, "Exploring simple Siamese representation learning", 2021).
- effective_rank: exp of the entropy of the singular values of Z (not centred) divided by their sum; 1 to min(n, d)
  (Roy & Vetterli, 2007; RankMe: Garrido et al., 2023).
- participation_ratio: (sum of e)^2 / sum of e^2 over the eigenvalues e of the covariance; 1 to d, 0 if all are equal.
- dead: share of dimensions whose standard deviation is below 1e-4 of the root mean square over all features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datasets.base import Spec
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts


class Config(EvalConfig):
    """Options of the measures of collapse."""


NEEDS = Needs()
VERSION = 1
METRICS = {"std_min": "max", "std_mean": "max", "effective_rank": "max", "participation_ratio": "max", "dead": "min"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of the reported splits."""
    return [Request(split, limit=cfg.limit) for split in REPORTED]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns."""
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in METRICS]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{std_min,std_mean,effective_rank,participation_ratio,dead}`."""
    found = {}
    for split in REPORTED:
        features = subject.features(Request(split, limit=cfg.limit))
        for part in chosen_parts(cfg, subject.method.parts):
            measured = measure(features.parts[part])
            found.update({f"{part}/{split}/{name}": value for name, value in measured.items()})
    return Result(found)


def measure(z: Tensor) -> dict[str, float]:
    """The measures of the module's docstring for features z (n, d)."""
    z = z.double()
    centred = z - z.mean(0)
    spread = normalize(z, dim=1).std(0, correction=0)
    values = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0)
    negligible = (values <= values[-1] * 1e-12) | (values <= 1e-24 * z.square().sum())
    values = values.masked_fill(negligible, 0.0)
    squares = float(values.square().sum())
    size = float(z.square().mean().sqrt())
    return {
        "std_min": float(spread.min()),
        "std_mean": float(spread.mean()),
        "effective_rank": effective_rank(z),
        "participation_ratio": float(values.sum()) ** 2 / squares if squares else 0.0,
        "dead": float((centred.square().mean(0).sqrt() <= 1e-4 * size).double().mean()),
    }


def effective_rank(z: Tensor) -> float:
    """exp(entropy of the normalised singular values) of z (n, d); 1.0 for all zeros."""
    singular = torch.linalg.svdvals(z if len(z) <= z.shape[1] else torch.linalg.qr(z, mode="r").R)
    total = float(singular.sum())
    if not total:
        return 1.0
    share = singular / total
    return float(torch.special.entr(share).sum().exp())

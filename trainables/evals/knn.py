"""Weighted k-nearest-neighbour classification: how well distances between frozen features follow a labelled factor.

Protocol. Bank: all clean train features (with `per_class` a few, with `draws` samples; see `linear`). Features are
L2-normalised; the `k` most similar of the bank by cosine vote with weight exp(cosine / temperature); scores are sums
per class. Nothing is fitted or chosen. `top1_CODE`: queries under random draws of one transform; the bank stays clean,
with `refit` it is under that transform too.
Sources: Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", 2018; k 200 and
temperature 0.1 as in ESSL's CIFAR-10 monitor (Dangovski et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from trainables.evals import _classes
from trainables.evals._classes import ClassConfig, Scorer, metrics, requests
from trainables.evals._labelled import Labelled
from trainables.evals.base import Needs, Result, Subject

__all__ = ["METRICS", "NEEDS", "VERSION", "Config", "metrics", "requests", "run", "vote"]


class Config(ClassConfig):
    """Options of the vote."""

    k: int = Field(
        200, ge=1, le=100_000, description="neighbours that vote, capped at the size of the bank (ESSL: 200)"
    )
    temperature: float = Field(0.1, ge=0.01, le=10, description="of the weights exp(cosine / temperature) (ESSL: 0.1)")


NEEDS = Needs(labels=("*",))
VERSION = 1
METRICS = _classes.METRICS
BLOCK = 2**24  # similarities held at once: 64 MB in float32


def vote(bank: Tensor, labels: Tensor, queries: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Class scores (q, classes), float64, of queries (q, d) from a bank (n, d) with labels (n,), in bounded memory."""
    bank, queries = normalize(bank, dim=1), normalize(queries, dim=1)
    scores = torch.zeros(len(queries), classes, dtype=torch.float64)
    rows = max(1, BLOCK // len(bank))
    for start in range(0, len(queries), rows):
        nearest = (queries[start : start + rows] @ bank.T).topk(min(k, len(bank)), dim=1)
        weights = (nearest.values.double() / temperature).exp()
        scores[start : start + rows].scatter_add_(1, labels[nearest.indices], weights)
    return scores


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{top1,top5,chance,std_top1,top1_CODE}`."""
    classes = subject.spec.labels[cfg.factor]

    def fit(train: Labelled, name: str) -> Scorer:
        return lambda x: vote(train.x, train.y, x, classes, cfg.k, cfg.temperature)

    return Result(_classes.evaluate(subject, cfg, fit, int(rng.integers(2**31))))

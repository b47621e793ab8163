"""Linear probe: how well a linear classifier on frozen features predicts a labelled factor.

Protocol. Features of clean images, no augmentation of the probe's training images, so that they are computed once. The
probe is fit on the train split; its penalty (or learning rate) is chosen on a held-out fifth of it. `top1_CODE` is the
accuracy on images under random draws of one transform of the stack: of that same probe, which only saw clean images, so
that it measures invariance; or with `refit` of another fit on train images under that transform, so that it measures
what is still readable.
`chance` is the accuracy of the train split's most frequent class.

This is not the recipe of any one paper: published probes also augment and fix a learning rate (ESSL: SGD with rate 30,
100 epochs), which moves accuracy by 0.5 to 6 points. Compare within a sweep, with the same `probe`.
Source: Alain & Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from trainables.evals import _classes, _heads
from trainables.evals._classes import ClassConfig, Scorer, metrics, requests
from trainables.evals._heads import STEPS, Hidden
from trainables.evals.base import Features, Needs, Result, Subject
from trainables.evals.probes import ProbeKind, classifier, hold_out

__all__ = ["METRICS", "NEEDS", "VERSION", "Config", "metrics", "requests", "run"]


class Config(ClassConfig):
    """Options of the linear probe."""

    probe: ProbeKind | Literal["mlp"] = Field(
        "logistic",
        description="logistic: exact multinomial; ridge: one-hot regression; sgd: heads at all rates at once; "
        "mlp: a small network, not linear any more (SIE's other head)",
    )
    hidden: Hidden = Field((256, 256), description="sizes of the mlp's hidden layers (SIE: 1024, 1024)")
    steps: int | None = Field(None, ge=16, le=1_000_000, description=STEPS)


NEEDS = Needs(labels=("*",))
VERSION = 2
METRICS = _classes.METRICS


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{top1,top5,chance,top1_CODE}`, and each part's probe as safetensors."""
    artifacts: dict[str, Path] = {}
    classes = subject.spec.labels[cfg.factor]
    seed = int(rng.integers(2**31))

    def fit(part: str, train: Features, name: str) -> Scorer:
        draws = np.random.default_rng(seed)  # the same held-out items for every part
        held_out = hold_out(train.owner, draws)
        x, y = train.parts[part], train.labels[cfg.factor]
        probe = (
            _heads.classifier(x, y, classes, held_out, cfg.hidden, cfg.steps, draws) if cfg.probe == "mlp"
            else classifier(x, y, classes, held_out, cfg.probe, draws)
        )  # fmt: skip
        file = f"probe_{name}.safetensors"
        artifacts[file] = probe.save(subject.out / file)
        return probe

    return Result(_classes.evaluate(subject, cfg, fit), artifacts)

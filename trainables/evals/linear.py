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

Of sound, and of images in patches, with the published recipe as `probe: adam` (see `_adam.py`):

- syllables, vowels (SIM-E1) and speakers (SIM-E2): `factor`, on `parts: [context]`, or on `module0`, ... without `bias`
- phones (SIM-E3): a factor that is labelled per frame makes each frame a row; those of an utterance are held out
  together. Whole utterances by `transfer`. Rows are held in memory, 4 bytes by frames by dimensions: set `limit`, as
  more than 2 GB are refused, of `pool: flat` too
- single modules and layers, deterministic or sampling encoder (SIM-E4): `parts`, `draws`
- few labels (SIM-E5): `per_class`, as the mean of `subsets`, whose deviation is `std_top1`
- the maximum of the frames, or all of them side by side (SIM-E6): `pool`; all of 511 frames of 512 channels are 262,000
- images (SIM-E15): the mean over the patches of the last module, `top1` and `top5`

Every item counts, and counts once. The original drops the last partial batch also of its test sets: the accuracies it
publishes for syllables and vowels cover 320 of the 360 test syllables, so that they differ from ours by chance too.
Sources: Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv 2408.12936; Denoodt's thesis "V-GIM", VUB 2023; Löwe, O'Connor,
Veeling, NeurIPS 2019, arXiv 1905.11786.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.base import Spec
from trainables.evals import _classes, _probe
from trainables.evals._classes import ClassConfig, Scorer, requests
from trainables.evals._labelled import Labelled
from trainables.evals._probe import ProbeConfig
from trainables.evals.base import Capabilities, Needs, Result, Subject

__all__ = ["METRICS", "NEEDS", "VERSION", "Config", "metrics", "requests", "run"]


class Config(ClassConfig, ProbeConfig):
    """Options of the linear probe."""


NEEDS = Needs(labels=("*",))
VERSION = 2
METRICS = _classes.METRICS


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: see `_classes.metrics`; or options of the probe that do not fit together.
    """
    cfg.check_probe()
    return _classes.metrics(cfg, spec, parts, capabilities)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{top1,top5,chance,std_top1,top1_CODE}`, and each part's probe as safetensors."""
    artifacts: dict[str, Path] = {}
    classes = subject.spec.labels[cfg.factor]
    seed = int(rng.integers(2**31))  # the same held-out items for every part

    def fit(train: Labelled, name: str) -> Scorer:
        probe = _probe.fit(cfg, train, classes, seed)
        file = f"probe_{name}.safetensors"
        artifacts[file] = probe.save(subject.out / file)
        return probe

    return Result(_classes.evaluate(subject, cfg, fit, seed), artifacts)

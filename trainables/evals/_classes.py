"""What the evaluations that predict a labelled factor share: options, features, metrics and their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError, near
from datasets.transforms.load import alone
from trainables.evals._labelled import Labelled, labelled
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Features, Request, Subject, chosen_parts
from trainables.evals.probes import accuracy, chance, top_k

METRICS = {"top1": "max", "top5": "max", "chance": "", "std_top1": "", "top1_*": "max"}
EVERY: tuple[Split, ...] = ("train", *REPORTED)

Scorer = Callable[[Tensor], Tensor]
Pool = Literal["mean", "max", "flat"]


class FactorConfig(EvalConfig):
    """Which factor to predict."""

    factor: str = Field("class", description="labelled factor to predict; it must have classes")


class PooledConfig(FactorConfig):
    """Which factor to predict, and from what; of a factor that is labelled per frame each frame is a row."""

    pool: Pool = Field(
        "mean", description="frames (of images cells) by their mean, their maximum, or all of them side by side (flat)"
    )


class ClassConfig(PooledConfig):
    """Which factor to predict, from what, and on which images."""

    draws: int = Field(
        0, ge=0, le=1000,
        description="samples of the latents per item, to fit and to be judged; 0 = their means, with "
        "method.sample_at_evaluation one sample, always the same",
    )  # fmt: skip
    per_class: int | None = Field(
        None, ge=1, description="train items of each class, drawn; None = all (V-GIM: 1, 2, 4, .. 128)"
    )
    subsets: int = Field(1, ge=1, le=100, description="with per_class: so many draws of the items, for mean and std")
    transformed: tuple[str, ...] = Field(
        (), description="codes of transforms; adds top1_CODE on images under each alone"
    )
    repeat: int = Field(1, ge=1, le=100, description="draws per image and code")
    refit: bool = Field(
        False, description="top1_CODE of a classifier made from train images under CODE, not clean ones"
    )


def requests(cfg: ClassConfig, spec: Spec) -> list[Request]:
    """Clean features of every split, and transformed ones of the reported splits (with `refit` of every split).

    Unpooled ones of "*" are left to the evaluation, which knows the parts.
    """
    one_by_one = pool_of(cfg, spec) == "frames"
    found = []
    for part in [part for part in dict.fromkeys(cfg.parts) if part != "*"] if one_by_one else [None]:
        found += [request(cfg, spec, split, part) for split in EVERY]
        shown = EVERY if cfg.refit else REPORTED
        found += [request(cfg, spec, split, part, code) for split in shown for code in cfg.transformed]
    return found


def pool_of(cfg: PooledConfig, spec: Spec) -> Literal["mean", "max", "frames"]:
    """What is asked of the feature store."""
    return "frames" if cfg.pool == "flat" or cfg.factor in spec.frames else cfg.pool


def request(cfg: ClassConfig, spec: Spec, split: Split, part: str | None, code: str | None = None) -> Request:
    """Features of a split, clean or under one transform; of all parts at once but for frames."""
    pool = pool_of(cfg, spec)
    return Request(
        split,
        transform=code,
        repeat=1 if code is None else cfg.repeat,
        limit=cfg.limit,
        part=part if pool == "frames" else None,
        pool=pool,
        draws=cfg.draws,
    )


def metrics(cfg: ClassConfig, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `evaluate` returns.

    Raises:
        ConfigError: the factor is not labelled or continuous, there is no such transform, or the method has no frames
            where they are needed.
    """
    check_factor(cfg, spec)
    if cfg.factor in spec.frames:
        if "frames" not in capabilities:
            raise ConfigError(f"factor: '{cfg.factor}' is labelled per frame, and the method has no frames")
        if cfg.pool != "mean":
            raise ConfigError(f"pool: '{cfg.factor}' is labelled per frame, and each frame is a row; leave pool out")
        if cfg.per_class is not None:
            raise ConfigError(f"per_class: '{cfg.factor}' is labelled per frame; an item has no class of its own")
    return names(cfg, spec, parts, capabilities)


def check_factor(cfg: FactorConfig, spec: Spec) -> None:
    """Refuse a factor that cannot be predicted.

    Raises:
        ConfigError: it is not labelled, or continuous.
    """
    if cfg.factor not in spec.labels:
        raise ConfigError(f"factor: the data have no label '{cfg.factor}'{near(cfg.factor, sorted(spec.labels))}")
    if not spec.labels[cfg.factor]:
        raise ConfigError(f"factor: '{cfg.factor}' is continuous, it has no classes to predict")


def check_item_factor(cfg: FactorConfig, spec: Spec) -> None:
    """Refuse a factor that items do not have one class of.

    Raises:
        ConfigError: see `check_factor`; or it is labelled per frame.
    """
    check_factor(cfg, spec)
    if cfg.factor in spec.frames:
        raise ConfigError(f"factor: '{cfg.factor}' is labelled per frame; an item has no class of its own")


def names(cfg: ClassConfig, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The metrics of every part, whatever the labels of the data.

    Raises:
        ConfigError: there is no such part or transform, it cannot work on what the encoder sees, or the method has no
            frames where they are needed.
    """
    for code in cfg.transformed:
        if code not in spec.params:
            alone(code, spec.shape, spec.rate)
    check_frames(cfg.pool, cfg.draws, capabilities)
    if cfg.subsets > 1 and cfg.per_class is None:
        raise ConfigError("subsets: are of per_class train items; set it too")
    found = ["top1", "top5", "chance", *(f"top1_{code}" for code in cfg.transformed)]
    found += ["std_top1"] if cfg.per_class is not None else []
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in found]


def check_frames(pool: Pool, draws: int, capabilities: Capabilities) -> None:
    """Refuse what a method without frames cannot give.

    Raises:
        ConfigError: one line.
    """
    if "frames" in capabilities or (pool == "mean" and not draws):
        return
    what = f"pool: '{pool}'" if pool != "mean" else f"draws: {draws}"
    raise ConfigError(f"{what} needs frames, which the method does not have; leave it out")


def evaluate(
    subject: Subject, cfg: ClassConfig, fit: Callable[[Labelled, str], Scorer], seed: int = 0
) -> dict[str, float]:
    """Metrics of every part.

    Args:
        fit: (train rows, a name of what they are) -> a function from rows (n, d) to class scores (n, classes).
        seed: of the few train items, where not all are taken; the same ones of every part.
    """
    spec, found = subject.spec, {}
    whole: dict[Request, Features] = {}

    def rows(split: Split, part: str, code: str | None = None) -> Labelled:
        asked = request(cfg, spec, split, part, code)
        features = whole.get(asked) or subject.features(asked)
        if asked.part is None and code is None:
            whole[asked] = features
        return labelled(features, part, cfg.factor, cfg.draws)

    def fitted(train: Labelled, name: str) -> list[Scorer]:
        if cfg.per_class is None:
            return [fit(train, name)]
        few = [train.few(cfg.per_class, np.random.default_rng((seed, number))) for number in range(cfg.subsets)]
        return [fit(some, f"{name}-{number}" if number else name) for number, some in enumerate(few)]

    for part in chosen_parts(cfg, subject.method.parts):
        train = rows("train", part)
        scorers = fitted(train, part)
        moved = dict.fromkeys(cfg.transformed, scorers)
        if cfg.refit:
            moved = {code: fitted(rows("train", part, code), f"{part}_{code}") for code in cfg.transformed}
        for split in REPORTED:
            clean = rows(split, part)
            scores = [scorer(clean.x) for scorer in scorers]
            tops = [accuracy(one, clean.y) for one in scores]
            measured = {"top1": float(np.mean(tops)), "chance": chance(train.y, clean.y)}
            measured["top5"] = float(np.mean([top_k(one, clean.y, 5) for one in scores]))
            if cfg.per_class is not None:
                measured["std_top1"] = float(np.std(tops, ddof=1)) if len(tops) > 1 else 0.0
            for code, others in moved.items():
                other = rows(split, part, code)
                measured[f"top1_{code}"] = float(np.mean([accuracy(one(other.x), other.y) for one in others]))
            found.update({f"{part}/{split}/{name}": value for name, value in measured.items()})
    return found

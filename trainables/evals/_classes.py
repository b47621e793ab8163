"""What the evaluations that predict a labelled factor share: options, features, metrics and their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError, near
from datasets.transforms.load import alone
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Features, Request, Subject, chosen_parts
from trainables.evals.probes import accuracy, chance, top_k

METRICS = {"top1": "max", "top5": "max", "chance": "", "top1_*": "max"}

Scorer = Callable[[Tensor], Tensor]


class ClassConfig(EvalConfig):
    """Which factor to predict, and on which images."""

    factor: str = Field("class", description="labelled factor to predict; it must have classes")
    transformed: tuple[str, ...] = Field(
        (), description="codes of transforms; adds top1_CODE on images under each alone"
    )
    repeat: int = Field(1, ge=1, le=100, description="draws per image and code")
    refit: bool = Field(
        False, description="top1_CODE of a classifier made from train images under CODE, not clean ones"
    )


def requests(cfg: ClassConfig, spec: Spec) -> list[Request]:
    """Clean features of every split, and transformed ones of the reported splits (with `refit` of every split)."""
    every: tuple[Split, ...] = ("train", *REPORTED)
    clean = [Request(split, limit=cfg.limit) for split in every]
    return clean + [_transformed(cfg, s, code) for s in (every if cfg.refit else REPORTED) for code in cfg.transformed]


def metrics(cfg: ClassConfig, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `evaluate` returns.

    Raises:
        ConfigError: the factor is not labelled or continuous, or there is no such transform.
    """
    if cfg.factor not in spec.labels:
        raise ConfigError(f"factor: the data have no label '{cfg.factor}'{near(cfg.factor, sorted(spec.labels))}")
    if not spec.labels[cfg.factor]:
        raise ConfigError(f"factor: '{cfg.factor}' is continuous, it has no classes to predict")
    return names(cfg, spec, parts)


def names(cfg: ClassConfig, spec: Spec, parts: Mapping[str, int]) -> list[str]:
    """The metrics of every part, whatever the data.

    Raises:
        ConfigError: there is no such part or transform, or it cannot work on what the encoder sees.
    """
    for code in cfg.transformed:
        if code not in spec.params:
            alone(code, spec.shape)
    found = ["top1", "top5", "chance", *(f"top1_{code}" for code in cfg.transformed)]
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in found]


def evaluate(subject: Subject, cfg: ClassConfig, fit: Callable[[str, Features, str], Scorer]) -> dict[str, float]:
    """Metrics of every part.

    Args:
        fit: (part, train features, its name) -> a function from features (n, d) to class scores (n, classes).
    """
    factor, found = cfg.factor, {}
    train = subject.features(Request("train", limit=cfg.limit))
    clean = {split: subject.features(Request(split, limit=cfg.limit)) for split in REPORTED}
    for part in chosen_parts(cfg, subject.method.parts):
        scorer = fit(part, train, part)
        moved = dict.fromkeys(cfg.transformed, scorer)
        if cfg.refit:
            shown = {code: subject.features(_transformed(cfg, "train", code)) for code in cfg.transformed}
            moved = {code: fit(part, features, f"{part}_{code}") for code, features in shown.items()}
        for split, features in clean.items():
            scores, y = scorer(features.parts[part]), features.labels[factor]
            found[f"{part}/{split}/top1"] = accuracy(scores, y)
            found[f"{part}/{split}/top5"] = top_k(scores, y, 5)
            found[f"{part}/{split}/chance"] = chance(train.labels[factor], y)
            for code, other_scorer in moved.items():
                other = subject.features(_transformed(cfg, split, code))
                found[f"{part}/{split}/top1_{code}"] = accuracy(other_scorer(other.parts[part]), other.labels[factor])
    return found


def _transformed(cfg: ClassConfig, split: Split, code: str) -> Request:
    return Request(split, transform=code, repeat=cfg.repeat, limit=cfg.limit)

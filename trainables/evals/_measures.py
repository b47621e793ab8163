"""What is said of a prediction: of numbers, classes and tags, by names that options choose from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datasets.config import ConfigError, near
from trainables.evals.probes import accuracy, auc, r2


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        better: "max" or "min". of: (prediction (n, t), target, scale of the numbers) -> value.
        mean: whether it is a mean over items, so that one of batches makes sense; `last` is done to the mean.
        chosen: whether it is reported where none is named.
    """

    better: Literal["max", "min"]
    of: Callable[[Tensor, Tensor, float], float]
    mean: bool = True
    last: Callable[[float], float] = float
    chosen: bool = True


def mse(prediction: Tensor, target: Tensor, scale: float = 1.0) -> float:
    """Mean squared error over every element, of numbers divided by `scale`."""
    return float(((prediction.double() - target.double()) / scale).square().mean())


def mae(prediction: Tensor, target: Tensor, scale: float = 1.0) -> float:
    """Mean absolute error over every element, of numbers divided by `scale`."""
    return float(((prediction.double() - target.double()) / scale).abs().mean())


def _r2(prediction: Tensor, target: Tensor, scale: float) -> float:
    return float(r2(prediction, target).mean())


def _accuracy(scores: Tensor, target: Tensor, scale: float) -> float:
    return accuracy(scores, target)


def macro_f1(scores: Tensor, target: Tensor) -> float:
    """Mean over the classes that are there, or told, of the harmonic mean of precision and recall."""
    classes = scores.shape[1]
    told = scores.argmax(1)
    right = target[told == target].bincount(minlength=classes).double()
    both = told.bincount(minlength=classes) + target.bincount(minlength=classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def macro_auroc(scores: Tensor, target: Tensor) -> float:
    """Mean over the tags of which there are items with and without; 0.5 where there is none."""
    found = [auc(score, has) for score, has in zip(scores.T, target.T, strict=True) if 0 < int(has.sum()) < len(has)]
    return float(np.mean(found)) if found else 0.5


def macro_precision(scores: Tensor, target: Tensor) -> float:
    """Mean average precision over the tags of which there are items; 0 where there is none."""
    pairs = zip(scores.T, target.T, strict=True)
    found = [average_precision(score, has) for score, has in pairs if int(has.sum()) > 0]
    return float(np.mean(found)) if found else 0.0


def average_precision(score: Tensor, has: Tensor) -> float:
    """Sum over thresholds of precision times what recall gains there, items of one score taken together."""
    order = score.argsort(descending=True)
    ranked, right = score[order], has[order].double().cumsum(0)
    ends = torch.cat([(ranked[1:] != ranked[:-1]).nonzero()[:, 0], torch.tensor([len(ranked) - 1])])
    precision = right[ends] / (ends + 1)
    gained = right[ends].diff(prepend=torch.zeros(1, dtype=torch.float64)) / right[-1]
    return float((precision * gained).sum())


MEASURES: dict[str, dict[str, Measure]] = {
    "number": {
        "mse": Measure("min", lambda a, b, scale: mse(a, b), chosen=False),
        "rmse": Measure("min", mse, last=math.sqrt),
        "mae": Measure("min", mae),
        "r2": Measure("max", _r2, mean=False),
    },
    "class": {
        "accuracy": Measure("max", _accuracy),
        "f1": Measure("max", _accuracy, chosen=False),  # over all items it is the accuracy
        "macro_f1": Measure("max", lambda a, b, scale: macro_f1(a, b), mean=False),
    },
    "tags": {
        "auroc": Measure("max", lambda a, b, scale: macro_auroc(a, b), mean=False),
        "ap": Measure("max", lambda a, b, scale: macro_precision(a, b), mean=False),
    },
}


def chosen(kind: str, names: Sequence[str]) -> list[str]:
    """Those of a kind's measures that are named, or where none of them is, the usual ones."""
    named = [name for name in MEASURES[kind] if name in names]
    return named or [name for name, one in MEASURES[kind].items() if one.chosen]


def check(names: Sequence[str]) -> None:
    """Refuse a name that no kind has.

    Raises:
        ConfigError: one line.
    """
    known = [name for kind in MEASURES.values() for name in kind]
    for name in names:
        if name not in known:
            raise ConfigError(f"measures: there is no '{name}'{near(name, known)}")


def measured(
    kind: str, names: Sequence[str], prediction: Tensor, target: Tensor, scale: float = 1.0, batch: int | None = None
) -> dict[str, float]:
    """Name -> value.

    Args:
        prediction: (n, t). target: (n, t), or (n,) classes. scale: of rmse and mae.
        batch: means over batches of so many items of what each is a mean of, as published; None = over all.
    """
    found = {}
    for name in names:
        one = MEASURES[kind][name]
        size = batch if batch is not None and one.mean else len(target)
        pieces = zip(prediction.split(size), target.split(size), strict=True)
        found[name] = one.last(float(np.mean([one.of(a, b, scale) for a, b in pieces])))
    return found

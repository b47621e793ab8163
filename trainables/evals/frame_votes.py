"""Votes of frames (SIM-E17): whether single frames know what the item is, and whether they know when they do not.

Protocol. Frames of each part (cells of images) are smoothed by a moving mean of 3, over fewer at the ends. A linear
classifier is fitted on some frames of each train item (`frames`), each with the item's class, an item's frames on one
side of the hold-out. All frames of an item are told, and the class of most is the item's; of several with equally many
the one of the higher mean probability. Reported on `val` and `test`:

    top1, chance      accuracy of the votes, and of the train split's most frequent class
    frame_top1        accuracy of single frames
    variance_right    variance over an item's frames of their probabilities, mean over the classes; of the items that
    variance_wrong    are told right, and wrong; 0 where there are none
    variance_auc      probability that of a right and a wrong item the wrong one varies more: 0.5 = it says nothing
    top1_CODE_S       with `noise: CODE`: accuracy under noise of strength S, of the same classifier

Silence behind a sound has frames that vote too, which brings padded syllables near to chance: leave it out by `quiet`,
which also under noise looks at the clean sound. A frame is an L-th of its item there. Strengths are those of the
transform: of `bac` the signal over the noise in dB, of `whi` the noise's deviation (sound is in [-1, 1]).

Source: a branch of Smooth InfoMax's code on radio signals (Denoodt), whose probabilities, ties and ends are not
published; those here are the project's own choice. Compare within a sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from datasets.transforms.load import alone
from trainables.core.draws import generator
from trainables.core.method import Frames
from trainables.evals import _classes, _probe
from trainables.evals._classes import EVERY, FactorConfig
from trainables.evals._heads import Head
from trainables.evals._labelled import Labelled
from trainables.evals._probe import ProbeConfig
from trainables.evals.base import REPORTED, Capabilities, Features, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.probes import Linear, accuracy, auc, chance

BLOCK = 64  # items whose frames are told at once
STRENGTHS: dict[str, tuple[float, ...]] = {"bac": (-10, -5, 0, 5, 10, 15, 20), "whi": (0.001, 0.003, 0.01, 0.03, 0.1)}


class Config(FactorConfig, ProbeConfig):
    """Whose frames vote on what, and under which noise."""

    limit: int | None = Field(500, ge=2, description="at most so many items of each split; None = all")
    frames: int | None = Field(
        64, ge=1, description="random frames of each train item that the classifier is fitted on; None = all"
    )
    smooth: int = Field(
        3, ge=1, le=101, description="frames of the moving mean, odd; 1 = none; cells of images: square"
    )
    quiet: float = Field(
        0.0, ge=0, lt=1,
        description="of sound: frames with less than this share of the mean square of the item's loudest one have no "
        "vote and are not fitted on; 0 = all have",
    )  # fmt: skip
    noise: str | None = Field(None, description="code of a transform (sound: bac, whi); None = clean items alone")
    strengths: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        None,
        min_length=1,
        description="of the noise, in its own unit; None = of bac -10 to 20 dB, of whi deviations 0.001 to 0.1",
    )

    @field_validator("smooth")
    @classmethod
    def _odd(cls, smooth: int) -> int:
        if smooth % 2 == 0:
            raise ValueError("must be odd")
        return smooth


NEEDS = Needs(labels=("*",), capabilities=("frames",))
VERSION = 2
METRICS = {
    "top1": "max", "frame_top1": "max", "chance": "", "variance_right": "", "variance_wrong": "", "variance_auc": "max",
    "top1_*": "max",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Frames of the named parts; those of "*" are left to the run, which knows the parts."""
    found = []
    for part in [part for part in dict.fromkeys(cfg.parts) if part != "*"]:
        found += [_request(cfg, part, split) for split in EVERY]
        found += [_request(cfg, part, split, strength) for split in REPORTED for strength in _strengths(cfg)]
    return found


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the factor has no classes, or is labelled per frame; there is no such noise, or not so strong;
            images are asked for silence; or options of the probe do not fit together.
    """
    cfg.check_probe()
    _classes.check_item_factor(cfg, spec)
    if cfg.quiet and len(spec.shape) != 2:
        raise ConfigError("quiet: is of sound; leave it out")
    _check_noise(cfg, spec)
    noisy = [_named(cfg, strength) for strength in _strengths(cfg)]
    found = [*(name for name in METRICS if name != "top1_*"), *noisy]
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in found]


def _check_noise(cfg: Config, spec: Spec) -> None:
    if cfg.noise is None:
        if cfg.strengths is not None:
            raise ConfigError("strengths: are of a noise; set it too")
        return
    noise = alone(cfg.noise, spec.shape, spec.rate)
    if cfg.strengths is None and cfg.noise not in STRENGTHS:
        raise ConfigError(f"strengths: '{cfg.noise}' has none of its own; name them")
    for strength in _strengths(cfg):
        noise.at(strength, 1)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, and each part's classifier as safetensors."""
    result, seed = Result({}), int(rng.integers(2**31))
    for part in chosen_parts(cfg, subject.method.parts):
        found, probe = _judged(subject, cfg, part, seed)
        result.metrics |= {f"{part}/{name}": value for name, value in found.items()}
        file = f"frames_{part}.safetensors"
        result.artifacts[file] = probe.save(subject.out / file)
    return result


def _judged(subject: Subject, cfg: Config, part: str, seed: int) -> tuple[dict[str, float], Linear | Head]:
    """Metrics of one part as "split/name", and its classifier."""
    places = cast(Frames, subject.method).places[part]
    grid = places if len(places) == 2 else None

    def shown(split: Split, strength: float | None = None) -> tuple[Features, Tensor, Tensor]:
        features = subject.features(_request(cfg, part, split, strength))
        x = smoothed(features.parts[part], cfg.smooth, grid)
        if not cfg.quiet:
            return features, x, torch.ones(x.shape[:2], dtype=torch.bool)
        return features, x, heard(subject.inputs(Request(split, limit=cfg.limit)), x.shape[1], cfg.quiet)

    features, x, counted = shown("train")
    train = features.labels[cfg.factor]
    rows = _rows(features, x, train, some(counted, cfg.frames, seed))
    probe = _probe.fit(cfg, rows, subject.spec.labels[cfg.factor], seed)

    def polled(split: Split, strength: float | None = None) -> tuple[Votes, Tensor]:
        features, x, counted = shown(split, strength)
        scores = [probe(few.flatten(0, 1)).unflatten(0, few.shape[:2]) for few in x.split(BLOCK)]
        return poll(torch.cat(scores), counted), features.labels[cfg.factor]

    found = {}
    for split in REPORTED:
        votes, y = polled(split)
        measured = measure(votes, y) | {"chance": chance(train, y)}
        for strength in _strengths(cfg):
            votes, y = polled(split, strength)
            measured[_named(cfg, strength)] = float((votes.winner == y).double().mean())
        found.update({f"{split}/{name}": value for name, value in measured.items()})
    return found, probe


@dataclass(frozen=True)
class Votes:
    """What the frames of n items say.

    Attributes:
        scores: (n, L, classes). counted: (n, L) bool, frames that vote. winner: (n,) the class of most of them.
        variance: (n,) see the module's docstring.
    """

    scores: Tensor
    counted: Tensor
    winner: Tensor
    variance: Tensor


def poll(scores: Tensor, counted: Tensor | None = None) -> Votes:
    """The votes of frames with class scores (n, L, classes), of those that are counted (n, L), at least one an item."""
    counted = torch.ones(scores.shape[:2], dtype=torch.bool) if counted is None else counted
    shares, own = scores.double().softmax(-1), counted[..., None] / counted.sum(1).double()[:, None, None]
    counts = (F.one_hot(scores.argmax(-1), scores.shape[-1]) * counted[..., None]).sum(1)
    mean = (shares * own).sum(1)
    winner = (counts + 0.5 * mean).argmax(1)  # a mean probability is less than a vote
    variance = ((shares - mean[:, None]).square() * own).sum(1).mean(1)
    return Votes(scores, counted, winner, variance)


def measure(votes: Votes, y: Tensor) -> dict[str, float]:
    """Accuracies and variances of items with classes y (n,)."""
    right = votes.winner == y
    frames = y[votes.counted.nonzero()[:, 0]]

    def mean(rows: Tensor) -> float:
        return float(votes.variance[rows].mean()) if bool(rows.any()) else 0.0

    return {
        "top1": float(right.double().mean()),
        "frame_top1": accuracy(votes.scores[votes.counted], frames),
        "variance_right": mean(right),
        "variance_wrong": mean(~right),
        "variance_auc": auc(votes.variance, ~right),
    }


def smoothed(x: Tensor, width: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Frames (n, L, d) by the means of `width` around each, fewer at the ends; of a grid by those of a square."""
    options: dict[str, Any] = {"stride": 1, "padding": width // 2, "count_include_pad": False}
    if width == 1:
        return x
    if grid is None:
        return F.avg_pool1d(x.transpose(1, 2), width, **options).transpose(1, 2)
    return F.avg_pool2d(x.transpose(1, 2).unflatten(2, grid), width, **options).flatten(2).transpose(1, 2)


def heard(x: Tensor, count: int, share: float) -> Tensor:
    """(n, count) bool: frames of sounds x (n, C, T) with at least `share` of the loudest one's mean square."""
    power = F.adaptive_avg_pool1d(x.square().mean(1, keepdim=True), count)[:, 0]
    return power >= share * power.amax(1, keepdim=True)


def some(counted: Tensor, count: int | None, seed: int) -> Tensor:
    """(n, L) bool: so many random ones of the frames of each item that are counted (n, L); None = all of them."""
    order = torch.rand(counted.shape, generator=generator(seed, "frames")).masked_fill(~counted, 2.0).argsort(1)
    return torch.zeros_like(counted).scatter(1, order[:, :count], True) & counted


def _rows(features: Features, x: Tensor, y: Tensor, chosen: Tensor) -> Labelled:
    """Each of the chosen (n, L) frames of x (n, L, d) with the class of its item y (n,)."""
    row = chosen.nonzero()[:, 0]
    return Labelled(x[chosen], y[row], row, features.index[row], features.owner[row], draws=1)


def _strengths(cfg: Config) -> tuple[float, ...]:
    if cfg.noise is None:
        return ()
    return tuple(dict.fromkeys(STRENGTHS.get(cfg.noise, ()) if cfg.strengths is None else cfg.strengths))


def _named(cfg: Config, strength: float) -> str:
    return f"top1_{cfg.noise}_{strength:g}"


def _request(cfg: Config, part: str, split: Split, strength: float | None = None) -> Request:
    code = None if strength is None else cfg.noise
    return Request(split, transform=code, strength=strength, limit=cfg.limit, part=part, pool="frames")

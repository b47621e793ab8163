"""Adversarial items (SIM-E14): how small a change of an item makes a probe of its representation wrong.

Protocol. The probe is that of `linear` with the same options. Of the items that it tells right, each is moved by the
fast gradient sign method, with gradients through the frozen encoder and the probe to the pixels or the sound:

    x' = clamp(x + eps sign(d cross entropy / d x))     to [0, 1] of images, [-1, 1] of sound

Reported on `val` and `test`, of at most `attacked` items of each:

    top1             accuracy on items as they are
    top1_eps_E       share of all items that were told right and still are at eps = E
    top1_attacked    the mean of these
    chance           accuracy of the train split's most frequent class

The direction is that at x, the same for every eps. A GRU without `bptt` passes no gradient back in time, which makes
the attack weaker than it could be; where parts are samples (`sample_at_evaluation`), x' draws another one. Compare
encoders of one kind. `attack_PART.csv` holds the curve.

Sources: Goodfellow, Shlens, Szegedy, arXiv 1412.6572; as in the code of Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv
2408.12936 (a network on MNIST, eps 0.05 to 0.3; of sound nothing is published).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _classes, _files, _probe
from trainables.evals._classes import EVERY, PooledConfig
from trainables.evals._encode import differentiable
from trainables.evals._heads import Head
from trainables.evals._labelled import labelled
from trainables.evals._probe import ProbeConfig
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.probes import Linear, chance

IMAGES, SOUND = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BATCH = 64


class Config(PooledConfig, ProbeConfig):
    """What is told by which probe, and how far items are moved."""

    eps: tuple[Annotated[float, Field(gt=0, le=2)], ...] | None = Field(
        None,
        min_length=1,
        description="steps; None = 0.05, .. 0.3 of images in [0, 1], 1e-4, .. 1e-1 of sound in [-1, 1]",
    )
    attacked: int | None = Field(500, ge=2, description="at most so many items of `val` and of `test`; None = all")


NEEDS = Needs(labels=("*",))
VERSION = 1
METRICS = {"top1": "max", "top1_attacked": "max", "chance": "", "top1_eps_*": "max"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of the train split, for the probe, and of the items that are attacked; unpooled ones of named parts."""
    named = [part for part in dict.fromkeys(cfg.parts) if part != "*"] if cfg.pool == "flat" else [None]
    return [_request(cfg, part, split) for part in named for split in EVERY]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: data that are neither images nor sound, a factor without classes or labelled per frame, frames that
            the method does not have, or options of the probe that do not fit together.
    """
    cfg.check_probe()
    _classes.check_item_factor(cfg, spec)
    _classes.check_frames(cfg.pool, 0, capabilities)
    if len(spec.shape) not in (2, 3):
        raise ConfigError(f"attacks images (C, H, W) and sound (C, T), the data have items of {spec.shape}")
    found = ["top1", "top1_attacked", "chance", *(_named(eps) for eps in _steps(cfg, spec))]
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in found]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{top1,top1_attacked,chance,top1_eps_E}`, curves and probes.

    Raises:
        ConfigError: sound that is not in [-1, 1].
    """
    result, seed, steps = Result({}), int(rng.integers(2**31)), _steps(cfg, subject.spec)
    items = {split: _items(subject, cfg, split) for split in REPORTED}
    for part in chosen_parts(cfg, subject.method.parts):
        train = labelled(subject.features(_request(cfg, part, "train")), part, cfg.factor)
        probe = _probe.fit(cfg, train, subject.spec.labels[cfg.factor], seed)
        curve = []
        for split, x in items.items():
            y = subject.features(_request(cfg, part, split)).labels[cfg.factor]
            right, still = attack(subject, cfg, part, probe, x, y, steps)
            found = {"top1": right, "top1_attacked": float(np.mean(still)), "chance": chance(train.y, y)}
            found |= {_named(eps): share for eps, share in zip(steps, still, strict=True)}
            result.metrics |= {f"{part}/{split}/{name}": value for name, value in found.items()}
            curve += [(split, eps, share) for eps, share in zip((0.0, *steps), (right, *still), strict=True)]
        for path in (
            _files.table(subject.out / f"attack_{part}.csv", ("split", "eps", "top1"), curve),
            probe.save(subject.out / f"attacked_{part}.safetensors"),
        ):
            result.artifacts[path.name] = path
    return result


def attack(
    subject: Subject, cfg: Config, part: str, probe: Linear | Head, x: Tensor, y: Tensor, steps: tuple[float, ...]
) -> tuple[float, list[float]]:
    """The share of items x (n, *shape) with classes y (n,) that is told right, and after each step still."""
    first = next(iter(subject.method.parameters()), x)
    low, high = bounds(x)

    def scores(some: Tensor) -> Tensor:
        z = differentiable(subject.method, subject.normalized(some.to(first.device)), part, cfg.pool)
        return probe(z.cpu())

    right, still = 0, [0] * len(steps)
    for batch, true in zip(x.split(BATCH), y.split(BATCH), strict=True):
        with torch.no_grad():
            sure = scores(batch).argmax(1) == true
        right += int(sure.sum())
        if not bool(sure.any()):
            continue
        batch, true = batch[sure].clone().requires_grad_(), true[sure]
        with (
            torch.enable_grad(),
            torch.backends.cudnn.flags(enabled=False),
        ):  # which lacks a GRU's gradient in eval mode
            (gradient,) = torch.autograd.grad(rise(scores(batch), true), batch)
        with torch.no_grad():
            for number, eps in enumerate(steps):
                still[number] += int((scores(fgsm(batch, gradient, eps, low, high)).argmax(1) == true).sum())
    return right / len(x), [count / len(x) for count in still]


def rise(scores: Tensor, y: Tensor) -> Tensor:
    """A number whose gradient is, row by row, that of the cross entropy up to a positive factor.

    The cross entropy's own is the share of the other classes times this, which a sure answer rounds to 0.

    Args:
        scores: (n, classes). y: (n,).
    """
    at = y[:, None]
    others = scores.detach().scatter(1, at, -torch.inf).softmax(1)
    return (others * scores).sum() - scores.gather(1, at).sum()


def fgsm(x: Tensor, gradient: Tensor, eps: float, low: float, high: float) -> Tensor:
    """x moved by eps along the sign of the gradient, within [low, high]."""
    return (x + eps * gradient.sign()).clamp(low, high)


def bounds(x: Tensor) -> tuple[float, float]:
    """What items x (n, *shape) lie between: [0, 1] images, [-1, 1] sound.

    Raises:
        ConfigError: they do not.
    """
    low, high = (0.0, 1.0) if x.ndim == 4 else (-1.0, 1.0)
    least, most = float(x.min()), float(x.max())
    if least < low - 1e-4 or most > high + 1e-4:
        raise ConfigError(
            f"the data are in [{least:.2f}, {most:.2f}] and not in [{low:g}, {high:g}]; do not normalise them"
        )
    return low, high


def _items(subject: Subject, cfg: Config, split: Split) -> Tensor:
    part = chosen_parts(cfg, subject.method.parts)[0]
    return subject.inputs(_request(cfg, part, split))


def _request(cfg: Config, part: str | None, split: Split) -> Request:
    limits = [limit for limit in (cfg.limit, None if split == "train" else cfg.attacked) if limit is not None]
    limit = min(limits, default=None)
    if cfg.pool == "flat":
        return Request(split, limit=limit, part=part, pool="frames")
    return Request(split, limit=limit, pool=cfg.pool)


def _steps(cfg: Config, spec: Spec) -> tuple[float, ...]:
    return tuple(dict.fromkeys(cfg.eps)) if cfg.eps else IMAGES if len(spec.shape) == 3 else SOUND


def _named(eps: float) -> str:
    return f"top1_eps_{eps:g}"

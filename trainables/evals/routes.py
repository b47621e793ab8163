"""Routes (V3-F6): by which of its two ways content and style really pass, through codes or through style vectors.

Probes of the public follow-up of V3 (Liu, 2026): good reconstruction without meaning is common, since a fragment's
identity can pass through directions of the style vector that hardly show in distances.

    shifted_codes       |D(codes moved on by `shift` fragments of their page, z_s) - x^|^2 / |x^ - mean x^|^2, with
                        x^ = D(codes, z_s): 2 and more where codes alone decide, 0 where they say nothing
    shifted_style       the same with the style vectors moved on: near 0 where they say nothing of single fragments
    content_from_style  accuracy of a ridge probe of the content from z_s, whitened along its `directions` largest
                        principal directions, so that small ones count as much as large ones; low is good
    style_from_codes    accuracy of a ridge probe of the page's style from a fragment's code, one-hot; low is good
    content_chance, style_chance   accuracy of the train split's most frequent class

Probes are fit on the fragments of the train split, their penalty is chosen on held-out pages of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _codes
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject
from trainables.evals.probes import accuracy, chance, classifier, hold_out

AT_ONCE = 64  # pages that are decoded together
EVERY: tuple[Split, ...] = ("train", *REPORTED)
DEAD = 1e-7  # of the largest direction's deviation: what is smaller is rounding


class Config(EvalConfig):
    """What content and style are, and how they are probed."""

    limit: int | None = Field(2000, ge=2, description="at most so many pages of each split; None = all")
    content: str = Field("content", description="factor of fragments that style vectors should not tell")
    style: str = Field(
        "style", description="factor of pages that codes should not tell; without classes it is left out"
    )
    shift: int = Field(1, ge=1, le=1000, description="fragments that codes or styles move on, around their page")
    directions: int = Field(64, ge=1, le=65_536, description="of the style vectors, largest first (follow-up: 64)")


NEEDS = Needs(capabilities=("frames", "quantise"))
VERSION = 1
METRICS = {
    "shifted_codes": "max", "shifted_style": "min", "content_from_style": "min", "content_chance": "",
    "style_from_codes": "min", "style_chance": "",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Contents and styles of every fragment."""
    return [_request(cfg, split, part) for split in EVERY for part in ("content", "style")]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a shift around the whole page, or factors of the wrong kind.
    """
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: content and style are probed (got {', '.join(cfg.parts)})")
    if cfg.shift % spec.fragments == 0:
        raise ConfigError(f"shift: {cfg.shift} of {spec.fragments} fragments changes nothing; take 1")
    _codes.check_factors(cfg.content, cfg.style, spec)
    names = ["shifted_codes", "shifted_style"]
    names += ["content_from_style", "content_chance"] if spec.labels.get(cfg.content) else []
    names += ["style_from_codes", "style_chance"] if spec.labels.get(cfg.style) else []
    return [f"all/{split}/{name}" for split in REPORTED for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring, `all/{val,test}/...`."""
    result, seed = Result({}), int(rng.integers(2**31))
    method: Any = subject.method
    contents = {split: subject.features(_request(cfg, split, "content")) for split in EVERY}
    z_s = {split: subject.features(_request(cfg, split, "style")).parts["style"] for split in EVERY}
    device = next(iter(method.parameters())).device
    with torch.no_grad():
        codes = {split: method.codes_of(one.parts["content"].to(device)).cpu() for split, one in contents.items()}
    for split in REPORTED:
        moved = shifted(method, codes[split], z_s[split], cfg.shift)
        result.metrics |= {f"all/{split}/{name}": value for name, value in moved.items()}
    labels = {split: one.labels for split, one in contents.items()}
    pages, fragments = codes["train"].shape
    held_out = hold_out(torch.arange(pages), np.random.default_rng(seed))[:, None].expand(pages, fragments)
    if subject.spec.labels.get(cfg.content):
        white = whitening(z_s["train"].flatten(0, 1), cfg.directions)
        x = {split: white(z.flatten(0, 1)).unflatten(0, z.shape[:2]) for split, z in z_s.items()}
        y = {split: one[cfg.content] for split, one in labels.items()}
        result.metrics |= _probed(x, y, held_out, subject.spec.labels[cfg.content], "content_from_style", "content")
    if subject.spec.labels.get(cfg.style):
        x = {split: one_hot(one, len(method.codebook())).float() for split, one in codes.items()}
        y = {split: one[cfg.style][:, None].expand_as(codes[split]) for split, one in labels.items()}
        result.metrics |= _probed(x, y, held_out, subject.spec.labels[cfg.style], "style_from_codes", "style")
    return result


@torch.no_grad()
def shifted(method: Any, codes: Tensor, z_s: Tensor, shift: int) -> dict[str, float]:
    """How much of the output's variance is changed by moving codes (P, n), or styles (P, n, d_s), around their page."""
    device = next(iter(method.parameters())).device
    made, changes = [], {"shifted_codes": 0.0, "shifted_style": 0.0}
    for c, s in zip(codes.to(device).split(AT_ONCE), z_s.to(device).split(AT_ONCE), strict=True):
        x = method.spoken(c, s)
        changes["shifted_codes"] += _squared(method.spoken(c.roll(shift, 1), s) - x)
        changes["shifted_style"] += _squared(method.spoken(c, s.roll(shift, 1)) - x)
        made.append(x.flatten(0, 1).cpu())
    every = torch.cat(made)
    variance = _squared(every - every.double().mean(0).float())
    return {name: change / max(variance, 1e-12) for name, change in changes.items()}


def _squared(x: Tensor) -> float:
    return float(x.double().square().sum())


def whitening(x: Tensor, directions: int) -> Callable[[Tensor], Tensor]:
    """A map of rows (m, d) to their coordinates (m, k) along the principal directions of x (n, d), each of deviation 1.

    k is `directions`, or as many as x has.
    """
    mean = x.double().mean(0)
    centred = x.double() - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    kept = values > values[-1].clamp_min(1e-300) * DEAD**2
    axes = (vectors[:, kept] / values[kept].sqrt()).flip(1)[:, :directions]
    return lambda rows: ((rows.double() - mean) @ axes).float()


def _probed(
    x: Mapping[Split, Tensor], y: Mapping[Split, Tensor], held_out: Tensor, classes: int, name: str, factor: str
) -> dict[str, float]:
    """Accuracies of a ridge probe on fragments x (P, n, k) with labels y (P, n), -1 = none."""
    known = {split: labels >= 0 for split, labels in y.items()}
    train = known["train"]
    probe = classifier(x["train"][train], y["train"][train], classes, held_out[train], "ridge")
    found = {}
    for split in REPORTED:
        true = y[split][known[split]]
        found[f"all/{split}/{name}"] = accuracy(probe(x[split][known[split]]), true)
        found[f"all/{split}/{factor}_chance"] = chance(y["train"][train], true)
    return found


def _request(cfg: Config, split: Split, part: str) -> Request:
    return Request(split, limit=cfg.limit, part=part, pool="frames")

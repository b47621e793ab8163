"""Factors of variation that data label: numbers, classes and tags; of colour images also hue, saturation, brightness.

Colours are those of the clean image that the encoder is shown (`datasets/colour_labels.py`), where the data have no
label of that name. What is said in their units is divided by the `SCALES` of the original. Of rendered images, whose
latents are known, the hues of floor and light are factors too, in turns; they are read where they are named.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from datasets import colour_labels, rotations
from datasets.base import Spec
from datasets.config import ConfigError, near
from datasets.transforms.load import find
from trainables.evals._bank_training import Kind
from trainables.evals.base import EvalConfig, Features, Request, Subject

SCALES = {"hue": 180.0, "saturation": 256.0, "brightness": 256.0}
TAGS = "tags"  # all tags of an item together, of data that have them
WITH = {"pitch": ("key",), "wps": ("tempo",)}  # factors of sound that move with another one
LATENTS = {"floor_hue": rotations.FLOOR_HUE, "light_hue": rotations.LIGHT_HUE}  # factor -> its column


class FactorsConfig(EvalConfig):
    """Which factors."""

    factors: tuple[str, ...] = Field(
        ("*",), min_length=1,
        description="labels of the data, of colour images also hue, saturation, brightness; tags = all tags; ('*',) = "
        "every one of these; of bench3die floor_hue and light_hue if they are named",
    )  # fmt: skip
    circular_hue: bool = Field(False, description="mean hue over the circle; off = a plain mean (published)")
    aggregate: bool = Field(False, description="the mean feature of all items of a track or object, not each item's")
    scale: dict[str, float] = Field(
        default_factory=dict,
        description="factor -> what its errors are divided by; of hue 180, of saturation and brightness 256, else 1",
    )

    def scale_of(self, factor: str) -> float:
        """What errors of a factor are divided by."""
        return self.scale.get(factor, SCALES.get(factor, 1.0))


def kinds(cfg: FactorsConfig, spec: Spec) -> dict[str, Kind]:
    """The factors that are meant, and what each is.

    Raises:
        ConfigError: there is no such factor, or none at all, or one that frames are labelled with.
    """
    there = available(spec)
    for factor in cfg.factors:
        if factor in spec.frames:
            raise ConfigError(f"factors: '{factor}' is labelled per frame; an item has no value of its own")
        if factor != "*" and factor not in there:
            raise ConfigError(f"factors: the data have no factor '{factor}'{near(factor, sorted(there))}")
    if cfg.aggregate and "object" not in spec.labels:
        raise ConfigError("aggregate: the data do not say which items are of one object; leave it out")
    unnamed = {*spec.tags, *(factor for factor in LATENTS if factor not in spec.labels)}
    if cfg.aggregate and (own := sorted(set(cfg.factors) & (LATENTS.keys() - spec.labels.keys()))):
        raise ConfigError(f"aggregate: '{own[0]}' is another one in each view of an object; leave it out")
    usual = {factor: kind for factor, kind in there.items() if factor not in unnamed}
    found = usual if "*" in cfg.factors else {factor: there[factor] for factor in cfg.factors}
    if not found:
        raise ConfigError("factors: the data label nothing")
    return found


def available(spec: Spec) -> dict[str, Kind]:
    """Every factor of the data, and what it is."""
    found: dict[str, Kind] = {
        factor: "class" if classes else "number"
        for factor, classes in spec.labels.items()
        if factor != "object" and factor not in spec.frames
    }
    if spec.tags:
        found[TAGS] = "tags"
    if "latents" in spec.params:
        found = {**dict.fromkeys(LATENTS, "number"), **found}  # type: ignore[dict-item]
    if coloured(spec):
        found = {**dict.fromkeys(colour_labels.FACTORS, "number"), **found}  # type: ignore[dict-item]
    return found


def coloured(spec: Spec) -> bool:
    """Whether items are colour images."""
    return len(spec.shape) == 3 and spec.shape[0] == 3 and not spec.fragments


def moved_by(code: str, factor: str) -> bool:
    """Whether a transform moves a factor itself: hue_shift hue, and floor_hue as every hue in the image, pitch_shift
    pitch and with it the key, time_stretch words in a second and the tempo."""
    moves = find(code).factor
    return moves != "" and (factor in (moves, *WITH.get(moves, ())) or factor.endswith(f"_{moves}"))


def outputs(factor: str, spec: Spec) -> int:
    """Classes of a factor, number of tags, or 1."""
    return len(spec.tags) if factor == TAGS and spec.tags else spec.labels.get(factor, 0) or 1


def values(
    subject: Subject, cfg: FactorsConfig, request: Request, features: Features, factors: dict[str, Kind]
) -> dict[str, Tensor]:
    """Factor -> (n, 1) numbers, (n,) classes or (n, t) tags of the rows of `features`, not aggregated yet.

    Args:
        request: of the features, clean or under a transform; colours are of the clean images either way.
    """
    spec, found = subject.spec, {}
    colours: dict[str, Tensor] = {}
    if any(factor not in spec.labels and factor in colour_labels.FACTORS for factor in factors):
        seen = subject.seen(Request(request.split, limit=request.limit))
        pieces = [colour_labels.colour_labels(some, cfg.circular_hue) for some in seen]
        colours = {name: torch.cat([one[name] for one in pieces]) for name in pieces[0]}
    for factor, kind in factors.items():
        if kind == "tags":
            found[factor] = torch.stack([features.labels[tag] for tag in spec.tags], 1).double()
        elif kind == "class":
            found[factor] = features.labels[factor].long()
        elif factor in features.labels:
            found[factor] = features.labels[factor].double()[:, None]
        elif factor in LATENTS:
            found[factor] = features.params["latents"][:, LATENTS[factor], None].double()
        else:
            found[factor] = colours[factor].repeat_interleave(request.repeat)[:, None]
    return found


def labelled(
    subject: Subject, cfg: FactorsConfig, request: Request, factors: dict[str, Kind]
) -> tuple[Features, dict[str, Tensor]]:
    """Features of a request and the factors of their rows, one row for each object where they are aggregated."""
    features = subject.features(request)
    found = values(subject, cfg, request, features, factors)
    if not cfg.aggregate:
        return features, found
    first = torch.stack([rows[0] for rows in features.grouped()])
    return features.aggregated(), {factor: value[first] for factor, value in found.items()}

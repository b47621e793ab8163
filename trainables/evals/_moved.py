"""Items beside themselves under one transform: which transforms, and the features of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from datasets.transforms.load import alone
from trainables.evals.base import REPORTED, EvalConfig, Features, Request, Subject


class MovedConfig(EvalConfig):
    """Which transforms."""

    transforms: tuple[str, ...] = Field(
        ("*",), min_length=1,
        description="codes, also of transforms the training did not use, and of parts of their range (hue_shift@25); "
        "('*',) = all of the stack",
    )  # fmt: skip


def codes(cfg: MovedConfig, spec: Spec) -> list[str]:
    """The transforms that are meant, those of the stack first.

    Raises:
        ConfigError: there is no such transform, it has no parameter, or none is named and the stack has none.
    """
    if "*" in cfg.transforms and not spec.kinds:
        raise ConfigError("transforms: no transform of the views' stack has a parameter; name one, such as rot")
    found = list(spec.kinds) if "*" in cfg.transforms else []
    for code in cfg.transforms:
        if code != "*" and code not in found:
            check(code, spec)
            found.append(code)
    return found


def check(code: str, spec: Spec) -> None:
    """Refuse a transform that cannot be used.

    Raises:
        ConfigError: there is no such transform, or it has no parameter.
    """
    if code not in spec.kinds and not alone(code, spec.shape, spec.rate).usable:
        raise ConfigError(f"transforms: '{code}' has no parameter to be read")


def both(split: Split, found: Sequence[str], limit: int | None, draws: int = 1) -> list[Request]:
    """Requests of a split, clean and under each transform, each item so many times."""
    return [Request(split, limit=limit), *(Request(split, code, repeat=draws, limit=limit) for code in found)]


def requests_of(found: Sequence[str], limit: int | None, draws: int) -> list[Request]:
    """Those of every split: several draws of train items, one of those that are reported."""
    return [*both("train", found, limit, draws), *(one for split in REPORTED for one in both(split, found, limit))]


@dataclass(frozen=True)
class Pairs:
    """Items and their transformed selves, n = items x draws, item-major.

    Attributes:
        clean, moved: features; of the former one row for each item. code: of the transform. draws: of each item.
    """

    clean: Features
    moved: Features
    code: str
    draws: int = 1

    def of(self, part: str) -> tuple[Tensor, Tensor]:
        """(n, d) of the items, and of the same transformed."""
        return self.clean.parts[part].repeat_interleave(self.draws, 0), self.moved.parts[part]

    @property
    def unit(self) -> Tensor:
        """(n, 1) the parameter as one number."""
        return self.moved.units[self.code]

    @property
    def natural(self) -> Tensor:
        """(n,) the parameter in its own unit."""
        return self.moved.params[self.code][:, 0]


def pairs(subject: Subject, split: Split, code: str, limit: int | None, draws: int = 1) -> Pairs:
    """The pairs of a split under one transform; parameters of an item are drawn once and for all."""
    clean, moved = (subject.features(request) for request in both(split, [code], limit, draws))
    if not torch.equal(clean.index.repeat_interleave(draws), moved.index):
        raise ConfigError(f"transforms: items under '{code}' are not those that are clean")
    return Pairs(clean, moved, code, draws)


def beside(original: Tensor, transformed: Tensor) -> Tensor:
    """(n, 2 d): features of an item and of its transformed self side by side."""
    return torch.cat([original, transformed], 1)

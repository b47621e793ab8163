"""A smaller view beside the others, with a question about it: which transform was applied (ESSL's auxiliary batch).

The stack of the views, with draws of its own, ends at a fraction of their size. Then the task's transform is applied,
and the question is what was done:

    ron               all four quarter turns, version-major: 4B images, label k in 0..3
    fli, flv, gra     without and with: 2B images, label 0 or 1
    rot               an angle a ~ U(-90, 90) degrees: B images, target a / 180
    bri, con, sat     a factor ~ U(0.6, 1.4), applied to all: B images, target the factor
    hue               a shift ~ U(-0.1, 0.1) turns, likewise

Source: Dangovski et al., "Equivariant Contrastive Learning", ICLR 2022, arXiv 2111.00899, in the form of DUET's code
(Suau et al., ICML 2023, arXiv 2306.16058).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datasets.base import Question
from datasets.config import ConfigError, near, parse
from datasets.transforms.base import Shape
from datasets.transforms.color import COMPONENTS, Jitter
from datasets.transforms.image import center_crop
from datasets.transforms.load import build, find


@dataclass(frozen=True)
class Task:
    """What is asked about one transform.

    Attributes:
        versions: first parameter of each version of a question with classes; none = a number is asked for.
        options: of the transform. scale: of the target, per natural unit of the parameter.
    """

    versions: tuple[float, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Width of a prediction: the number of classes, or 1."""
        return len(self.versions) or 1


ALWAYS = (("probability", 1.0),)
TASKS = {
    "ron": Task(versions=(0.0, 90.0, 180.0, 270.0)),
    "fli": Task(versions=(0.0, 1.0)),
    "flv": Task(versions=(0.0, 1.0)),
    "gra": Task(versions=(0.0, 1.0)),
    "rot": Task(options=(("degrees", 90.0),), scale=1 / 180),
    "bri": Task(options=ALWAYS),
    "con": Task(options=ALWAYS),
    "sat": Task(options=ALWAYS),
    "hue": Task(options=ALWAYS),
}


@dataclass(frozen=True)
class Auxiliary:
    """What a method asks for beside its views.

    Attributes:
        code: the transform in question, one of `TASKS`. fraction: of the views' side, in (0, 1].
    """

    code: str
    fraction: float = 0.5

    def size(self, shape: Shape) -> tuple[int, int]:
        """Sides of the small view of views (C, H, W)."""
        height, width = (max(1, int(length * self.fraction)) for length in shape[1:])
        return height, width


class AuxiliaryView:
    """Makes the auxiliary batch of items that are loaded as for the views."""

    def __init__(self, wanted: Auxiliary, tx: tuple[str, ...], options: dict[str, Any], loaded: Shape, target: Shape):
        """`loaded`, `target`: shape (C, H, W) of an item before and after the views' own stack.

        Raises:
            ConfigError: no such task, its transform is in the stack, or cannot work on these items.
        """
        code = wanted.code
        if code not in TASKS:
            raise ConfigError(f"method.equi_tx: '{code}' cannot be predicted{near(code, set(TASKS))}")
        if code in tx:
            raise ConfigError(f"method.equi_tx: '{code}' is to be told from the small view; leave it out of views.tx")
        if code in COMPONENTS and Jitter.code in tx:
            raise ConfigError(
                f"method.equi_tx: '{code}' is to be told from the small view, but 'jit' of views.tx holds it; "
                "name the other components there"
            )
        if len(loaded) != 3:
            raise ConfigError(f"method.equi_tx: an auxiliary view needs images (C, H, W), the data have {loaded}")
        self.size = wanted.size(target)
        self.task = TASKS[code]
        self.stages = build(tx, options, loaded, (loaded[0], *self.size))
        out = self.stages[-1].transform.out_shape if self.stages else loaded
        kind = find(code)
        try:
            self.transform = kind(parse(kind.Config, dict(self.task.options), code), out, out)
        except ConfigError as error:
            raise ConfigError(f"method.equi_tx: {str(error).removeprefix('views.tx: ')}") from None

    def __call__(self, x: Tensor, rng: torch.Generator, total: int, offset: int) -> Question:
        """Training form, with draws for `total` items of which these begin at `offset`; pixels stay in [0, 1]."""
        for stage in self.stages:
            p = stage.transform.sample(total, rng)[offset : offset + len(x)]
            x = stage.transform.apply(x, p)
        return self.ask(x, self.draw(rng, total)[offset : offset + len(x)])

    def evaluation(self, x: Tensor, rng: torch.Generator, total: int, offset: int) -> Question:
        """Evaluation form: a central crop in place of the stack."""
        return self.ask(center_crop(x, self.size), self.draw(rng, total)[offset : offset + len(x)])

    def draw(self, rng: torch.Generator, total: int) -> Tensor:
        """Parameters (total, k) of a question for a number; (total, 0) of one with classes, which asks for all."""
        return torch.empty(total, 0) if self.task.versions else self.transform.sample(total, rng)

    def ask(self, x: Tensor, p: Tensor) -> Question:
        """Images (B, C, h, w) in [0, 1] and drawn parameters as a question."""
        if not self.task.versions:
            return Question(self.transform.apply(x, p), (p[:, :1] * self.task.scale).to(x.device))
        strengths = [self.transform.at(strength, len(x)) for strength in self.task.versions]
        versions = [self.transform.apply(x, p) for p in strengths]
        return Question(torch.cat(versions), torch.arange(len(versions), device=x.device).repeat_interleave(len(x)))

"""What a transform is: its draw (`sample`) and its effect (`apply`) apart, since methods need the parameter used.

A transform knows nothing of images: it gets the shape of one item, (C, H, W), (C, T) or any other, and says which shape
comes out. One of your own is a subclass of `Transform` in any module, named in a stack as "mylab.transforms.Foo".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Kind
from datasets.config import Config, ConfigError

Shape = tuple[int, ...]


class NoOptions(Config):
    """A transform without options."""


class BinaryOptions(Config):
    """Options of a transform that is applied or not."""

    probability: float = Field(0.5, ge=0, le=1, description="of being applied, per sample")
    zero_one: bool = Field(
        False, description="target 0/1 instead of 0.25/0.75; on a circle (von Mises) 0 and 1 are the same angle"
    )


class Transform(ABC):
    """A batched transform of items of one shape.

    Class attributes:
        code: its name in a stack and in `Batch.params`.
        Config: its options.
        usable: whether `unit` is a number that a method can be equivariant to; if not it is not in `Batch.params`.
        fits: whether it brings items to the size at which the stack is to end.
        cuts: whether it does so with the data's own pixels, which are then not resized before the stack.
        reposes: whether it turns or mirrors what is seen, so that poses the data know of do not hold of it.
        factor: the label of the data that it moves, "" where it moves none.

    Attributes:
        dims: width k of its parameters. The first is its strength, and the last its mask where `masked`.
        kind: how `unit` is to be read: a number, a turn, one of two values, one of four quarter turns.
        masked: whether it is applied to some samples only.
        identity: k natural parameters of "not applied", where a neutral one exists.
        shape: of an item that goes in. `out_shape`: of one that comes out.
    """

    code: ClassVar[str]
    Config: ClassVar[type[Config]] = NoOptions
    usable: ClassVar[bool] = True
    fits: ClassVar[bool] = False
    cuts: ClassVar[bool] = False
    reposes: ClassVar[bool] = False
    factor: ClassVar[str] = ""
    dims: int = 1
    kind: Kind = "continuous"
    masked: bool = False
    identity: tuple[float, ...] = (0.0,)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        """Build for items of `shape`, in a stack that is to end with items of `target`.

        Raises:
            ConfigError: it cannot work on such items.
        """
        self.cfg = cfg
        self.shape = shape
        self.out_shape = shape

    @property
    def circular(self) -> bool:
        """Whether both ends of `unit` mean the same."""
        return self.kind in ("circular", "quarter")

    @property
    def coding(self) -> Kind:
        """How its unit is to be read: its kind, but 0/1 apart from the usual 0.25/0.75 of a binary one."""
        return "zero_one" if self.binary and getattr(self.cfg, "zero_one", False) else self.kind

    @property
    def binary(self) -> bool:
        """Whether `unit` takes only two values."""
        return self.kind == "binary"

    @abstractmethod
    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw natural parameters (n, dims), float32 on the CPU, from `rng` alone."""

    @abstractmethod
    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """x (n, *shape) transformed by p (n, dims): a pure function, on x's device and in its dtype."""

    @abstractmethod
    def unit(self, p: Tensor) -> Tensor:
        """p (n, dims) as the one number (n, 1) that targets are built from, mostly in [0, 1]."""

    def at(self, strength: float, n: int) -> Tensor:
        """Parameters (n, dims) of the transform applied with a fixed natural strength, the first parameter.

        Raises:
            ConfigError: it has no such number.
        """
        if self.dims == 0:
            raise ConfigError(f"transform '{self.code}': has no strength to set")
        p = self.still(n)
        p[:, 0] = strength
        if self.masked and self.dims > 1:
            p[:, -1] = 1
        return p

    def still(self, n: int) -> Tensor:
        """The identity's parameters (n, dims)."""
        return torch.tensor(self.identity, dtype=torch.float32).expand(n, -1).clone()


def uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """n draws of U(low, high)."""
    return low + (high - low) * torch.rand(n, generator=rng)


def bernoulli(n: int, probability: float, rng: torch.Generator) -> Tensor:
    """n masks, 1 with `probability`, else 0."""
    return (torch.rand(n, generator=rng) < probability).float()


def on_applied(x: Tensor, p: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`change(x, p)` on the samples whose last parameter is 1; the others are returned as they are.

    The rows are looked up where p lies: parameters on the CPU cost a GPU no synchronisation.
    """
    rows = (p[:, -1] > 0).nonzero()[:, 0]
    if len(rows) == 0:
        return x
    here = rows.to(x.device)
    return x.index_copy(0, here, change(x.index_select(0, here), p[rows].to(x)))


def binary_unit(mask: Tensor, zero_one: bool) -> Tensor:
    """A mask (n,) as (n, 1): 0.25 / 0.75, or 0 / 1."""
    return (mask if zero_one else 0.25 + 0.5 * mask)[:, None]

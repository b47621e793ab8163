"""What a pretraining method is: a module with a `Config`, a loss and named parts of its representation.

A method's file defines exactly one `Method` subclass under the name `METHOD`. Optional capabilities (`decode`,
`predict`, `roll`, `marginal`, `steer`, `frames`, `quantise`, `classify`) are protocols; evaluations ask for them by
name in `Needs.capabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from datasets import config
from datasets.auxiliary import Auxiliary
from datasets.base import Batch, Spec


class Diverged(RuntimeError):
    """The loss is not finite, or the representation has collapsed: going on is of no use, nor is trying again."""


@dataclass(frozen=True)
class Progress:
    """Where training stands, for schedules inside a method (warm-ups, codebook decay)."""

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int


class Method(nn.Module):
    """A pretraining method.

    Class attributes:
        Config: its options (frozen, strict; every field with range, unit and origin).
        VERSION: raised by hand when the numbers change for an unchanged configuration; part of a trial's digest.
        coefficients: names of options that weigh terms of the loss. Across them training losses do not compare, so
            the platform refuses the training loss as an objective when one of them is searched.

    Attributes:
        cfg: the options it was built from.
        parts: part -> number of dimensions; always has "all". Set in `__init__`, valid on the meta device too.
    """

    Config: ClassVar[type[config.Config]]
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ()
    parts: dict[str, int]

    def __init__(self, cfg: config.Config, spec: Spec) -> None:
        """Build from options and the spec of the batches it will get (shape *after* the views, params, labels)."""
        super().__init__()
        self.cfg = cfg

    @classmethod
    def check(cls, cfg: config.Config, spec: Spec) -> None:
        """Refuse a combination that cannot work with these data, at plan time.

        Raises:
            ConfigError: one line, e.g. that the transform to be equivariant to is not in the stack.
        """

    @classmethod
    def doubts(cls, cfg: config.Config, spec: Spec, batch_size: int, epochs: int) -> list[str]:
        """What works with such a training and can hardly be meant; lines of the plan."""
        return []

    @classmethod
    def auxiliary(cls, cfg: config.Config) -> Auxiliary | None:
        """A smaller view with a question about it that training batches are to hold beside the views; mostly none."""
        return None

    def original(self, name: str) -> str | None:
        """Our name of a tensor of the published code's checkpoints; None = it is left out. See `core.original`."""
        return name

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published file's tensors where they must be joined or reshaped before `original` names them."""
        return dict(given)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss": differentiable scalar, other names: detached scalars}; in eval mode the evaluation form.

        Training statistics and losses are those of the *global* batch: gather across ranks with `core.dist.gather`.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, *shape) -> part -> (B, d). Deterministic in eval mode; touches no buffer there."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def signs_of_life(self, x: Tensor) -> Tensor:
        """Features (n, d) of items x whose effective rank falls to 1 where the representation collapses."""
        return self.encode(x)["all"]

    def before_step(self, progress: Progress) -> None:
        """Called before every training step; what it sets follows from `progress` alone, as in a resumed run."""

    def after_step(self, progress: Progress) -> None:
        """Called after every optimiser step (codebook averages and the like)."""


def parameter_counts(method: nn.Module) -> dict[str, int]:
    """Numbers of trained values: of "encoder" and "decoder" where it or its `net` has them, and "total"."""
    net = method if hasattr(method, "encoder") else getattr(method, "net", method)
    named = {name: getattr(net, name, None) for name in ("encoder", "decoder")} | {"total": method}
    return {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in named.items() if isinstance(module, nn.Module)
    }  # fmt: skip


@runtime_checkable
class Decodes(Protocol):
    """Capability "decode": parts back to the input space."""

    def decode(self, parts: dict[str, Tensor]) -> Tensor: ...


@runtime_checkable
class Predicts(Protocol):
    """Capability "predict": the representation after a transformation by `delta` (B, k)."""

    def predict(self, parts: dict[str, Tensor], delta: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class Rolls(Protocol):
    """Capability "roll": a cyclic axis for each transform that it is `equivariant_to`.

    `roll(z, m, code)` moves `all` (B, D) by m of that transform's `bins`.
    """

    bins: int
    equivariant_to: tuple[str, ...]

    def roll(self, z: Tensor, m: int, code: str) -> Tensor: ...


@runtime_checkable
class Marginal(Protocol):
    """Capability "marginal": probabilities over the bins of a transform's range, (B, bins), from `all` (B, D)."""

    bins: int
    equivariant_to: tuple[str, ...]

    def marginal(self, z: Tensor, code: str) -> Tensor: ...


@runtime_checkable
class Steers(Protocol):
    """Capability "steer": `all` (B, D) edited to say the parameter p (B, 1) of a transform, in units.

    `log_target(p)`: ln of the distribution over the bins that it then has, (...) -> (..., bins).
    """

    bins: int
    equivariant_to: tuple[str, ...]

    def steer(self, z: Tensor, p: Tensor, code: str) -> Tensor: ...

    def log_target(self, p: Tensor) -> Tensor: ...


@runtime_checkable
class Frames(Protocol):
    """Capability "frames": parts before they are pooled over time or space.

    `frames(x)` gives part -> (B, L, d) where `encode` gives the means over L, for probes on frames and for decoders.
    `places` says what L is made of for items of the data's shape: (L,) of sound, (rows, columns) of images.

    Where the representation is a distribution, `rng` draws from it (a fresh draw for a decoder's every step); None is
    what `encode` does.
    """

    places: dict[str, tuple[int, ...]]

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]: ...


@runtime_checkable
class Quantises(Protocol):
    """Capability "quantise": a codebook of K atoms, one of which stands for the content of each fragment of a page.

    `codebook()` are the atoms (K, d) as contents, `codes_of(content)` (..., d) -> (...) int64 those that stand for
    contents as `frames` gives them, and `spoken(codes, style)` (B, n) and (B, n, d_s) -> (B, n, *fragment) what is
    decoded from atoms and styles.
    """

    def codebook(self) -> Tensor: ...

    def codes_of(self, content: Tensor) -> Tensor: ...

    def spoken(self, codes: Tensor, style: Tensor) -> Tensor: ...


@runtime_checkable
class Classifies(Protocol):
    """Capability "classify": classes that a method has learned with labels.

    `scores(frames)` are those of frames of "all" (..., d), as `frames` gives them, for every class (..., classes).
    """

    def scores(self, frames: Tensor) -> Tensor: ...


CAPABILITIES: dict[str, type] = {
    "decode": Decodes, "predict": Predicts, "roll": Rolls, "marginal": Marginal, "steer": Steers, "frames": Frames,
    "quantise": Quantises, "classify": Classifies,
}  # fmt: skip


def has(method: nn.Module, capability: str) -> bool:
    """Whether a built method offers a capability."""
    return isinstance(method, CAPABILITIES[capability])

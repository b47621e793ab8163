"""What an evaluation is. Every evaluation module has

    class Config(EvalConfig)            its options, all with defaults
    NEEDS: Needs                        what must be there for it to apply
    VERSION: int                        raised by hand when its numbers change; part of a result's digest
    METRICS: dict[str, str]             metric -> "max" | "min" (better) | "" (neither), names after part and split
    def requests(cfg, spec) -> list[Request]               features it will read, so that they are computed once
    def metrics(cfg, spec, parts, capabilities) -> list[str]       the names `run` will return, known before it runs
    def run(subject: Subject, cfg, rng, inputs) -> Result
    def data(cfg) -> list[dict]         optional: sections of other data it opens, which the plan looks for
    def check_inputs(cfg, spec, capabilities, configs)     optional: ConfigError if the options of the evaluations whose
                                                           results it reads do not fit; their name -> Config

A metric's full name is `evaluation/part/split/metric`, e.g. `linear/all/val/top1`; `run` returns `part/split/metric`.

Every evaluation fits on the train split, chooses its own hyperparameters on a held-out part of it, and reports `val`
(for objectives) and `test` beside each other: a split that is reported never chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import Config, ConfigError, near
from trainables.core.method import CAPABILITIES, Method, has

REPORTED: tuple[Split, ...] = ("val", "test")
Capabilities = Mapping[str, tuple[str, ...]]  # see `capabilities_of`
Rows = Literal["mean", "max", "frames"]


class EvalConfig(Config):
    """Options every evaluation has."""

    parts: tuple[str, ...] = Field(("all",), description="parts of the representation; ('*',) = every one")
    limit: int | None = Field(None, ge=2, description="at most so many items of each split, whole objects; None = all")


@dataclass(frozen=True)
class Needs:
    """What an evaluation asks for; the plan refuses one that cannot apply and says why.

    Attributes:
        labels: factors of the data that must be labelled; "*" = at least one.
        transforms: codes of transforms that must be in the views' stack; "*" = at least one.
        capabilities: of the method (`decode`, `predict`, `roll`, `marginal`, `steer`, `frames`, `quantise`,
            `classify`).
        gpu: whether it is hopeless without one.
        after: names of evaluations whose results are handed over in `inputs`, under these names; a sweep that runs one
            under several keys says which by `after: {NAME: KEY}`.
    """

    labels: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    gpu: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One set of features: a split, clean (`transform` None) or under one transform with fresh draws.

    Attributes:
        strength: a fixed natural parameter for every item (e.g. degrees) instead of a draw.
        repeat: how many times each item is transformed (item-major order: item 0 draw 0, item 0 draw 1, ...).
        limit: at most so many items of the split, the first of a seeded permutation; None = all. Where several items
            show one object it is whole objects that are taken, at least one.
        part: this one alone is computed and stored; None = every part.
        pool: what becomes of frames (sound) or cells (images): "mean" = what `encode` gives, "max" over them, "frames"
            = none, rows (L, d), which needs a `part`. All but "mean" need the method's capability "frames".
        draws: of the latents' distributions for every transformed item, item-major too, by the capability "frames"; 0 =
            what `encode` does. They depend neither on the part nor on the pool.
        take: which draw of what is random, such as the fragments of longer pages and crops of sound, or a transform's
            parameter; another number, another draw.
    """

    split: Split
    transform: str | None = None
    strength: float | None = None
    repeat: int = 1
    limit: int | None = None
    part: str | None = None
    pool: Rows = "mean"
    draws: int = 0
    take: int = 0

    def __post_init__(self) -> None:
        if self.pool == "frames" and self.part is None:
            raise ConfigError("pool: 'frames' are of one part; name it")

    @property
    def seen(self) -> dict[str, Any]:
        """The fields that decide what the encoder is shown."""
        return {one.name: getattr(self, one.name) for one in fields(self)[:5]}

    @property
    def identity(self) -> dict[str, Any]:
        """Every field that decides the features: what came later stands in it where it is not as it was before."""
        later = {
            one.name: getattr(self, one.name) for one in fields(self)[5:] if getattr(self, one.name) != one.default
        }
        return {**self.seen, **later}


@dataclass(frozen=True)
class Features:
    """Features of one request, on the CPU, in float32, n = items x repeat x max(draws, 1).

    Attributes:
        parts: part -> (n, d), or (n, L, d) of frames.
        labels: factor -> (n,), or (n, F) of one given per frame, -1 where there is none.
        params: code -> (n, k) natural parameters of the draw, only the requested transform; and those of the data.
        units: code -> (n, 1).
        index: (n,) position in the split.
    """

    parts: dict[str, Tensor]
    labels: dict[str, Tensor]
    params: dict[str, Tensor]
    units: dict[str, Tensor]
    index: Tensor

    @property
    def owner(self) -> Tensor:
        """(n,) what each row belongs to when rows are held out together: its object where data have them, its item."""
        return self.labels.get("object", self.index)

    def grouped(self) -> list[Tensor]:
        """For each owner, in increasing order, its rows in theirs."""
        owner, rows = self.owner.sort(stable=True)
        return list(rows.split(owner.unique_consecutive(return_counts=True)[1].tolist()))

    def aggregated(self) -> Features:
        """One row for each owner, in increasing order: the mean of its rows' parts, else what its first row has."""
        groups = self.grouped()
        first = torch.stack([rows[0] for rows in groups])

        def firsts(named: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[first] for name, value in named.items()}

        return Features(
            {part: torch.stack([value[rows].mean(0) for rows in groups]) for part, value in self.parts.items()},
            firsts(self.labels),
            firsts(self.params),
            firsts(self.units),
            self.index[first],
        )


class Subject(Protocol):
    """A frozen encoder under evaluation, in eval mode, whose features are computed once and cached."""

    @property
    def spec(self) -> Spec:
        """Of the views: shape after them, params of the stack, labels."""
        ...

    method: Method  # eval mode, no gradients
    cache: Path
    out: Path  # folder for artifacts, made by the caller

    def features(self, request: Request) -> Features: ...

    def inputs(self, request: Request) -> Tensor:
        """What the encoder saw for these features: (n, *shape) float32, in the same order; pixels in [0, 1].

        `draws` are of what it says, not of what it sees: n = items x repeat.
        """
        ...

    def seen(self, request: Request) -> Iterator[Tensor]:
        """What `inputs` gives, some items at a time, where memory would not hold them all."""
        ...

    def on(self, data: dict[str, Any]) -> Subject:
        """The same encoder on other data."""
        ...

    def normalized(self, inputs: Tensor) -> Tensor:
        """What `inputs` gives, as the method takes it; differentiable."""
        ...


@dataclass
class Result:
    """`metrics`: "part/split/metric" -> finite number; `artifacts`: file name -> path of a figure, table or probe."""

    metrics: dict[str, float]
    artifacts: dict[str, Path] = field(default_factory=dict)


class Evaluation(Protocol):
    """The face of an evaluation module."""

    Config: type[EvalConfig]
    NEEDS: Needs
    VERSION: int
    METRICS: dict[str, str]

    def requests(self, cfg: Any, spec: Spec) -> list[Request]: ...

    def metrics(self, cfg: Any, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]: ...

    def run(self, subject: Subject, cfg: Any, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result: ...


def chosen_parts(cfg: EvalConfig, available: Mapping[str, Any]) -> list[str]:
    """The parts to evaluate: those named, or all where the option is ('*',).

    Raises:
        ConfigError: the representation has no such part.
    """
    for part in cfg.parts:
        if part != "*" and part not in available:
            raise ConfigError(f"parts: the representation has no part '{part}'{near(part, sorted(available))}")
    return sorted(available) if "*" in cfg.parts else list(dict.fromkeys(cfg.parts))


def capabilities_of(method: Method) -> dict[str, tuple[str, ...]]:
    """Capability -> codes of the transforms it is about, () where it is about none. Works on the meta device.

    Of "frames" the parts and their places, which `places_of` reads: "module0=511", of images "module0=7x7".
    """
    found = {name: getattr(method, "equivariant_to", ()) for name in CAPABILITIES if has(method, name)}
    places: Mapping[str, tuple[int, ...]] = getattr(method, "places", {})
    if "frames" in found:
        found["frames"] = tuple(f"{part}={'x'.join(map(str, where))}" for part, where in places.items())
    return found


def places_of(capabilities: Capabilities) -> dict[str, tuple[int, ...]]:
    """Part -> (L,) frames or (rows, columns) of cells, of a method with the capability "frames"."""
    named = (one.rpartition("=") for one in capabilities.get("frames", ()))
    return {part: tuple(int(side) for side in places.split("x")) for part, _, places in named}


def group_of(transform: str, codes: tuple[str, ...]) -> str:
    """The transform whose group is meant: the one that an evaluation's option names, else the method's first.

    Raises:
        ConfigError: the method has no group of that transform.
    """
    if transform and transform not in codes:
        raise ConfigError(f"transform: the method has no bins of '{transform}'{near(transform, codes)}")
    return transform or codes[0]


def check(
    module: Any,
    cfg: EvalConfig,
    spec: Spec,
    parts: Mapping[str, int],
    capabilities: Capabilities,
    configs: Mapping[str, EvalConfig] | None = None,
) -> list[str]:
    """The metrics an evaluation will produce for such data and such a method, as "part/split/metric".

    Args:
        spec: of the views. parts: of the method. capabilities: see `capabilities_of`.
        configs: options of the evaluations whose results it reads, others being ignored; None = not known.

    Raises:
        ConfigError: one line saying why it does not apply.
    """
    needs: Needs = module.NEEDS
    name = str(getattr(module, "__name__", module)).removeprefix("trainables.evals.")
    for what, wanted, there in (
        ("label", needs.labels, spec.labels),
        ("transform", needs.transforms, spec.params),
        ("capability", needs.capabilities, capabilities),
    ):
        for one in wanted:
            if (one == "*" and not there) or (one != "*" and one not in there):
                shown = "any" if one == "*" else f"'{one}'"
                raise ConfigError(f"{name}: needs {shown} {what}; there is {', '.join(sorted(there)) or 'none'}")
    try:
        found = list(module.metrics(cfg, spec, parts, capabilities))
        if configs is not None and hasattr(module, "check_inputs"):
            read = {one: config for one, config in configs.items() if one in needs.after}
            module.check_inputs(cfg, spec, capabilities, read)
        return found
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def metric_names(
    module: Any,
    key: str,
    cfg: EvalConfig,
    spec: Spec,
    parts: Mapping[str, int],
    capabilities: Capabilities,
    configs: Mapping[str, EvalConfig] | None = None,
) -> list[str]:
    """The full names, `key/part/split/metric`, of the evaluation that a sweep calls `key`; raises as `check`."""
    return [f"{key}/{name}" for name in check(module, cfg, spec, parts, capabilities, configs)]


def direction(module: Any, metric: str) -> str:
    """ "max", "min" or "" (neither is better) of "part/split/metric"; keys of METRICS may be patterns (`top1_*`).

    Raises:
        ConfigError: the evaluation has no such metric.
    """
    last = metric.rsplit("/", 1)[-1]
    for pattern, better in module.METRICS.items():
        if fnmatch(last, pattern):
            return str(better)
    raise ConfigError(f"{metric}: no such metric{near(last, list(module.METRICS))}")


def marginal(method: Any, z: Tensor, code: str) -> Tensor:
    """Probabilities (n, bins) of a method with the capability "marginal", computed where it lies, given on the CPU."""
    first = next(iter(method.parameters()), z)
    with torch.no_grad():
        found: Tensor = method.marginal(z.to(first.device), code)
    return found.cpu()

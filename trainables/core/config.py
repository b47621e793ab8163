"""The configuration of one pretraining: five sections and a seed, resolved against the modules they name.

    {"method": {"name": "duet", "lambda": 1000, ...}, "data": {"name": "digits", ...}, "views": {...},
     "train": {"epochs": 15, ...}, "seed": 0}

`resolve` fills in every default, so that the digest of its dump is the identity of the trial.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from datasets.base import DataError, Source, Spec, Split
from datasets.config import Config, ConfigError, parse
from datasets.views import Views, ViewsConfig
from trainables.core.load import load
from trainables.core.method import Method
from trainables.core.presets import expand


class TrainConfig(Config):
    """How to train, whatever the method."""

    epochs: int = Field(100, ge=1, le=100_000, description="passes over the training split")
    batch_size: int = Field(256, ge=2, le=65_536, description="items of the global batch, over all workers")
    drop_last: bool = Field(False, description="drop the last partial batch of an epoch (DUET's original keeps it)")
    optimizer: Literal["adamw", "adam", "sgd", "lars"] = Field(
        "adamw", description="adam adds weight decay to the gradient (DUET: adamw; SIE: adam)"
    )
    lr: float = Field(4e-4, gt=0, le=100, description="peak learning rate (DUET: 4e-4)")
    weight_decay: float = Field(1e-4, ge=0, le=10, description="on all parameters (DUET: 1e-4)")
    betas: tuple[float, float] = Field((0.9, 0.95), description="of Adam's moments (DUET: 0.9, 0.95; SIE: 0.9, 0.999)")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD and LARS")
    schedule: Literal["cosine", "constant", "exponential"] = Field("cosine", description="after the linear warm-up")
    decay: float = Field(1.0, gt=0, le=1, description="of the exponential schedule (SIM: 1; V-GIM: 0.995; V3: 0.98)")
    decay_epochs: float = Field(1.0, gt=0, le=100_000, description="epochs in which it falls by that factor (V3: 20)")
    period: int | None = Field(
        None, ge=1, le=100_000,
        description="epochs in which the cosine falls, to rise again; None = it ends with the training (V3: 100)",
    )  # fmt: skip
    schedule_per: Literal["epoch", "step"] = Field("epoch", description="granularity of the schedule (DUET: epoch)")
    warmup_epochs: int = Field(10, ge=0, le=10_000, description="warm-up; 0 = none (DUET: 10)")
    warmup_lr: float | None = Field(
        None, ge=0, le=1, description="of the peak, during all of the warm-up (V3: 0.1); None = it rises linearly"
    )
    final_lr: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of the peak, where the cosine ends (VICReg: 0.001), the exponential's least (V3: 0.02)",
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="bf16, fp16 = autocast, fp16 with a scaled loss; losses stay in float32"
    )
    compile: bool = Field(False, description="torch.compile the method")
    channels_last: bool = Field(False, description="memory format of images, faster on GPU")
    clip_norm: float | None = Field(None, gt=0, description="gradient clipping; None = none (DUET: none)")
    checkpoint_every: int = Field(5, ge=1, description="epochs between checkpoints; a kill loses at most so much")
    collapse_rank: float = Field(1.05, ge=0, description="effective rank below which training is given up; 0 = never")
    validate_every: int = Field(0, ge=0, description="epochs between validation losses; 0 = never")


class Sections(Config):
    """The raw form a user writes; each section is checked by the class it belongs to."""

    method: dict[str, Any]
    data: dict[str, Any]
    views: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**31)
    init: str | None = Field(None, description="folder of a checkpoint whose weights are the start")


@dataclass(frozen=True)
class Resolved:
    """A checked configuration with the modules and classes it names."""

    method_name: str
    data_name: str
    method: Config
    data: Config
    views: ViewsConfig
    train: TrainConfig
    seed: int
    init: str | None
    method_class: type[Method]
    data_module: ModuleType

    def dump(self) -> dict[str, Any]:
        """Everything, defaults included, as plain JSON values; `resolve(dump)` gives an equal object."""
        return {
            "method": {"name": self.method_name, **self.method.dump()},
            "data": {"name": self.data_name, **self.data.dump()},
            "views": self.views.dump(),
            "train": self.train.dump(),
            "seed": self.seed,
            "init": self.init,
        }

    def identity(self) -> dict[str, Any]:
        """What a trial's digest is made of: the dump and the versions of the code that computes it.

        A checkpoint to start from counts by its content, not by its place.
        """
        versions = {"method": self.method_class.VERSION, "data": getattr(self.data_module, "VERSION", 1)}
        start = None
        if self.init:
            from trainables.core.state import read_meta

            start = read_meta(Path(self.init)).digest
        return {**self.dump(), "init": start, "versions": versions}

    def evaluated(self) -> Resolved:
        """The same over the data as evaluations see them: single items where training has pairs of them."""
        change = getattr(self.data_module, "evaluated", None)
        return self if change is None else replace(self, data=change(self.data))

    def source(self, root: Path | None, split: Split, planned: str = "") -> Source:
        """The data of one split.

        Args:
            planned: the fingerprint that the data had where the sweep was planned; "" = any will do.

        Raises:
            DataError: missing or broken, or others than those of the plan.
        """
        source: Source = self.data_module.open(self.data, root, split)
        if planned and source.spec.fingerprint != planned:
            what = f" ({source.spec.note})" if source.spec.note else ""
            raise DataError(
                f"data {self.data_name}: this machine has others than those the sweep was planned with{what}; "
                f"should be the same files in {root or 'a data folder, give --data-root'}"
            )
        return source

    def build_views(self, spec: Spec) -> Views:
        """The views over data of `spec`, with what the method asks for beside them."""
        return Views(self.views, spec, self.method_class.auxiliary(self.method))

    def build_method(self, spec: Spec) -> Method:
        """The method for batches of `spec` (the views' spec); weights are drawn from torch's global generator."""
        return self.method_class(self.method, spec)


def resolve(values: dict[str, Any]) -> Resolved:
    """Check a raw configuration against the modules it names and fill in every default.

    Raises:
        ConfigError: one line with the wrong name, key or value.
    """
    sections = parse(Sections, values, "")
    method_name, method_values = expand(*_named(sections.method, "method"))
    data_name, data_values = _named(sections.data, "data")
    method_module, data_module = load("method", method_name), load("dataset", data_name)
    method_class = method_module.METHOD
    return Resolved(
        method_name=method_name,
        data_name=data_name,
        method=parse(method_class.Config, method_values, "method"),
        data=parse(data_module.Config, data_values, "data"),
        views=parse(ViewsConfig, sections.views, "views"),
        train=parse(TrainConfig, sections.train, "train"),
        seed=sections.seed,
        init=sections.init,
        method_class=method_class,
        data_module=data_module,
    )


def _named(section: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{where}.name: is missing; write {where}: {{name: ...}}")
    return name, values


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

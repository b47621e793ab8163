"""What relates two views of one object (SIE's offline rotation and colour prediction): read from their features.

Protocol of Garrido et al., ICML 2023, arXiv 2302.10283, on features that are computed once: for each object so many
ordered pairs of different views are drawn; a head sees the features of both side by side and tells the relative
quaternion, or the differences of floor and light hue. It is fit on the train split, chosen on held-out objects of it,
and reported on `val` and `test`. Encoders are in evaluation mode throughout (the original's normalise by batch).

    rotation_r2          1 - sum of squares / sum of squares about the one mean of all entries, as the original has it
    rotation_floor       the same of the column means, what a head without features reaches: 0.229, not 0
    rotation_r2_uniform  mean of the columns' own R2: the floor is 0
    rotation_mse         mean squared error; chance 0.179
    colour_...           the same of the two hue differences; the floor is 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from datasets.rotations import relations
from trainables.evals import _files, _heads
from trainables.evals._heads import STEPS, Hidden
from trainables.evals.base import (
    REPORTED,
    Capabilities,
    EvalConfig,
    Features,
    Needs,
    Request,
    Result,
    Subject,
    chosen_parts,
)
from trainables.evals.probes import hold_out, r2, ridge
from trainables.nets.online import one_mean_r2

Target = Literal["rotation", "euler", "colour", "light"]


class Config(EvalConfig):
    """What to tell, by which head, from how many pairs."""

    parts: tuple[str, ...] = Field(("*",), description="parts of the representation; ('*',) = every one")
    targets: tuple[Target, ...] = Field(
        ("rotation", "colour"), min_length=1, description="rotation = quaternion, euler = its angles"
    )
    head: Literal["auto", "linear", "mlp"] = Field(
        "auto", description="linear = ridge regression; auto = mlp for rotations, linear for colours and light (SIE)"
    )
    hidden: Hidden = Field((256, 256), description="sizes of the mlp's hidden layers (SIE: 1024, 1024)")
    steps: int | None = Field(None, ge=16, le=1_000_000, description=STEPS)
    pairs: int = Field(20, ge=1, le=1000, description="ordered pairs of views drawn of each object")


NEEDS = Needs(labels=("object",))
VERSION = 3
METRICS = {"*_r2": "max", "*_r2_uniform": "max", "*_floor": "", "*_mse": "min"}
NAMES = ("r2", "floor", "r2_uniform", "mse")


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of every image."""
    return [Request(split, limit=cfg.limit) for split in ("train", *REPORTED)]  # type: ignore[arg-type]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data have no known poses.
    """
    if "latents" not in spec.params:
        raise ConfigError("the data do not say how their views came about; bench3die does")
    return [
        f"{part}/{split}/{target}_{name}"
        for part in chosen_parts(cfg, parts) for split in REPORTED for target in cfg.targets for name in NAMES
    ]  # fmt: skip


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring; artifact `table.csv`."""
    result, seed = Result({}), int(rng.integers(2**31))
    splits: tuple[Split, ...] = ("train", *REPORTED)
    found = {split: subject.features(Request(split, limit=cfg.limit)) for split in splits}
    pairs = {split: drawn(one.grouped(), cfg.pairs, rng) for split, one in found.items()}
    targets = {split: truth(found[split], pairs[split]) for split in splits}
    owners = found["train"].labels["object"][pairs["train"][0]]
    held_out = hold_out(owners, np.random.default_rng(seed))  # the same objects for every part
    for part in chosen_parts(cfg, subject.method.parts):
        x = {split: torch.cat([found[split].parts[part][rows] for rows in pairs[split]], dim=1) for split in splits}
        for target in cfg.targets:
            y = targets["train"][target]
            head = (
                ridge(x["train"], y, held_out) if _linear(cfg, target)
                else _heads.regressor(x["train"], y, held_out, cfg.hidden, cfg.steps, np.random.default_rng(seed))
            )  # fmt: skip
            for split in REPORTED:
                values = measure(head(x[split]), targets[split][target])
                result.metrics |= {f"{part}/{split}/{target}_{name}": v for name, v in values.items()}
    rows = [(*name.split("/"), value) for name, value in result.metrics.items()]
    result.artifacts["table.csv"] = _files.table(subject.out / "table.csv", ("part", "split", "metric", "value"), rows)
    return result


def _linear(cfg: Config, target: Target) -> bool:
    return target in ("colour", "light") if cfg.head == "auto" else cfg.head == "linear"


def drawn(groups: Sequence[Tensor], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rows of the first and the second image (n,) of `count` pairs of each object, different images of one object.

    Objects with one image give none.

    Args:
        groups: the rows of each object.

    Raises:
        ConfigError: no object has two images.
    """
    several = [rows.numpy() for rows in groups if len(rows) > 1]
    if not several:
        raise ConfigError("relation: no object has two images")
    sizes = np.repeat([len(rows) for rows in several], count)
    begins = np.repeat(np.cumsum([0, *(len(rows) for rows in several[:-1])]), count)
    first = rng.integers(sizes)
    second = (first + rng.integers(1, sizes)) % sizes
    rows = np.concatenate(several)
    return torch.from_numpy(rows[begins + first]), torch.from_numpy(rows[begins + second])


def truth(features: Features, pairs: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """What relates the images of each pair: target -> (n, k)."""
    one, other = (features.params["latents"][rows].double() for rows in pairs)
    return {name: y.float() for name, y in relations(one, other).items()}


def measure(read: Tensor, true: Tensor) -> dict[str, float]:
    """The metrics of a head's output (n, k)."""
    read, true = read.double(), true.double()
    return {
        "r2": float(one_mean_r2(read, true)),
        "floor": float(one_mean_r2(true.mean(0).expand_as(true), true)),
        "r2_uniform": float(r2(read, true).mean()),
        "mse": float((read - true).square().mean()),
    }

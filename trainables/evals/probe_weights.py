"""Weights of a linear probe (SIM-E12): how many dimensions a classifier needs, and which.

Protocol of Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936. The probe is the one that
`linear` fitted on the train split; W (classes, C) are its weights on the features as they are, or with `space:
standardised` on features of deviation 1. All numbers and the density are of W divided by its largest magnitude:

    near_zero        share of weights with |w| < 0.2 (published, vowels: GIM 0.29, SIM 0.49)
    std              deviation of all weights (0.386, 0.301)
    density_at_zero  of a kernel estimate, kernels of half the deviation (0.90, 1.18)

What is written: `weights_PART.csv`, a row for each dimension, the columns being the classes' weights, each class
rescaled from its least to its largest weight to [-1, 1] (`rescale: dimension`: each dimension over the classes, as for
images), and beside them sum |w| of W and the rank by it, the largest first; `heat_PART.png` of the same; the density,
`density_PART.csv` and `.png`; and `decision_PART.png`, the classes that the probe tells over a plane of the two most
important dimensions, 100 x 100 points in [-3, 3], all other dimensions being 0.

The published probe is that of `linear: {probe: adam, bias: false}`. The default, logistic, is the optimum under a
penalty, which draws weights to zero the more the stronger it is. Compare probes of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _density, _files, linear
from trainables.evals.base import Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.probes import Linear

NEAR = 0.2
FACTOR = 0.5  # of a kernel's width, in deviations of the weights
SIDE, REACH = 100, 3.0  # of the plane


class Config(EvalConfig):
    """Which weights, and how they are rescaled where they are shown."""

    space: Literal["raw", "standardised"] = Field(
        "raw", description="weights on the features as they are (SIM), or on features of deviation 1"
    )
    rescale: Literal["class", "dimension"] = Field(
        "class", description="in table and heat map: to [-1, 1] over each class (SIM: sound), or dimension (images)"
    )


NEEDS = Needs(labels=("*",), after=("linear",))
VERSION = 1
METRICS = {"near_zero": "max", "std": "min", "density_at_zero": "max"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None: the probe is there."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns: the probe was fitted on the train split."""
    return [f"{part}/train/{name}" for part in chosen_parts(cfg, parts) for name in METRICS]


def check_inputs(cfg: Config, spec: Spec, capabilities: Capabilities, configs: Mapping[str, EvalConfig]) -> None:
    """Refuse a probe that is not linear, or of other parts.

    Raises:
        ConfigError: one line.
    """
    probe = configs.get("linear")
    if not isinstance(probe, linear.Config):
        return
    if probe.probe == "mlp":
        raise ConfigError("linear.probe: a network ('mlp') has no weights of dimensions; choose logistic")
    if probe.pool == "flat":
        raise ConfigError("linear.pool: weights of all frames side by side are not of dimensions; choose mean or max")
    missing = sorted(set(cfg.parts) - set(probe.parts))
    if missing and "*" not in probe.parts:
        which = "probes of every part" if missing[0] == "*" else f"the probe of '{missing[0]}'"
        raise ConfigError(f"reads {which}; add it to the parts of linear")


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/train/{near_zero,std,density_at_zero}`, tables and figures."""
    result = Result({})
    for part in chosen_parts(cfg, subject.method.parts):
        probe = read(inputs["linear"].artifacts.get(f"probe_{part}.safetensors"), part, subject.method.parts[part])
        weights = _of(probe, cfg.space)
        result.metrics |= {f"{part}/train/{name}": value for name, value in measure(weights).items()}
        for path in _written(subject.out, part, weights, probe, cfg):
            result.artifacts[path.name] = path
    return result


def read(path: Path | None, part: str, width: int) -> Linear:
    """The probe that `linear` saved.

    Raises:
        ConfigError: there is none of the part, or it is no linear probe of its dimensions.
    """
    if path is None:
        raise ConfigError(f"reads the probe of '{part}'; add it to the parts of linear")
    try:
        named = load_file(path)
        weight, bias, mean, scale = (named[name].double() for name in ("weight", "bias", "mean", "scale"))
    except (OSError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{path}: is no linear probe ({error})") from None
    if len(weight) != width:
        raise ConfigError(f"the probe of '{part}' has {len(weight)} weights a class, the part {width} dimensions")
    return Linear(weight, bias, mean, scale, 0.0)


def _of(probe: Linear, space: str) -> Tensor:
    """W (classes, C)."""
    return (probe.weight / probe.scale[:, None] if space == "raw" else probe.weight).T


def measure(weights: Tensor) -> dict[str, float]:
    """The metrics of W (classes, C)."""
    unit = scaled(weights)
    return {
        "near_zero": float((unit.abs() < NEAR).double().mean()),
        "std": float(unit.std()),
        "density_at_zero": float(_density.curve(unit, torch.zeros(1), FACTOR)),
    }


def scaled(weights: Tensor) -> Tensor:
    """All weights (n,), divided by the largest magnitude."""
    return weights.double().flatten() / weights.abs().max().clamp_min(1e-30)


def rescaled(weights: Tensor, over: Literal["class", "dimension"]) -> Tensor:
    """W (classes, C) with each row (class) or column (dimension) from its least to its largest value to [-1, 1]."""
    axis = 1 if over == "class" else 0
    low, high = weights.amin(axis, keepdim=True), weights.amax(axis, keepdim=True)
    return torch.where(high > low, 2 * (weights - low) / (high - low).clamp_min(1e-300) - 1, torch.zeros_like(weights))


def important(weights: Tensor) -> Tensor:
    """Dimensions of W (classes, C), that with the largest sum of magnitudes first (C,)."""
    return weights.abs().sum(0).argsort(descending=True, stable=True)


def plane(probe: Linear, dims: Tensor) -> Tensor:
    """Probabilities (SIDE, SIDE, classes) over two dimensions, the first along the columns, the others at 0."""
    line = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    x = torch.zeros(SIDE * SIDE, len(probe.weight), dtype=torch.float64)
    x[:, dims[1]] = rows.flatten()
    x[:, dims[0]] = columns.flatten()
    return probe(x).softmax(1).unflatten(0, (SIDE, SIDE))


def _written(out: Path, part: str, weights: Tensor, probe: Linear, cfg: Config) -> list[Path]:
    order, shown = important(weights), rescaled(weights, cfg.rescale)
    rank, sums = order.argsort(), weights.abs().sum(0)
    rows = [
        (d, *(f"{w:.6g}" for w in shown[:, d].tolist()), f"{float(sums[d]):.6g}", int(rank[d]) + 1)
        for d in range(weights.shape[1])
    ]
    columns = ["dimension", *(f"class_{k}" for k in range(len(weights))), "sum", "rank"]
    at = torch.linspace(-1.25, 1.25, 251)
    density = _density.curve(scaled(weights), at, FACTOR)
    found = [
        _files.table(out / f"weights_{part}.csv", columns, rows),
        _files.heat(out / f"heat_{part}.png", shown, ("dimension", "class"), f"rescaled weights, {part}"),
        _files.table(out / f"density_{part}.csv", ("weight", "density"), torch.stack([at, density], 1).tolist()),
        _files.lines(
            out / f"density_{part}.png", {part: (at, density)}, ("weight / largest", "density"),
            f"weights of the probe on {part}",
        ),
    ]  # fmt: skip
    if len(order) > 1:
        names = (f"dimension {int(order[0])}", f"dimension {int(order[1])}")
        title = f"what the probe on {part} tells, others at 0"
        found.append(_files.regions(out / f"decision_{part}.png", plane(probe, order[:2]), REACH, names, title))
    return found

"""Parameter recovery (DU-E2): whether the parameter of a transform can be read from features of the transformed image.

Protocol, this project's own. Each image is seen under fresh draws of one transform of the stack alone; a probe is fit
on the train split, chooses its penalty on held-out images of it, and is reported on `val` and `test`. With p the
parameter's unit (in [0, 1] for most), the probe and the metrics follow the transform's kind:

    circular    ridge regression to (cos, sin) of 2 pi p     CODE_r2 (mean of both), CODE_angle_error
    continuous  ridge regression to p                        CODE_r2
    binary      logistic regression                          CODE_auc, CODE_accuracy
    quarter     logistic regression, four classes            CODE_accuracy

`angle_error` is the median absolute error in degrees; chance is 90. A method with the capability "marginal" for a code
is also read directly, nothing fitted, under the part `marginal`: the circular mean with bin centres
2 pi (g + 0.5) / G, or the expectation of (g + 0.5) / G where p is not circular.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Kind, Spec, Split
from datasets.config import ConfigError
from datasets.transforms.load import alone
from trainables.evals import _files
from trainables.evals.base import (
    REPORTED,
    Capabilities,
    EvalConfig,
    Features,
    Needs,
    Request,
    Result,
    Subject,
    capabilities_of,
    chosen_parts,
    marginal,
)
from trainables.evals.probes import Linear, accuracy, auc, classifier, hold_out, r2, ridge


class Config(EvalConfig):
    """Which transforms to read, and from how many draws."""

    transforms: tuple[str, ...] = Field(
        ("*",), description="codes, also of transforms the training did not use; ('*',) = all of the stack"
    )
    repeat: int = Field(1, ge=1, le=100, description="draws per image and code")


NEEDS = Needs()
VERSION = 1
METRICS = {"*_r2": "max", "*_angle_error": "min", "*_auc": "max", "*_accuracy": "max"}
OF_KIND: dict[Kind, tuple[str, ...]] = {
    "circular": ("r2", "angle_error"),
    "continuous": ("r2",),
    "binary": ("auc", "accuracy"),
    "zero_one": ("auc", "accuracy"),
    "quarter": ("accuracy",),
}


def kinds(cfg: Config, spec: Spec) -> dict[str, Kind]:
    """The transforms to read and how their units are read, those of the stack first.

    Raises:
        ConfigError: there is no such transform, it has no parameter, or none is named and the stack has none.
    """
    if "*" in cfg.transforms and not spec.kinds:
        raise ConfigError("transforms: no transform of the views' stack has a parameter; name one, such as rot")
    found = {code: kind for code, kind in spec.kinds.items() if "*" in cfg.transforms or code in cfg.transforms}
    for code in cfg.transforms:
        if code != "*" and code not in found:
            transform = alone(code, spec.shape, spec.rate)
            if not transform.usable:
                raise ConfigError(f"transforms: '{code}' has no parameter to be read")
            found[code] = transform.coding
    return found


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of every split under each transform."""
    splits: tuple[Split, ...] = ("train", *REPORTED)
    return [_request(cfg, split, code) for code in kinds(cfg, spec) for split in splits]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns."""
    names = []
    for code, kind in kinds(cfg, spec).items():
        measures = dict.fromkeys(chosen_parts(cfg, parts), OF_KIND[kind])
        if code in capabilities.get("marginal", ()):
            measures["marginal"] = tuple(_decoded(kind))
        names += [f"{p}/{s}/{code}_{name}" for p, found in measures.items() for s in REPORTED for name in found]
    return names


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring; per part and code the probe, and a figure of predicted against true angles.

    Artifacts: `probe_PART_CODE.safetensors`, `agreement_PART_CODE.png` (val), `table.csv`.
    """
    result = Result({})
    seed = int(rng.integers(2**31))
    read_directly = capabilities_of(subject.method).get("marginal", ())
    for code, kind in kinds(cfg, subject.spec).items():
        train = subject.features(_request(cfg, "train", code))
        reported = {split: subject.features(_request(cfg, split, code)) for split in REPORTED}
        for part in chosen_parts(cfg, subject.method.parts):
            probe = _fit(kind, train, part, code, seed)
            name = f"probe_{part}_{code}.safetensors"
            result.artifacts[name] = probe.save(subject.out / name)
            for split, features in reported.items():
                _report(
                    result, subject.out, (part, split, code), kind, probe(features.parts[part]), features.units[code]
                )
        if code in read_directly:
            for split, features in reported.items():
                found = decode(kind, marginal(subject.method, features.parts["all"], code))
                _report(result, subject.out, ("marginal", split, code), kind, found, features.units[code])
    rows = [(*name.split("/"), value) for name, value in result.metrics.items()]
    result.artifacts["table.csv"] = _files.table(subject.out / "table.csv", ("part", "split", "metric", "value"), rows)
    return result


def _request(cfg: Config, split: Split, code: str) -> Request:
    return Request(split, transform=code, repeat=cfg.repeat, limit=cfg.limit)


def _fit(kind: Kind, train: Features, part: str, code: str, seed: int) -> Linear:
    held_out = hold_out(train.owner, np.random.default_rng(seed))  # the same images for every part
    x, target = train.parts[part], targets(kind, train.units[code])
    if kind in ("circular", "continuous"):
        return ridge(x, target, held_out)
    return classifier(x, target, 4 if kind == "quarter" else 2, held_out)


def targets(kind: Kind, unit: Tensor) -> Tensor:
    """Units (n, 1) as what a probe predicts: (n, 2) cos and sin, (n, 1) numbers, or (n,) int64 classes."""
    if kind == "circular":
        angle = 2 * math.pi * unit.double()
        return torch.cat([angle.cos(), angle.sin()], 1)
    if kind == "continuous":
        return unit.double()
    return (4 * unit[:, 0]).floor().long().clamp(0, 3) if kind == "quarter" else (unit[:, 0] > 0.5).long()


def measure(kind: Kind, predicted: Tensor, unit: Tensor) -> dict[str, float]:
    """The metrics of a kind from a probe's output (n, t) and the units (n, 1)."""
    target = targets(kind, unit)
    if kind == "circular":
        error = angle_error(turn(predicted), unit[:, 0].double())
        return {"r2": float(r2(predicted, target).mean()), "angle_error": error}
    if kind == "continuous":
        return {"r2": float(r2(predicted, target).mean())}
    correct = {"accuracy": accuracy(predicted, target)}
    return correct if kind == "quarter" else {"auc": auc(predicted[:, 1] - predicted[:, 0], target), **correct}


def turn(vector: Tensor) -> Tensor:
    """(n, 2) cos and sin, of any length, as turns (n,) in [0, 1)."""
    return torch.atan2(vector[:, 1].double(), vector[:, 0].double()) / (2 * math.pi) % 1


def angle_error(predicted: Tensor, true: Tensor) -> float:
    """Median absolute difference in degrees, at most 180, of turns (n,)."""
    return float(360 * ((predicted - true + 0.5) % 1 - 0.5).abs().median())


def decode(kind: Kind, probabilities: Tensor) -> Tensor:
    """Probabilities over G bins (n, G) in the form of a probe's output, see `measure`."""
    p = probabilities.double()
    centre = (torch.arange(p.shape[1], dtype=torch.float64) + 0.5) / p.shape[1]
    if kind in ("circular", "quarter"):
        vector = p @ torch.stack([(2 * math.pi * centre).cos(), (2 * math.pi * centre).sin()], 1)
        return vector if kind == "circular" else torch.eye(4).double()[(4 * turn(vector)).floor().long().clamp(0, 3)]
    expected = (p @ centre)[:, None]
    return expected if kind == "continuous" else torch.cat([0.5 - expected, expected - 0.5], 1)


def _decoded(kind: Kind) -> list[str]:
    """The metrics of a direct reading: the length of a circular mean says how sure it is, so it has no R2."""
    return [name for name in OF_KIND[kind] if kind != "circular" or name != "r2"]


def _report(
    result: Result, out: Path, place: tuple[str, str, str], kind: Kind, predicted: Tensor, unit: Tensor
) -> None:
    part, split, code = place
    found = measure(kind, predicted, unit)
    names = _decoded(kind) if part == "marginal" else found
    result.metrics.update({f"{part}/{split}/{code}_{name}": found[name] for name in names})
    if split == "val" and kind in ("circular", "continuous"):
        name = f"agreement_{part}_{code}.png"
        circular = kind == "circular"
        shown = (360 * unit[:, 0], 360 * turn(predicted)) if circular else (unit[:, 0], predicted[:, 0])
        label = "place on the circle (degrees)" if circular else "parameter"
        result.artifacts[name] = _files.agreement(out / name, *shown, f"{code} from {part}", label, circular)

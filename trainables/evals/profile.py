"""Profile: one checkpoint on four axes, from the results of the five evaluations of factors of variation.

Axes are those of Plachouras et al., IJCNN 2025, arXiv 2505.06224: informativeness, equivariance (of parameters and of
features), invariance, disentanglement. Nothing is fitted; numbers of `val` and `test` come from those of `val` and
`test` that the five report. Each axis is the mean, over factors or transforms and over probes, of a share in [0, 1]:

    informativeness         R2 of a number; of classes and tags what is gained over the baseline, (a - b) / (1 - b)
    parameter_equivariance  R2 of the parameter
    feature_equivariance    1 - mse / that of the better of two answers, the item's own feature and the mean
    invariance              mean cosine of an item's and its transformed self's features
    disentanglement         1 - |difference| / the factor's baseline error, of the upper quarters where those are judged
    invariance_chance       mean cosine of the features of different items, which invariance is to be compared with

Shares below 0 count as 0, and factors that do not vary are left out. A representation that says nothing has 0, 0, 0,
`invariance_chance` and 1: no probe of it is misled. Invariance and the equivariances pull apart where they are of the
same transform. Artifacts: `profile_SPLIT.png`, axes x parts with every single share as a point, and `profile.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _factor_figures, _files
from trainables.evals._bank_training import Named
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.disentanglement import LOW

Shares = dict[tuple[str, str], float]  # (factor or transform, probe) -> share
AXES = ("informativeness", "parameter_equivariance", "feature_equivariance", "invariance", "disentanglement")
CHANCE = "invariance_chance"
NOTHING = {"disentanglement": 1.0}  # of an axis of which there is no share, as of gray images; else 0
VARIES = 1e-9  # baseline error of a factor that does
READ = ("r2", "accuracy", "ap")  # measures of numbers, classes and tags
PROBE = f"({'|'.join(get_args(Named))})"


class Config(EvalConfig):
    """Of which parts; `limit` as the five have it, so that features are shared."""


NEEDS = Needs(after=AXES)
VERSION = 1
METRICS = {**dict.fromkeys(AXES, "max"), CHANCE: ""}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of the reported splits, of which different items are compared."""
    return [Request(split, limit=cfg.limit) for split in REPORTED]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such part.
    """
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in METRICS]


def check_inputs(cfg: Config, spec: Spec, capabilities: Capabilities, configs: Mapping[str, Any]) -> None:
    """Refuse parts that are not judged by all five, and measures that do not hold what an axis is made of.

    Raises:
        ConfigError: one line.
    """
    for name, other in configs.items():
        missing = sorted(set(cfg.parts) - set(getattr(other, "parts", cfg.parts)))
        if missing and "*" not in other.parts:
            which = "every one" if missing[0] == "*" else f"'{missing[0]}'"
            raise ConfigError(f"parts: reads {which} of {name}; add it to the parts of {name}")
    measures = getattr(configs.get("informativeness"), "measures", ())
    if measures and not set(READ) <= set(measures):
        raise ConfigError(f"reads {', '.join(READ)} of informativeness; add them to its measures, or leave these out")


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, a figure of each split, a table of all shares."""
    result, rows = Result({}), []
    for split in REPORTED:
        clean = subject.features(Request(split, limit=cfg.limit))
        drawn: dict[str, dict[str, Shares]] = {}
        levels: dict[str, float] = {}
        for part in chosen_parts(cfg, subject.method.parts):
            place, drawn[part] = f"{part}/{split}", shares(inputs, part, split)
            for axis, found in drawn[part].items():
                result.metrics[f"{place}/{axis}"] = float(np.mean(list(found.values())))
                rows += [(part, split, axis, *names, value) for names, value in found.items()]
            levels[part] = result.metrics[f"{place}/{CHANCE}"] = others(clean.parts[part])
        name = f"profile_{split}.png"
        result.artifacts[name] = _factor_figures.profile(subject.out / name, drawn, levels, f"Profile, {split}")
    columns = ("part", "split", "axis", "of", "probe", "share")
    result.artifacts["profile.csv"] = _files.table(subject.out / "profile.csv", columns, rows)
    return result


def others(z: Tensor) -> float:
    """Mean cosine of the features (n, d) of all pairs of different items."""
    unit, n = F.normalize(z.double(), dim=1), len(z)
    same = unit.square().sum()  # n, less the items whose features are all 0
    return float((unit.sum(0).square().sum() - same) / (n * (n - 1)))


def shares(inputs: Mapping[str, Result], part: str, split: str) -> dict[str, Shares]:
    """For each axis the shares that it is the mean of, by what they are of."""
    values = {axis: _own(inputs[axis], f"{part}/{split}/") for axis in AXES}
    read = values["informativeness"]
    found = {
        "informativeness": _informed(read),
        "parameter_equivariance": _named(values["parameter_equivariance"], "r2"),
        "feature_equivariance": _predicted(values["feature_equivariance"]),
        "invariance": {
            (name.removesuffix("_cos_mean"), ""): value
            for name, value in values["invariance"].items()
            if name.endswith("_cos_mean")
        },
        "disentanglement": _untouched(values["disentanglement"], read),
    }
    return {
        axis: {names: min(max(value, 0.0), 1.0) for names, value in one.items()} or {("", ""): NOTHING.get(axis, 0.0)}
        for axis, one in found.items()
    }


def _own(result: Result, place: str) -> dict[str, float]:
    return {name.removeprefix(place): value for name, value in result.metrics.items() if name.startswith(place)}


def _named(values: Mapping[str, float], measure: str) -> Shares:
    """(what it is of, probe) -> value of a measure that each probe has."""
    matches = ((re.fullmatch(rf"(.+)_{PROBE}_{measure}", name), value) for name, value in values.items())
    return {(match[1], match[2]): value for match, value in matches if match}


def _errors(read: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Factor -> its measure and what the baseline's error is; only of those that vary."""
    found = {}
    for name, value in read.items():
        factor, _, measure = name.partition("_baseline_")
        error = value if measure == "rmse" else 1 - value
        if measure and error > VARIES:
            found[factor] = (measure, error)
    return found


def _informed(read: Mapping[str, float]) -> Shares:
    found = {}
    for factor, (measure, error) in _errors(read).items():
        share = "r2" if measure == "rmse" else measure
        for (of, probe), value in _named(read, share).items():
            if of == factor:
                found[factor, probe] = value if share == "r2" else 1 - (1 - value) / error
    return found


def _predicted(values: Mapping[str, float]) -> Shares:
    found = {}
    for (code, probe), mse in _named(values, "mse").items():
        trivial = min(values[f"{code}_{probe}_{name}_mse"] for name in ("identity", "mean"))
        found[code, probe] = 1 - mse / trivial if trivial > 0 else 0.0
    return found


def _untouched(values: Mapping[str, float], read: Mapping[str, float]) -> Shares:
    """Of the upper quarters, where there are any: all there is of a whole range, or of the lower quarters alone."""
    found = {
        (both, probe): 1 - abs(difference) / error
        for factor, (measure, error) in _errors(read).items()
        for (both, probe), difference in _named(values, f"{measure}_diff").items()
        if _factor_of(both, _errors(read)) == factor
    }
    upper = {names: value for names, value in found.items() if names[0].rpartition("@")[2] not in LOW}
    return upper or found


def _factor_of(both: str, factors: Iterable[str]) -> str:
    """The factor of "FACTOR_CODE"."""
    return max((factor for factor in factors if both.startswith(f"{factor}_")), key=len, default="")

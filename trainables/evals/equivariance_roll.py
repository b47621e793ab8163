"""Approximate equivariance (DU-E3): whether rolling the group axis by m bins predicts the turned image's features.

Protocol, this project's own. For every shift m = 1 ... G - 1, images x are turned by m bins, T(x, m) = x by 360 m / G
degrees (for quarter turns only the m that are multiples of 90 degrees). With f the representation `all`, means over
images, then over m:

    roll_cosine    cos(f(T(x, m)), roll(f(x), m))
    other_cosine   the same with the best other shift k != m in place of m, "no shift" included
    same_cosine    cos(f(T(x, m)), f(x)): high for an invariant representation
    margin         roll_cosine - other_cosine, above 0 only if the right shift wins
    js             Jensen-Shannon divergence of the marginals of roll(f(x), m) and f(T(x, m)), 0 to ln 2, where the
                   method has marginals

Nothing is fitted. Artifact: `shifts.csv`, the mean cosine for every turn m and shift k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from datasets.base import Kind, Spec, Split
from datasets.config import ConfigError
from trainables.evals import _files
from trainables.evals.base import (
    REPORTED,
    Capabilities,
    EvalConfig,
    Needs,
    Request,
    Result,
    Subject,
    capabilities_of,
    group_of,
    marginal,
)
from trainables.losses.divergence import jensen_shannon


class Config(EvalConfig):
    """Whose bins, and how many images to turn; each costs G encodings."""

    transform: str = Field("", description="whose bins, of the method's transforms; '' = its first")
    limit: int | None = Field(256, ge=2, description="images of each split; None = all")


NEEDS = Needs(transforms=("*",), capabilities=("roll",))
VERSION = 1
METRICS = {"roll_cosine": "max", "other_cosine": "", "same_cosine": "", "margin": "max", "js": "min"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features; the turned ones depend on the number of bins, which the method knows: see `turns`."""
    return [Request(split, limit=cfg.limit) for split in REPORTED]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the axis is not about a circular transform of the stack, none of its shifts is a turn, or a part
            other than `all` is asked for.
    """
    code = group_of(cfg.transform, capabilities["roll"])
    if spec.kinds.get(code) not in ("circular", "quarter"):
        raise ConfigError(f"the group axis is about '{code}', which must be a circular transform of the views' stack")
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: only 'all' can be rolled (got {', '.join(cfg.parts)})")
    check_bins(spec.kinds[code], parts, capabilities)
    names = [name for name in METRICS if name != "js" or code in capabilities.get("marginal", ())]
    return [f"all/{split}/{name}" for split in REPORTED for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `all/{val,test}/{roll_cosine,other_cosine,same_cosine,margin,js}`."""
    method: Any = subject.method
    result, rows = Result({}), []
    code = group_of(cfg.transform, method.equivariant_to)
    with_marginal = code in capabilities_of(method).get("marginal", ())
    shifts = turns(method.bins, quarter=subject.spec.kinds[code] == "quarter")
    for split in REPORTED:
        z = subject.features(Request(split, limit=cfg.limit)).parts["all"]
        turned = {m: subject.features(_turned(cfg, split, code, d)) for m, d in shifts.items()}
        after = {m: features.parts["all"] for m, features in turned.items()}
        cosines = {m: _cosines(method, code, z, t) for m, t in after.items()}
        rows += [(split, m, k, float(value)) for m, row in cosines.items() for k, value in enumerate(row)]
        found = compare(cosines)
        if with_marginal:
            divergences = [_divergence(method, code, method.roll(z, m, code), t) for m, t in after.items()]
            found["js"] = sum(divergences) / len(divergences)
        result.metrics.update({f"all/{split}/{name}": value for name, value in found.items()})
    path = subject.out / "shifts.csv"
    result.artifacts["shifts.csv"] = _files.table(path, ("split", "turned_bins", "rolled_bins", "cosine"), rows)
    return result


def turns(bins: int, quarter: bool) -> dict[int, float]:
    """Shift in bins -> the turn it stands for, degrees in (-180, 180].

    Raises:
        ConfigError: no shift is a turn that the transform can make.
    """
    degrees = {m: 180 - (180 - 360 * m / bins) % 360 for m in range(1, bins)}
    possible = {m: value for m, value in degrees.items() if not quarter or value % 90 == 0}
    if not possible:
        least = "an even number of bins" if quarter else "at least 2 bins"
        raise ConfigError(f"no shift of {bins} bin{'s' * (bins != 1)} is a turn of the images; take {least}")
    return possible


def check_bins(kind: Kind, parts: Mapping[str, int], capabilities: Capabilities) -> None:
    """Refuse bins without a turn where a part `group`, the bins of all transforms beside each other, says their number.

    Raises:
        ConfigError: as `turns`, which finds it when the evaluation runs where there is no such part.
    """
    if "group" in parts:
        turns(parts["group"] // len(capabilities["roll"]), quarter=kind == "quarter")


def compare(cosines: Mapping[int, Tensor]) -> dict[str, float]:
    """Metrics from mean cosines: turn m -> (G,), one per shift k."""
    right = torch.stack([row[m] for m, row in cosines.items()])
    none = torch.stack([row[0] for row in cosines.values()])
    other = torch.stack([torch.cat([row[:m], row[m + 1 :]]).max() for m, row in cosines.items()])
    measured = {"roll_cosine": right, "other_cosine": other, "same_cosine": none, "margin": right - other}
    return {name: float(value.mean()) for name, value in measured.items()}


def _turned(cfg: Config, split: Split, code: str, degrees: float) -> Request:
    return Request(split, transform=code, strength=degrees, limit=cfg.limit)


def _cosines(method: Any, code: str, z: Tensor, turned: Tensor) -> Tensor:
    """(G,): mean cosine of the turned images' representations with those of the upright ones rolled by 0 ... G - 1."""
    return torch.stack([cosine_similarity(turned, method.roll(z, k, code), dim=1).mean() for k in range(method.bins)])


def _divergence(method: Any, code: str, a: Tensor, b: Tensor) -> float:
    """Mean divergence of the marginals of two sets of representations (n, D)."""
    log_p, log_q = (marginal(method, z, code).double().log() for z in (a, b))
    return float(jensen_shannon(log_p, log_q).mean())

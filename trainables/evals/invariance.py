"""Invariance: how near the features of an item and of its transformed self are, against how much was done to it.

Protocol of Plachouras et al., IJCNN 2025, arXiv 2505.06224. No probe is fitted. Each item of `val` and `test` is seen
clean and under `passes` draws of one transform; between the two features of each pair are the distances

    CODE_cos_mean        cosine, mean over all pairs; CODE_l1, CODE_l2: sum of differences, length of the difference
    CODE_cos_bin1 .. 5   mean over the pairs in five equal bins of the parameter; of an empty one, over all pairs
    CODE_area            mean height of the smoothed cosine over the range of the parameter

The parameter is the transform's unit, in bins of [0, 1], or of what was drawn where that is less than half of it.
Published are JPEG compression for images and reverb for speech; any transform of one parameter will do. High is good of
a nuisance, not of a factor that the representation is to keep: `parameter_equivariance` asks for the opposite.

Artifacts for each part, transform and split: `distances_PART_CODE_SPLIT.csv`, a row for each pair; `scatter_...png` of
the three distances; `curve_...csv` and `.png`, cosine smoothed by local regression, with quartiles of a moving window,
over the parameter, of `jpeg` over the quality 1 - 0.999 p on a logarithmic axis. Curves are of at most 5,000 pairs.
The published L1 and L2 of speech are norms of whole batches; these are of each pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from trainables.evals import _curves, _files, _moved
from trainables.evals._moved import MovedConfig, Pairs
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts

BINS, POINTS = 5, 5000
QUALITY = 0.999  # of JPEG, what a parameter of 1 takes off the quality of 1


class Config(MovedConfig):
    """Under which transforms, and how often."""

    passes: int = Field(1, ge=1, le=100, description="draws of each item (published: 1)")
    draw: bool = Field(True, description="scatter plots and curves as figures; off = tables alone")


NEEDS = Needs()
VERSION = 2
METRICS = {"*_cos_mean": "max", "*_cos_bin*": "max", "*_area": "max", "*_l1": "min", "*_l2": "min"}
NAMES = ("cos_mean", *(f"cos_bin{number}" for number in range(1, BINS + 1)), "area", "l1", "l2")


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of the reported splits, clean and under each transform."""
    found = _moved.codes(cfg, spec)
    return [request for split in REPORTED for request in _moved.both(split, found, cfg.limit, cfg.passes)]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such transform or part.
    """
    names = [f"{code}_{name}" for code in _moved.codes(cfg, spec) for name in NAMES]
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, tables and figures."""
    result = Result({})
    for split in REPORTED:
        for code in _moved.codes(cfg, subject.spec):
            seen = _moved.pairs(subject, split, code, cfg.limit, cfg.passes)
            for part in chosen_parts(cfg, subject.method.parts):
                apart = distances(*seen.of(part))
                curve = smoothed(seen.unit[:, 0], apart["cos"])
                values = measured(seen.unit[:, 0], apart, curve)
                result.metrics |= {f"{part}/{split}/{code}_{name}": value for name, value in values.items()}
                for path in _written(subject.out, f"{part}_{code}_{split}", code, seen, apart, curve, cfg.draw):
                    result.artifacts[path.name] = path
    name = "invariance.csv"
    result.artifacts[name] = _files.metrics(subject.out / name, result.metrics)
    return result


def distances(original: Tensor, transformed: Tensor) -> dict[str, Tensor]:
    """Cosine, L1 and L2 (n,) between the features (n, d) of each pair."""
    a, b = original.double(), transformed.double()
    return {
        "cos": F.cosine_similarity(a, b, dim=1),
        "l1": (a - b).abs().sum(1),
        "l2": (a - b).square().sum(1).sqrt(),
    }


@dataclass(frozen=True)
class Curve:
    """Cosine against the parameter, whose values (n,) rise; `quartiles` (3, n) around the points, see `_curves`."""

    unit: Tensor
    smooth: Tensor
    quartiles: Tensor

    @property
    def area(self) -> float:
        """Mean height over the range."""
        span = float(self.unit[-1] - self.unit[0])
        return float(torch.trapezoid(self.smooth, self.unit)) / span if span > 0 else float(self.smooth.mean())


def smoothed(unit: Tensor, cosine: Tensor) -> Curve:
    """The curve of pairs (n,), of evenly chosen ones where there are very many."""
    order = unit.double().argsort(stable=True)
    if len(order) > POINTS:
        order = order[torch.linspace(0, len(order) - 1, POINTS).round().long()]
    x, y = unit.double()[order].numpy(), cosine[order].numpy()
    return Curve(*(torch.from_numpy(value) for value in (x, _curves.lowess(x, y), _curves.quartiles(y))))


def measured(unit: Tensor, apart: Mapping[str, Tensor], curve: Curve) -> dict[str, float]:
    """The metrics of pairs with parameters (n,) and distances (n,)."""
    cosine, place = apart["cos"], bins(unit)
    found = {"cos_mean": float(cosine.mean())}
    for number in range(BINS):
        own = cosine[place == number]
        found[f"cos_bin{number + 1}"] = float(own.mean()) if len(own) else found["cos_mean"]
    return {**found, "area": curve.area, "l1": float(apart["l1"].mean()), "l2": float(apart["l2"].mean())}


def bins(unit: Tensor) -> Tensor:
    """(n,) in which of the equal bins each parameter (n,) is."""
    unit = unit.double()
    low, high = float(unit.min()), float(unit.max())
    if low >= 0 and high <= 1 and high - low >= 0.5:
        low, high = 0.0, 1.0
    return ((unit - low) / max(high - low, 1e-12) * BINS).long().clamp(0, BINS - 1)


def _written(
    out: Path, name: str, code: str, seen: Pairs, apart: Mapping[str, Tensor], curve: Curve, draw: bool
) -> list[Path]:
    columns = ("index", "parameter", "unit", *apart)
    rows = zip(
        *(value.tolist() for value in (seen.moved.index, seen.natural, seen.unit[:, 0], *apart.values())), strict=True
    )
    smooth = torch.stack([curve.unit, curve.smooth, *curve.quartiles], 1).tolist()
    quality = code.startswith("jpeg")
    at = 1 - QUALITY * curve.unit if quality else curve.unit
    labels = ("quality" if quality else f"unit of {code}", "cosine")
    title = name.replace("_", " ")
    tables = [
        _files.table(out / f"distances_{name}.csv", columns, list(rows)),
        _files.table(out / f"curve_{name}.csv", ("unit", "lowess", "q25", "median", "q75"), smooth),
    ]
    if not draw:
        return tables
    return [
        *tables,
        _files.clouds(out / f"scatter_{name}.png", seen.unit[:, 0], apart, f"unit of {code}", title),
        _files.band(out / f"curve_{name}.png", at, curve.smooth, curve.quartiles[[0, 2]], labels, title, quality),
    ]

"""Total correlation of a latent (SIM-E13): how much its dimensions tell of each other; 0 if they are independent.

Protocol of Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936. TC = sum of H(z_i) - H(z) in
nats over random dimensions of random frames of items of the split itself, mean over `repeats` choices of both. For each
number of dimensions K of `dimensions`:

    tc_K        H by Gaussian kernels of one bandwidth, marginals and joint alike, at the very samples they stand on
    gaussian_K  -1/2 ln det of the correlation matrix: exact if z were Gaussian, blind to all but linear dependence
    samples     n, frames that each estimate has

The kernel estimate is biased, and much so: of n samples in many dimensions each stands alone, H(z) tends to ln n + a
constant, and tc_K to a number that says nothing of dependence. 200 independent normal samples in 4 dimensions give 5.5,
not 0. Compare it at equal samples, dimensions and scale of the latents; `standardise` brings each dimension to a
deviation of 1 (SIM does not). gaussian_K is biased by about K^2 / 4n. Artifact: `repeats.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _files
from trainables.evals._density import gaussian_total_correlation, total_correlation
from trainables.evals._frames import FramesConfig, some_frames
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts


class Config(FramesConfig):
    """Which samples, and the kernels."""

    limit: int | None = Field(1000, ge=2, description="items of each split (SIM: 1000); None = all")
    frames: int | None = Field(5, ge=1, description="random frames of each item (SIM: 5); None = all")
    dimensions: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (10, 50), min_length=1, description="K, random dimensions; at most those of the part (SIM: 10, 50, 100, 512)"
    )
    repeats: int = Field(3, ge=1, le=1000, description="choices of frames and dimensions (SIM: 3)")
    bandwidth: float = Field(0.1, gt=0, le=1000, description="deviation of the kernels (SIM: 0.1)")
    standardise: bool = Field(False, description="each dimension to mean 0 and deviation 1 first (SIM: off)")
    latents: Literal["sample", "mean"] = Field(
        "sample",
        description="of distributions: a sample (SIM), or their means; with method.sample_at_evaluation these are one "
        "sample, always the same",
    )


NEEDS = Needs(capabilities=("frames",))
VERSION = 1
METRICS = {"tc_*": "min", "gaussian_*": "min", "samples": ""}


def data(cfg: Config) -> list[dict[str, object]]:
    """Other data, which the plan looks for."""
    return [cfg.data] if cfg.data else []


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None: few frames of many items are encoded when they are needed."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a part of one dimension.
    """
    names = []
    for part in chosen_parts(cfg, parts):
        if parts[part] < 2:
            raise ConfigError(f"parts: '{part}' has one dimension, which has nothing to depend on")
        kept = [f"{kind}_{k}" for k in counts(cfg, parts[part]) for kind in ("tc", "gaussian")]
        names += [f"{part}/{split}/{name}" for split in REPORTED for name in (*kept, "samples")]
    return names


def counts(cfg: Config, width: int) -> list[int]:
    """The numbers of dimensions that are drawn of a part."""
    return sorted({min(k, width) for k in cfg.dimensions})


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{tc_K,gaussian_K,samples}` and a table of the repeats."""
    result, seed, subject = Result({}), int(rng.integers(2**31)), cfg.of(subject)
    parts = chosen_parts(cfg, subject.method.parts)
    rows: list[tuple[object, ...]] = []
    for split in REPORTED:
        request = Request(split, limit=cfg.limit)
        for repeat in range(cfg.repeats):
            frames = some_frames(subject, request, parts, cfg.frames, cfg.latents, seed + repeat)
            for part, z in frames.items():
                draws = np.random.default_rng([seed, repeat])
                rows += [(part, split, repeat, *one) for one in estimates(z.flatten(0, 1), cfg, draws)]
    for part in parts:
        for split in REPORTED:
            mine = [row for row in rows if row[:2] == (part, split)]
            named: dict[str, list[float]] = {}
            for _, _, _, k, tc, gaussian, n in mine:
                named.setdefault(f"tc_{k}", []).append(float(tc))  # type: ignore[arg-type]
                named.setdefault(f"gaussian_{k}", []).append(float(gaussian))  # type: ignore[arg-type]
                named.setdefault("samples", []).append(float(n))  # type: ignore[arg-type]
            result.metrics |= {f"{part}/{split}/{name}": float(np.mean(values)) for name, values in named.items()}
    columns = ("part", "split", "repeat", "dimensions", "tc", "gaussian", "samples")
    result.artifacts["repeats.csv"] = _files.table(subject.out / "repeats.csv", columns, rows)
    return result


def estimates(z: Tensor, cfg: Config, rng: np.random.Generator) -> list[tuple[int, float, float, int]]:
    """Of samples z (n, d): number of dimensions, both estimates, and n."""
    if cfg.standardise:
        z = (z - z.mean(0)) / z.std(0).clamp_min(1e-12)
    order = torch.from_numpy(rng.permutation(z.shape[1]))
    found = []
    for k in counts(cfg, z.shape[1]):
        some = z[:, order[:k]]
        found.append((k, total_correlation(some, cfg.bandwidth), gaussian_total_correlation(some), len(z)))
    return found

"""Interpolation contribution score (SIM-E9): in how few dimensions of a latent lies what is decoded from it.

Protocol of Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936. Of ordered pairs (i, j) of
items, the d dimensions of z_i with the largest squared difference of means over time are replaced by those of z_j, in
every frame; the result is decoded (`latent_decoder`) and compared with what z_j decodes to:

    absolute(d)  mean squared error, mean over pairs      relative(d)  absolute(d) / absolute(0)
    d = 2, 4, 8, ... and C, all dimensions, where relative(C) = 0

The lower the curve, the fewer dimensions hold the information. Reported on `val` and `test`:

    area        of relative(d) over log2 d from d = 2 to C by trapezes, divided by log2(C / 2): the mean height of the
                curve, 1 if no dimension but the last counts, whatever C is. Of C <= 2 the mean of its points
    half        the fewest d with relative(d) < 0.5; half_share: of C
    apart       absolute(0), mean squared error between two decoded items
    told        absolute(0) as a share of that between the items themselves. Where it is below 0.01 the decoder says the
                same of every item and its curve is one of noise: area, half and half_share are the worst, 1, C and 1

Latents are as the decoder was fed with them: one sample each, or means. Artifacts: `scores.csv`, `curves_SPLIT.png`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from trainables.evals import _files, latent_decoder
from trainables.evals._decoder import Decoder
from trainables.evals._frames import device_of
from trainables.evals._latents import Contribution, contribution, doublings
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts


class Config(EvalConfig):
    """How many items and pairs; what it costs is pairs times the doublings of C, each a decoding."""

    limit: int | None = Field(200, ge=2, description="items of each split, drawn at random (SIM: 200); None = all")
    pairs: int | None = Field(
        1000, ge=1, description="ordered pairs of them, drawn at random; None = all (SIM: 39,800 of 200 items)"
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="pairs that are decoded at once")


NEEDS = Needs(capabilities=("frames",), after=("latent_decoder",))
VERSION = 1
METRICS = {"area": "min", "half": "min", "half_share": "min", "apart": "", "told": "max"}
TOLD = 0.01  # the least share of what tells items apart for a curve to say anything


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None: which data the decoder saw, it says itself."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns."""
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in METRICS]


def check_inputs(cfg: Config, spec: Spec, capabilities: Capabilities, configs: Mapping[str, EvalConfig]) -> None:
    """Refuse parts that have no decoder."""
    latent_decoder.check_reader(cfg, configs)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{area,half,half_share,apart,told}`, the curves as a table and figures."""
    result, seed = Result({}), int(rng.integers(2**31))
    curves: dict[Split, dict[str, Contribution]] = {split: {} for split in REPORTED}
    for part in chosen_parts(cfg, subject.method.parts):
        decoder, form = latent_decoder.read(inputs, part, subject)
        for split in REPORTED:
            request = Request(split, limit=cfg.limit)
            z = latent_decoder.latents(subject, request, form, seed).to(device_of(subject))
            pairs = drawn(len(z), cfg.pairs, np.random.default_rng(seed)).to(z.device)

            def decode(some: Tensor, decoder: Decoder = decoder) -> Tensor:
                with torch.no_grad():
                    made: Tensor = decoder.net.eval()(decoder.scaled(some))
                return made

            found = contribution(decode, z, pairs, doublings(z.shape[2]), cfg.batch_size)
            curves[split][part] = found
            shown = between(latent_decoder.items(subject, request, form), pairs.cpu())
            result.metrics |= {f"{part}/{split}/{name}": value for name, value in measure(found, shown).items()}
    rows = [
        (part, split, d, one.absolute[k], one.relative[k])
        for split, named in curves.items() for part, one in named.items() for k, d in enumerate(one.dims)
    ]  # fmt: skip
    columns = ("part", "split", "dimensions", "absolute", "relative")
    result.artifacts["scores.csv"] = _files.table(subject.out / "scores.csv", columns, rows)
    for split, named in curves.items():
        name, labels = f"curves_{split}.png", ("dimensions replaced", "relative error")
        lines = {part: (torch.tensor(one.dims), torch.tensor(one.relative)) for part, one in named.items()}
        title = f"interpolation contribution, {split}"
        result.artifacts[name] = _files.lines(subject.out / name, lines, labels, title, log2=True)
    return result


def drawn(items: int, count: int | None, rng: np.random.Generator) -> Tensor:
    """Ordered pairs of different items (p, 2), each at most once: all of them, or so many."""
    total = items * (items - 1)
    chosen = np.arange(total) if count is None or count >= total else rng.choice(total, count, replace=False)
    first, step = np.divmod(chosen, items - 1)
    return torch.from_numpy(np.stack([first, step + (step >= first)], 1))


def between(items: Tensor, pairs: Tensor, block: int = 64) -> float:
    """Mean squared error between the items (n, ...) of pairs (p, 2)."""
    differences = (items[some[:, 0]] - items[some[:, 1]] for some in pairs.split(block))
    return float(torch.cat([one.double().square().flatten(1).mean(1) for one in differences]).mean())


def measure(found: Contribution, shown: float) -> dict[str, float]:
    """The metrics of one curve; `shown`: mean squared error between the items that were encoded, see `between`."""
    width, height = found.dims[-1], np.asarray(found.relative)
    told = found.whole / shown if shown > 0 else 0.0
    if told < TOLD:
        return {"area": 1.0, "half": float(width), "half_share": 1.0, "apart": found.whole, "told": told}
    span = math.log2(width) - math.log2(found.dims[0])
    area = float(np.trapezoid(height, np.log2(found.dims)) / span) if span > 0 else float(height.mean())
    half = next((d for d, one in zip(found.dims, found.relative, strict=True) if one < 0.5), width)
    return {"area": area, "half": float(half), "half_share": half / width, "apart": found.whole, "told": told}

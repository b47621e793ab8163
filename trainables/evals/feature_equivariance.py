"""Equivariance of features: whether the feature of a transformed item follows from the item's and the parameter.

Protocol of Plachouras et al., IJCNN 2025, arXiv 2505.06224. Each item is seen clean and under a draw of one transform;
a single layer (`slp`) and a network (`mlp`) are told the clean feature z and the parameter p, which goes through a
layer of its own (`embedding`), and predict the transformed feature z' by its squared error. Both features are made
comparable (`norm`): less the mean of all entries of the clean train features, over their deviation (`scalar`, as
published), each dimension for itself, by one batch norm that is trained, or not at all. Reported on `val` and `test`:

    CODE_PROBE_mse             over every element of z'; CODE_PROBE_cos: cosine of an item's, mean over the items
    CODE_PROBE_sign_agreement  mean of sign(prediction) sign(z'), which is what the published "cosine" is
    CODE_PROBE_identity_mse, _identity_cos   of answering z itself
    CODE_PROBE_mean_mse        of answering the mean of the train split's z'
    CODE_PROBE_gain            (identity_mse - mse) / the larger of both: 1 = perfect, 0 = as z itself, below 0 = worse

`slp` exactly (of the project's preset) sees p through hinges at `embedding` places, see `_bank_training.exact`; with
`norm: batch` it is trained. Artifacts: each probe, `predictor_PART_CODE_PROBE.safetensors`, `feature_equivariance.csv`,
and `predicted_SPLIT.png`, cosines beside those of z itself; with `mini_validation` loss and cosine during the training,
on 500 held-out rows twenty times an epoch; with `debug` mean and deviation of each gradient, and features of items
before, after and as predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from trainables.evals import _factor_figures, _files, _moved
from trainables.evals._bank import Bank, Probe
from trainables.evals._bank_training import (
    PUBLISHED,
    SMALL,
    BankConfig,
    Job,
    Rows,
    Watch,
    check_output,
    fitted,
    losses,
    rows_of,
)
from trainables.evals._heads import Hidden
from trainables.evals._moved import MovedConfig, Pairs
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.parameter_equivariance import DRAWS
from trainables.evals.probes import standardisation

MINI, TIMES = 500, 20  # rows of a mini-validation, and how many there are in an epoch
DRAWN = 3  # items whose features are drawn
RUN = {**PUBLISHED, "weight_decay": 1e-2, "batch_size": 16}


class Config(MovedConfig, BankConfig):
    """Which transforms, by which probes, and how features are made comparable."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": SMALL,
        "original": {**RUN, "epochs": 5, "patience": 3, "metric_batch": 16},
        "paper_run": {**RUN, "epochs": 10, "patience": 5, "metric_batch": 1},
    }

    hidden: Hidden = Field((512, 512), min_length=1, description="sizes of the mlp's hidden layers (published)")
    standardise: Literal[False] = Field(False, description="off: `norm` says what features are")
    norm: Literal["scalar", "dimension", "batch", "none"] = Field(
        "scalar", description="how features are made comparable (published: scalar; batch as an option)"
    )
    embedding: int = Field(32, ge=1, le=4096, description="dimensions of the parameter's layer (published)")
    draws: int = Field(1, ge=1, le=100, description=DRAWS)
    mini_validation: bool = Field(False, description="loss and cosine twenty times an epoch, as a table")
    debug: bool = Field(False, description="gradients as a table, features of three items as figures")


NEEDS = Needs()
VERSION = 1
MEASURES = {
    "mse": "min", "cos": "max", "sign_agreement": "max", "identity_mse": "", "identity_cos": "", "mean_mse": "",
    "gain": "max",
}  # fmt: skip
METRICS = {f"*_{name}": better for name, better in sorted(MEASURES.items(), key=lambda one: -len(one[0]))}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of every split, clean and under each transform."""
    return _moved.requests_of(_moved.codes(cfg, spec), cfg.limit, cfg.draws)


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such transform or part, or an output that probes do not have.
    """
    check_output(cfg, ["number"])
    places = [f"{code}_{probe}" for code in _moved.codes(cfg, spec) for probe in dict.fromkeys(cfg.probes)]
    splits = [f"{part}/{split}" for part in chosen_parts(cfg, parts) for split in REPORTED]
    return [f"{split}/{place}_{name}" for split in splits for place in places for name in MEASURES]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, each probe as safetensors, tables and figures."""
    result, seed = Result({}), int(rng.integers(2**31))
    parts, codes = chosen_parts(cfg, subject.method.parts), _moved.codes(cfg, subject.spec)
    train = {code: _moved.pairs(subject, "train", code, cfg.limit, cfg.draws) for code in codes}
    norms = {part: Norm.of(next(iter(train.values())).clean.parts[part], cfg.norm) for part in parts}
    jobs = {(part, code): job(some, part, norms[part]) for part in parts for code, some in train.items()}
    rows, batch = rows_of(train[codes[0]].moved, cfg, seed, cfg.draws), cfg.norm == "batch"
    watched = Watched(cfg, rows)
    look = watched.of if cfg.mini_validation or cfg.debug else None
    probes = fitted(jobs, cfg, rows, seed, cfg.embedding, batch, look)
    for ((part, code), probe), one in probes.items():
        file = f"predictor_{part}_{code}_{probe}.safetensors"
        result.artifacts[file] = one.save(subject.out / file)
    for split in REPORTED:
        for code in codes:
            seen = _moved.pairs(subject, split, code, cfg.limit)
            for part in parts:
                own = job(seen, part, norms[part])
                for probe in dict.fromkeys(cfg.probes):
                    one = probes[(part, code), probe]
                    values = judged(one, own, jobs[part, code], cfg.metric_batch)
                    result.metrics |= {f"{part}/{split}/{code}_{probe}_{name}": v for name, v in values.items()}
                    if cfg.debug and split == "val":
                        _draw(result, subject, one, own, f"{part}_{code}_{probe}")
    name = "feature_equivariance.csv"
    result.artifacts[name] = _files.metrics(subject.out / name, result.metrics)
    measured = {code: f"{code}_PROBE_cos" for code in codes}
    still = {code: f"{code}_{cfg.probes[0]}_identity_cos" for code in codes}
    title = "Cosine of predicted features (dashed: of the item's own)"
    _factor_figures.add_bars(result, subject.out, "predicted", title, parts, cfg.probes, measured, still)
    watched.write(result, subject)
    return result


@dataclass(frozen=True)
class Norm:
    """What is taken off features, and what they are divided by; numbers, or one of each dimension."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, z: Tensor, norm: str) -> Norm:
        """That of clean train features (n, d)."""
        if norm == "dimension":
            return cls(*standardisation(z))
        if norm == "scalar":
            std = z.std(correction=0)
            return cls(z.mean(), torch.where(std > 0, std, 1.0))
        return cls(torch.tensor(0.0), torch.tensor(1.0))

    def __call__(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std


def job(some: Pairs, part: str, norm: Norm) -> Job:
    """From the features of items and the parameters to the features of their transformed selves."""
    clean, moved = some.of(part)
    return Job(norm(clean), norm(moved), "number", moved.shape[1], p=some.unit.to(moved.dtype))


def judged(probe: Probe, seen: Job, train: Job, batch: int | None = None) -> dict[str, float]:
    """The metrics of a probe; features are compared as it makes them, with a batch norm after that.

    Args:
        batch: means over batches of so many, of a batch norm without the last one that is not full; None = over all.
    """
    net = probe.net()

    def normalised(x: Tensor) -> Tensor:
        if net.input_batch_norm is None:
            return x
        with torch.no_grad():
            found: Tensor = net.normalised(x.to(probe.centre.dtype))[0]
        return found

    told, before, true = probe(seen.x, seen.p), normalised(seen.x), normalised(seen.y)
    constant = normalised(train.y).mean(0).expand_as(true)
    whole = batch is not None and net.input_batch_norm is not None
    found = measured(told, true, batch, whole)
    identity = measured(before, true, batch, whole)
    mse, still = found["mse"], identity["mse"]
    return {
        **found,
        "identity_mse": still,
        "identity_cos": identity["cos"],
        "mean_mse": measured(constant, true, batch, whole)["mse"],
        "gain": (still - mse) / max(still, mse) if max(still, mse) > 0 else 0.0,
    }


def measured(told: Tensor, true: Tensor, batch: int | None = None, whole: bool = False) -> dict[str, float]:
    """Squared error, cosine and agreement of signs of features (n, d).

    Args:
        batch: see `judged`. whole: leave out a last batch that is not full.
    """
    told, true = told.double(), true.double()
    each = {
        "mse": (told - true).square().mean(1),
        "cos": F.cosine_similarity(told, true, dim=1),
        "sign_agreement": (told.sign() * true.sign()).mean(1),
    }
    size = batch or len(true)
    used = len(true) // size * size if whole and len(true) >= size else len(true)
    return {
        name: float(torch.stack([some.mean() for some in value[:used].split(size)]).mean())
        for name, value in each.items()
    }


class Watched:
    """What is seen during the training: losses on some held-out rows, and gradients."""

    def __init__(self, cfg: Config, rows: Rows) -> None:
        self.cfg, self.rows = cfg, rows.held[:MINI]
        self.losses: list[tuple[object, ...]] = []
        self.gradients: list[tuple[object, ...]] = []

    def of(self, keys: Sequence[tuple[str, str]], probe: str, jobs: Sequence[Job]) -> Watch:
        """What looks on at the training of the jobs of these parts and transforms."""

        def look(step: int, steps: int, bank: Bank, which: Sequence[int]) -> None:
            names = [(*keys[job], probe, step) for job in which]
            if self.cfg.debug:
                for tensor, value in bank.named_parameters():
                    if value.grad is not None:
                        for place, own in enumerate(value.grad):
                            spread = float(own.std(correction=0))
                            self.gradients.append((*names[place], tensor, float(own.mean()), spread))
            if self.cfg.mini_validation and step % max(1, steps // TIMES) == 0:
                bank.eval()
                with torch.no_grad():
                    found, cosines = losses(bank, jobs, self.rows, which), _cosines(bank, jobs, self.rows, which)
                self.losses += [(*names[place], float(found[place]), cosines[place]) for place in range(len(which))]

        return look

    def write(self, result: Result, subject: Subject) -> None:
        """The tables, where anything was trained."""
        place = ("part", "transform", "probe", "step")
        for name, rows, columns in (
            ("mini_validation.csv", self.losses, (*place, "loss", "cos")),
            ("gradients.csv", self.gradients, (*place, "tensor", "mean", "std")),
        ):
            if rows:
                result.artifacts[name] = _files.table(subject.out / name, columns, rows)


def _cosines(bank: Bank, jobs: Sequence[Job], rows: Tensor, which: Sequence[int]) -> list[float]:
    found = []
    for place, number in enumerate(which):
        one, own = jobs[number], bank.take([place]).eval()
        x, y = (own.normalised(value[rows][None]) for value in (one.x, one.y))
        told = own(x, None if one.p is None else one.p[rows][None])
        found.append(float(F.cosine_similarity(told, y, dim=-1).mean()))
    return found


def _draw(result: Result, subject: Subject, probe: Probe, seen: Job, name: str) -> None:
    """Features of the first items before, after and as predicted, as the probe takes them."""
    net, p = probe.net(), None if seen.p is None else seen.p[:DRAWN]
    with torch.no_grad():
        before, after = (net.normalised(value[:DRAWN].to(probe.centre.dtype)[None])[0] for value in (seen.x, seen.y))
    told, at = probe(seen.x[:DRAWN], p), torch.arange(seen.x.shape[1])
    for item in range(len(told)):
        file = f"features_{name}_{item}.png"
        curves = {"original": (at, before[item]), "transformed": (at, after[item]), "predicted": (at, told[item])}
        labels = ("dimension", "feature")
        result.artifacts[file] = _files.lines(subject.out / file, curves, labels, f"{name}, item {item}")

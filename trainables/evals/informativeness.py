"""Informativeness: whether a factor of variation can be read from one feature vector.

Protocol of Plachouras et al., "Towards a Unified Representation Evaluation Framework Beyond Downstream Tasks", IJCNN
2025, arXiv 2505.06224. For each factor a single layer (`slp`) and a network (`mlp`) are fitted on features of the clean
train items, and judged on `val` and `test`; when to stop, and with which penalty, a held-out part of the train split
says. Factors are all that the data label: numbers (mean squared error), classes (cross entropy), tags (binary cross
entropy of each); of colour images also hue, saturation and brightness.

    FACTOR_PROBE_rmse, FACTOR_PROBE_mae   of numbers, divided by the factor's `scale`, as published
    FACTOR_PROBE_r2                       1 - squared error / variance of the split
    FACTOR_baseline_rmse                  of the train split's mean
    FACTOR_PROBE_accuracy, _macro_f1      of classes; FACTOR_baseline_accuracy of the most frequent class
    tags_PROBE_auroc, _ap                 means over the tags; tags_baseline_ap of one score for all items
    FACTOR_PROBE_SHIFT_accuracy           with `shifts`: SHIFT is balanced, shift0, shift1, ...; see `_label_shift.py`
    FACTOR_SHIFT_divergence               KL(classes of the train split || those of the shifted one), nats
    FACTOR_PROBE_r2_less_all              of a part, where `all` is judged too: its R2 less that of `all`, which has
                                          every part; `_accuracy_less_all` of classes, `tags_PROBE_ap_less_all`

0 of `less_all` says that a part alone tells as much as all parts together: the variant of Ibanez-Martinez et al.
(ICASSP 2026) for split representations. `measures` names others: mse, in the label's own units, and f1, which of all
items together is the accuracy.
Artifacts: `probe_PART_FACTOR_PROBE.safetensors`, which `disentanglement` reads, `informativeness.csv`, and
`factors_SPLIT.png`, one measure of each factor and probe.

The published numbers are of `preset: paper_run`. They are regressed on raw labels, up to 255, at rate 1e-3: single
layers do not reach the mean in ten epochs. Compare probes of one preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _factor_figures, _factors, _files, _label_shift, _measures
from trainables.evals._bank import Probe
from trainables.evals._bank_training import (
    PUBLISHED,
    SMALL,
    BankConfig,
    Job,
    Kind,
    check_output,
    fitted,
    rows_of,
)
from trainables.evals._classes import EVERY
from trainables.evals._factors import FactorsConfig
from trainables.evals.base import REPORTED, Capabilities, Features, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.probes import chance

RAW = {**PUBLISHED, "labels": "raw"}


class Config(FactorsConfig, BankConfig):
    """Which factors to read, and by which probes."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": SMALL,
        "original": {**RAW, "batch_size": 32, "metric_batch": 32},
        "paper_run": {**RAW, "weight_decay": 1e-2, "batch_size": 16, "epochs": 10, "patience": 3, "metric_batch": 1},
    }

    labels: Literal["standardised", "scaled", "raw"] = Field(
        "standardised", description="numbers as they are trained: of deviation 1, divided by `scale`, or as they are"
    )
    measures: tuple[str, ...] = Field(
        (), description="of mse, rmse, mae, r2, accuracy, f1, macro_f1, auroc, ap; () = all but mse and f1"
    )
    shifts: int = Field(
        0, ge=0, le=20, description="train sets with other shares of the classes, at growing divergences; 0 = none"
    )
    most_shift: float = Field(2.0, gt=0, le=20, description="divergence of the last of them, nats (published: 2)")


NEEDS = Needs()
VERSION = 2
METRICS = {
    "*_baseline_*": "",
    "*_less_all": "",
    "*_divergence": "",
    **{f"*_{name}": one.better for kind in _measures.MEASURES.values() for name, one in kind.items()},
}
BASELINES: dict[Kind, str] = {"number": "rmse", "class": "accuracy", "tags": "ap"}
SHARES: dict[Kind, str] = {"number": "r2", "class": "accuracy", "tags": "ap"}  # by which parts are compared


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of every split."""
    return [Request(split, limit=cfg.limit) for split in EVERY]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such factor, measure or part, or an option that says nothing about the factors.
    """
    _measures.check(cfg.measures)
    kinds = _factors.kinds(cfg, spec)
    _check_kinds(cfg, set(kinds.values()))
    names, compared = list[str](), list[str]()
    for factor, kind in kinds.items():
        names.append(f"{factor}_baseline_{BASELINES[kind]}")
        names += [f"{factor}_{shift}_divergence" for shift in _shifts(cfg, kind)]
        for probe in dict.fromkeys(cfg.probes):
            names += [f"{factor}_{probe}_{name}" for name in _measures.chosen(kind, cfg.measures)]
            names += [f"{factor}_{probe}_{shift}_accuracy" for shift in _shifts(cfg, kind)]
            compared.append(f"{factor}_{probe}_{SHARES[kind]}_less_all")
    chosen = chosen_parts(cfg, parts)
    own = {part: [*names, *compared] if "all" in chosen and part != "all" else names for part in chosen}
    return [f"{part}/{split}/{name}" for part in chosen for split in REPORTED for name in own[part]]


def _check_kinds(cfg: Config, kinds: set[Kind]) -> None:
    if cfg.shifts and "class" not in kinds:
        raise ConfigError("shifts: no factor is of classes; leave it out")
    check_output(cfg, kinds)
    if cfg.output != "none" and "number" in kinds and cfg.labels == "standardised":
        raise ConfigError(f"output: '{cfg.output}' has no negative numbers; set labels: raw, or scaled")


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, each probe as safetensors, a table."""
    result, seed = Result({}), int(rng.integers(2**31))
    factors = _factors.kinds(cfg, subject.spec)
    found = {split: _factors.labelled(subject, cfg, Request(split, limit=cfg.limit), factors) for split in EVERY}
    train, y = found["train"]
    parts = chosen_parts(cfg, subject.method.parts)
    jobs = {
        (part, factor): job(cfg, subject.spec, train.parts[part], y[factor], factor, kind)
        for part in parts
        for factor, kind in factors.items()
    }
    probes = fitted(jobs, cfg, rows_of(train, cfg, seed), seed)
    for ((part, factor), probe), one in probes.items():
        file = f"probe_{part}_{factor}_{probe}.safetensors"
        result.artifacts[file] = one.save(subject.out / file)
    for split in REPORTED:
        features, true = found[split]
        reached: dict[tuple[str, str, str], float] = {}
        for part, factor in jobs:
            kind, place = factors[factor], f"{part}/{split}/{factor}"
            constant = baseline(kind, y[factor], true[factor], cfg.scale_of(factor))
            result.metrics[f"{place}_baseline_{BASELINES[kind]}"] = constant
            for probe in dict.fromkeys(cfg.probes):
                told = probes[(part, factor), probe](features.parts[part])
                values = measured(cfg, factor, kind, told, true[factor])
                result.metrics |= {f"{place}_{probe}_{name}": value for name, value in values.items()}
                reached[part, f"{factor}_{probe}_{SHARES[kind]}", split] = measured_one(
                    kind, SHARES[kind], told, true[factor]
                )
        result.metrics |= less_all(reached)
    for factor in [factor for factor, kind in factors.items() if _shifts(cfg, kind)]:
        own = {split: (features, true[factor]) for split, (features, true) in found.items()}
        result.metrics |= _shifted(cfg, own, {part: jobs[part, factor] for part in parts}, factor, seed)
    name = "informativeness.csv"
    result.artifacts[name] = _files.metrics(subject.out / name, result.metrics)
    measures, levels = _shown(cfg, factors)
    _factor_figures.add_bars(result, subject.out, "factors", "Informativeness", parts, cfg.probes, measures, levels)
    return result


def less_all(reached: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """What each part has less than "all", where that is there; below 0 = less.

    Args:
        reached: (part, measure of a factor and probe, split) -> value, more is better.
    """
    return {
        f"{part}/{split}/{name}_less_all": value - reached["all", name, split]
        for (part, name, split), value in reached.items()
        if part != "all" and ("all", name, split) in reached
    }


def _shown(cfg: Config, factors: Mapping[str, Kind]) -> tuple[dict[str, str], dict[str, str]]:
    """What the figure shows of each factor, and the metric of its baseline, where that is no zero."""
    measures, levels = {}, {}
    for factor, kind in factors.items():
        there = _measures.chosen(kind, cfg.measures)
        name = next((one for one in ("r2", "accuracy", "ap") if one in there), there[0])
        measures[f"{factor}\n{name}"] = f"{factor}_PROBE_{name}"
        if name == BASELINES[kind]:
            levels[f"{factor}\n{name}"] = f"{factor}_baseline_{name}"
    return measures, levels


def job(cfg: Config, spec: Spec, x: Tensor, y: Tensor, factor: str, kind: Kind) -> Job:
    """What a probe of a factor is fitted on; numbers as the options want them."""
    centre = spread = None
    if kind == "number" and cfg.labels != "raw":
        scale = torch.full_like(y[0], cfg.scale_of(factor))
        deviation = y.std(0, correction=0)
        known = cfg.labels == "standardised"
        centre = y.mean(0) if known else torch.zeros_like(scale)
        spread = torch.where(deviation > 0, deviation, 1.0) if known else scale
    return Job(x, y, kind, _factors.outputs(factor, spec), centre=centre, spread=spread)


def measured(cfg: Config, factor: str, kind: Kind, told: Tensor, true: Tensor) -> dict[str, float]:
    """The measures of a probe's answers, as the options want them."""
    names = _measures.chosen(kind, cfg.measures)
    return _measures.measured(kind, names, told, true, cfg.scale_of(factor), cfg.metric_batch)


def baseline(kind: Kind, train: Tensor, true: Tensor, scale: float) -> float:
    """What is reached without features."""
    if kind == "class":
        return chance(train, true)
    return measured_one(kind, BASELINES[kind], train.mean(0).expand_as(true), true, scale)


def measured_one(kind: Kind, name: str, told: Tensor, true: Tensor, scale: float = 1.0) -> float:
    """One measure over all items."""
    return _measures.measured(kind, [name], told, true, scale)[name]


def _shifts(cfg: Config, kind: Kind) -> list[str]:
    return ["balanced", *(f"shift{number}" for number in range(cfg.shifts))] if cfg.shifts and kind == "class" else []


def _shifted(
    cfg: Config, found: Mapping[Split, tuple[Features, Tensor]], jobs: Mapping[str, Job], factor: str, seed: int
) -> dict[str, float]:
    """Accuracies of probes that were fitted on train sets with other shares of the classes."""
    train, y = found["train"]
    classes = next(iter(jobs.values())).outputs
    chosen = _label_shift.subsets(y.numpy(), classes, cfg.shifts, cfg.most_shift, np.random.default_rng(seed))
    values = dict[str, float]()
    for shift, (rows, divergence) in chosen.items():
        values |= {f"{part}/{split}/{factor}_{shift}_divergence": divergence for part in jobs for split in REPORTED}
        some = torch.from_numpy(rows)
        fewer = {part: Job(one.x[some], one.y[some], "class", classes) for part, one in jobs.items()}
        owners = Features({}, {}, {}, {}, train.owner[some])
        probes: dict[tuple[Any, Any], Probe] = fitted(fewer, cfg, rows_of(owners, cfg, seed), seed)
        for (part, probe), one in probes.items():
            for split in REPORTED:
                features, true = found[split]
                accuracy = measured_one("class", "accuracy", one(features.parts[part]), true)
                values[f"{part}/{split}/{factor}_{probe}_{shift}_accuracy"] = accuracy
    return values

"""Equivariance of parameters: whether what was done to an item can be read from its features before and after.

Protocol of Plachouras et al., IJCNN 2025, arXiv 2505.06224. Each item is seen clean and under a draw of one transform;
a single layer (`slp`) and a network (`mlp`) are told both features side by side, and predict the parameter as one
number, mostly in [0, 1], by its squared error. Fitted on the train split, judged on `val` and `test`, whose parameters
are drawn once and are the same for every encoder.

    CODE_PROBE_rmse, CODE_PROBE_mae, CODE_PROBE_r2
    CODE_baseline_rmse      of the mean of the train split's parameters: 0.289 of one that is uniform in [0, 1]

`transform_parameter` is the stricter question, of the transformed item alone and on the circle where the parameter is a
turn. Here 0 and 1 are far apart, as published: what looks alike at both ends is not readable. Parameters of pitch_shift
depend on the data's rate, so that encoders for other rates do not compare. Artifacts: each probe,
`parameter_PART_CODE_PROBE.safetensors`, `parameter_equivariance.csv`, and `parameters_SPLIT.png`, R2 of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _factor_figures, _files, _measures, _moved
from trainables.evals._bank_training import PUBLISHED, SMALL, BankConfig, Job, check_output, fitted, rows_of
from trainables.evals._moved import MovedConfig, Pairs, beside
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.probes import standardisation

PAPER = {**PUBLISHED, "weight_decay": 1e-2, "batch_size": 32, "epochs": 5, "patience": 3, "metric_batch": 1}
DRAWS = "of train items, one after the other over the epochs (published: a new one each time)"


class Config(MovedConfig, BankConfig):
    """Which transforms to read, and by which probes."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": SMALL,
        "original": {**PUBLISHED, "batch_size": 32, "metric_batch": 32},
        "paper_run": PAPER,
    }

    draws: int = Field(1, ge=1, le=100, description=DRAWS)


NEEDS = Needs()
VERSION = 1
MEASURES = ("rmse", "mae", "r2")
METRICS = {"*_baseline_rmse": "", "*_rmse": "min", "*_mae": "min", "*_r2": "max"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of every split, clean and under each transform."""
    return _moved.requests_of(_moved.codes(cfg, spec), cfg.limit, cfg.draws)


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such transform or part, or an output that the parameter does not suit.
    """
    check_output(cfg, ["number"])
    if cfg.output != "none" and cfg.standardise:
        raise ConfigError(f"output: '{cfg.output}' has no negative numbers; set standardise: false")
    probes = [f"{probe}_{name}" for probe in dict.fromkeys(cfg.probes) for name in MEASURES]
    names = [f"{code}_{name}" for code in _moved.codes(cfg, spec) for name in ("baseline_rmse", *probes)]
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, each probe as safetensors, a table."""
    result, seed = Result({}), int(rng.integers(2**31))
    parts, codes = chosen_parts(cfg, subject.method.parts), _moved.codes(cfg, subject.spec)
    train = {code: _moved.pairs(subject, "train", code, cfg.limit, cfg.draws) for code in codes}
    jobs = {(part, code): job(cfg, some, part) for part in parts for code, some in train.items()}
    rows = rows_of(train[codes[0]].moved, cfg, seed, cfg.draws)
    probes = fitted(jobs, cfg, rows, seed)
    for ((part, code), probe), one in probes.items():
        file = f"parameter_{part}_{code}_{probe}.safetensors"
        result.artifacts[file] = one.save(subject.out / file)
    for split in REPORTED:
        for code in codes:
            seen = _moved.pairs(subject, split, code, cfg.limit)
            true = seen.unit.double()
            constant = train[code].unit.double().mean(0).expand_as(true)
            chance = _measures.measured("number", ["rmse"], constant, true)["rmse"]
            for part in parts:
                place, x = f"{part}/{split}/{code}", beside(*seen.of(part))
                result.metrics[f"{place}_baseline_rmse"] = chance
                for probe in dict.fromkeys(cfg.probes):
                    told = probes[(part, code), probe](x)
                    values = _measures.measured("number", MEASURES, told, true, batch=cfg.metric_batch)
                    result.metrics |= {f"{place}_{probe}_{name}": value for name, value in values.items()}
    name = "parameter_equivariance.csv"
    result.artifacts[name] = _files.metrics(subject.out / name, result.metrics)
    measured = {code: f"{code}_PROBE_r2" for code in codes}
    _factor_figures.add_bars(result, subject.out, "parameters", "R2 of parameters", parts, cfg.probes, measured)
    return result


def job(cfg: Config, some: Pairs, part: str) -> Job:
    """From features side by side to the parameter, which is trained at deviation 1 where features are."""
    y = some.unit.double()
    centre, spread = standardisation(y) if cfg.standardise else (None, None)
    return Job(beside(*some.of(part)), y, "number", 1, centre=centre, spread=spread)

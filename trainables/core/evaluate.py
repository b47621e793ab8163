"""Run one evaluation by name; shared by trials and by `sweep eval`, and usable in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.config import ConfigError, parse
from trainables.core.load import load
from trainables.evals.base import Result, Subject


def evaluate(
    subject: Subject,
    name: str,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    inputs: Mapping[str, Result] | None = None,
) -> Result:
    """The result of evaluation `name` with `options` on a frozen encoder.

    Args:
        seed: drives everything random in the evaluation; the same for all checkpoints that are to be compared.
        inputs: results of the evaluations it names in `NEEDS.after`.

    Raises:
        ConfigError: wrong options, a missing input, or a metric that is not finite.
    """
    module = load("evaluation", name)
    config = parse(module.Config, dict(options or {}), name)
    given = inputs or {}
    for needed in module.NEEDS.after:
        if needed not in given:
            raise ConfigError(f"{name}: needs the result of '{needed}'; evaluate it in the same call")
    result: Result = module.run(subject, config, np.random.default_rng(seed), given)
    for metric, value in result.metrics.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name}: {metric} is {value}, not a finite number")
    return result

"""The platform: a sweep of pretraining trials and the evaluations that depend on them.

import sweep
result = sweep.load("runs/demo")        # a finished or running sweep's records
result.frame()                          # pandas: one row per pretraining trial, parameters and metrics
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.records import Records

__all__ = ["load", "run"]


def load(directory: str) -> Records:
    """The records of the sweep in `directory`."""
    from sweep.records import load as load_records

    return load_records(directory)


def run(sweep: Any, directory: str | None = None, **options: Any) -> Records:
    """Run a sweep (a name, a file or a `Sweep`) to its end and return its records; options as `sweep run` has them."""
    from sweep.run import run as run_sweep

    return load(str(run_sweep(sweep, directory=directory, **options)))

"""Cheap sweeps through the real driver, in this process or in one that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sweep.records import Records, load
from sweep.space import Float
from sweep.spec import Sweep

HERE = Path(__file__).parent


def cheap(**changes: Any) -> Sweep:
    """A sweep of the cheap method with two evaluations."""
    values: dict[str, Any] = {
        "name": "cheap",
        "method": "cheap.method",
        "data": "cheap.data",
        "base": {"train": {"epochs": 4, "warmup_epochs": 0, "batch_size": 8, "checkpoint_every": 1, "lr": 0.01}},
        "space": {"method.x": Float(0.0, 1.0)},
        "objectives": ["max good/all/val/score"],
        "evals": {"good": {"name": "cheap.score"}, "other": {"name": "cheap.score"}},
        "budget": {"trials": 4},
        "search": {"sampler": "random"},
    }
    return Sweep.model_validate(_merge(values, changes))


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "evals"
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def command(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """The `sweep` command as a process of its own, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", *map(str, arguments)],
        cwd=HERE, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], timeout: float = 300) -> str:
    """Wait for a command that must succeed; what it printed."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, output
    return output


def write(sweep: Sweep, path: Path) -> Path:
    """A sweep as a file for the command line (JSON is YAML)."""
    path.write_text(json.dumps(sweep.dump()))
    return path


def whole(directory: Path) -> Records:
    """The records, after checking that every planned trial is there once, over, and told once."""
    from sweep.ledger import read

    records = load(directory)
    assert records.finished
    assert len(records.configurations) == records.spec["budget"]["trials"]
    assert all(trial.over for trial in records.trials.values())
    events = list(read(directory / "ledger.jsonl"))
    for kind, key in (("told", "number"), ("trial", "id"), ("configuration", "number")):
        counts = Counter(event[key] for event in events if event["event"] == kind)
        assert set(counts.values()) <= {1}, f"{kind} twice: {counts}"
    assert all(c.state != "running" for c in records.configurations.values())
    for configuration in records.configurations.values():
        for trial in (records.trials[id_] for id_ in configuration.trials):
            judges = records.evaluations_of(trial.id, trial.config["train"]["epochs"], configuration.number)
            assert trial.status != "finished" or len(judges) == len(records.spec["evals"])
    for trial in records.trials.values():
        on_disk = json.loads((directory / "trials" / trial.id / "record.json").read_text())
        assert (on_disk["status"], on_disk["metrics"]) == (trial.status, trial.metrics)
    return records

"""Pairs of sweeps over the same points, the second with stopping: the best found, and at what share of the epochs.

    python docs/studies/asha.py runs/full-0 runs/asha-0 runs/full-1 runs/asha-1 ...

Prints a row of Markdown a pair.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sweep
from sweep.records import Records


def epochs(records: Records) -> int:
    """Epochs that were trained, of all configurations, stopped ones too."""
    return sum(len(records.progress(t.id)) for t in records.trials.values() if t.stage == "pretrain")


def seconds(records: Records) -> float:
    """Of compute, evaluations included."""
    return sum(trial.seconds for trial in records.trials.values())


def row(full: Records, stopped: Records) -> str:
    """The comparison of one pair.

    Raises:
        SystemExit: the two did not try the same points.
    """
    points = [[c.params for c in records.configurations.values()] for records in (full, stopped)]
    if points[0] != points[1]:
        raise SystemExit(f"{full.directory} and {stopped.directory} did not try the same points")
    metric, sign = full.objectives[0]["metric"], 1 if full.objectives[0]["direction"] == "max" else -1
    best = [
        max((c for c in records.configurations.values() if c.state == "complete"), key=lambda c: sign * c.values[0])
        for records in (full, stopped)
    ]
    test = [
        records.final_metrics(found.trials[0])[metric.replace("/val/", "/test/")]
        for records, found in zip((full, stopped), best, strict=True)
    ]
    kept = sum(c.state == "complete" for c in stopped.configurations.values())
    cells = [
        full.directory.name, len(points[0]), f"{best[0].values[0]:.4f} (#{best[0].number})",
        f"{best[1].values[0]:.4f} (#{best[1].number})", f"{100 * (best[1].values[0] / best[0].values[0] - 1):+.1f} %",
        f"{test[0]:.4f}", f"{test[1]:.4f}", kept, f"{100 * epochs(stopped) / epochs(full):.0f} %",
        f"{100 * seconds(stopped) / seconds(full):.0f} %",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print the table."""
    found = [sweep.load(Path(name)) for name in sys.argv[1:]]
    if not found or len(found) % 2:
        raise SystemExit(__doc__)
    head = ["full search", "points", "its best", "ASHA's best", "difference", "test of the one", "test of the other",
            "trained to the end", "epochs", "seconds of compute"]  # fmt: skip
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for full, stopped in zip(found[::2], found[1::2], strict=True):
        print(row(full, stopped))


if __name__ == "__main__":
    main()

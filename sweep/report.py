"""What the command line says about a sweep: where it stands, and how it ended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.console import best_line, duration, label, short
from sweep.folder import is_busy
from sweep.records import Records

if TYPE_CHECKING:
    import pandas as pd


def status(records: Records) -> Iterator[str]:
    """Lines of `sweep status`."""
    directory = _shown(records.directory)
    busy = is_busy(records.directory)
    state = "finished" if records.finished else "running" if busy else "not running, not finished"
    work = f"{duration(records.wall)} of work in {records.sessions} sessions"
    yield f"{records.spec['name']} in {directory}: {state}; {work}"
    configurations = Counter(c.state for c in records.configurations.values())
    budget = records.spec["budget"]["trials"]
    yield f"configurations  {len(records.configurations)} of {budget}: {_counts(configurations)}"
    for stage in ("pretrain", "features", "evaluation"):
        found = Counter(trial.status for trial in records.trials.values() if trial.stage == stage)
        yield f"{stage:15} {sum(found.values())}: {_counts(found)}"
    best = best_line(records)
    if best:
        yield best
    shown = False  # the log of the first failure; `sweep logs` has the others
    for trial in records.trials.values():
        if trial.status == "failed" or (trial.status == "waiting" and trial.reason):
            yield f"{trial.status:15} {label(records, trial)} after {trial.attempts} attempts: {trial.reason}"
            if trial.status == "failed" and not shown:
                yield from (f"{'':15} | {line}" for line in trial.log)
                shown = True
    for configuration in records.configurations.values():
        if configuration.state in ("pruned", "failed"):
            yield f"{configuration.state:15} #{configuration.number}: {configuration.reason}"
    for text in records.warnings.values():
        yield f"warning         {text}"
    if not records.finished and not busy:
        yield f"`sweep resume {directory}` goes on"


def conclude(records: Records) -> Iterator[str]:
    """Lines at the end of a run: the best or the front, the figures, what to do next."""
    directory = _shown(records.directory)
    if not records.finished:
        yield f"stopped before the end; `sweep resume {directory}` goes on"
        return
    from analysis.report import report
    from analysis.table import best

    found = best(records)
    if len(found.frame):
        yield ""
        yield "Pareto front:" if len(records.objectives) > 1 else "Best:"
        yield from front(records, found.frame)
    for note in found.notes:
        yield f"note: {note}"
    failed = [trial for trial in records.trials.values() if trial.status == "failed"]
    if failed:
        yield f"{len(failed)} trials failed; `sweep status {directory}` says why, `sweep retry {directory} --failed`"
    for text in records.warnings.values():
        yield f"warning: {text}"
    yield ""
    try:
        yield f"report    {_shown(report(records, records.directory / 'report'))}"
        yield f"figures   {directory}/report/figures"
    except OSError as error:  # the results are safe; a report can be made at any time
        yield f"report    not written ({error.strerror}); `sweep report {directory}` makes it"
    yield f"table     sweep table {directory}"
    tracked = records.manifest.get("options", {}).get("track", True)
    yield f"Aim       sweep {'ui' if tracked else 'track --rebuild'} {directory}"


def front(records: Records, frame: pd.DataFrame, more: tuple[str, ...] = ()) -> Iterator[str]:
    """Configurations on a terminal: objectives with their spread, parameters, the same metrics on the test split.

    Args:
        more: further columns, before the objectives.
    """
    from rich.console import Console
    from rich.table import Table

    objectives = [objective["metric"] for objective in records.objectives]
    tests = [metric.replace("/val/", "/test/") for metric in objectives]
    names = ["configuration", *more, *objectives, *records.spec["space"], *(test for test in tests if test in frame)]
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name.removeprefix("method.").replace("/", "/\n"))
    for _, row in frame.iterrows():
        table.add_row(*(_cell(row.get(name), row.get(f"{name} std")) for name in names))
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    yield from (line.rstrip() for line in captured.get().rstrip().splitlines())


def _cell(value: Any, spread: Any = None) -> str:
    if value is None or value != value:  # an inactive parameter, a metric that is missing
        return "-"
    around = f" ± {spread:.2g}" if isinstance(spread, float) and spread > 0 else ""
    return short(value) + around


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "none yet"


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)

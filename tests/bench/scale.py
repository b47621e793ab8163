"""Run one long sweep on a cluster of many logical nodes, and measure what grows with its length.

    .venv/bin/python tests/bench/scale.py                        2,000 configurations: 6,000 trials
    .venv/bin/python tests/bench/scale.py --configurations 300 --aim 50

The driver, the ledger, the graph and Ray are the real ones; only the trials compute next to nothing. Prints tables as
docs/scale.md has them; `--json FILE` also writes the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from benches import aim_speed
from benches.logical import FOLDERS, Meter, logical_nodes, metered, sized

from sweep.folder import is_behind, size_of, sweep_of
from sweep.graph import Graph
from sweep.pages import pages
from sweep.plan import Plan
from sweep.records import LEDGER, load
from sweep.run import run
from sweep.search import Proposals
from sweep.spec import Sweep

POINTS = (100, 500, 1000, 2000)
COLUMNS = (
    "configurations told", "trials", "driver CPU, ms a trial", "wall, ms a trial", "sampler, ms a configuration",
    "driver, MB",
)  # fmt: skip


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="scale-") as name, logical_nodes(options.nodes) as address:
        place = options.keep or Path(name)
        found: dict[str, Any] = {}
        if options.configurations:
            sweep = sized(options.configurations, options.evaluations)
            found |= without_aim(sweep, place / "sweep", address)
        if options.aim:
            found["aim"] = aim_speed.measure(sized(options.aim, options.evaluations, "aim"), place / "aim", address)
    show(found, 1 + options.evaluations)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def without_aim(sweep: Sweep, directory: Path, address: str) -> dict[str, Any]:
    """The long sweep, and what is done with its folder; growth = driver's CPU time at its end against the 100th."""
    with metered() as meter:
        run(sweep, directory, address=address, track=False, quiet=True)
    rows = driver(meter)
    growth = rows[-1]["cpu_ms"] / rows[0]["cpu_ms"]
    return {"driver": rows, "growth": growth, "folder": folder(directory), "afterwards": afterwards(directory)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=2000, help="of the long sweep, without Aim; 0 = none")
    parser.add_argument("--evaluations", type=int, default=2, help="of each pretraining")
    parser.add_argument("--nodes", type=int, default=8, help="logical nodes of one CPU each")
    parser.add_argument("--aim", type=int, default=500, help="configurations of a second sweep, with Aim; 0 = none")
    parser.add_argument("--keep", type=Path, help="an empty folder in which the sweeps stay; none = they are deleted")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args()
    if 0 < options.configurations < 250:
        parser.error("--configurations: 0 or at least 250, for medians around the 100th and around the last")
    return options


def driver(meter: Meter) -> list[dict[str, float]]:
    """One row for each point that was reached."""
    reached = [point for point in POINTS if point <= len(meter.readings)]
    return [{"told": point, **meter.around(point)} for point in dict.fromkeys([*reached, len(meter.readings)])]


def folder(directory: Path) -> dict[str, float]:
    """MB on disk of the ledger and of the whole folder, and files in it."""
    files = sum(len(names) for _, _, names in os.walk(directory))
    return {
        "ledger_mb": (directory / LEDGER).stat().st_size / 2**20,
        "folder_mb": size_of(directory) / 2**20,
        "files": files,
    }


def afterwards(directory: Path) -> dict[str, float]:
    """Seconds of what is done with a long sweep: parts in this process, and whole commands."""
    records = load(directory)
    plan = Plan(sweep_of(records), None)
    return {
        "read the ledger": timed(lambda: load(directory)),
        "compare every record.json with it": timed(lambda: [is_behind(records, t) for t in records.trials.values()]),
        "rebuild the Optuna study": timed(lambda: Proposals(plan.sweep, records)),
        "take up the graph": timed(lambda: Graph(plan.sweep, plan, records, lambda event: None).start()),
        "make every page that Aim shows": timed(lambda: pages(records)),
        "sweep status": timed(lambda: command("status", directory)),
        "sweep table": timed(lambda: command("table", directory)),
        "sweep resume of a finished sweep, which writes the report": timed(lambda: command("resume", directory)),
        "sweep --help, for comparison": timed(lambda: command("--help")),
    }


def timed(act: Callable[[], object]) -> float:
    """Wall seconds."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def command(*arguments: str | Path) -> None:
    """A whole command, its start and imports included."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS)}
    subprocess.run(
        [sys.executable, "-m", "sweep.cli", *map(str, arguments)], env=environment, check=True, capture_output=True
    )


def show(found: dict[str, Any], trials: int) -> None:
    """The tables of docs/scale.md; `trials` of a configuration."""
    if "driver" in found:
        print("\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
        for row in found["driver"]:
            cpu, wall = row["cpu_ms"] / trials, row["wall_ms"] / trials
            print(f"| {row['told']:,} | {trials * row['told']:,} | {cpu:.1f} | {wall:.1f} | {row['sampler_ms']:.1f} "
                  f"| {row['memory_mb']:.0f} |")  # fmt: skip
        print(f"\ngrowth of the driver's CPU time from the first row to the last: {found['growth']:.2f}\n")
    for part in ("folder", "afterwards", "aim"):
        for name, value in found.get(part, {}).items():
            print(f"| {name} | {value:,.2f} |")
        print()


if __name__ == "__main__":
    main()

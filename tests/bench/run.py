"""Measure what the project promises about speed: every number is a ratio of two things timed side by side in one run.

    make bench                      all of it, about a quarter of an hour on 2 cores
    make bench ARGS="c d"           single ones
    make bench ARGS="f --pairs 100 --dry"

Prints a table and puts it into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from benches import judged, overhead, packed, pages, pipeline, profile, ranking, sound, step, store
from benches.rows import HEADER, Row, update, where

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
LETTERS = "cdeghijklabf"  # what needs one quiet core first, what keeps all cores busy last
SIZES = {"a": "nested", "b": "trials", "f": "pairs"}  # the option that scales a benchmark
CALM = 1.5  # load below which a measurement begins


def main() -> int:
    """Run the benchmarks asked for; status 1 where a promise was not kept."""
    options = _options()
    measured: list[tuple[Row, str]] = []
    for letter in (letter for letter in LETTERS if letter in options.letters):
        load = _calm(options.wait)
        command = _command(letter, options)
        print(f"({letter}) load {load:.1f} ...", flush=True)
        rows = _measures(options)[letter]()
        measured += [(row, where(command, load)) for row in rows]
        for row in rows:
            print("    " + " | ".join(cell for cell in row.cells() if cell), flush=True)
        if not options.dry:
            update(DOCS, measured[-len(rows) :])
    _show([row for row, _ in measured])
    return int(any(row.kept is False for row, _ in measured))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("letters", nargs="*", help=f"which of {' '.join(sorted(LETTERS))}; all if none is named")
    parser.add_argument("--pairs", type=int, default=500, help="pretrainings of (f), each with one evaluation")
    parser.add_argument("--trials", type=int, default=20, help="pretrainings of (b)")
    parser.add_argument("--nested", type=int, default=4, help="nested trials of (a), about half a minute each")
    parser.add_argument("--wait", type=int, default=300, help=f"seconds to wait for a load below {CALM}")
    parser.add_argument("--dry", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    if unknown := set(options.letters) - set(LETTERS):
        parser.error(f"no benchmark '{min(unknown)}'; there are {' '.join(sorted(LETTERS))}")
    options.letters = options.letters or list(LETTERS)
    return options


def _measures(options: argparse.Namespace) -> dict[str, Callable[[], list[Row]]]:
    return {
        "a": lambda: overhead.measure_marginal(trials=options.nested),
        "b": lambda: overhead.measure_efficiency(options.trials),
        "c": step.measure,
        "d": pipeline.measure,
        "e": store.measure,
        "f": lambda: overhead.measure_scale(options.pairs),
        "g": packed.measure,
        "i": judged.measure,
        "h": sound.measure,
        "j": pages.measure,
        "k": ranking.measure,
        "l": profile.measure,
    }


def _command(letter: str, options: argparse.Namespace) -> str:
    size = SIZES.get(letter)
    return f'make bench ARGS="{letter}{f" --{size} {getattr(options, size)}" if size else ""}"'


def _calm(wait: int) -> float:
    """Wait for other work on the machine to end, as long as allowed; the load then."""
    deadline = time.monotonic() + wait
    while os.getloadavg()[0] >= CALM and time.monotonic() < deadline:
        time.sleep(5)
    return os.getloadavg()[0]


def _show(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADER[:-1])
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())

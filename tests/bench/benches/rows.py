"""A measured ratio beside what was promised, and the table in `docs/benchmarks.md` that keeps them."""

from __future__ import annotations

import operator
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.folder import write_atomic

BEGIN, END = "<!-- table: written by tests/bench/run.py -->", "<!-- end of table -->"
HEADER = ("benchmark", "measured", "promise", "kept", "beside it", "when, where, how")
COMPARE = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        key: letter of the benchmark and what tells its rows apart, such as "c, 16 px".
        value: measured. unit: "x" for a ratio, "s" for seconds.
        promise: such as ">= 20"; "" where nothing was promised.
        beside: what one needs to read the number.
    """

    key: str
    value: float
    unit: str = "x"
    promise: str = ""
    beside: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the promise was kept; None without one."""
        if not self.promise:
            return None
        sign, bound = self.promise.split()
        return bool(COMPARE[sign](self.value, float(bound)))

    def cells(self) -> tuple[str, str, str, str, str]:
        """The cells that the benchmark itself fills."""
        kept = {True: "yes", False: "**no**", None: ""}[self.kept]
        number = f"{self.value:.3g}" if self.value < 10 else f"{self.value:.0f}"
        promise = f"{self.promise} {self.unit}" if self.promise else ""
        return self.key, f"{number} {self.unit}", promise, kept, self.beside


def machine() -> str:
    """Cores, memory and CPU of this machine."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({found.group(1).strip() if found else 'unknown CPU'}), {memory:.0f} GB"


def where(command: str, load: float) -> str:
    """The last cell: date, machine, how busy it was before, command."""
    return f"{time.strftime('%Y-%m-%d')}, {machine()}, load {load:.1f} before; `{command}`"


def lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of cells as a Markdown table."""
    head = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    return head + ["| " + " | ".join(cells) + " |" for cells in rows]


def update(path: Path, measured: Sequence[tuple[Row, str]]) -> None:
    """Put rows (with their last cell) into the table of `path`, in the place of all rows of the same letters."""
    before, rest = path.read_text().split(BEGIN)
    old, after = rest.split(END)
    letters = {row.key[0] for row, _ in measured}
    kept = [_cells(line) for line in old.strip().splitlines()[2:] if _cells(line)[0][0] not in letters]
    new = [(*row.cells(), place) for row, place in measured]
    table = "\n".join(lines(sorted([*kept, *new], key=lambda cells: cells[0][0])))
    write_atomic(path, f"{before}{BEGIN}\n{table}\n{END}{after}")


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))

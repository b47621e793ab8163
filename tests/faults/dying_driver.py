"""`sweep` that kills itself while it writes: `python dying_driver.py PLACE COUNT run ...`.

At the COUNTth write of PLACE ("ledger", "record", "progress" or "aim") half of it is written, then the process is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(count: int, act: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    """`act` as ever, but `instead` of it at its `count`th call."""
    left = [count]

    def counted(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        return instead(*arguments, **named) if left[0] == 0 else act(*arguments, **named)

    return counted


def half_a_line(ledger: Any, line: bytes, durable: bool) -> None:
    os.write(ledger._file.fileno(), line[: len(line) // 2])
    die()


def half_a_text(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text[: len(text) // 2])
    die()


def half_a_record(path: Path, text: str) -> None:
    path.with_name(f".{path.name}.{os.getpid()}").write_text(text[: len(text) // 2])
    die()


def main() -> None:
    place, count, *arguments = sys.argv[1:]
    import sweep.aim_writer
    import sweep.driver
    import sweep.folder
    import sweep.ledger

    number = int(count)
    if place == "ledger":
        sweep.ledger.Ledger._write = at(number, sweep.ledger.Ledger._write, half_a_line)  # type: ignore[method-assign]
    elif place == "record":
        sweep.folder.write_atomic = at(number, sweep.folder.write_atomic, half_a_record)
    elif place == "progress":
        sweep.driver.append_line = at(number, sweep.driver.append_line, half_a_text)  # type: ignore[attr-defined]
    elif place == "aim":
        write = sweep.aim_writer.Writer.write
        sweep.aim_writer.Writer.write = at(number, write, lambda *a, **k: die())  # type: ignore[method-assign]
    else:
        sys.exit(f"no such place: {place}")
    from sweep.cli import run_command

    sys.exit(run_command(arguments))


if __name__ == "__main__":
    main()

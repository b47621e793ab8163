"""The append-only ledger: one checksummed JSON event a line, the only truth about a sweep.

A line is `CRC32 in 8 hex digits, space, JSON`. A driver killed in the middle of a write leaves a torn last line; it is
cut off when the ledger is opened for writing and skipped when it is read. A broken line *before* the last one means
that someone edited the file: that is refused, since silently losing an event could lose a trial.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets.atomic import private
from datasets.patience import StorageError, patiently

Event = dict[str, Any]


class LedgerError(RuntimeError):
    """A ledger that cannot be read; one line with file, line number and reason."""


def encode(event: Event) -> bytes:
    """One line of the ledger, newline included."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(line: bytes) -> Event | None:
    """The event of a complete line without its newline; None if the line is damaged."""
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def read(path: Path) -> Iterator[Event]:
    """The events in order, without a torn tail.

    Raises:
        LedgerError: a damaged line that is not the last.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    last = len(lines) - 1  # after the final newline stands an empty piece, or a torn one
    for number, line in enumerate(lines):
        event = decode(line) if number < last else None
        if event is not None:
            yield event
        elif number < last - 1 or (number < last and lines[last]):
            raise LedgerError(f"{path}, line {number + 1}: damaged (checksum does not match); restore it from a copy")


class Ledger:
    """The ledger opened for writing by the one driver that owns the sweep.

    Attributes:
        clock: wall time, stamped on every event for people. up: time that only goes on, from which durations are
            taken, since a wall clock may jump.
    """

    def __init__(
        self,
        path: Path,
        patience: float = 0.0,
        say: Callable[[str], None] = print,
        hurry: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        up: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open it, cutting a torn last line off.

        Args:
            patience: seconds to wait for storage that is full or away. hurry: whether to give up waiting.
        """
        self.path = path
        self._patience, self._say, self._hurry, self._clock, self._up = patience, say, hurry, clock, up
        self._begin = up()
        _cut_torn_tail(path)
        self._file = open(path, "ab", buffering=0, opener=private)  # noqa: SIM115  # closed by close()

    def append(self, event: Event, durable: bool = False) -> Event:
        """Write `event`, with the time, as one line; `durable` also survives a power cut (fsync).

        Raises:
            LedgerError: it could not be written for as long as one may wait; the ledger is as it was before.
        """
        stamped = {"time": round(self._clock(), 3), "up": round(self._up() - self._begin, 3), **event}
        line = encode(stamped)
        try:
            patiently(lambda: self._write(line, durable), self._patience, self._say, self._hurry)
        except (StorageError, OSError) as error:
            reason = str(error) if isinstance(error, StorageError) else error.strerror
            raise LedgerError(
                f"{self.path}: cannot be written ({reason}); make room, then `sweep resume {self.path.parent}`"
            ) from None
        return stamped

    def _write(self, line: bytes, durable: bool) -> None:
        before = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(before)
            raise

    def close(self) -> None:
        """Close the file; the ledger can be opened again."""
        self._file.close()


def append_line(path: Path, text: str) -> None:
    """Add one line to a text file, whole or not at all; what a kill tore before is ended first.

    Raises:
        OSError: the file is as it was before.
    """
    with open(path, "a+b", buffering=0, opener=private) as file:
        before = file.seek(0, os.SEEK_END)
        torn = before > 0 and os.pread(file.fileno(), 1, before - 1) != b"\n"
        line = b"\n" * torn + text.encode() + b"\n"
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def _cut_torn_tail(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    good = content.rfind(b"\n") + 1
    last_line = content[:good].rstrip(b"\n").rsplit(b"\n", 1)[-1]
    if last_line and decode(last_line) is None:
        good = good - len(last_line) - 1
    if good != len(content):
        with path.open("r+b") as file:
            file.truncate(good)

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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    """The ledger opened for writing by the one driver that owns the sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_tail(path)
        self._file = path.open("ab", buffering=0)  # nothing is kept back that could be written later

    def append(self, event: Event, durable: bool = False) -> Event:
        """Write `event`, with the time, as one line; `durable` also survives a power cut (fsync).

        Raises:
            LedgerError: it could not be written; the ledger is as it was before.
        """
        stamped = {"time": round(time.time(), 3), **event}
        line, before = encode(stamped), self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(before)
            raise LedgerError(
                f"{self.path}: cannot be written ({error.strerror}); make room, then `sweep resume {self.path.parent}`"
            ) from None
        return stamped

    def close(self) -> None:
        """Close the file; the ledger can be opened again."""
        self._file.close()


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

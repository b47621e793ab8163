"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: renamed to `path` at the end, removed if anything goes wrong.

    A folder takes the place of an empty folder or of none; whoever replaces a full one removes that first.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    remove(temporary)  # of a process that was killed and had this process's id
    try:
        yield temporary
        temporary.rename(path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file or a folder; what is not there or cannot be deleted is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()

"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE = 0o600  # the owner alone, whatever the umask
PRIVATE_FOLDER = 0o700


def private(path: str, flags: int) -> int:
    """An opener for `open(path, mode, opener=private)`: a file that is made new belongs to its owner alone."""
    return os.open(path, flags, PRIVATE)


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write to: renamed to `path` at the end, removed if anything goes wrong.

    A folder takes the place of an empty folder or of none; whoever replaces a full one removes that first.

    Args:
        mode: of a file that nobody else may read, `PRIVATE`; it is never wider while it is written either. None = what
            the umask leaves, and the only choice for a folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    remove(temporary)  # of a process that was killed and had this process's id
    try:
        if mode is not None:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode))
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

"""Data that fit in memory: one array, memory-mapped from a cache that all processes of a node share.

The cache lies in $SWEEP_CACHE, else ~/.cache/representation-sweep, one folder an entry:

    KEY/NAME.npy ...      the arrays
    KEY/meta.json         {"fingerprint": digest of their content, "files": {NAME: bytes}}

An entry is built once (under a file lock), in a temporary folder that is then renamed; a damaged one is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from datasets.base import Batch, DataError, Spec

Arrays = dict[str, np.ndarray]
MAXIMUM = {np.dtype(np.uint8): 255.0, np.dtype(np.int16): 32768.0}
PATIENCE = 3.0  # seconds of waiting for another process before a line says so


class MemorySource:
    """Items of one uint8 array (images, to [0, 1]) or int16 array (sound, to [-1, 1))."""

    def __init__(self, array: np.ndarray, labels: Arrays, spec: Spec, rows: np.ndarray | None = None) -> None:
        """Items of `array` (N, *shape), and labels (N,) by factor.

        Args:
            spec: of the items; images of one channel are repeated where its shape has three.
            rows: positions in `array` and `labels` that belong to this split; None = all.
        """
        self.spec = spec
        self._array = array
        self._scale = 1 / MAXIMUM[array.dtype]
        self._rows = np.arange(len(array)) if rows is None else rows
        self._labels = {name: torch.from_numpy(np.array(value[self._rows])) for name, value in labels.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,) as float32; `rng` is not used."""
        x = torch.from_numpy(self._array[self._rows[index.numpy()]]).float().mul_(self._scale)
        if x.shape[1:] != self.spec.shape:
            x = x.expand(-1, *self.spec.shape).contiguous()
        return Batch([x], index, labels={name: value[index] for name, value in self._labels.items()})


@dataclass(frozen=True)
class Entry:
    """Memory-mapped arrays, read-only, and the digest of their content."""

    arrays: Arrays
    fingerprint: str


def cache_folder() -> Path:
    """Where entries lie on this node."""
    named = os.environ.get("SWEEP_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "representation-sweep"


def cached(key: str, build: Callable[[], Arrays]) -> Entry:
    """The entry of `key`, built by `build` if there is none; `key` names everything the arrays depend on.

    Raises:
        DataError: the cache's folder cannot be written or is full.
    """

    def write(folder: Path) -> None:
        for name, array in build().items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array))

    return stored(key, write)


def stored(key: str, write: Callable[[Path], None]) -> Entry:
    """The same for arrays that need not fit in memory: `write` puts NAME.npy into the folder it is given.

    Raises:
        DataError: the cache's folder cannot be written or is full.
    """
    folder = cache_folder() / key
    entry = _read(folder)
    if entry is not None:
        return entry
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder) as locked:
            entry = _read(folder)  # another process may have built it meanwhile
            if entry is None:
                if locked:
                    _clear(folder)
                _write(folder, write)
                entry = _read(folder)
    except OSError as error:
        reason = f"{error.strerror or error}; set SWEEP_CACHE to a writable folder with space"
        raise DataError(f"cache {folder}: {reason}") from None
    if entry is None:
        raise DataError(f"cache {folder}: cannot be read back after it was written; set SWEEP_CACHE to another folder")
    return entry


def allocated(path: Path, dtype: np.dtype, shape: tuple[int, ...], hint: str) -> np.memmap:
    """A new array on disk whose space is taken already: a full disk would kill a process that writes to a map.

    Args:
        hint: what makes the array smaller, for the error's text.

    Raises:
        DataError: it does not fit.
    """
    need, free = dtype.itemsize * int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if need > free:
        raise DataError(
            f"cache {cache_folder()}: the data take {need / 2**30:.1f} GB there and {free / 2**30:.1f} GB are left; "
            f"{hint}, or set SWEEP_CACHE to another folder"
        )
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _read(folder: Path) -> Entry | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        paths = {name: folder / f"{name}.npy" for name in meta["files"]}
        if any(path.stat().st_size != meta["files"][name] for name, path in paths.items()):
            return None
        return Entry({name: np.load(path, mmap_mode="r") for name, path in paths.items()}, meta["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None


def _clear(folder: Path) -> None:
    """Delete what processes that were killed left beside `folder`; a set of images may be many gigabytes."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        if left.suffix[1:].isdigit() and not _lives(int(left.suffix[1:])):
            shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _write(folder: Path, write: Callable[[Path], None]) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write(temporary)
        arrays: Arrays = {path.stem: np.load(path, mmap_mode="r") for path in temporary.glob("*.npy")}
        files = {name: (temporary / f"{name}.npy").stat().st_size for name in arrays}
        meta = {"fingerprint": fingerprint(arrays), "files": files}
        (temporary / "meta.json").write_text(json.dumps(meta))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged entry
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fingerprint(arrays: Arrays) -> str:
    """16 hex digits that identify names, types, shapes and content."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """One process at a time may build `folder`; others wait, and say so when it takes long.

    Where a file system has no locks (False then), two may build the same entry; the last rename stands.
    """
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        yield _locked(file, folder)


def _locked(file: IO[str], folder: Path) -> bool:
    begin, said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not said and time.monotonic() - begin > PATIENCE:
                print(f"{folder}: another process is building it; waiting", file=sys.stderr, flush=True)
                said = True
            time.sleep(0.02 if not said else 0.5)
        except OSError:
            return False

"""What data set modules share: finding files, keys of the cache, and splits that keep the classes' shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.base import DataError, Spec
from datasets.memory import Entry, MemorySource


def find(root: Path | None, marker: str, names: Sequence[str]) -> Path:
    """The folder that holds `marker` (a relative path): `root` itself, or one of `names` in it.

    Raises:
        DataError: none does; the first of `names` is the data set's.
    """
    command = f"`sweep data {names[0]} --data-root {root or 'DIR'}` fetches it"
    if root is None:
        raise DataError(f"{names[0]}: needs a data folder, give --data-root DIR; {command}")
    candidates = [root, *(root / name for name in names)]
    for folder in candidates:
        if (folder / marker).exists():
            return folder
    raise DataError(f"{names[0]}: no '{marker}' in {', '.join(map(str, candidates))}; {command}")


def key(name: str, version: int, files: Iterable[Path], *options: object) -> str:
    """A key of the cache from the data set's name and code version, the files it is built from, and options.

    A file counts by its path, size and time, so that reading it is not needed to know that it has not changed.
    """
    state = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr((version, state, options)).encode()).hexdigest()[:16]
    return f"{name}-{digest}"


def interleaved(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded permutation of which every contiguous part has each class in its share, up to rounding."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")


def parts(labels: np.ndarray, sizes: Sequence[int], seed: int, limit: int | None = None) -> list[np.ndarray]:
    """Disjoint parts of the items, of the given sizes and one more of what is left, with equal shares of the classes.

    Returns:
        Positions in increasing order; with `limit` at most so many of each part.
    """
    order = interleaved(labels, seed)
    return [np.sort(part[:limit]) for part in np.split(order, np.cumsum(sizes))]


def first_per_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions, in increasing order, of the first `count` items of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def some_per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions, in increasing order, of `count` seeded items of every class; fewer are a part of more."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[first_per_class(labels[order], count)])


def limited(labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Positions, in increasing order, of at most `limit` items, with the classes' shares."""
    return np.arange(len(labels)) if limit is None else np.sort(interleaved(labels, seed)[:limit])


def source(entry: Entry, spec: Spec, rows: np.ndarray) -> MemorySource:
    """The items at `rows` of an entry: its array "x", every other array as labels."""
    labels = {name: array for name, array in entry.arrays.items() if name != "x"}
    return MemorySource(entry.arrays["x"], labels, replace(spec, fingerprint=entry.fingerprint), rows)

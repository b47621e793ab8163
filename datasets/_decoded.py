"""Images that are decoded when they are asked for, or before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch


class Decoded:
    """Images by row like an array of bytes (n, 3, S, S), by as many threads as PyTorch has."""

    dtype = np.dtype(np.uint8)

    def __init__(self, name: str, read: Callable[[int], np.ndarray], size: int) -> None:
        """`name`: of the threads. `read`: the image (3, size, size) of a row."""
        self._name, self._read, self._size = name, read, size
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[np.ndarray, np.ndarray, list[Future[None]]] | None = None

    def prefetch(self, rows: np.ndarray) -> None:
        """Begin to decode what will be asked for next; it takes the place of what was begun before."""
        if self._ahead is not None:
            for future in self._ahead[2]:
                future.cancel()
        self._ahead = rows, *self._submit(rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(B, 3, S, S) uint8.

        Raises:
            DataError: an image is missing or damaged.
        """
        if self._ahead is None or not np.array_equal(self._ahead[0], rows):
            self.prefetch(rows)
        assert self._ahead is not None
        (_, x, futures), self._ahead = self._ahead, None
        for future in futures:
            future.result()
        return x

    def _submit(self, rows: np.ndarray) -> tuple[np.ndarray, list[Future[None]]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(torch.get_num_threads(), self._name)
        x = np.empty((len(rows), 3, self._size, self._size), self.dtype)

        def one(place: int, row: int) -> None:
            x[place] = self._read(row)

        return x, [self._pool.submit(one, place, row) for place, row in enumerate(rows.tolist())]

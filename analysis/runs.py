"""Several runs of one setting as V3's tables have them: mean and deviation in percent, agreement of their codebooks.

Source: Wu, Wang, Raj, Xia, ICLR 2025, arXiv 2407.03824. Deviations here are those of the runs at hand (ddof 0), as
published; the tables of a sweep have the sample's (ddof 1).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def mean_and_std(runs: ArrayLike) -> tuple[Floats, Floats]:
    """Numbers (runs, m), such as accuracies -> mean and deviation over runs in percent, to 4 decimals, (m,) each."""
    values = 100 * np.asarray(runs, np.float64)
    return values.mean(0).round(4), values.std(0).round(4)


def consensus(matrices: Sequence[ArrayLike]) -> float:
    """How little codebooks agree: deviation over runs of each cell of their confusion matrices, mean over cells.

    Args:
        matrices: (K, C) each, rows in an order that means the same in all of them, such as `confusion` gives.

    Raises:
        ValueError: they have different shapes.
    """
    shapes = {np.shape(one) for one in matrices}
    if len(shapes) != 1:
        raise ValueError(f"consensus: takes matrices of one shape, got {', '.join(map(str, sorted(shapes))) or 'none'}")
    return float(np.stack([np.asarray(one, np.float64) for one in matrices]).std(0).mean())


def confusion(path: Path) -> Floats:
    """The matrix (K, C) in an artifact `confusion_SPLIT.csv` of the evaluation codebook, codes by their contents.

    Raises:
        ValueError: the file is not such a table.
    """
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    try:
        if header[:2] != ["code", "fragments"] or not rows:
            raise ValueError
        return np.array([row[2:] for row in rows], np.float64)
    except ValueError:
        raise ValueError(f"{path}: is no table of the shares of contents in codes") from None

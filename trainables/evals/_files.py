"""Artifacts of evaluations: each is written under a temporary name and renamed. matplotlib is imported when needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from datasets.atomic import replacing

POINTS = 2000  # more only make a scatter heavier


def table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """A CSV file with a header."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def agreement(path: Path, true: Tensor, predicted: Tensor, title: str, unit: str, circular: bool) -> Path:
    """A PNG: predicted against true values (n,), the first 2,000 of them; circular values as degrees in [0, 360)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = (np.asarray(value[:POINTS].double()) for value in (true, predicted))
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(x, y, s=4, alpha=0.5, linewidths=0)
    low, high = (0.0, 360.0) if circular else (float(x.min()), float(x.max()))
    axes.plot([low, high], [low, high], color="black", linewidth=0.8)
    if circular:
        axes.set(xlim=(low, high), ylim=(low, high), xticks=range(0, 361, 90), yticks=range(0, 361, 90))
    axes.set(title=title, xlabel=f"true {unit}", ylabel=f"predicted {unit}")
    with replacing(path) as temporary, temporary.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    return path

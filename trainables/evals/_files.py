"""Artifacts of evaluations: each is written under a temporary name and renamed. matplotlib is imported when needed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datasets.atomic import replacing

DIVERGING, SEQUENTIAL = "RdBu_r", "Blues"  # the first: blue for negative
POINTS = 2000  # more only make a scatter heavier


def table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """A CSV file with a header."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def metrics(path: Path, found: Mapping[str, float]) -> Path:
    """A CSV file of "part/split/metric" -> value."""
    rows = [(*name.split("/"), value) for name, value in found.items()]
    return table(path, ("part", "split", "metric", "value"), rows)


def agreement(path: Path, true: Tensor, predicted: Tensor, title: str, unit: str, circular: bool) -> Path:
    """A PNG: predicted against true values (n,), the first 2,000 of them; circular values as degrees in [0, 360)."""
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
    return png(path, figure)


def grid(
    path: Path, images: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, inches: float = 0.75
) -> Path:
    """A PNG of images (R, C, channels, H, W) in [0, 1] as a table with names beside its rows and above its columns.

    Args:
        inches: of an image's longer side.
    """
    from matplotlib.figure import Figure

    height, width = images.shape[-2:]
    framed = np.ones((len(rows) * (height + 1) + 1, len(columns) * (width + 1) + 1, 3))
    for r, row in enumerate(images.clamp(0, 1)):
        for c, image in enumerate(row):
            top, left = r * (height + 1) + 1, c * (width + 1) + 1
            framed[top : top + height, left : left + width] = image.permute(1, 2, 0).numpy()
    scale = inches / max(height, width)
    figure = Figure(
        figsize=(max(3.5, 1.2 + scale * framed.shape[1]), 0.7 + scale * framed.shape[0]), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.imshow(framed, interpolation="nearest")
    axes.set_xticks([(c + 0.5) * (width + 1) for c in range(len(columns))], columns)
    axes.set_yticks([(r + 0.5) * (height + 1) for r in range(len(rows))], rows)
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    return png(path, figure)


def bars(path: Path, heights: Tensor, level: float, labels: tuple[str, str, str], title: str) -> Path:
    """A PNG of bars (n,), with a dashed line at `level`; labels: of the x axis, the y axis and the line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(heights)), heights.tolist())
    axes.axhline(level, color="black", linewidth=0.8, linestyle="--", label=labels[2])
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1], xticks=range(len(heights)))
    axes.legend(fontsize=8)
    return png(path, figure)


def lines(
    path: Path, curves: Mapping[str, tuple[Tensor, Tensor]], labels: tuple[str, str], title: str, log2: bool = False
) -> Path:
    """A PNG of named curves, each x (m,) and y (m,); labels: of the axes. `log2`: x in powers of two, points marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y) in curves.items():
        axes.plot(x.tolist(), y.tolist(), label=name, marker="o" if log2 else None, markersize=4)
    if log2:
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    if len(curves) > 1:
        axes.legend(fontsize=8)
    return png(path, figure)


def heat(path: Path, values: Tensor, labels: tuple[str, str], title: str, signed: bool = True) -> Path:
    """A PNG of a matrix (rows, columns), colours the same far to both sides of zero; labels: of x and y axis.

    Args:
        signed: values have signs; else colours go from zero up.
    """
    from matplotlib.figure import Figure

    largest = max(float(values.abs().max()), 1e-12)
    figure = Figure(figsize=(7, max(2.0, min(7.0, 1.2 + 0.15 * len(values)))), layout="constrained")
    axes = figure.add_subplot()
    scale: dict[str, Any] = {"cmap": DIVERGING, "vmin": -largest} if signed else {"cmap": SEQUENTIAL, "vmin": 0}
    shown = axes.imshow(values, aspect="auto", vmax=largest, interpolation="nearest", **scale)
    figure.colorbar(shown, ax=axes)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    return png(path, figure)


def palette(classes: int) -> np.ndarray:
    """A colour for each class (classes, 4)."""
    import matplotlib

    few = classes <= 10
    return np.asarray(matplotlib.colormaps["tab10" if few else "turbo"](np.arange(classes) / (10 if few else classes)))


def regions(path: Path, shares: Tensor, reach: float, labels: tuple[str, str], title: str) -> Path:
    """A PNG of probabilities (H, W, classes) over a square from -reach to reach: the likeliest, paler where unsure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    classes = shares.shape[2]
    colours = palette(classes)
    top, which = (np.asarray(one) for one in shares.max(2))
    sure = ((top - 1 / classes) / (1 - 1 / classes))[..., None]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(1 - sure * (1 - colours[which][..., :3]), origin="lower", extent=(-reach, reach, -reach, reach))
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    seen = [Patch(color=colours[k], label=f"class {k}") for k in np.unique(which)[:20]]
    axes.legend(handles=seen, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return png(path, figure)


def scatter(
    path: Path, points: Tensor, classes: Tensor | None, labels: Sequence[str], title: str, marked: Tensor | None = None
) -> Path:
    """A PNG of points (n, 2) or (n, 3), coloured by their classes (n,); labels: of the axes.

    Args:
        marked: further points (m, 2) or (m, 3), shown as black stars.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    solid = points.shape[1] == 3
    axes: Any = figure.add_subplot(projection="3d" if solid else None)
    which = np.zeros(len(points), int) if classes is None else np.asarray(classes)
    colours = palette(int(which.max()) + 1)
    for k in np.unique(which):
        rows = np.asarray(points[which == k].double())
        axes.scatter(*rows.T, s=10, color=colours[k], label=f"{k}", linewidths=0)
    if marked is not None:
        axes.scatter(*np.asarray(marked.double()).T, s=90, color="black", marker="*", label="atoms", linewidths=0)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    if solid:
        axes.set_zlabel(labels[2])
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=7, pad=0)
    if classes is not None and len(np.unique(which)) <= 20:
        figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside right center")
    return png(path, figure)


def clouds(path: Path, x: Tensor, ys: Mapping[str, Tensor], label: str, title: str) -> Path:
    """A PNG of points, x (n,) against each of several y (n,) side by side, the first 2,000 of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(ys), 3), layout="constrained")
    for axes, (name, y) in zip(figure.subplots(1, len(ys), squeeze=False)[0], ys.items(), strict=True):
        axes.scatter(x[:POINTS].tolist(), y[:POINTS].tolist(), s=4, alpha=0.5, linewidths=0)
        axes.set(xlabel=label, ylabel=name)
    figure.suptitle(title, fontsize=10)
    return png(path, figure)


def band(
    path: Path, x: Tensor, y: Tensor, limits: Tensor, labels: tuple[str, str], title: str, log: bool = False
) -> Path:
    """A PNG of a curve, x (m,) and y (m,), in a band of limits (2, m); labels: of the axes. `log`: of x."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(x.tolist(), *limits.tolist(), alpha=0.25, linewidth=0)
    axes.plot(x.tolist(), y.tolist())
    if log:
        axes.set_xscale("log")
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    return png(path, figure)


def histograms(path: Path, values: Tensor, title: str) -> Path:
    """A PNG of the density of each column (m, d), in 100 bins, beside that of N(0, 1), cut at three times its top."""
    from matplotlib.figure import Figure

    count = values.shape[1]
    columns = min(8, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(1.3 * columns + 0.5, 1.2 * rows + 0.6), layout="constrained")
    line = np.linspace(-4, 4, 100)
    normal = np.exp(-(line**2) / 2) / np.sqrt(2 * np.pi)
    for d in range(count):
        axes = figure.add_subplot(rows, columns, d + 1)
        axes.hist(np.asarray(values[:, d].double()), bins=100, density=True, color="#56B4E9")
        axes.plot(line, normal, color="#222222", linewidth=0.8)
        axes.tick_params(labelsize=6)
        axes.set_title(str(d), fontsize=7, pad=2)
        axes.set_yticks([])
        axes.set_ylim(0, min(axes.get_ylim()[1], 3 * normal.max()))  # silence behind items makes one value frequent
    figure.suptitle(title, fontsize=9)
    return png(path, figure)


def families(
    path: Path, curves: Mapping[str, Sequence[tuple[Tensor, Tensor]]], values: Tensor,
    labels: Sequence[tuple[str, str]], title: str,
) -> Path:  # fmt: skip
    """A PNG with a row for each name and a column for each family of curves: x (m,) and y (k, m), coloured by values.

    Args:
        values: (k,). labels: of the axes of each column.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(labels), 2.0 * len(curves) + 0.8), layout="constrained")
    scale = matplotlib.colors.Normalize(float(values.min()), float(values.max()))
    shown = matplotlib.cm.ScalarMappable(scale, "coolwarm")
    grid_of = figure.subplots(len(curves), len(labels), squeeze=False)
    for row, (name, columns) in zip(grid_of, curves.items(), strict=True):
        for axes, (x, y), (below, beside) in zip(row, columns, labels, strict=True):
            for value, line in zip(values.tolist(), y, strict=True):
                axes.plot(x.tolist(), line.tolist(), color=shown.to_rgba(value), linewidth=0.8)
            axes.set(xlabel=below, ylabel=beside)
            axes.set_title(name, fontsize=9)
    figure.colorbar(shown, ax=grid_of, label="value")
    figure.suptitle(title, fontsize=10)
    return png(path, figure)


def png(path: Path, figure: Any) -> Path:
    """The figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with replacing(path) as temporary, temporary.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    return path

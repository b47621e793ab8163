"""Figures of the evaluations by factors: bars of probes, differences by quarters, the profile of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.evals._files import palette, png
from trainables.evals.base import REPORTED, Result

PROBES = {"slp": "o", "mlp": "s"}  # markers
NAMES = {"slp": "single layer", "mlp": "network"}
DASHED = (0, (3, 2))
LOWEST = -0.25  # of bars; an R2 may be anything below 0


def add_bars(
    result: Result, out: Path, stem: str, title: str, parts: Sequence[str], probes: Sequence[str],
    measured: Mapping[str, str], levels: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Add `STEM_SPLIT.png` of each split to the artifacts, drawn of metrics that the result has already.

    Args:
        measured: name of a group -> the metric, in which PROBE stands for each probe. levels: name -> metric, else 0.
    """
    for split in REPORTED:
        values = {part: _values(result.metrics, f"{part}/{split}/") for part in parts}
        heights = {
            part: {
                probe: {name: own[metric.replace("PROBE", probe)] for name, metric in measured.items()}
                for probe in probes
            }
            for part, own in values.items()
        }
        marks = {
            part: {name: own.get((levels or {}).get(name, ""), 0.0) for name in measured}
            for part, own in values.items()
        }
        name = f"{stem}_{split}.png"
        result.artifacts[name] = bars(out / name, heights, marks, f"{title}, {split}")


def _values(metrics: Mapping[str, float], place: str) -> dict[str, float]:
    return {name.removeprefix(place): value for name, value in metrics.items() if name.startswith(place)}


def bars(
    path: Path, heights: Mapping[str, Mapping[str, Mapping[str, float]]], levels: Mapping[str, Mapping[str, float]],
    title: str,
) -> Path:  # fmt: skip
    """A PNG of a panel for each part, in it a group of bars for each name, one for each probe.

    Args:
        heights: part -> probe -> name -> height. levels: part -> name -> what is reached without features, dashed.
    """
    from matplotlib.figure import Figure

    groups = list(next(iter(levels.values())))
    figure = Figure(figsize=(min(16, (0.9 + 0.8 * len(groups)) * len(heights)) + 1.2, 3.2), layout="constrained")
    row = figure.subplots(1, len(heights), squeeze=False, sharey=True)[0]
    for axes, (part, probes) in zip(row, heights.items(), strict=True):
        width = 0.8 / len(probes)
        for place, (probe, own) in enumerate(probes.items()):
            left = np.arange(len(groups)) - 0.4 + place * width
            values = [own[name] for name in groups]
            shown = axes.bar(left, values, 0.92 * width, align="edge", color=palette(2)[place], label=NAMES[probe])
            axes.bar_label(shown, [f"{value:.2f}" for value in values], padding=2, fontsize=7)
        for place, name in enumerate(groups):
            axes.hlines(levels[part][name], place - 0.4, place + 0.4, color="black", linestyles=DASHED, linewidth=1.1)
        axes.set_xticks(range(len(groups)), [name.replace("_", "_\n") for name in groups], fontsize=8)
        axes.set_title(part, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=max(LOWEST, axes.get_ylim()[0]))
        axes.margins(y=0.12)
    row[0].plot([], [], color="black", linestyle=DASHED, linewidth=1.1, label="baseline")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.legend(*row[0].get_legend_handles_labels(), fontsize=7.5, loc="outside lower left", ncols=3, frameon=False)
    return png(path, figure)


def quarters(
    path: Path, lines: Mapping[str, Mapping[str, Mapping[tuple[str, str], Sequence[float]]]], names: Sequence[str],
    title: str,
) -> Path:  # fmt: skip
    """A PNG of a row for each part and a column for each factor: differences over the parts of a range.

    Args:
        lines: part -> factor -> (transform, probe) -> a difference for each of the `names`.
    """
    from matplotlib.figure import Figure

    columns = len(next(iter(lines.values())))
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.3 * len(lines) + 0.9), layout="constrained")
    grid = figure.subplots(len(lines), columns, squeeze=False, sharex=True)
    codes = sorted({code for own in lines.values() for curves in own.values() for code, _ in curves})
    colours = palette(max(len(codes), 1))
    for row, (part, factors) in zip(grid, lines.items(), strict=True):
        for axes, (factor, curves) in zip(row, factors.items(), strict=True):
            axes.axhline(0, color="black", linewidth=0.8)
            for (code, probe), values in curves.items():
                axes.plot(
                    range(len(names)), values, color=colours[codes.index(code)], marker=PROBES[probe], markersize=4,
                    linestyle="--" if probe == "mlp" else "-", label=f"{code}, {NAMES[probe]}",
                )  # fmt: skip
            axes.set_title(f"{factor} from {part}", fontsize=9, loc="left")
            axes.set_xticks(range(len(names)), names)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("difference to clean items")
    for axes in grid[-1]:
        axes.set_xlabel("part of the range, %")
    entries: dict[str, Any] = {}
    for axes in grid.ravel():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.legend(entries.values(), entries.keys(), fontsize=7.5, loc="outside lower left", ncols=3, frameon=False)
    return png(path, figure)


def profile(
    path: Path, shares: Mapping[str, Mapping[str, Mapping[tuple[str, str], float]]], levels: Mapping[str, float],
    title: str,
) -> Path:  # fmt: skip
    """A PNG of axes x parts: bars of means, and a point for each share in [0, 1]; dashed what says nothing reaches.

    Args:
        shares: part -> axis -> (of, probe) -> share. levels: part -> chance of the axis "invariance".
    """
    from matplotlib.figure import Figure

    axes_of, width = list(next(iter(shares.values()))), 0.8 / len(shares)
    figure = Figure(figsize=(max(6.5, 2.5 + 0.9 * len(shares) * len(axes_of) / 2), 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (part, own) in enumerate(shares.items()):
        left = np.arange(len(axes_of)) - 0.4 + place * width
        tone = palette(len(shares))[place]
        means = [float(np.mean(list(own[axis].values()))) for axis in axes_of]
        axes.bar(left, means, width * 0.92, align="edge", color=tone, alpha=0.4, label=part)
        for at, mean, axis in zip(left, means, axes_of, strict=True):
            axes.text(at + 0.46 * width, 1.05, f"{mean:.2f}", ha="center", fontsize=8, color=tone)
            _points(axes, own[axis], at, 0.92 * width, tone)
            level = {"invariance": levels[part], "disentanglement": 1.0}.get(axis, 0.0)
            axes.hlines(level, at, at + 0.92 * width, color="black", linestyles=DASHED, linewidth=1.1, zorder=4)
    axes.set_xticks(range(len(axes_of)), [axis.replace("_", "\n") for axis in axes_of])
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(ylim=(-0.02, 1.12), yticks=np.linspace(0, 1, 6), ylabel="share")
    axes.set_title(title, fontsize=10, loc="left")
    for marker, name in ((PROBES["slp"], NAMES["slp"]), (PROBES["mlp"], NAMES["mlp"]), ("D", "no probe")):
        axes.scatter([], [], s=14, marker=marker, color="#555555", label=name)
    axes.plot([], [], color="black", linestyle=DASHED, linewidth=1.1, label="features that say nothing")
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    order = [*shares, *(name for name in named if name not in shares)]
    figure.legend(
        [named[name] for name in order], order, fontsize=7.5, loc="outside lower left", ncols=4, frameon=False
    )
    return png(path, figure)


def _points(axes: Any, shares: Mapping[tuple[str, str], float], left: float, width: float, tone: Any) -> None:
    """Each share as a point above a bar, in the order in which they come."""
    at = left + width * (np.arange(len(shares)) + 1) / (len(shares) + 1)
    for x, ((_, probe), value) in zip(at, shares.items(), strict=True):
        axes.scatter(x, value, s=11, marker=PROBES.get(probe, "D"), color=tone, linewidths=0, zorder=3)

"""Charts drawn with matplotlib, for files; needs no display and no browser."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.chart import Axis, Chart, Panel, Parallel, Scale, Series
from analysis.style import DIVERGING, SEQUENTIAL, SHARES, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"circle": "o", "ring": "o", "star": "*", "x": "x", "diamond": "D", "square": "s", "none": ""}
NARROWEST = 6.0  # inches; a title needs as much
LETTER = 0.068  # inches of one in a legend, on average
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.formatter.limits": (-3, 5),
    "legend.frameon": False,
    "figure.dpi": 110,
}


def save(chart: Chart, path: Path) -> Path:
    """Write the chart as PNG, to a temporary name first."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = draw(chart)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        figure.savefig(temporary, format="png", dpi=130, facecolor="white")
    temporary.replace(path)
    return path


def draw(chart: Chart) -> Figure:
    """The chart as a matplotlib figure that no window system knows of."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = chart.size[0] * chart.columns, chart.size[1] * chart.rows
    width, top = max(width, NARROWEST), 0.75 + 0.35 * bool(chart.footnote)
    figure = Figure(
        figsize=(width + (0.9 if chart.scale else 0), height + top),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06),
    )
    figure.suptitle("\n".join(textwrap.wrap(chart.title, int(12 * width))), fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(chart.rows, chart.columns, squeeze=False)
    flat = list(axes.ravel())
    colors = _Colors(chart.scale)
    if chart.parallel:
        _parallel(flat[0], chart.parallel, colors)
    for ax, panel in zip(flat, chart.panels, strict=False):
        _panel(ax, panel, colors)
    for ax in flat[max(len(chart.panels), 1) :]:
        ax.axis("off")
    if chart.scale:
        _colorbar(figure, flat, chart.scale, colors)
    _legend(figure, flat, "\n".join(textwrap.wrap(chart.footnote, int(14 * width))))
    return figure


class _Colors:
    def __init__(self, scale: Scale | None) -> None:
        import matplotlib as mpl
        from matplotlib.colors import LogNorm, Normalize

        self.map = mpl.colormaps[SEQUENTIAL]
        low, high = (scale.low, scale.high) if scale else (0.0, 1.0)
        self.low = low
        self.norm = LogNorm(low, high) if scale and scale.log else Normalize(low, high)

    def __call__(self, color: Any) -> Any:
        if isinstance(color, str):
            return color
        values = np.atleast_1d(color)
        found = self.map(self.norm(np.nan_to_num(values, nan=self.low)))
        found[np.isnan(values)] = (0.6, 0.6, 0.6, 1)
        return found


def _panel(ax: Axes, panel: Panel, colors: _Colors) -> None:
    if panel.title:
        ax.set_title(wrapped(panel.title, 40), loc="left")
    if panel.heat is not None:
        _heat(ax, panel)
    elif panel.bars is not None:
        names = [wrapped(name, 24) for name in panel.bars.names]
        bars = ax.barh(names, panel.bars.values, color=panel.bars.color, height=0.6)
        ax.bar_label(bars, [f"{value:.2f}" for value in panel.bars.values], padding=3, fontsize=8)
        ax.invert_yaxis()
        ax.margins(x=0.15)
    for order, series in enumerate(panel.series):
        _series(ax, series, colors, 3 + order)
    if panel.note:
        ax.text(
            0.5, 0.5, textwrap.fill(panel.note, 34), transform=ax.transAxes, ha="center", va="center", color="#555555"
        )
        if not panel.series:
            ax.set_axis_off()
            return
    elif panel.heat is None:
        _axis(ax, panel.x, "x")
        _axis(ax, panel.y, "y")
    ax.set_xlabel(panel.x.label)
    ax.set_ylabel(panel.y.label)


def _axis(ax: Axes, axis: Axis, which: str) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    if axis.log:
        getattr(ax, f"set_{which}scale")("log")
    target = getattr(ax, f"{which}axis")
    if axis.ticks is not None:
        target.set_ticks([place for place, _ in axis.ticks], [text for _, text in axis.ticks])
        target.set_minor_locator(NullLocator())
        target.set_minor_formatter(NullFormatter())
        if which == "x" and sum(len(text) for _, text in axis.ticks) > 34:
            ax.tick_params(axis="x", rotation=35)
            for label in ax.get_xticklabels():
                label.set_horizontalalignment("right")
    if axis.limits is not None:
        getattr(ax, f"set_{which}lim")(axis.limits)
    if axis.gap is not None:
        getattr(ax, "axvline" if which == "x" else "axhline")(
            axis.gap, color="#777777", linestyle=(0, (1, 2)), linewidth=0.9
        )


def _series(ax: Axes, series: Series, colors: _Colors, order: int) -> None:
    color = colors(series.color)
    label = series.label or None
    if series.band is not None:
        ax.fill_between(series.x, *series.band, color=color, alpha=0.18, linewidth=0, zorder=order)
    if series.line:
        steps = f"steps-{series.steps}" if series.steps else "default"
        tone = color if isinstance(color, str) else color[0]
        line: dict[str, Any] = {"color": tone, "linewidth": series.line, "alpha": series.alpha, "drawstyle": steps}
        ax.plot(
            series.x,
            series.y,
            linestyle="--" if series.dash else "-",
            label=label if series.marker == "none" else None,
            zorder=order,
            **line,
        )
    if series.error_x is not None or series.error_y is not None:
        errors = {"xerr": _bars(series.error_x), "yerr": _bars(series.error_y)}
        ax.errorbar(series.x, series.y, **errors, fmt="none", ecolor=color, elinewidth=0.9, alpha=0.7, zorder=order)
    if series.marker != "none":
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": color} if series.marker == "ring" else {"c": color}
        edge = 1.1 if series.marker in ("x", "ring") else 0.3
        style |= {"s": series.size, "marker": MARKERS[series.marker], "alpha": series.alpha, "linewidths": edge}
        ax.scatter(series.x, series.y, label=label, zorder=order, **style)
    for x, y, text in zip(series.x, series.y, series.tags or [], strict=False):
        ax.annotate(text, (x, y), (4, 4), textcoords="offset points", fontsize=7, color="#333333", zorder=20)


def _bars(error: Any) -> Any:
    return None if error is None else np.nan_to_num(error)


def _heat(ax: Axes, panel: Panel) -> None:
    heat = panel.heat
    assert heat is not None
    colors = DIVERGING if heat.diverging else SHARES
    image = ax.imshow(heat.values, cmap=colors, vmin=heat.low, vmax=heat.high, aspect="auto")
    ax.grid(False)
    names = [wrapped(name, 18) for name in heat.columns]
    turned = max(len(line) for name in names for line in name.split("\n")) > 14
    ax.set_xticks(range(len(names)), names, rotation=45 if turned else 0, ha="right" if turned else "center")
    ax.set_yticks(range(len(heat.rows)), [wrapped(name, 26) for name in heat.rows])
    for (row, column), value in np.ndenumerate(heat.values):
        if np.isfinite(value):
            red, green, blue, _ = image.to_rgba(np.array([value]))[0]
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            ax.text(
                column, row, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black", fontsize=7
            )


def _parallel(ax: Axes, parallel: Parallel, colors: _Colors) -> None:
    low, high = np.nanmin(parallel.positions, axis=0), np.nanmax(parallel.positions, axis=0)
    extent = np.where(high > low, high - low, 1.0)
    heights = np.where(high > low, (parallel.positions - low) / extent, 0.5)
    order = np.argsort(np.nan_to_num(parallel.color, nan=-np.inf))
    for row in order:
        grey = np.isnan(parallel.color[row])
        tone = colors(parallel.color[row : row + 1])[0]
        ax.plot(heights[row], color=tone, linewidth=1.1, alpha=0.35 if grey else 0.8, zorder=2 if grey else 3)
    for place, axis in enumerate(parallel.axes):
        ax.axvline(place, color="#444444", linewidth=0.9, zorder=4)
        for value, text in axis.ticks or []:
            height = (value - low[place]) / extent[place] if high[place] > low[place] else 0.5
            if -0.02 <= height <= 1.02:
                note = ax.annotate(
                    text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=7.5, zorder=5
                )
                note.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})
    ax.set_xticks(range(len(parallel.axes)), [wrapped(axis.label, 18) for axis in parallel.axes])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xlim(-0.2, len(parallel.axes) - 0.6)


def _colorbar(figure: Figure, axes: list[Axes], scale: Scale, colors: _Colors) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(colors.norm, colors.map), ax=axes, shrink=0.8, aspect=30, pad=0.01)
    bar.set_label(scale.label)
    if scale.ticks:
        bar.set_ticks([place for place, _ in scale.ticks], labels=[text for _, text in scale.ticks])
        bar.ax.minorticks_off()


def _legend(figure: Figure, axes: list[Axes], footnote: str) -> None:
    """One legend for all panels below them, and the footnote with it: the layout keeps room for one thing there."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    from matplotlib.font_manager import FontProperties

    if entries:
        longest = max(len(line) for label in entries for line in label.splitlines())
        columns = max(1, int(figure.get_figwidth() / max(2.3, 0.6 + LETTER * longest)))
        legend = figure.legend(entries.values(), entries.keys(), loc="outside lower left", ncols=columns, fontsize=8)
        legend.set_title(footnote, FontProperties(size=8))
        legend.set_alignment("left")
    elif footnote:
        figure.supxlabel(footnote, fontsize=8, x=0.01, ha="left")

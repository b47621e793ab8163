"""Charts drawn with plotly, for the browser and for Aim."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.chart import Axis, Chart, Heat, Panel, Parallel, Scale, Series
from analysis.style import COLORS, DIVERGING, FONT, SEQUENTIAL, SHARES, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = {
    "circle": "circle",
    "ring": "circle-open",
    "star": "star",
    "x": "x-thin-open",
    "diamond": "diamond",
    "square": "square",
}
PIXELS = 92  # an inch of a chart, in pixels
MARGIN = {"l": 80, "r": 30, "t": 90, "b": 70}


def draw(chart: Chart) -> go.Figure:
    """The chart as a plotly figure."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    if chart.parallel:
        figure = go.Figure(_parallel(chart.parallel, chart.scale))
        figure.update_layout(**_layout(chart), height=520)
        return figure
    height = int(chart.rows * chart.size[1] * PIXELS) + MARGIN["t"] + MARGIN["b"]
    figure = make_subplots(
        rows=chart.rows,
        cols=chart.columns,
        subplot_titles=[_lines(wrapped(panel.title, 44)) for panel in chart.panels],
        horizontal_spacing=min(0.09, 0.5 / chart.columns),
        vertical_spacing=min(0.12, 95 / height),
    )
    figure.update_annotations(font_size=12)
    shown: set[str] = set()
    for index, panel in enumerate(chart.panels):
        _panel(figure, panel, chart, (index // chart.columns + 1, index % chart.columns + 1), shown)
    figure.update_layout(**_layout(chart), height=height)
    if chart.scale:
        _colorbar(figure, chart.scale)
    return figure


def _layout(chart: Chart) -> dict[str, Any]:
    small = "<br>".join(textwrap.wrap(chart.footnote, 150))
    subtitle = f"<br><span style='font-size:11px;color:#666'>{small}</span>" if small else ""
    title = "<br>".join(textwrap.wrap(chart.title, 110))
    return {
        "title": {"text": title + subtitle, "x": 0.01, "font": {"size": 15}},
        "template": "plotly_white",
        "font": {"family": FONT, "size": 11},
        "margin": {**MARGIN, "t": MARGIN["t"] + 18 * (title + subtitle).count("<br>")},
        "legend": {"orientation": "h", "x": 0.01, "y": 0.0, "yanchor": "bottom", "yref": "container"},
        "hovermode": "closest",
    }


def _panel(figure: go.Figure, panel: Panel, chart: Chart, at: tuple[int, int], shown: set[str]) -> None:
    place = {"row": at[0], "col": at[1]}
    if panel.heat is not None:
        _heat(figure, panel.heat, place)
    elif panel.bars is not None:
        names = [_lines(wrapped(name, 24)) for name in panel.bars.names]
        figure.add_bar(
            x=panel.bars.values, y=names, orientation="h", marker_color=panel.bars.color, showlegend=False, **place
        )
        figure.update_yaxes(autorange="reversed", **place)
    for series in panel.series:
        _series(figure, series, chart.scale, place, shown)
    if panel.note:
        note = {"text": "<br>".join(textwrap.wrap(panel.note, 40)), "showarrow": False, "font": {"color": "#555555"}}
        figure.add_annotation(x=0.5, y=0.5, xref="x domain", yref="y domain", **note, **place)
    if panel.heat is None:
        figure.update_xaxes(**_axis(panel.x), **place)
        figure.update_yaxes(**_axis(panel.y), **place)
    if panel.x.gap is not None:
        figure.add_vline(x=panel.x.gap, line={"color": "#777777", "width": 1, "dash": "dot"}, **place)


def _axis(axis: Axis) -> dict[str, Any]:
    options: dict[str, Any] = {
        "title": {"text": _lines(axis.label), "standoff": 6, "font": {"size": 11}},
        "exponentformat": "e",
    }
    if axis.log:
        options["type"] = "log"
    if axis.ticks is not None:
        options |= {"tickvals": [place for place, _ in axis.ticks], "ticktext": [text for _, text in axis.ticks]}
    if axis.limits is not None:
        options["range"] = list(axis.limits)
    return options


def _series(figure: go.Figure, series: Series, scale: Scale | None, place: dict[str, int], shown: set[str]) -> None:
    color = series.color if isinstance(series.color, str) else _looked_up(series.color, scale)
    single = color if isinstance(color, str) else color[0]
    if series.band is not None:
        low, high = series.band
        edge = np.concatenate([series.x, series.x[::-1]]), np.concatenate([high, low[::-1]])
        quiet = {"showlegend": False, "hoverinfo": "skip", "mode": "lines", "line": {"width": 0}}
        figure.add_scatter(x=edge[0], y=edge[1], fill="toself", fillcolor=_faint(single), **quiet, **place)
    mode = "+".join(
        name
        for name, used in (("lines", series.line), ("markers", series.marker != "none"), ("text", series.tags))
        if used
    )
    line = {"color": single, "width": series.line * 1.2, "dash": "dash" if series.dash else "solid"}
    line["shape"] = {"pre": "vh", "post": "hv"}.get(series.steps, "linear")
    figure.add_scatter(
        x=series.x,
        y=series.y,
        mode=mode,
        name=series.label,
        legendgroup=series.label or None,
        showlegend=bool(series.label) and series.label not in shown,
        opacity=series.alpha,
        line=line,
        marker={"color": color, "symbol": SYMBOLS.get(series.marker, "circle"), "size": series.size**0.5 * 1.25},
        error_x=_errors(series.error_x, single),
        error_y=_errors(series.error_y, single),
        text=series.tags,
        textposition="top right",
        textfont={"size": 10},
        hovertext=series.hover,
        **place,
    )
    shown.add(series.label)


def _errors(error: Any, color: str) -> dict[str, Any] | None:
    if error is None or not np.isfinite(error).any():
        return None
    return {"type": "data", "array": np.nan_to_num(error), "color": color, "thickness": 1, "width": 0}


def _heat(figure: go.Figure, heat: Heat, place: dict[str, int]) -> None:
    figure.add_heatmap(
        z=heat.values,
        x=[_lines(wrapped(name, 18)) for name in heat.columns],
        y=[_lines(wrapped(name, 26)) for name in heat.rows],
        zmin=heat.low,
        zmax=heat.high,
        colorscale=DIVERGING if heat.diverging else SHARES,
        texttemplate="%{z:.2f}",
        colorbar={"thickness": 12},
        hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        **place,
    )
    figure.update_yaxes(autorange="reversed", automargin=True, **place)
    figure.update_xaxes(tickangle=-40, automargin=True, **place)


def _parallel(parallel: Parallel, scale: Scale | None) -> go.Parcoords:
    import plotly.graph_objects as go

    dimensions = []
    for column, axis in enumerate(parallel.axes):
        values = parallel.positions[:, column]
        low, high = float(np.min(values)), float(np.max(values))
        dimension: dict[str, Any] = {"label": axis.label, "values": values}
        dimension["range"] = [low, high] if high > low else [low - 1, low + 1]
        if axis.ticks:
            dimension |= {"tickvals": [place for place, _ in axis.ticks], "ticktext": [text for _, text in axis.ticks]}
        dimensions.append(dimension)
    line: dict[str, Any] = {"color": COLORS["blue"]}
    if scale:
        filled = np.where(np.isnan(parallel.color), scale.low, parallel.color)
        bar = {"title": {"text": _lines(wrapped(scale.label, 16))}, "thickness": 14}
        line = {
            "color": filled,
            "colorscale": SEQUENTIAL,
            "cmin": scale.low,
            "cmax": scale.high,
            "showscale": True,
            "colorbar": bar,
        }
    return go.Parcoords(dimensions=dimensions, line=line, labelangle=-12, labelside="bottom")


def _looked_up(values: Any, scale: Scale | None) -> list[str]:
    from plotly.colors import sample_colorscale

    numbers = np.atleast_1d(np.asarray(values, float))
    if scale is None:
        return [COLORS["grey"]] * len(numbers)
    low, high = scale.low, scale.high
    if scale.log:
        numbers, low, high = np.log10(numbers), np.log10(low), np.log10(high)
    share = np.clip((numbers - low) / ((high - low) or 1.0), 0, 1)
    found = sample_colorscale(SEQUENTIAL, list(np.nan_to_num(share)))
    return [COLORS["grey"] if np.isnan(part) else str(tone) for part, tone in zip(share, found, strict=True)]


def _colorbar(figure: go.Figure, scale: Scale) -> None:
    turn = np.log10 if scale.log else np.asarray
    bar: dict[str, Any] = {"title": {"text": _lines(wrapped(scale.label, 16))}, "thickness": 12, "len": 0.8}
    if scale.ticks:
        bar |= {
            "tickvals": [float(turn(place)) for place, _ in scale.ticks],
            "ticktext": [text for _, text in scale.ticks],
        }
    limits = {"cmin": float(turn(scale.low)), "cmax": float(turn(scale.high))}
    marker = {
        "color": [limits["cmin"]],
        "colorscale": SEQUENTIAL,
        **limits,
        "showscale": True,
        "colorbar": bar,
        "opacity": 0,
    }
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip")


def _faint(color: str) -> str:
    if not color.startswith("#"):
        return color
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")

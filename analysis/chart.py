"""What a figure shows, apart from how it is drawn: small multiples of points, lines, bands, bars and heat maps.

`analysis.paper` draws a chart with matplotlib for files, `analysis.interactive` with plotly for the browser and Aim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Marker = Literal["circle", "ring", "star", "x", "diamond", "square", "none"]


@dataclass(frozen=True)
class Axis:
    """An axis with its label (unit included); `ticks` are (position, text), None leaves them to the renderer."""

    label: str = ""
    log: bool = False
    ticks: list[tuple[float, str]] | None = None
    limits: tuple[float, float] | None = None
    gap: float | None = None  # position of the break between an extra tick (zero, "absent") and the rest


@dataclass(frozen=True)
class Series:
    """Points, a line, or both: n positions `x` and `y`.

    Attributes:
        label: entry of the legend; the same label has one entry in the whole chart, "" has none.
        color: a colour, or n (or one) numbers that are looked up on the chart's colour scale.
        size: area of a marker, points squared.
        line: width of the line, 0 = none; `dash` breaks it; `steps`: the line goes in steps, as matplotlib names them.
        error_x, error_y: half-lengths of error bars, n numbers, missing = none.
        band: (lower, upper) edge of a shaded band, n numbers each.
        hover: n texts shown under the pointer; `tags`: n short texts written beside the points.
    """

    x: Array
    y: Array
    label: str = ""
    color: str | Array = "#000000"
    marker: Marker = "circle"
    size: float = 28
    line: float = 0.0
    dash: bool = False
    steps: str = ""
    alpha: float = 1.0
    error_x: Array | None = None
    error_y: Array | None = None
    band: tuple[Array, Array] | None = None
    hover: list[str] | None = None
    tags: list[str] | None = None


@dataclass(frozen=True)
class Heat:
    """A matrix of values (rows, columns) written into its cells; missing cells stay empty."""

    values: Array
    rows: list[str]
    columns: list[str]
    low: float
    high: float
    diverging: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero, the first on top."""

    names: list[str]
    values: Array
    color: str


@dataclass(frozen=True)
class Panel:
    """One of the small multiples; `note` is written in the middle of it, for a panel without data."""

    title: str = ""
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    series: list[Series] = field(default_factory=list)
    heat: Heat | None = None
    bars: Bars | None = None
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """The colour scale of numbers in `Series.color`."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: `positions` (n, axes), `color` (n,) on the chart's scale; lines of NaN colour are grey."""

    axes: list[Axis]
    positions: Array
    color: Array


@dataclass(frozen=True)
class Chart:
    """A figure: `panels` in rows of `columns`, each `size` inches (width, height); or one `parallel`."""

    title: str
    panels: list[Panel]
    columns: int = 3
    size: tuple[float, float] = (3.9, 2.9)
    scale: Scale | None = None
    parallel: Parallel | None = None
    footnote: str = ""

    @property
    def rows(self) -> int:
        """Number of rows of panels."""
        return max(1, -(-len(self.panels) // self.columns))


def parameter_axis(name: str, entry: dict[str, Any] | None, values: Sequence[Any]) -> tuple[Axis, Array]:
    """The axis of a parameter and the position of each of its `values` on it; None (inactive) has position NaN.

    Categories stand at 0, 1, ...; on a logarithmic axis zero gets an extra tick left of the smallest positive value.
    """
    given = [value for value in values if not _absent(value)]
    if (entry or {}).get("kind") == "choice" or any(isinstance(value, bool | str | list | tuple) for value in given):
        return _categories(name, (entry or {}).get("values", []), values)
    numbers = np.array([np.nan if _absent(value) else float(value) for value in values])
    if not (entry or {}).get("log"):
        return Axis(name), numbers
    return _logarithmic(name, numbers)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _categories(name: str, choices: Sequence[Any], values: Sequence[Any]) -> tuple[Axis, Array]:
    def named(value: Any) -> str:
        # a table with gaps has made floats of whole numbers
        same = (choice for choice in choices if choice == value and isinstance(choice, bool) == isinstance(value, bool))
        return str(next(same, value))

    names = list(dict.fromkeys([str(choice) for choice in choices] + [named(v) for v in values if not _absent(v)]))
    positions = [np.nan if _absent(value) else float(names.index(named(value))) for value in values]
    ticks = [(float(place), text) for place, text in enumerate(names)]
    return Axis(name, ticks=ticks, limits=(-0.5, max(len(names), 1) - 0.5)), np.array(positions)


def _logarithmic(name: str, numbers: Array) -> tuple[Axis, Array]:
    positive = numbers[numbers > 0]
    if not len(positive) or (numbers < 0).any():
        return Axis(name), numbers
    low, high = positive.min(), positive.max()
    ticks = log_ticks(low, high)
    if not (numbers == 0).any():
        return Axis(name, log=True, ticks=ticks), numbers
    step = max((high / low) ** 0.12, 1.5)
    place = low / step**2
    positions = np.where(numbers == 0, place, numbers)
    return Axis(name, log=True, ticks=[(place, "0"), *ticks], gap=low / step), positions


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Three to seven ticks of a logarithmic axis: decades, or 1-2-5 steps where it spans fewer than two."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    decades = np.log10(high / low)
    steps = [1.0] if decades >= 2 else [1.0, 2.0, 5.0] if decades >= 0.7 else [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
    every = max(1, round(decades / 6))
    places = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    inside = [place for place in places if low * 0.98 <= place <= high * 1.02]
    return [(place, number(place)) for place in (inside if len(inside) > 1 else [low, high][: 1 + (high > low)])]


def number(value: float) -> str:
    """A number as short as a tick needs it: 0.001, 300, 1e5, 2e-6."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"

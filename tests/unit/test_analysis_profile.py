"""Profiles of a sweep: which figures there are, what they show, and that hundreds of other metrics do not hide them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analysis_synthetic import TOP1, Story, duet, objective

from analysis import profile
from analysis.chart import Chart, Series
from analysis.frames import PROFILED, collect
from analysis.report import charts, figures, report
from sweep.records import Records
from trainables.evals import profile as evaluation

LAMBDA = {"kind": "float", "low": 1.0, "high": 1e4, "log": True, "also": [0.0]}
METHOD = {"kind": "choice", "values": ["duet", "simclr"]}
VALUES = [0.0, 1.0, 10.0, 100.0, 1000.0]


def axes(power: float, part: str) -> dict[str, float]:
    """Of one part: equivariance rises with lambda, invariance falls."""
    rising, weak = 0.1 + 0.2 * power, 0.5 if part == "content" else 1.0
    own = (0.5, rising * weak, 0.2, 0.9 - 0.1 * power, 0.8, 0.3)
    return dict(zip((*PROFILED, profile.CHANCE), own, strict=True))


def story(folder: Path, seeds: int = 2, values: list[float] = VALUES, key: str = "profile") -> Records:
    told = Story(folder, [objective(f"{key}/all/val/informativeness")], {"method.lambda": LAMBDA, "method": METHOD},
                 seeds=seeds)  # fmt: skip
    for number, value in enumerate(values):
        params = {"method.lambda": value, "method": ("duet", "simclr")[number % 2]}
        metrics: dict[str, float] = {
            f"{key}/{part}/{split}/{name}": share
            for part in ("all", "content")
            for split in ("val", "test")
            for name, share in axes(np.log10(value + 1), part).items()
        }
        metrics |= {f"informativeness/all/val/f{factor}_slp_r2": 0.1 * factor for factor in range(9)}
        noisy = [{name: v + 0.02 * seed for name, v in metrics.items()} for seed in range(seeds)]
        told.finish(told.propose(params)[0], noisy)
    return told.records


def named(chart: Chart, panel: int = 0) -> dict[str, Series]:
    return {series.label: series for series in chart.panels[panel].series if series.label}


def test_axes_are_those_of_the_evaluation() -> None:
    assert PROFILED == evaluation.AXES and profile.CHANCE == evaluation.CHANCE


def test_configurations_beside_each_other(tmp_path: Path) -> None:
    chart = charts(collect(story(tmp_path)))["profile"]
    assert [panel.title for panel in chart.panels] == ["all", "content"]
    lines = named(chart)
    assert len(lines) == len(VALUES) + 1
    line = next(one for label, one in lines.items() if label.startswith("#3 lambda 100"))
    assert line.y == pytest.approx(np.array([0.51, 0.1 + 0.2 * np.log10(101) + 0.01, 0.21, 0.9 - 0.1 * np.log10(101)
                                             + 0.01, 0.81]))  # fmt: skip
    assert line.error_y is not None and line.error_y == pytest.approx(0.02 / 2**0.5)
    assert lines[profile.NOTHING].y == pytest.approx(np.array([0, 0, 0, 0.31, 1]))
    assert next(one for label, one in named(chart, 1).items() if label.startswith("#3")).y[1] < line.y[1]


def test_many_configurations_are_the_best_ones(tmp_path: Path) -> None:
    chart = charts(collect(story(tmp_path, values=[float(number) for number in range(12)])))["profile"]
    assert len(named(chart)) == profile.MOST + 1 and "7 of 12 configurations, the best first" in chart.footnote


def test_axes_against_what_was_searched(tmp_path: Path) -> None:
    drawn = charts(collect(story(tmp_path)))
    assert [name for name in drawn if name.startswith("profile")] == [
        "profile", "profile-method.lambda", "profile-method",
    ]  # fmt: skip
    along = drawn["profile-method.lambda"].panels[0]
    points = named(drawn["profile-method.lambda"])
    assert set(points) == {name.replace("_", " ") for name in (*PROFILED, profile.CHANCE)}
    assert along.x.log and along.x.gap is not None
    assert points["parameter equivariance"].y[0] == pytest.approx(0.11 + 0.2 * np.log10(1))
    trend = [series for series in along.series if series.marker == "none"]
    assert len(trend) == 6 and all(min(series.x) > along.x.gap for series in trend), "zero is no part of the trend"
    assert (np.diff(trend[2].y) > 0).all() and (np.diff(trend[4].y) < 0).all()
    squares = named(drawn["profile-method"])["informativeness"]
    assert squares.marker == "square" and len(squares.x) == 2 and squares.y == pytest.approx(0.51)


def test_what_a_profile_is_made_of_has_no_panels_of_its_own(tmp_path: Path) -> None:
    results = collect(story(tmp_path / "with"))
    assert not any(metric.startswith("informativeness/") for metric in results.shown)
    assert any(metric.startswith("informativeness/") for metric in results.metrics), "the table has them"
    assert not any("/test/" in metric for metric in results.shown)
    without = duet(tmp_path / "without", 4)
    assert not [name for name in charts(collect(without)) if name.startswith("profile")]
    told = Story(tmp_path / "alone", [objective(TOP1)], {"method.lambda": LAMBDA})
    told.finish(told.propose({"method.lambda": 1.0})[0], [{TOP1: 0.5, "informativeness/all/val/hue_slp_r2": 0.5}])
    assert "informativeness/all/val/hue_slp_r2" in collect(told.records).shown


def test_the_report_and_aim_have_them(tmp_path: Path) -> None:
    records = story(tmp_path / "sweep", seeds=1)
    page = report(records, tmp_path / "out").read_text()
    drawn: dict[str, Any] = figures(records)
    for name in ("profile", "profile-method.lambda", "profile-method"):
        assert f"<h2 id='{name}'>" in page and name in drawn
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 20_000

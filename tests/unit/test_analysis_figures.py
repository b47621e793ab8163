"""Trends, axes, importance, correlation, comparison, and that every figure and the report hold in every state."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_analysis_synthetic import KNN, RANK, ROT, SPACE, TEST, TOP1, Story, duet, objective

from analysis import curves
from analysis.chart import Chart, Panel, Series, log_ticks, number, parameter_axis
from analysis.compare import best_so_far, compare, compare_chart, configurations_chart, correlation, disagreements
from analysis.frames import collect
from analysis.importance import importance
from analysis.paper import draw, save
from analysis.report import charts, figures, report
from analysis.style import wrapped
from sweep.records import Records

Y = "linear/all/val/top1"


def study(
    folder: Path, space: dict[str, Any], points: list[tuple[dict[str, Any], float]], direction: str = "max"
) -> Records:
    story = Story(folder, [objective(Y, direction)], space)
    for params, value in points:
        story.finish(story.propose(params)[0], [{Y: value}])
    return story.records


@pytest.mark.parametrize("letters", [5, 36])
def test_a_legend_stays_inside_its_figure(letters: int) -> None:
    point = np.zeros(1)
    names = [f"{number} {'method duet, lambda 10, lr 2e-3, epochs 40'[:letters]}" for number in range(7)]
    figure = draw(Chart("title", [Panel(series=[Series(point, point, name) for name in names])] * 3))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_configurations_stand_beside_each_other_named_by_what_differs(tmp_path: Path) -> None:
    records = study(tmp_path, {"method.lambda": {"kind": "float", "low": 1, "high": 1e4, "log": True}},
                    [({"method.lambda": 1.0}, 0.5), ({"method.lambda": 100.0}, 0.75)])  # fmt: skip
    chart = configurations_chart(collect(records), [Y])
    assert chart is not None
    (panel,) = chart.panels
    named = {text: place for place, text in panel.y.ticks or []}
    assert named["#0 lambda 1"] > named["#1 lambda 100"], "the first is on top"
    values = dict(zip(panel.series[0].y, panel.series[0].x, strict=True))
    assert values[named["#0 lambda 1"]] == 0.5 and values[named["#1 lambda 100"]] == 0.75
    report(records, tmp_path / "report", ["linear/*/val/*"])
    assert (tmp_path / "report" / "figures" / "configurations.png").exists()


# -- axes -----------------------------------------------------------------------------------------------------------


def test_whole_numbers_of_a_choice_are_not_told_apart_from_their_floats() -> None:
    axis, places = parameter_axis(
        "x", {"kind": "choice", "values": [10, 100, True]}, [100.0, float("nan"), 10.0, True, 1]
    )
    assert [text for _, text in axis.ticks or ()] == ["10", "100", "True", "1"]
    assert places[[0, 2, 3, 4]].tolist() == [1, 0, 2, 3]


def test_zero_on_a_logarithmic_axis_has_a_tick_of_its_own_left_of_the_rest() -> None:
    axis, places = parameter_axis("x", {"kind": "float", "log": True}, [0.0, 1.0, 1000.0, None])
    assert axis.log and axis.ticks is not None and axis.gap is not None
    assert axis.ticks[0] == (places[0], "0")
    assert 0 < places[0] < axis.gap < places[1] == 1.0
    assert np.isnan(places[3])


def test_categories_stand_in_the_order_of_the_space() -> None:
    entry = {"kind": "choice", "values": ["vm", "ga", [1, 2]]}
    axis, places = parameter_axis("x", entry, ["ga", "vm", [1, 2], None])
    assert places[:3].tolist() == [1, 0, 2] and np.isnan(places[3])
    assert [text for _, text in axis.ticks or []] == ["vm", "ga", "[1, 2]"]


@pytest.mark.parametrize(("low", "high"), [(1, 1e4), (0.3, 0.9), (1e-12, 1e6), (200, 600), (5, 5), (1.01, 1.02)])
def test_logarithmic_ticks_lie_inside_and_are_few(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low * 0.97 <= place <= high * 1.03 for place, _ in ticks)


def test_numbers_and_names_are_short_enough_to_read() -> None:
    assert [number(value) for value in (0, 0.001, 300, 1e5, 2e-6)] == ["0", "0.001", "300", "1e5", "2e-6"]
    name = "transform_parameter/group/val/rot_r2"
    assert wrapped(name, 28).replace("\n", "") == name
    assert max(map(len, wrapped(name, 18).split("\n"))) <= 19


# -- curves ---------------------------------------------------------------------------------------------------------


def test_the_running_median_follows_a_step_and_ignores_an_outlier() -> None:
    x = np.arange(30.0)
    y = np.where(x < 15, 0.0, 1.0)
    y[5] = 50.0
    places, median, low, high = curves.running_median(x[::-1], y[::-1])
    assert places.tolist() == x.tolist()
    assert median[5] == 0.0 and median[0] == 0.0 and median[-1] == 1.0
    assert (low <= median).all() and (median <= high).all()


def test_a_grid_has_the_mean_and_deviation_of_each_value() -> None:
    places, mean, low, high = curves.grid_trend(np.array([2.0, 1, 2, 1, 3]), np.array([4.0, 1, 6, 1, 7]))
    assert places.tolist() == [1, 2, 3] and mean.tolist() == [1, 5, 7]
    assert (high - low).tolist() == pytest.approx([0, 2 * 2**0.5, 0])


def test_sensitivity_shows_every_metric_every_seed_and_the_known_points(tmp_path: Path) -> None:
    results = collect(duet(tmp_path, count=12, seeds=2))
    chart = curves.sensitivity(results, "method.lambda")
    assert {panel.title.split(" ")[0] for panel in chart.panels} == {TOP1, KNN, ROT, RANK}, (
        "the test split is not shown"
    )
    assert len(curves.sensitivity(results, "method.lambda", [TEST]).panels) == 1, "unless it is asked for"
    panel = chart.panels[0]
    parts = {series.label: series for series in panel.series}
    assert len(parts["one seed"].x) == 24 and len(parts["configuration (mean over seeds)"].x) == 12
    assert panel.x.gap is not None
    assert sorted(parts["known point"].x)[1] == 1000.0
    assert min(parts["trend"].x) > panel.x.gap
    with pytest.raises(ValueError, match=r"method\.lamda: is not searched.*method\.lambda"):
        curves.sensitivity(results, "method.lamda")


def test_the_values_of_a_grid_have_a_mean_each_however_many_they_are(tmp_path: Path) -> None:
    space = {"method.lambda": {"kind": "float", "low": 1, "high": 1e4, "log": True}}
    records = study(tmp_path, space, [({"method.lambda": 1.5**place}, place % 2) for place in range(14)])
    for sampler in ("tpe", "grid"):
        records.manifest["sweep"]["search"] = {"sampler": sampler}
        chart = curves.sensitivity(collect(records), "method.lambda")
        trend = next(one for one in chart.panels[0].series if one.label == "trend")
        assert trend.band is not None
        assert (trend.band[0] == trend.band[1]).all() == (sampler == "grid"), "one value has no deviation"
        assert ("mean of each value" in chart.footnote) == (sampler == "grid")


def test_a_conditional_parameter_is_drawn_where_it_is_active(tmp_path: Path) -> None:
    results = collect(duet(tmp_path, count=20))
    active = results.finished["method.kappa"].notna().sum()
    chart = curves.sensitivity(results, "method.kappa")
    assert f"{active} complete configurations where method.target = vm" in chart.footnote
    assert max(len(series.x) for series in chart.panels[0].series) == active < 20


def test_training_curves_are_one_line_a_trial_on_the_parameters_scale(tmp_path: Path) -> None:
    results = collect(duet(tmp_path, count=8))
    chart = curves.training(results)
    assert [panel.title for panel in chart.panels] == ["loss", "lr"]
    assert len(chart.panels[0].series) == 9  # eight complete and the pruned one
    assert chart.scale is not None and chart.scale.log and chart.scale.ticks[0][1] == "0"
    shown = [float(np.asarray(series.color).item()) for series in chart.panels[0].series]
    assert chart.scale.low <= min(shown) and max(shown) <= chart.scale.high
    many = curves.training(collect(duet(tmp_path / "many", count=70)), "method.target")
    assert len(many.panels[0].series) <= curves.MAX_CURVES and "of 73 trials" in many.footnote


# -- importance -----------------------------------------------------------------------------------------------------

SQUARE = {"a": {"kind": "float", "low": 0.0, "high": 1.0}, "b": {"kind": "float", "low": 0.0, "high": 1.0}}


@pytest.mark.parametrize("evaluator", ["ped-anova", "fanova"])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_parameter_that_decides_is_the_important_one(tmp_path: Path, evaluator: Any, direction: str) -> None:
    rng = np.random.default_rng(0)
    points = [({"a": float(a), "b": float(b)}, float((a - 0.3) ** 2 + 0.01 * b)) for a, b in rng.uniform(size=(60, 2))]
    found = importance(study(tmp_path, SQUARE, points, direction), evaluator=evaluator)
    assert found.shares.index[0] == "a" and found.shares.loc["a", Y] > 0.8
    assert found.shares[Y].sum() == pytest.approx(1)


@pytest.mark.parametrize("evaluator", ["ped-anova", "fanova"])
def test_conditional_constant_categorical_and_outlying_values_are_handled(tmp_path: Path, evaluator: Any) -> None:
    space = {**SPACE, "method.depth": {"kind": "choice", "values": [[1, 2], [3]]}, "method.fixed": SQUARE["a"]}
    rng = np.random.default_rng(1)
    points: list[tuple[dict[str, Any], float]] = []
    for place in range(120):
        target = "vm" if place % 8 == 1 else "ga"  # as rare as the best tenth, which PED-ANOVA looks at
        params: dict[str, Any] = {
            "method.lambda": 0.0 if place == 0 else float(10 ** rng.uniform(0, 4)),
            "method.bins": 4 + place % 5,
        }
        params |= {"method.target": target, "method.fixed": 0.5, "method.depth": [[1, 2], [3]][place % 3 == 0]}
        if target == "vm":
            params["method.kappa"] = float(rng.uniform(0.5, 30))
        points.append((params, float(target == "vm") + 0.01 * rng.normal()))
    points.append(({**points[1][0], "method.bins": 99}, 0.5))
    found = importance(study(tmp_path, space, points), evaluator=evaluator)
    assert set(found.shares.index) == {"method.lambda", "method.bins", "method.target", "method.kappa", "method.depth"}
    assert found.shares[Y].drop("method.kappa").idxmax() == "method.target"
    assert found.shares[Y].sum() == pytest.approx(1)
    assert "left out, since it never varied: method.fixed" in found.notes
    assert any(note.startswith("1 configurations outside the space") for note in found.notes)


def test_too_little_is_said_in_one_line_and_never_raised(tmp_path: Path) -> None:
    few = importance(study(tmp_path, SQUARE, [({"a": 0.1, "b": 0.2}, 0.3), ({"a": 0.2, "b": 0.3}, 0.4)]))
    assert few.shares.empty and few.notes == [
        "importance needs at least 10 complete configurations inside the space; there are 2"
    ]
    flat = importance(study(tmp_path, SQUARE, [({"a": i / 20, "b": 0.1 * (i % 3)}, 0.5) for i in range(12)]))
    assert flat.notes == [f"{Y}: is the same in every configuration, so nothing is important for it"]
    first = importance(study(tmp_path, SQUARE, [({"a": i / 20, "b": 0.1 * (i % 3)}, float(i)) for i in range(12)]))
    assert not first.shares.empty and "only 12 configurations" in first.notes[0]


def test_an_unknown_metric_or_evaluator_is_refused(tmp_path: Path) -> None:
    records = study(tmp_path, SQUARE, [({"a": 0.1, "b": 0.2}, 0.3)])
    with pytest.raises(ValueError, match="no such metric"):
        importance(records, ["nothing/all/val/x"])
    with pytest.raises(ValueError, match="must be 'ped-anova' or 'fanova'"):
        importance(records, evaluator="shap")  # type: ignore[arg-type]


# -- comparing ------------------------------------------------------------------------------------------------------


def test_metrics_that_pull_apart_are_named(tmp_path: Path) -> None:
    story = Story(tmp_path, [objective(TOP1), objective(ROT)], SQUARE)
    for place in range(6):
        metrics = {
            TOP1: 0.1 * place,
            ROT: 1 - 0.1 * place**2,
            KNN: 5.0,
            RANK: float("nan") if place < 4 else 1.0 * place,
        }
        story.finish(story.propose({"a": 0.1 * place, "b": 0.5})[0], [metrics])
    results = collect(story.records)
    matrix = correlation(results)
    assert matrix.loc[TOP1, ROT] == pytest.approx(-1) and matrix.loc[TOP1, TOP1] == 1
    assert np.isnan(matrix.loc[TOP1, KNN]) and np.isnan(matrix.loc[TOP1, RANK])
    assert disagreements(results) == [f"{TOP1} and {ROT} pull against each other (rank correlation -1.00)"]


def test_sweeps_are_compared_by_hypervolume_to_one_reference_point(tmp_path: Path) -> None:
    small, large = duet(tmp_path / "a", count=10, seed=1), duet(tmp_path / "b", count=30, seed=2)
    frame = compare([small, large])
    assert frame["sweep"].tolist() == ["duet_rotation (a)", "duet_rotation (b)"]
    assert (frame["share"] <= 1 + 1e-9).all() and frame["hypervolume"].gt(0).all()
    assert frame["complete"].tolist() == [10, 30]
    alone = compare([large])
    assert alone["share"].tolist() == pytest.approx([1])
    again = compare([large, large])
    assert again["hypervolume"].nunique() == 1
    labels = [series.label for series in compare_chart([small, large]).panels[0].series if series.label]
    assert [label.split(" (HV")[0] for label in labels] == frame["sweep"].tolist()


def test_sweeps_that_share_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share no objective"):
        compare([duet(tmp_path / "a", 4, objectives=(TOP1,)), duet(tmp_path / "b", 4, objectives=(ROT,))])
    up, down = study(tmp_path, SQUARE, []), study(tmp_path, SQUARE, [], "min")
    with pytest.raises(ValueError, match="maximises it and another minimises"):
        compare([up, down])
    with pytest.raises(ValueError, match="no sweep to compare"):
        compare([])
    assert np.isnan(compare([up])["hypervolume"].iloc[0])


def test_the_best_so_far_never_gets_worse(tmp_path: Path) -> None:
    for folder, objectives in (("one", (TOP1,)), ("two", (TOP1, ROT))):
        line = best_so_far(collect(duet(tmp_path / folder, 15, objectives=objectives))).panels[0].series[-1]
        assert (np.diff(line.y) >= 0).all() and len(line.y) == 14


# -- report ---------------------------------------------------------------------------------------------------------

SHAPES: dict[str, dict[str, Any]] = {
    "one objective, three seeds": {"count": 14, "seeds": 3, "objectives": (TOP1,)},
    "three objectives": {"count": 14, "objectives": (TOP1, ROT, RANK)},
    "few, running": {"count": 2, "done": False},
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_report_is_whole_and_needs_no_network(tmp_path: Path, shape: str) -> None:
    records = duet(tmp_path / "sweep", **SHAPES[shape])
    page = report(records, tmp_path / "out").read_text()
    names = list(charts(collect(records)))
    assert sorted(path.stem for path in (tmp_path / "out" / "figures").iterdir()) == sorted(names)
    assert all(f"<h2 id='{name}'>" in page for name in names)
    assert ("pareto" in names) == (len(records.objectives) > 1)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "diverged: the loss was not finite at epoch 2 &lt;nan&gt;" in page
    assert "asha: below the best third" in page and "torch 2.11.0" in page and "git checkout 0123abc" in page
    assert f"sweep retry {tmp_path}/sweep --failed" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "report.html", "table.csv"]


def test_a_sweep_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    story = Story(tmp_path / "sweep", [objective(TOP1), objective(ROT)], SPACE)
    assert "not started" in report(story.records, tmp_path / "out").read_text()
    story.propose({"method.lambda": 3.0, "method.bins": 4, "method.target": "ga"})
    page = report(story.records, tmp_path / "out").read_text()
    assert "not finished" in page and "no configuration is complete yet (1 running)" in page


def test_aim_gets_every_figure_as_plotly(tmp_path: Path) -> None:
    records = duet(tmp_path, count=12, seeds=2)
    drawn = figures(records)
    assert list(drawn) == list(charts(collect(records)))
    kinds = {name: {trace.type for trace in figure.data} for name, figure in drawn.items()}
    assert kinds["parallel"] == {"parcoords"} and kinds["importance"] == {"heatmap"} and kinds["pareto"] == {"scatter"}
    shown = [trace.name for trace in drawn["sensitivity-method.lambda"].data if trace.showlegend]
    assert len(shown) == len(set(shown))


def test_the_comparison_can_be_drawn(tmp_path: Path) -> None:
    one = duet(tmp_path / "a", 6)
    path = save(compare_chart([one, duet(tmp_path / "b", 6, seed=3)]), tmp_path / "compare.png")
    assert path.read_bytes().startswith(b"\x89PNG")

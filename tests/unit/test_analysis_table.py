"""Tables, their files, and what is called the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_analysis_synthetic import RANK, ROT, SPACE, TEST, TOP1, Story, duet, fail, objective

from analysis.frames import collect, std
from analysis.table import best, chosen, markdown, spread, table, write

LINE = {"method.lambda": SPACE["method.lambda"]}


def line(folder: Path, per_configuration: list[list[float]], direction: str = "max", **finish: Any) -> Story:
    """A sweep of one objective whose values per seed are given."""
    story = Story(folder, [objective(TOP1, direction)], LINE, seeds=len(per_configuration[0]))
    for place, values in enumerate(per_configuration):
        number, _ = story.propose({"method.lambda": float(10**place)})
        story.finish(number, [{TOP1: value, TEST: 1 - value} for value in values], **finish)
    return story


def test_a_configuration_has_mean_and_sample_deviation_over_seeds(tmp_path: Path) -> None:
    story = line(tmp_path, [[0.5, 0.6, 0.7], [0.8, 0.8, 0.8]])
    frame = table(story.records)
    assert list(frame["configuration"]) == [1, 0]
    assert list(frame.columns[:4]) == ["configuration", "state", TOP1, std(TOP1)]
    assert frame[TOP1].tolist() == pytest.approx([0.8, 0.6])
    assert frame[std(TOP1)].tolist() == pytest.approx([0.0, 0.1])
    assert frame["seeds"].tolist() == [3, 3]
    assert frame["seconds"].tolist() == pytest.approx([3 * 243.0] * 2)


def test_a_table_as_papers_have_it(tmp_path: Path) -> None:
    story = line(tmp_path, [[0.5, 0.6, 0.7], [0.8, 0.8, 0.8]])
    frame = chosen(story.records, [TEST, "linear/*/val/*"])
    assert list(frame.columns) == ["configuration", "method.lambda", "seeds", TEST, TOP1]
    assert frame[TOP1].tolist() == ["0.60 ± 0.10", "0.8"]
    assert frame["configuration"].tolist() == [0, 1]
    for number, loss in ((0, 2.0), (1, 3.0)):
        for id_ in story.records.configurations[number].trials:
            folder = story.records.directory / "trials" / id_
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "progress.jsonl").write_text(f'{{"epoch": 1, "nce": 9}}\n{{"epoch": 2, "nce": {loss}}}\n')
    assert chosen(story.records, ["train/nce"])["train/nce"].tolist() == ["2", "3"]
    with pytest.raises(ValueError, match="nothing/\\*: matches none of the 2 metrics"):
        chosen(story.records, ["nothing/*"])


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (86.2134, 2.071, "86.2 ± 2.1"),
        (0.9051, 0.00309, "0.9051 ± 0.0031"),
        (1234.5, 210.0, "1234 ± 210"),
        (0.5, 0, "0.5"),
    ],
)
def test_a_mean_has_the_digits_that_its_deviation_supports(mean: float, deviation: float, text: str) -> None:
    assert spread(mean, deviation) == text


def test_a_failed_seed_of_a_complete_configuration_does_not_enter_the_mean(tmp_path: Path) -> None:
    story = line(tmp_path, [[0.5, 0.7]])
    story.tell("end", id=story.records.configurations[0].trials[1], status="failed", reason="lost")
    frame = table(story.records)
    assert frame[TOP1].tolist() == pytest.approx([0.5])
    assert frame["seeds"].tolist() == [1]


def test_rows_go_by_state_then_feasibility_then_rank(tmp_path: Path) -> None:
    frame = table(duet(tmp_path, count=20))
    assert list(frame["state"]) == ["complete"] * 20 + ["running", "pruned", "failed"]
    done = frame[frame["state"] == "complete"]
    assert done["configuration"].iloc[-1] == 7 and done["violation"].iloc[-1] > 0
    ranked = done["rank"].iloc[:-1]
    assert ranked.is_monotonic_increasing and ranked.iloc[0] == 0
    assert pd.isna(done["rank"].iloc[-1]) and frame["rank"].iloc[20:].isna().all()
    assert std(TOP1) not in frame


@pytest.mark.parametrize("by", ["configuration", "trial", "evaluation"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".md", ".json"])
def test_every_table_can_be_written_and_leaves_no_other_file(tmp_path: Path, by: Any, ending: str) -> None:
    frame = table(duet(tmp_path / "sweep", count=6, seeds=2), by)
    path = write(frame, tmp_path / "out" / f"table{ending}")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if ending == ".csv":
        assert len(pd.read_csv(path)) == len(frame)
    elif ending == ".parquet":
        back = pd.read_parquet(path)
        assert list(back.columns) == list(frame.columns)
        assert np.allclose(back[TOP1].astype(float), frame[TOP1].astype(float), equal_nan=True)
    elif ending == ".json":
        rows = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
        assert len(rows) == len(frame)
    else:
        assert len(path.read_text().splitlines()) == len(frame) + 2


def test_mixed_and_nested_choices_can_be_written_as_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"method.sizes": [[1, 2], "auto", 3], "a|b": ["x", None, "y|z"]})
    back = pd.read_parquet(write(frame, tmp_path / "t.parquet"))
    assert list(back["method.sizes"]) == ["[1, 2]", "auto", "3"]
    assert markdown(frame).splitlines()[4] == "| 3 | y\\|z |"


def test_wrong_endings_and_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv, \.json, \.md, \.parquet"):
        write(pd.DataFrame(), tmp_path / "t.xlsx")
    with pytest.raises(ValueError, match="configuration, trial or evaluation"):
        table(duet(tmp_path, count=2), "day")  # type: ignore[arg-type]


def test_a_clear_winner_is_declared_with_its_test_metric_beside(tmp_path: Path) -> None:
    found = best(line(tmp_path, [[0.50, 0.51, 0.52], [0.80, 0.81, 0.82], [0.3, 0.31, 0.32]]).records)
    assert found.decided and not found.notes and not len(found.rivals)
    assert found.frame["configuration"].tolist() == [1]
    assert found.frame[TEST].tolist() == pytest.approx([0.19])


def test_the_smallest_wins_where_the_objective_is_minimised(tmp_path: Path) -> None:
    found = best(line(tmp_path, [[0.50, 0.51], [0.80, 0.81]], "min").records)
    assert found.decided and found.frame["configuration"].tolist() == [0]


def test_no_winner_inside_the_noise_and_the_seeds_it_would_take(tmp_path: Path) -> None:
    found = best(line(tmp_path, [[0.70, 0.74, 0.78], [0.71, 0.75, 0.79], [0.2, 0.24, 0.28]]).records)
    assert not found.decided
    assert found.rivals["configuration"].tolist() == [0]
    # deviation 0.04, margin 0.01: 2 (2 x 0.04 / 0.01)^2 = 128
    assert "no winner declared" in found.notes[0]
    assert "about 128 seeds each (now 3)" in found.notes[0] or "about 129 seeds each (now 3)" in found.notes[0]


def test_one_seed_cannot_declare_a_winner(tmp_path: Path) -> None:
    found = best(line(tmp_path, [[0.5], [0.9]]).records)
    assert found.frame["configuration"].tolist() == [1]
    assert not found.decided and "one seed" in found.notes[0]


def test_ties_are_called_ties(tmp_path: Path) -> None:
    found = best(line(tmp_path, [[0.5, 0.6], [0.6, 0.5]]).records)
    assert not found.decided and found.notes[0].endswith("tied")


def test_the_pareto_set_is_feasible_and_complete(tmp_path: Path) -> None:
    records = duet(tmp_path, count=25, seeds=2)
    found = best(records)
    chosen = set(found.frame["configuration"])
    results = collect(records)
    values = results.competing.set_index("configuration")[[TOP1, ROT]]
    for number in values.index:
        beaten = ((values >= values.loc[number]).all(axis=1) & (values > values.loc[number]).any(axis=1)).any()
        assert (number in chosen) == (not beaten)
    assert 7 not in chosen
    assert f"{len(chosen)} of 24 configurations" in found.notes[0]
    assert any(TOP1 in note and "noise" in note for note in found.notes)


def test_infeasible_pruned_and_missing_answers_are_explained(tmp_path: Path) -> None:
    empty = Story(tmp_path, [objective(TOP1)], LINE)
    assert best(empty.records).notes == ["no configuration is complete yet (none was proposed)"]
    fail(empty, {"method.lambda": 1.0})
    empty.propose({"method.lambda": 2.0})
    assert best(empty.records).notes == ["no configuration is complete yet (1 running, 1 failed)"]
    infeasible = best(line(tmp_path, [[0.5], [0.6]], violation=0.25).records)
    assert "none of the 2 complete configurations meets the constraints" in infeasible.notes[0]
    assert not len(infeasible.frame)


def test_a_sweep_without_results_has_a_table_with_its_columns(tmp_path: Path) -> None:
    story = Story(tmp_path, [objective(TOP1), objective(RANK)], SPACE)
    for by in ("configuration", "trial", "evaluation"):
        assert len(table(story.records, by)) == 0  # type: ignore[arg-type]
    story.propose({"method.lambda": 3.0, "method.bins": 4, "method.target": "ga"})
    frame = table(story.records)
    assert frame["state"].tolist() == ["running"] and np.isnan(frame[TOP1].iloc[0])

"""The lineage of a number, and what the analysis may import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_analysis_synthetic import EPOCHS, RANK, ROT, TOP1, duet

from analysis.explain import explain, find, text

ROOT = Path(__file__).parents[2]


def test_a_pretraining_prefix_leads_to_evaluation_checkpoint_and_command(tmp_path: Path) -> None:
    records = duet(tmp_path / "my sweep", count=4, seeds=2)
    id_ = records.configurations[1].trials[1]
    found = explain(records, TOP1, id_[:7])
    assert found["value"] == records.final_metrics(id_)[TOP1]
    assert found["pretraining"]["id"] == id_ and found["pretraining"]["seed"] == 1
    assert found["configuration"]["params"]["method.lambda"] == 1000.0 and found["configuration"]["source"] == "known"
    point = records.trials[id_].checkpoint
    assert point is not None and found["checkpoint"] == {"path": point.path, "digest": point.digest, "epoch": EPOCHS}
    assert found["evaluation"]["key"] == "linear" and found["evaluation"]["config"]["lr"] == [0.1, 0.01]
    assert found["data"] == {"name": "digits"} and found["code"]["revision"] == "0123abc"
    assert found["reproduce"] == [
        "git checkout 0123abc",
        f"sweep eval '{tmp_path}/my sweep/{point.path}' linear --set 'parts=[\"all\"]' --set 'lr=[0.1, 0.01]'",
    ]
    lines = text(found).splitlines()
    assert lines[0].startswith("metric") and "  sweep eval" in lines[-1] and any("0123abc" in line for line in lines)


def test_the_fingerprint_of_the_data_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    id_ = records.configurations[0].trials[0]
    point = records.trials[id_].checkpoint
    assert point is not None
    meta = tmp_path / point.path / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"spec": {"fingerprint": "digits-5f2a"}}))
    assert explain(records, TOP1, id_)["data"] == {"name": "digits", "fingerprint": "digits-5f2a"}
    meta.write_text("{")
    assert "damaged" in explain(records, TOP1, id_)["data"]["fingerprint"]


def test_an_evaluation_and_a_training_value_have_a_lineage_too(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    parent = records.configurations[2].trials[0]
    child = next(trial for trial in records.evaluations_of(parent) if ROT in trial.metrics)
    assert explain(records, ROT, child.id)["evaluation"]["id"] == child.id
    loss = explain(records, "loss", parent)
    assert "evaluation" not in loss and loss["value"] == records.trials[parent].metrics["loss"]


def test_a_pruned_trial_is_explained_at_its_rung(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    pruned = records.configurations[3]
    assert explain(records, TOP1, pruned.trials[0])["checkpoint"]["epoch"] == 5


def test_a_checkpoint_that_was_given_up_is_said_to_be_missing(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    id_ = records.configurations[0].trials[0]
    point = records.trials[id_].checkpoint
    assert point is not None
    records.apply({"event": "drop_checkpoint", "time": 1e6, "id": id_, "path": point.path})
    found = explain(records, TOP1, id_)
    assert "checkpoint" not in found and "no longer on disk" in found["reproduce"][-1]


def test_wrong_names_get_one_line_with_the_near_matches(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    id_ = records.configurations[0].trials[0]
    with pytest.raises(ValueError, match=f"did you mean .*{RANK}") as unknown:
        explain(records, "collapse/all/val/efective_rank", id_)
    with pytest.raises(ValueError, match="no such trial"):
        find(records, "zzzz")
    with pytest.raises(ValueError, match="no such trial"):
        find(records, "")
    near = id_[:-1] + ("0" if id_[-1] != "0" else "1")
    with pytest.raises(ValueError, match=f"did you mean {id_}"):
        find(records, near)
    failed = records.configurations[4].trials[0]
    with pytest.raises(ValueError, match="no metric yet"):
        explain(records, TOP1, failed)
    assert "\n" not in str(unknown.value)


def test_a_number_is_a_configuration(tmp_path: Path) -> None:
    records = duet(tmp_path, count=3)
    (only,) = records.configurations[2].trials
    assert find(records, "2").id == find(records, "#2").id == only
    records.configurations[2].trials.append(records.configurations[1].trials[0])
    with pytest.raises(ValueError, match=f"configuration 2 has 2 pretrainings: {only} .*; name one"):
        find(records, "2")
    with pytest.raises(ValueError, match="no such trial"):
        find(records, "#99")


def test_an_ambiguous_prefix_lists_the_candidates(tmp_path: Path) -> None:
    records = duet(tmp_path, count=12)
    first = next(digit for digit in "abcdef" if sum(id_.startswith(digit) for id_ in records.trials) > 1)
    with pytest.raises(ValueError, match="write more of the id"):
        find(records, first)


def test_analysis_imports_only_the_records_and_nothing_heavy_at_the_start() -> None:
    allowed = {"sweep.records"}
    foreign = {"torch", "ray", "aim", "sweep", "trainables", "datasets", "search_spaces"}
    for path in (ROOT / "analysis").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in foreign or name in allowed, f"{path.name} imports {name}"
    heavy = "{'pandas', 'numpy', 'matplotlib', 'plotly', 'optuna', 'torch'}"
    code = f"import sys, analysis, analysis.explain; sys.exit(len({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = f"import sys, analysis.table; sys.exit(len(({heavy} - {{'pandas', 'numpy'}}) & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

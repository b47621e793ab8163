"""Options of evaluations are searched: the pretraining is shared, and everything else goes as with other dimensions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cheap_sweeps import cheap, whole

from analysis.explain import explain
from analysis.importance import importance
from analysis.report import report
from analysis.table import best, table
from sweep.ledger import read
from sweep.records import Records, load
from sweep.run import extend, resume, run
from sweep.space import Choice, Float, Int
from sweep.spec import Sweep

TOP1 = "knn/all/val/top1"


def stages(records: Records) -> Counter[str]:
    return Counter(trial.stage for trial in records.trials.values())


def digits(trials: int) -> Sweep:
    """The vote of neighbours tuned on two encoders of one configuration, one a seed."""
    return Sweep.model_validate(
        {
            "name": "tuned",
            "method": "duet",
            "data": "digits",
            "base": {
                "method": {"encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 8, "head_out": 8},
                "views.tx": ["rot"],
                "data.limit": 150,
                "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 50},
            },
            "space": {"evals.knn.k": Int(1, 80, log=True), "evals.knn.temperature": Float(0.02, 1.0, log=True)},
            "known": [
                {"evals.knn.k": 80, "evals.knn.temperature": 1.0},
                {"evals.knn.k": 1, "evals.knn.temperature": 0.1},
            ],
            "objectives": [f"max {TOP1}"],
            "evals": {"linear": {"probe": "ridge"}, "knn": {}},
            "seeds": 2,
            "budget": {"trials": trials},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tuned") / "sweep"
    run(digits(5), where, quiet=True, track=False)
    return where


def test_the_pretraining_is_trained_once_a_seed_and_every_configuration_has_its_own_results(tuned: Path) -> None:
    records = load(tuned)
    assert records.finished
    assert stages(records) == {"pretrain": 2, "features": 2, "evaluation": 2 * (1 + 5)}
    assert {trial.attempts for trial in records.trials.values()} == {1}
    first = {tuple(configuration.trials) for configuration in records.configurations.values()}
    assert len(first) == 1, "all configurations have the same pretrainings"
    for configuration in records.configurations.values():
        assert configuration.state == "complete"
        found = [records.final_metrics(id_, configuration.number) for id_ in configuration.trials]
        assert configuration.values == [pytest.approx(sum(metrics[TOP1] for metrics in found) / 2)]
        for id_ in configuration.trials:
            (judge,) = (t for t in records.evaluations_of(id_, 1, configuration.number) if t.name == "knn")
            assert judge.config["k"] == configuration.params["evals.knn.k"]
            assert judge.config["temperature"] == configuration.params["evals.knn.temperature"]
    by_number = {number: configuration.values[0] for number, configuration in records.configurations.items()}
    assert by_number[0] != by_number[1]


def test_the_options_are_in_tables_importance_report_and_lineage(tuned: Path, tmp_path: Path) -> None:
    records = load(tuned)
    shown = table(records).set_index("configuration")
    assert list(shown["evals.knn.k"]) == [records.configurations[n].params["evals.knn.k"] for n in shown.index]
    assert list(shown[TOP1]) == [pytest.approx(records.configurations[n].values[0]) for n in shown.index]
    assert shown["linear/all/val/top1"].nunique() == 1
    evaluations = table(records, "evaluation")
    assert evaluations[evaluations["evaluation"] == "knn"]["evals.knn.k"].notna().all()
    assert evaluations[evaluations["evaluation"] == "linear"]["evals.knn.k"].isna().all()
    assert set(importance(records).shares.index) == {"evals.knn.k", "evals.knn.temperature"}
    assert "evals.knn.k" in best(records).frame
    assert "evals.<wbr>knn.<wbr>k" in report(records, tmp_path / "report").read_text()
    pretraining = records.configurations[0].trials[0]
    with pytest.raises(ValueError, match=r"5 evaluations of trial .* have it: .*\(#0\)"):
        explain(records, TOP1, pretraining)
    (judge,) = (t for t in records.evaluations_of(pretraining, 1, 3) if t.name == "knn")
    lineage = explain(records, TOP1, judge.id)
    assert lineage["configuration"]["number"] == 3
    assert f"k={judge.config['k']}" in lineage["reproduce"][-1]
    assert explain(records, "linear/all/val/top1", pretraining)["configuration"]["shared with"] == [1, 2, 3, 4]


def test_more_configurations_and_a_resumed_search_train_nothing_anew(tuned: Path) -> None:
    before = load(tuned)
    events = list(read(tuned / "ledger.jsonl"))
    resume(tuned, quiet=True)
    assert list(read(tuned / "ledger.jsonl")) == events, "a finished one is left as it is"
    extend(tuned, enqueue=[{"evals.knn.k": 7, "evals.knn.temperature": 0.5}], quiet=True)
    records = load(tuned)
    assert len(records.configurations) == 6
    assert stages(records) == {"pretrain": 2, "features": 2, "evaluation": 2 * (1 + 6)}
    for number, configuration in before.configurations.items():
        assert records.configurations[number].values == configuration.values
    assert [c.params["evals.knn.k"] for c in records.configurations.values() if c.source == "enqueued"] == [7]


def test_a_killed_driver_goes_on_from_its_ledger(tmp_path: Path) -> None:
    """From the middle of an undisturbed sweep: what that would have found."""
    sweep = cheap(
        space={"method.x": Choice([0.2, 0.4]), "evals.good.sign": Choice([1.0, 0.5])},
        evals={"good": {"name": "cheap.score"}, "read": {"name": "cheap.reader", "after": {"cheap.score": "good"}}},
        objectives=["max read/all/val/read"],
        search={"sampler": "grid"},
    )
    run(sweep, tmp_path / "whole", quiet=True, track=False)
    records = whole(tmp_path / "whole")
    assert stages(records) == {"pretrain": 2, "evaluation": 2 * 2 * 2}
    expected = {number: configuration.values for number, configuration in records.configurations.items()}
    for configuration in records.configurations.values():
        x, sign = configuration.params["method.x"], configuration.params["evals.good.sign"]
        assert configuration.values == [pytest.approx(sign * x * (1 - x))], "each reads the result of its own"
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "whole" / "ledger.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    resume(tmp_path / "whole", quiet=True)
    again = whole(tmp_path / "whole")
    assert {number: configuration.values for number, configuration in again.configurations.items()} == expected
    assert stages(again) == stages(records)
    number, configuration = next(iter(again.configurations.items()))
    (judge,) = (t for t in again.evaluations_of(configuration.trials[0], None, number) if t.name == "read")
    command = explain(again, "read/all/val/read", judge.id)["reproduce"][-1]
    assert " cheap.score cheap.reader --set " in command
    assert f"cheap.score.sign={configuration.params['evals.good.sign']}" in command

"""Every wrong input is refused before anything starts: exit code 2, one line that says what and where, nothing written.

All go through the command line's own entry in this process; a case that reached Ray would fail at once.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datasets.config import ConfigError
from sweep.cli import run_command
from sweep.folder import create
from sweep.ledger import Ledger
from sweep.records import LEDGER, MANIFEST
from sweep.spec import load_sweep, put
from trainables.core import state
from trainables.core.config import resolve

SHEET: dict[str, Any] = {
    "method": "duet",
    "data": "digits",
    "base": {
        "method": {"encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 16, "head_out": 8, "target": "vm"},
        "views": {"tx": ["sca", "rot"]},
        "train": {"epochs": 2, "warmup_epochs": 0, "batch_size": 64},
    },
    "space": {"method.lambda": {"float": [1, 1000], "log": True}},
    "objectives": ["max linear/all/val/top1"],
    "evals": {"linear": {}},
    "budget": {"trials": 2},
}
UNLABELLED = """
import numpy as np
from datasets.base import Spec
from datasets.config import Config as Base
from datasets.memory import MemorySource

DOWNLOAD = "nothing"


class Config(Base):
    pass


def open(cfg, root, split):
    return MemorySource(np.zeros((40, 1, 16, 16), np.uint8), {}, Spec(shape=(1, 16, 16)))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no real data, and an alarm where Ray would be started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWEEP_DATA", raising=False)

    def alarm(*arguments: Any, **options: Any) -> None:
        pytest.fail("Ray would have been started")

    monkeypatch.setattr("sweep.cluster.connect", alarm)
    return tmp_path


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must be refused; its one line."""

    def refuse(*arguments: str, says: tuple[str, ...] = ()) -> str:
        before = sorted(place.rglob("*"))
        capsys.readouterr()
        code = run_command(list(arguments))
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.strip()]
        assert code == 2, captured
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("sweep: ")
        assert "Traceback" not in captured.err + captured.out
        for fragment in says:
            assert fragment in lines[0], lines[0]
        assert sorted(place.rglob("*")) == before, "something was written"
        return lines[0]

    return refuse


Refused = Callable[..., str]


def sheet(place: Path, **changes: Any) -> str:
    """A sweep file in the working folder with whole keys replaced; its name."""
    (place / "mine.yaml").write_text(yaml.safe_dump({**SHEET, **changes}))
    return "mine.yaml"


def based(**changes: Any) -> dict[str, Any]:
    """The base with single settings changed, such as `train__epochs=3`."""
    base = copy.deepcopy(SHEET["base"])
    for key, value in changes.items():
        put(base, key.replace("__", "."), value, "test")
    return base


# -- the command line itself ---------------------------------------------------------------------------------------

TYPED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "verb with a typo": (["rnu", "demo"], ("rnu", "run")),
    "verb that does not exist": (["frobnicate"], ("no such command 'frobnicate'", "plan, report")),
    "option with a typo": (["run", "demo", "--tirals", "3"], ("--tirals", "--trials")),
    "option for a hyperparameter": (["run", "demo", "--lr", "3"], ("--lr",)),
    "argument missing": (["run"], ("NAME|FILE",)),
    "argument too many": (["run", "demo", "demo"], ("demo",)),
    "number that is none": (["run", "demo", "--trials", "many"], ("--trials", "integer")),
    "no trials": (["run", "demo", "--trials", "0"], ("--trials", "greater than or equal to 1")),
    "ls of an unknown kind": (["ls", "method"], ("ls method", "'methods'")),
    "space that does not exist": (["run", "dmo"], ("sweep 'dmo'", "no such search space", "'demo'")),
    "file that does not exist": (["run", "nothere.yaml"], ("nothere.yaml", "no such file")),
    "python file that does not exist": (["run", "nothere.py"], ("nothere.py", "no such file")),
    "file of another kind": (["run", "folder/sweep.toml"], ("folder/sweep.toml", ".yaml or .py")),
    "module that does not exist": (["run", "mylab.sweeps.one"], ("mylab.sweeps.one", "no such module", "PYTHONPATH")),
    "--set without a value": (["run", "demo", "--set", "train.epochs"], ("--set train.epochs", "KEY=VALUE")),
    "--set without a key": (["run", "demo", "--set", "=3"], ("--set =3", "KEY=VALUE")),
    "--set that is no YAML": (["run", "demo", "--set", "views.tx=[rot"], ("--set views.tx=[rot", "YAML")),
    "--set of an unknown section": (["run", "demo", "--set", "trian.epochs=3"], ("--set trian.epochs", "'train'")),
    "--set of a searched key": (["run", "demo", "--set", "method.lambda=3"], ("method.lambda", "space.method.lambda")),
    "--set below a value": (["run", "demo", "--set", "train.epochs.x=3"], ("train.epochs.x", "'epochs' is a value")),
    "data set that does not exist": (["data", "digts"], ("dataset 'digts'", "'digits'")),
    "data set with a wrong option": (["data", "digits", "--set", "sise=8"], ("data.sise", "'size'")),
    "data set with a wrong value": (["data", "digits", "--set", "size=4"], ("data.size", "8")),
    "data without a root": (["data", "cifar"], ("cifar", "--data-root")),
    "root that does not exist": (
        ["run", "sim_kl_weight", "--data-root", "nothere"],
        ("--data-root nothere", "no such folder"),
    ),
    "root of a plan that does not exist": (["plan", "demo", "--data-root", "nothere"], ("--data-root nothere",)),
}


@pytest.mark.parametrize("case", TYPED)
def test_command_line(case: str, refused: Refused) -> None:
    arguments, says = TYPED[case]
    refused(*arguments, says=says)


# -- what a sweep says ---------------------------------------------------------------------------------------------

METHOD = SHEET["base"]["method"]
SHEETS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "method": ({"method": "duett"}, ("method 'duett'", "no such method", "'duet'")),
    "method by a dotted name": ({"method": "mylab.methods.foo"}, ("mylab.methods.foo", "no such module")),
    "data set": ({"data": "digit"}, ("dataset 'digit'", "'digits'")),
    "evaluation": ({"evals": {"liner": {}, "linear": {}}}, ("evals.liner", "no such evaluation", "'linear'")),
    "key of the sweep": ({"objectivs": []}, ("mine.yaml", "objectivs", "'objectives'")),
    "section": ({"base": based(trian={"epochs": 2})}, ("mine.yaml", "'trian' is no section", "'train'")),
    "setting twice": (
        {"base": {**SHEET["base"], "train.epochs": 3}}, ("mine.yaml", "base", "'train.epochs' is set twice"),
    ),
    "option of the method": ({"base": based(method__lamda=3)}, ("method.lamda", "'lambda'")),
    "option of the encoder": ({"base": based(method__encoder__widht=3)}, ("method.encoder.widht", "'width'")),
    "encoder": ({"base": based(method__encoder__name="resnet19")}, ("method.encoder.name", "narrow_cifar10_resnet20")),
    "option of the views": ({"base": based(views__txx=["rot"])}, ("views.txx", "'tx'")),
    "transform": ({"base": based(views__tx=["rott"])}, ("views.tx", "'rott'", "'rot'")),
    "transform twice": ({"base": based(views__tx=["rot", "rot"])}, ("views.tx", "'rot' is named twice")),
    "option of a transform": (
        {"base": based(views__options={"rot": {"degres": 9}})}, ("views.options", "degres", "'degrees'"),
    ),
    "options of a transform that is not there": (
        {"base": based(views__options={"fli": {}})}, ("views.options", "'fli' is not in the stack"),
    ),
    "option of the training": ({"base": based(train__epohs=3)}, ("train.epohs", "'epochs'")),
    "value of the training": ({"base": based(train__lr=-1)}, ("train.lr", "greater than 0", "-1")),
    "optimiser": ({"base": based(train__optimizer="adagrad")}, ("train.optimizer", "adamw")),
    "option of the data": ({"base": based(data__limt=30)}, ("data.limt", "'limit'")),
    "option of an evaluation": ({"evals": {"linear": {"limt": 9}}}, ("evals.linear.limt", "'limit'")),
    "range upside down": ({"space": {"method.lambda": {"float": [10, 1]}}}, ("space.method.lambda", "low", "high")),
    "range of one value": ({"space": {"method.lambda": {"float": [1, 1]}}}, ("space.method.lambda", "empty")),
    "log range from 0": (
        {"space": {"method.lambda": {"float": [0, 1], "log": True}}}, ("space.method.lambda", "above 0", "also"),
    ),
    "range of nan": ({"space": {"method.lambda": {"float": [float("nan"), 1]}}}, ("space.method.lambda", "range")),
    "range without end": ({"space": {"method.lambda": {"float": [1, float("inf")]}}}, ("method.lambda", "finite")),
    "range of three": ({"space": {"method.lambda": {"float": [1, 2, 3]}}}, ("space.method.lambda", "[low, high]")),
    "range of texts": ({"space": {"method.lambda": {"float": ["a", "b"]}}}, ("space.method.lambda", "number", "'a'")),
    "range of halves": ({"space": {"method.bins": {"int": [1.5, 4]}}}, ("space.method.bins", "whole")),
    "range that the method refuses": ({"space": {"method.lambda": {"float": [-1, 1]}}}, ("method.lambda", "-1")),
    "log with step": (
        {"space": {"method.lambda": {"float": [1, 9], "log": True, "step": 1}}}, ("method.lambda", "log and step"),
    ),
    "choice twice": ({"space": {"method.bins": {"choice": [4, 8, 4]}}}, ("space.method.bins", "twice")),
    "choice of nothing": ({"space": {"method.bins": {"choice": []}}}, ("space.method.bins", "at least one")),
    "dimension without kind": ({"space": {"method.bins": [4, 8]}}, ("space.method.bins", "choice: [...]")),
    "dimension with a typo": (
        {"space": {"method.lambda": {"float": [1, 9], "lgo": True}}}, ("space.method.lambda.lgo", "'log'"),
    ),
    "searched key that does not exist": (
        {"space": {"method.lamda": {"float": [1, 9]}}}, ("method.lamda", "no such option", "'lambda'"),
    ),
    "searched section that does not exist": (
        {"space": {"methd.lambda": {"float": [1, 9]}}}, ("methd", "method"),
    ),
    "searched evaluation that is not there": (
        {"space": {"evals.liner.limit": {"int": [2, 9]}}}, ("space.evals.liner.limit", "no evaluation", "'linear'"),
    ),
    "searched evaluation without an option": (
        {"space": {"evals.linear": {"int": [2, 9]}}}, ("space.evals.linear", "write evals.KEY.OPTION"),
    ),
    "searched option that an evaluation has not": (
        {"space": {"evals.linear.limt": {"int": [2, 9]}}}, ("evals.linear.limt", "no such option", "'limit'"),
    ),
    "searched value that an evaluation refuses": (
        {"space": {"evals.linear.limit": {"int": [1, 9]}}}, ("evals.linear.limit", "greater than or equal to 2", "1"),
    ),
    "searched option below a value": (
        {"space": {"evals.linear.limit.more": {"int": [2, 9]}}, "evals": {"linear": {"limit": 9}}},
        ("evals.linear", "'limit' is a value"),
    ),
    "known point with an option outside": (
        {"space": {"evals.linear.limit": {"int": [2, 9]}}, "known": [{"evals.linear.limit": 10}]},
        ("known[0]", "evals.linear.limit", "[2, 9]"),
    ),
    "searched part without the objective": (
        {"space": {"evals.linear.parts": {"choice": [["all"], ["group"]]}}},
        ("linear/all/val/top1", "no evaluation yields it everywhere", "['group']"),
    ),
    "result of an evaluation that is not read": (
        {"evals": {"linear": {"after": {"knn": "linear"}}}}, ("evals.linear.after", "does not read 'knn'"),
    ),
    "empty space": ({"space": {}}, ("mine.yaml", "space")),
    "`when` on an unknown key": (
        {"space": {**SHEET["space"], "method.kappa": {"float": [1, 9], "when": {"method.taget": "vm"}}}},
        ("space.method.kappa.when", "'method.taget' is not searched"),
    ),
    "`when` on a value that cannot be": (
        {"space": {"method.bins": {"choice": [4, 8]}, "method.kappa": {"float": [1, 9], "when": {"method.bins": 5}}}},
        ("space.method.kappa.when", "5 cannot be a value"),
    ),
    "`when` in a circle": (
        {
            "space": {
                "method.bins": {"choice": [4, 8], "when": {"method.kappa": 3}},
                "method.kappa": {"float": [1, 9], "when": {"method.bins": 4}},
            }
        },
        ("space", "circle", "method.bins"),
    ),
    "known point outside": ({"known": [{"method.lambda": 1e5}]}, ("known[0]", "method.lambda", "[1, 1000] log")),
    "known point without a key": ({"known": [{}]}, ("known[0]", "'method.lambda' is missing")),
    "known point with another key": (
        {"known": [{"method.lambda": 1, "method.lamda": 2}]}, ("known[0]", "'method.lamda'", "'method.lambda'"),
    ),
    "test metric": ({"objectives": ["max linear/all/test/top1"]}, ("objectives.0", "test split", "val")),
    "training loss": ({"objectives": ["min loss"]}, ("objectives.0", "'loss' is a training value", "EVALUATION/PART")),
    "metric of two pieces": ({"objectives": ["max linear/top1"]}, ("objectives.0", "no metric name", "linear/all/val")),
    "objective without direction": ({"objectives": ["linear/all/val/top1"]}, ("objectives.0", "write `max")),
    "objective twice": ({"objectives": ["max linear/all/val/top1"] * 2}, ("mine.yaml", "twice")),
    "no objective": ({"objectives": []}, ("mine.yaml", "objectives")),
    "metric that no evaluation yields": (
        {"objectives": ["max linear/all/val/top11"]}, ("linear/all/val/top11", "no evaluation yields", "top1"),
    ),
    "objective of an evaluation that is not there": (
        {"objectives": ["max knn/all/val/top1"]}, ("objective knn/all/val/top1", "no evaluation 'knn' in evals"),
    ),
    "constraint on test": (
        {"constraints": [{"metric": "linear/all/test/top1", "at_least": 0.5}]}, ("constraints.0", "test split"),
    ),
    "constraint without a bound": ({"constraints": [{"metric": "linear/all/val/top1"}]}, ("constraints.0", "at_least")),
    "part that does not exist": (
        {"evals": {"linear": {"parts": ["all", "gruop"]}}}, ("linear", "no part 'gruop'", "'group'"),
    ),
    "evaluation of a transform that is not there": (
        {"evals": {"linear": {}, "transform_parameter": {"transforms": ["flo"]}}}, ("transform_parameter", "'flo': no"),
    ),
    "evaluation without its capability": (
        {"method": "simclr", "base": {**SHEET["base"], "method": {"head_hidden": 16}}, "evals": ["linear",
         "equivariance_roll"], "space": {"method.temperature": {"float": [0.1, 1]}}},
        ("equivariance_roll", "needs 'roll' capability"),
    ),
    "evaluation of a label that is not there": (
        {"evals": {"linear": {"factor": "colour"}}}, ("linear", "no label 'colour'", "class"),
    ),
    "data without any label": (
        {"data": "unlabelled", "base": {**SHEET["base"], "data": {"name": "unlabelled_set.data"}}},
        ("linear", "needs any label", "none"),
    ),
    "rungs out of order": ({"rungs": [0.5, 0.25]}, ("mine.yaml", "rungs", "increasing")),
    "rung at the end": ({"rungs": [0.5, 1.0]}, ("mine.yaml", "rungs", "below 1")),
    "stopping rule without rungs": ({"stop": {"rule": "asha"}}, ("stop.rule", "no rungs", "add `rungs`")),
    "stopping rule": ({"rungs": [0.5], "stop": {"rule": "ahsa"}}, ("stop.rule", "'asha'")),
    "sampler": ({"search": {"sampler": "bayes"}}, ("search.sampler", "'tpe'")),
    "budget": ({"budget": {"trails": 3}}, ("budget.trails", "'trials'")),
    "seeds": ({"seeds": 0}, ("seeds", "greater than or equal to 1")),
    "name that is no folder": ({"name": "../up"}, ("name", "../up")),
    "equivariant to what is not applied": ({"base": based(method__equi_tx=["fli"])}, ("equi_tx", "'fli' is not in")),
    "equivariant to a jitter": (
        {"base": based(method__equi_tx=["jit"], views__tx=["jit"], data__channels=3)}, ("equi_tx", "'jit' has no"),
    ),
    "equivariant to a resize": (
        {"base": based(method__equi_tx=["res"], views__tx=["res"])}, ("equi_tx", "'res' has no parameter"),
    ),
    "equivariant to a central crop": (
        {"base": based(method__equi_tx=["ccr"], views__tx=["ccr"])}, ("equi_tx", "'ccr' has no parameter"),
    ),
    "bins that do not divide": ({"base": based(method__bins=7)}, ("method.bins", "7", "64 features")),
    "colour transform on gray data": ({"base": based(views__tx=["rot", "gra"])}, ("gra", "channels")),
    "batch larger than the data": (
        {"base": based(train__batch_size=4096, train__drop_last=True)}, ("train.batch_size", "4096", "1000"),
    ),
    "three views": ({"base": based(views__count=3)}, ("2 views", "3")),
    "more GPUs than there are": ({"resources": {"pretrain": {"gpu": 64}}}, ("resources", "64 GPU", "there are")),
    "more CPUs than there are": ({"resources": {"evaluation": {"cpu": 4000}}}, ("evaluation", "4000 CPU", "lower")),
    "custom resource": ({"resources": {"pretrain": {"custom": {"tpu": 1}}}}, ("1 tpu", "there are 0")),
    "CPUs that are none": ({"resources": {"pretrain": {"cpu": 0}}}, ("resources.pretrain.cpu", "greater than 0")),
    "weights to start from that are not there": ({"base": based(init="nowhere")}, ("nowhere",)),
    "data that need a folder": (
        {"data": "cifar", "base": {**SHEET["base"], "data": {}}}, ("cifar", "--data-root"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHEETS)
def test_sweep(case: str, place: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, says = SHEETS[case]
    if case == "data without any label":
        monkeypatch.syspath_prepend(str(place))
        (place / "unlabelled_set").mkdir()
        (place / "unlabelled_set" / "data.py").write_text(UNLABELLED)
        changes = {**SHEET, "data": "unlabelled_set.data"}
    refused("run", sheet(place, **changes), "--dir", "out", says=says)
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("X = 1", "defines no"),
    ],
)
@pytest.mark.parametrize("kind", ["method", "dataset", "evaluation"])
def test_a_module_of_ones_own_that_is_broken(
    kind: str, text: str, says: str, place: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{kind}_{says.replace(' ', '')}"
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (place / name).mkdir()
    (place / name / "one.py").write_text(text)
    mine = f"{name}.one"
    base = {key: value for key, value in SHEET["base"].items() if key != "method"}
    changes: dict[str, dict[str, Any]] = {
        "method": {"method": mine, "base": base},
        "dataset": {"data": mine},
        "evaluation": {"evals": {"linear": {}, mine: {}}},
    }
    refused("run", sheet(place, **changes[kind]), "--dir", "out", says=(kind, mine, says))


def test_more_workers_than_the_machine_has(refused: Refused) -> None:
    refused("run", "demo", "--workers", "4000", says=("4000 CPU", "4000 workers x 1", "--workers"))
    refused("run", "demo", "--workers", "0", says=("workers", "greater than or equal to 1"))


def test_a_cluster_that_is_not_there_leaves_no_folder(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(address: str, **options: Any) -> None:
        raise ConfigError(f"--address {address}: no Ray cluster answers there")

    monkeypatch.setattr("sweep.cluster.connect", nothing)
    refused("run", "demo", "--address", "127.0.0.1:9", "--dir", "out", says=("--address 127.0.0.1:9", "no Ray cluster"))


FILES = {
    "broken YAML": ("one.yaml", "method: [duet\nx: 1", ("one.yaml, line", "not valid YAML")),
    "YAML with tabs": ("one.yaml", "method:\n\tname: duet", ("one.yaml, line 2", "not valid YAML")),
    "YAML that is a list": ("one.yaml", "- duet", ("one.yaml", "is a mapping", "objectives")),
    "empty YAML": ("one.yaml", "", ("one.yaml", "is a mapping")),
    "YAML that runs code": ("one.yaml", "!!python/object/apply:os.system [ls]", ("one.yaml", "not valid YAML")),
    "YAML without a method": ("one.yaml", "data: digits", ("one.yaml", "method", "required")),
    "binary file": ("one.yaml", "\x00\x01", ("one.yaml", "not valid YAML")),
    "python without SWEEP": ("one.py", "X = 1", ("one.py", "defines no SWEEP")),
    "python that raises": ("one.py", "1 / 0", ("one.py", "ZeroDivisionError")),
    "python that does not parse": ("one.py", "def (", ("one.py", "SyntaxError")),
    "python that exits": ("one.py", "raise SystemExit(0)", ("one.py", "SystemExit")),
    "python with a wrong sweep": ("one.py", "from sweep.space import Float\nFloat(2, 1)", ("one.py", "empty")),
}


@pytest.mark.parametrize("case", FILES)
def test_file(case: str, place: Path, refused: Refused) -> None:
    name, text, says = FILES[case]
    (place / name).write_text(text)
    refused("run", name, "--dir", "out", says=says)


# -- folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(place: Path) -> Path:
    """A small finished sweep: one configuration, its pretraining and its evaluation."""
    asked = load_sweep(sheet(place))
    directory = place / "done"
    create(directory, asked, {"data_root": None, "address": None, "track": False})
    config = {"method": {"name": "duet", "lambda": 3.0}, "seed": 0}
    events: list[dict[str, Any]] = [
        {"event": "session"},
        {"event": "configuration", "number": 0, "params": {"method.lambda": 3.0}, "source": "known", "trials": ["aa1"]},
        {"event": "trial", "id": "aa1", "stage": "pretrain", "name": "duet", "config": config},
        {"event": "start", "id": "aa1", "attempt": 1},
        {"event": "end", "id": "aa1", "status": "finished", "metrics": {"loss": 1.0}},
        {"event": "trial", "id": "ab2", "stage": "evaluation", "name": "linear", "config": {}, "parent": "aa1"},
        {"event": "end", "id": "ab2", "status": "finished", "metrics": {"linear/all/val/top1": 0.5}},
        {"event": "told", "number": 0, "state": "complete", "values": [0.5], "spread": [0.0]},
        {"event": "done"},
    ]  # fmt: skip
    ledger = Ledger(directory / LEDGER)
    for event in events:
        ledger.append(event)
    ledger.close()
    return directory


READING = {
    "status": ["status", "DIR"],
    "watch": ["watch", "DIR"],
    "logs": ["logs", "DIR", "aa1"],
    "stop": ["stop", "DIR"],
    "resume": ["resume", "DIR"],
    "extend": ["extend", "DIR", "--trials", "1"],
    "retry": ["retry", "DIR", "--failed"],
    "table": ["table", "DIR"],
    "best": ["best", "DIR"],
    "explain": ["explain", "DIR", "linear/all/val/top1", "aa1"],
    "report": ["report", "DIR"],
    "ui": ["ui", "DIR"],
    "optuna": ["ui", "DIR", "--optuna"],
    "track": ["track", "--rebuild", "DIR"],
    "clean": ["clean", "DIR"],
}


@pytest.mark.parametrize("verb", READING)
def test_folder_that_holds_no_sweep(verb: str, place: Path, refused: Refused) -> None:
    (place / "empty").mkdir()
    (place / "file").write_text("")
    for name, says in (("nothere", "no such folder"), ("empty", "holds no sweep"), ("file", "no such folder")):
        refused(*(name if word == "DIR" else word for word in READING[verb]), says=(name, says))


@pytest.mark.parametrize("verb", READING)
def test_folder_of_another_format(verb: str, finished: Path, refused: Refused) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    (finished / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    refused(*("done" if word == "DIR" else word for word in READING[verb]), says=("done", "format 99", "reads 1"))


@pytest.mark.parametrize("verb", READING)
def test_folder_with_a_damaged_ledger(verb: str, finished: Path, refused: Refused) -> None:
    content = bytearray((finished / LEDGER).read_bytes())
    content[content.index(b"aa1", content.index(b"\n"))] ^= 1  # in the second line; a checksum may hold it too
    (finished / LEDGER).write_bytes(content)
    says = (f"{LEDGER}, line 2", "damaged", "restore it from a copy")
    refused(*("done" if word == "DIR" else word for word in READING[verb]), says=says)


def test_folder_with_a_damaged_manifest(finished: Path, refused: Refused) -> None:
    (finished / MANIFEST).write_text('{"format": ')
    refused("status", "done", says=(MANIFEST, "is not a sweep's manifest"))
    refused("run", "mine.yaml", "--dir", "done", says=("done",))


def test_manifest_whose_sweep_is_no_longer_valid(finished: Path, refused: Refused) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    manifest["sweep"]["budget"]["trials"] = "many"
    (finished / MANIFEST).write_text(json.dumps(manifest))
    refused("resume", "done", says=(MANIFEST, "budget.trials", "many"))


def test_run_into_a_folder_that_is_taken(finished: Path, place: Path, refused: Refused) -> None:
    refused("run", "mine.yaml", "--set", "seeds=2", "--dir", "done", says=("done", "another sweep", "--dir"))
    (place / "full").mkdir()
    (place / "full" / "thesis.tex").write_text("")
    refused("run", "mine.yaml", "--dir", "full", says=("full", "not empty", "another --dir"))


def test_run_into_a_folder_that_cannot_be_written(place: Path, refused: Refused) -> None:
    (place / "file").write_text("")
    name = sheet(place)
    refused("run", name, "--dir", "file/below", says=("file/below", "cannot be written", "--dir"))
    refused("run", name, "--dir", "file", says=("file", "cannot be written", "--dir"))
    refused("run", name, "--dir", "/proc/sweep", says=("/proc/sweep", "cannot be written", "--dir"))


def test_reuse_of_a_folder_that_holds_no_sweep(place: Path, refused: Refused) -> None:
    refused("run", sheet(place), "--dir", "out", "--reuse", "nothere", says=("nothere", "no such folder"))


def test_warm_start_from_what_cannot_teach(finished: Path, place: Path, refused: Refused) -> None:
    name = sheet(place, objectives=["min linear/all/val/top5"])
    refused("run", name, "--dir", "out", "--warm", "nothere", says=("nothere", "no such folder"))
    refused("run", name, "--dir", "out", "--warm", "done", says=("--warm done", "top1", "top5"))


def test_verbs_on_a_sweep_with_wrong_arguments(finished: Path, refused: Refused) -> None:
    refused("logs", "done", "zz", says=("zz",))
    refused("logs", "done", "a", says=("a", "aa1", "ab2"))
    refused("logs", "done", "aa1", says=("aa1", "printed nothing"))
    refused("explain", "done", "linear/all/val/top2", "aa1", says=("linear/all/val/top2", "top1"))
    refused("explain", "done", "linear/all/val/top1", "zz", says=("zz",))
    refused("table", "done", "--by", "method", says=("--by method", "configuration, trial or evaluation"))
    refused("table", "done", "--out", "results.xls", says=("results.xls", ".csv"))
    refused("table", "done", "--metric", "linear/*/top9", says=("linear/*/top9", "matches none of"))
    refused("table", "done", "--metric", "*", "--by", "trial", says=("--by trial", "--metric shows configurations"))
    refused("report", "done", "--metric", "top9", says=("top9", "matches none of"))
    refused("stop", "done", says=("done", "is not running"))
    refused("retry", "done", says=("retry", "--failed"))
    refused("track", "done", says=("track --rebuild",))
    refused("extend", "done", says=("extend", "--trials", "--evaluation"))
    refused("extend", "done", "--evaluation", "linear", says=("linear", "already"))
    refused("extend", "done", "--evaluation", "lniear", says=("lniear", "no such evaluation", "linear"))
    refused("extend", "done", "--set", "seeds=3", says=("seeds cannot change", "new sweep"))
    refused("extend", "done", "--set", "train.epochs=3", says=("base cannot change",))
    refused("extend", "done", "--set", "space.method.lambda={float: [10, 20]}", says=("configuration #0", "[10, 20]"))
    refused("extend", "done", "--point", "method.lamda=3", says=("--point", "'method.lambda'"))
    refused("extend", "done", "--point", "method.lambda=1e6", says=("--point", "outside", "[1, 1000] log"))
    refused("resume", "done", "--point", "method.lambda", says=("method.lambda", "KEY=VALUE"))


def test_results_to_a_place_that_cannot_be_written(finished: Path, refused: Refused) -> None:
    refused("report", "done", "--out", "mine.yaml", says=("mine.yaml", "choose another place"))
    refused("report", "done", "--out", "mine.yaml/below", says=("mine.yaml", "choose another place"))
    refused("table", "done", "--out", "mine.yaml/below.csv", says=("mine.yaml", "choose another place"))
    refused("data", "digits", "--out", "mine.yaml", says=("mine.yaml",))


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(place: Path) -> Path:
    """A small untrained DUET on the digits."""
    config = resolve({"method": {"name": "duet", **METHOD}, "data": {"name": "digits"}, "views": {"tx": ["rot"]}})
    spec = config.build_views(config.source(None, "train").spec).spec
    torch.manual_seed(0)
    state.save(place / "encoder", config.build_method(spec), config.dump(), spec, epoch=1)
    return place / "encoder"


def test_evaluating_what_is_no_checkpoint(place: Path, checkpoint: Path, refused: Refused) -> None:
    (place / "empty").mkdir()
    refused("eval", "nothere", "linear", says=("nothere", "is no checkpoint", "meta.json"))
    refused("eval", "empty", "linear", says=("empty", "is no checkpoint"))
    refused("eval", "encoder", says=("evaluations",))
    refused("eval", "encoder", "liner", says=("evaluation 'liner'", "'linear'"))
    refused("eval", "encoder", "linear", "--set", "limt=3", says=("linear.limt", "'limit'"))
    refused("eval", "encoder", "linear", "--set", "knn.k=3", says=("--set knn.k", "not among"))
    refused("eval", "encoder", "linear", "--set", "parts=[gruop]", says=("linear", "'gruop'", "'group'"))
    refused("eval", "encoder", "linear", "--out", "encoder/meta.json", says=("meta.json", "Not a directory"))
    refused("eval", "encoder", "transform_parameter", "--set", "transforms=[flo]", says=("transform_parameter", "flo"))


@pytest.mark.parametrize("name", ["model.safetensors", "meta.json"])
def test_damaged_checkpoint(name: str, checkpoint: Path, refused: Refused) -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 0x55
    (checkpoint / name).write_bytes(content)
    refused("eval", "encoder", "linear", says=("encoder", "damaged checkpoint", name))
    refused("export", "encoder", "out", says=("encoder", "damaged checkpoint", name))


def test_checkpoint_without_a_file_and_of_another_format(checkpoint: Path, refused: Refused) -> None:
    meta = json.loads((checkpoint / "meta.json").read_text())
    (checkpoint / "meta.json").write_text(json.dumps({**meta, "format": 7}))
    refused("eval", "encoder", "linear", says=("encoder", "format 7", "reads 1"))
    (checkpoint / "meta.json").write_text(json.dumps(meta))
    (checkpoint / "model.safetensors").unlink()
    refused("eval", "encoder", "linear", says=("damaged checkpoint", "model.safetensors"))


def test_exporting_to_a_wrong_place_or_from_one(
    place: Path, checkpoint: Path, finished: Path, refused: Refused
) -> None:
    (place / "full").mkdir()
    (place / "full" / "thesis.tex").write_text("")
    refused("export", "encoder", "full", says=("full", "not an empty folder"))
    refused("export", "nothere", "out", says=("nothere", "is no checkpoint"))
    refused("export", "done", "out", says=("aa1", "no checkpoint"))
    refused("export", "done", "out", "--trial", "zz", says=("--trial 'zz'", "no such trial"))
    refused("export", "encoder", "mine.yaml", says=("mine.yaml",))


def test_there_are_enough_of_them() -> None:
    assert len(TYPED) + len(SHEETS) + len(FILES) + 3 * len(READING) >= 45
    assert os.environ.get("SWEEP_DATA") is None

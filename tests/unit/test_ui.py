"""Aim's interface on a sweep, and the Optuna dashboard's journal."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from test_tracking import SyntheticSweep, tracked, wait_for

from datasets.config import ConfigError
from sweep import ui
from sweep.aim_writer import TrackingError, ui_address
from sweep.dashboard import build_study, export_journal
from sweep.records import load
from sweep.tracking import rebuild


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyntheticSweep]:
    """A finished sweep whose interface is up."""
    sweep = tracked(tmp_path_factory.mktemp("shown") / "sweep", configurations=1)
    process = ui.serve(sweep.directory, wait=False)
    assert process is not None
    yield sweep
    ui.stop(sweep.directory, process)
    assert process.poll() is not None
    assert ui_address(sweep.directory) == ""


def listeners(process: int) -> set[str]:
    """Addresses on which the processes of a session listen, as /proc/net/tcp writes them."""
    members = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    inodes = set()
    for member in members:
        try:
            if os.getsid(member) == process:
                inodes |= {os.readlink(fd) for fd in Path(f"/proc/{member}/fd").iterdir()}  # noqa: PTH115
        except OSError:
            continue  # it has ended meanwhile
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def test_views_compare_what_was_sampled_with_the_objectives(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "s", objectives=2, rungs=(0.5,))
    sweep.configuration(0)
    sweep.configuration(1)
    views = {view.name: view for view in ui.views(sweep.records)}
    assert list(views) == [
        "Hyperparameters against downstream metrics",
        "Pretraining curves",
        "Downstream metrics over the epochs",
        "linear/all/val/top1 against method.lambda",
        "linear/all/val/top1 against method.target",
        "rotation/equi/val/mse against method.lambda",
        "rotation/equi/val/mse against method.target",
        "linear/all/val/top1 against rotation/equi/val/mse",
    ]
    first = views["Hyperparameters against downstream metrics"]
    axes = [option["key"] for option in first.state["select"]["options"]]
    assert axes[:2] == ['log10["method.lambda"]', 'sampled["method.target"]']
    assert 'downstream["rotation/equi/val/r2"]' in axes and axes[-1] == 'downstream["linear/all/val/top1"]'
    assert not any("/test/" in axis for axis in axes)
    [y, x] = views["linear/all/val/top1 against method.lambda"].state["select"]["options"]
    assert (y["key"], x["key"]) == ('downstream["linear/all/val/top1"]', 'log10["method.lambda"]')
    values = [option["value"] for option in views["Downstream metrics over the epochs"].state["select"]["options"]]
    assert values[1] == {
        "option_name": "mse",
        "context": {"evaluation": "rotation", "part": "equi", "subset": "val"},
    }


def test_many_parameters_make_no_flood_of_views(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "s")
    sweep.records.spec["space"].update({f"method.p{n}": {"kind": "int", "low": 0, "high": 9} for n in range(40)})
    assert len(ui.views(sweep.records)) == 2 + ui.SCATTERS


def test_the_interface_listens_on_this_machine_alone(shown: SyntheticSweep) -> None:
    told = json.loads((shown.directory / "aim" / "ui.json").read_text())
    assert listeners(told["process"]) == {"0100007F"}  # 127.0.0.1


def test_comparisons_are_saved_once(shown: SyntheticSweep) -> None:
    address = ui_address(shown.directory)
    wanted = ui.views(shown.records)
    places = ui.publish(address, wanted)
    assert ui.publish(address, wanted) == places
    saved = {entry["name"]: entry for entry in ui.call(f"{address}/api/dashboards/")}
    assert list(saved) == [view.name for view in wanted]
    for view in wanted:
        app = ui.call(f"{address}/api/apps/{saved[view.name]['app_id']}/")
        assert (app["type"], app["state"]) == (view.explorer, view.state)


def test_a_second_interface_is_refused_with_the_address_of_the_first(shown: SyntheticSweep) -> None:
    with pytest.raises(TrackingError, match=f"is shown already at {ui_address(shown.directory)}"):
        ui.serve(shown.directory)
    with pytest.raises(TrackingError, match="end `sweep ui` before rebuilding"):
        rebuild(shown.directory, shown.records)


def test_a_sweep_goes_on_while_it_is_shown(shown: SyntheticSweep) -> None:
    problems: list[str] = []
    tracker = shown.track(problems.append, interval=0.0)
    id_ = shown.configuration(1)
    time.sleep(1)
    shown.emit("told", number=0, state="pruned", reason="changed while it is shown")
    tracker.close()
    assert problems == []
    address = ui_address(shown.directory)

    def seen() -> bool:
        params = ui.call(f"{address}/api/runs/{id_}/info/")["params"]
        changed = ui.call(f"{address}/api/runs/{0:016x}/info/")["params"]["sweep"]["reason"]
        return bool(params["downstream"]) and changed == "changed while it is shown"

    def quietly() -> bool:
        try:
            return seen()
        except (OSError, KeyError):
            return False  # the interface indexes a new run within seconds

    wait_for(quietly)


def test_what_cannot_be_shown_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackingError, match="Aim has no login"):
        ui.serve(tmp_path, host="0.0.0.0")
    with pytest.raises(TrackingError, match="holds no Aim repository"):
        ui.serve(tmp_path)
    (tmp_path / "aim" / ".aim").mkdir(parents=True)
    (tmp_path / "aim" / ".aim" / "VERSION").write_text("1.0\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TrackingError, match="is in use"):
            ui.serve(tmp_path, port=taken.getsockname()[1])
    monkeypatch.setattr(ui, "AIM", [sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(TrackingError, match="Aim ended while starting: no such thing"):
        ui.serve(tmp_path)
    assert not (tmp_path / "aim" / "ui.json").exists()


def test_a_marker_left_by_a_killed_interface_is_no_address(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "aim").mkdir()
    (tmp_path / "aim" / "ui.json").write_text(json.dumps({"process": gone.pid, "address": "http://127.0.0.1:1"}))
    assert ui_address(tmp_path) == ""


# -- the Optuna dashboard ----------------------------------------------------------------------------------------------


def played(directory: Path, objectives: int) -> SyntheticSweep:
    sweep = SyntheticSweep(directory, objectives=objectives)
    values = [0.5, 2.0][:objectives]
    for number, target in enumerate(("ga", "vm", "ga", "vm")):
        params = {"method.lambda": 10.0**number, "method.target": target}
        sweep.emit("configuration", number=number, params=params, source="sampler", trials=[f"{number:016x}"])
    sweep.emit("verdict", number=1, epoch=2, values=[0.1, 9.0][:objectives], decision="stop", reason="worst at epoch 2")
    sweep.emit("told", number=0, state="complete", values=values, spread=[0.0] * objectives, violation=-1.0)
    sweep.emit("told", number=1, state="pruned", reason="worst at epoch 2")
    sweep.emit("told", number=2, state="failed", reason="out of memory")
    return sweep


@pytest.mark.parametrize("objectives", [1, 2])
def test_the_journal_holds_the_study_of_the_records(tmp_path: Path, objectives: int) -> None:
    sweep = played(tmp_path / "s", objectives)
    path = sweep.directory / "optuna.journal"
    assert export_journal(load(sweep.directory), path) == 4
    assert export_journal(load(sweep.directory), path) == 4  # again, in its place
    study = optuna.load_study(study_name="demo", storage=JournalStorage(JournalFileBackend(str(path))))
    expected = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.state for trial in study.trials] == expected
    assert study.trials[0].values == [0.5, 2.0][:objectives]
    assert study.trials[1].params == {"method.lambda": 10.0, "method.target": "vm"}
    assert study.trials[1].intermediate_values == ({2: 0.1} if objectives == 1 else {})
    assert study.trials[2].user_attrs["reason"] == "out of memory"
    assert study.trials[3].user_attrs["trials"] == [f"{3:016x}"]
    assert study.metric_names == [objective["metric"] for objective in sweep.records.objectives]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"][:objectives]
    assert not list(sweep.directory.glob(".optuna*"))


def test_the_study_can_leave_out_what_runs(tmp_path: Path) -> None:
    records = played(tmp_path / "s", 1).records
    assert len(build_study(records).trials) == 4
    study = build_study(records, include_running=False)
    assert [trial.user_attrs["configuration"] for trial in study.trials] == [0, 1, 2]
    assert study.best_trial.number == 0


def test_a_manifest_without_a_valid_sweep_is_one_line(tmp_path: Path) -> None:
    records = played(tmp_path / "s", 1).records
    records.spec["objectives"] = [{"metric": "loss", "direction": "min"}]
    with pytest.raises(ConfigError, match="is a training value"):
        build_study(records)

"""Aim as a view: what it shows equals the folder, and nothing that happens to it reaches the sweep."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.aim_writer import TrackingError, Writer, summary
from sweep.ledger import Event, Ledger
from sweep.pages import pages, plotly_json
from sweep.records import Records, load
from sweep.tracking import Tracker, rebuild

SPACE = {
    "method.lambda": {"kind": "float", "low": 0.1, "high": 1e4, "log": True},
    "method.target": {"kind": "choice", "values": ["ga", "vm"]},
}
OBJECTIVES = [
    {"metric": "linear/all/val/top1", "direction": "max"},
    {"metric": "rotation/equi/val/mse", "direction": "min"},
]
FACTORS = ("linear/all/val/top1", "linear/all/test/top1"), ("rotation/equi/val/r2", "rotation/equi/val/mse")


class SyntheticSweep:
    """Plays a driver: every event goes to the ledger, to the records and to a tracker."""

    def __init__(self, directory: Path, epochs: int = 4, objectives: int = 1, rungs: tuple[float, ...] = ()) -> None:
        self.directory, self.epochs = directory, epochs
        self.tracker: Tracker | None = None
        spec = {"name": "demo", "method": "duet", "data": "digits", "space": SPACE, "evals": ["linear", "rotation"]}
        manifest = {"format": 1, "sweep": {**spec, "objectives": OBJECTIVES[:objectives], "rungs": rungs}}
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "sweep.json").write_text(json.dumps(manifest))
        self.records = Records(directory, manifest)
        self.ledger = Ledger(directory / "ledger.jsonl")
        self.emit("session")

    def emit(self, kind: str, **event: Any) -> None:
        stamped = self.ledger.append({"event": kind, **event})
        self.records.apply(stamped)
        if self.tracker:
            self.tracker.event(self.records, stamped)

    def configuration(self, number: int, fails: str = "", artifacts: dict[str, str] | None = None) -> str:
        """One configuration from proposal to verdict; the id of its pretraining."""
        id_, params = f"{number:016x}", {"method.lambda": 10.0**number, "method.target": "vm"}
        method = {"name": "duet", "lambda": 10.0**number, "target": "vm", "bins": 8}
        config = {
            "method": method,
            "data": {"name": "digits"},
            "train": {"epochs": self.epochs},
            "seed": 0,
            "init": None,
        }
        self.emit("configuration", number=number, params=params, source="known", trials=[id_])
        self.emit("trial", id=id_, stage="pretrain", name="duet", config=config, configuration=number)
        self.emit("start", id=id_, attempt=1)
        for epoch in range(1, self.epochs + 1):
            self.progress(id_, epoch, {"loss": number + 1 / epoch, "loss_group": 2 / epoch})
        if fails:
            self.emit("end", id=id_, status="failed", reason=fails, failure=True, seconds=1.0)
            self.emit("told", number=number, state="failed", reason=fails)
            return id_
        path = f"trials/{id_}/attempt-1/epoch-{self.epochs:04d}"
        self.emit("checkpoint", id=id_, epoch=self.epochs, path=path, digest="d")
        self.emit("end", id=id_, status="finished", metrics={"loss": 0.1}, seconds=2.0)
        for place, name in enumerate(("linear", "rotation")):
            metrics = {metric: (number + 1) / (place + 10 + len(metric)) for metric in FACTORS[place]}
            self.evaluation(number, place, name, metrics, artifacts or {})
        self.emit("told", number=number, state="complete", values=[(number + 1) / 29.0], spread=[0.0])
        return id_

    def evaluation(self, number: int, place: int, name: str, metrics: dict[str, float], files: dict[str, str]) -> None:
        id_, parent = f"{1000 + 2 * number + place:016x}", f"{number:016x}"
        config = {"name": name, "parts": ["all"]}
        more = {"parent": parent, "epoch": self.epochs, "configuration": number}
        self.emit("trial", id=id_, stage="evaluation", name=name, config=config, **more)
        self.emit("start", id=id_, attempt=1)
        self.emit("end", id=id_, status="finished", metrics=metrics, artifacts=files, seconds=0.5)

    def progress(self, id_: str, epoch: int, metrics: dict[str, float]) -> None:
        path = self.directory / "trials" / id_ / "progress.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
        if self.tracker:
            self.tracker.progress(id_, epoch, metrics)

    def track(self, on_problem: Callable[[str], None], **options: Any) -> Tracker:
        self.tracker = Tracker(self.directory, on_problem=on_problem, **options)
        return self.tracker


def tracked(directory: Path, configurations: int = 2) -> SyntheticSweep:
    """A finished sweep with its Aim repository."""
    problems: list[str] = []
    sweep = SyntheticSweep(directory)
    tracker = sweep.track(problems.append)
    for number in range(configurations):
        sweep.configuration(number)
    sweep.emit("done")
    tracker.close()
    assert problems == []
    return sweep


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def by_run(directory: Path) -> dict[str, dict[str, Any]]:
    return {row["run"]: row for row in summary(directory)}


def point(row: dict[str, Any], name: str, context: dict[str, str]) -> tuple[list[int], list[float]]:
    [found] = [metric for metric in row["metrics"] if (metric["name"], metric["context"]) == (name, context)]
    return found["steps"], found["values"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SyntheticSweep:
    return tracked(tmp_path_factory.mktemp("finished") / "sweep")


def test_importing_the_tracker_does_not_import_aim() -> None:
    code = "import sys, sweep.tracking, sweep.ui; assert not {'aim', 'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_run_a_pretraining_has_hyperparameters_curves_and_downstream_metrics(finished: SyntheticSweep) -> None:
    records, rows = load(finished.directory), by_run(finished.directory)
    assert set(rows) == set(records.trials)
    for trial in records.trials.values():
        row = rows[trial.id]
        assert row["experiment"] == "demo" and not row["active"]
        assert row["tags"] == sorted([trial.stage, trial.name, "finished"])
        assert row["params"]["hparams"] == trial.config
        assert row["params"]["sampled"] == records.configurations[trial.configuration].params
        if trial.stage == "pretrain":
            assert row["params"]["downstream"] == records.final_metrics(trial.id)
            assert row["params"]["log10"] == {"method.lambda": float(trial.configuration)}
            curve = records.progress(trial.id)
            expected = [int(entry["epoch"]) for entry in curve], [entry["loss"] for entry in curve]
            assert point(row, "loss", {"stage": "pretrain"}) == expected
    row = rows[f"{1:016x}"]
    assert row["name"] == "duet #1 seed 0"
    context = {"evaluation": "rotation", "part": "equi", "subset": "val"}
    assert point(row, "mse", context) == ([4], [records.final_metrics(row["run"])["rotation/equi/val/mse"]])


def test_an_evaluation_names_its_parent_and_has_its_metrics(finished: SyntheticSweep) -> None:
    row = by_run(finished.directory)[f"{1000 + 2:016x}"]
    assert row["name"] == "linear of duet #1 seed 0, epoch 4"
    assert row["params"]["sweep"]["parent"] == f"{1:016x}"
    assert row["params"]["sweep"]["epoch"] == 4
    trial = finished.records.trials[row["run"]]
    shown = point(row, "top1", {"evaluation": "linear", "part": "all", "subset": "test"})
    assert shown == ([4], [trial.metrics["linear/all/test/top1"]])


def test_rebuilding_gives_what_was_written_live_and_frees_the_repository(finished: SyntheticSweep) -> None:
    live, counts = summary(finished.directory), []
    views = finished.directory / "aim" / ".aim" / "aim_db"
    views.write_text("saved by hand")
    total = rebuild(finished.directory, finished.records, lambda done, total: counts.append((done, total)))
    assert views.read_text() == "saved by hand"
    views.unlink()
    assert total == len(live) == 6 and counts[-1] == (6, 6)
    assert summary(finished.directory) == live
    assert not list(finished.directory.glob("aim.*"))
    assert not list((finished.directory / "aim" / ".aim" / "locks").iterdir())


def test_a_failed_trial_shows_its_reason_and_a_resumed_sweep_corrects_it(tmp_path: Path) -> None:
    sweep, problems = SyntheticSweep(tmp_path / "s"), list[str]()
    tracker = sweep.track(problems.append, interval=0.0)
    id_ = sweep.configuration(0, fails="loss is not finite at epoch 3")
    tracker.close()
    row = by_run(sweep.directory)[id_]
    assert "failed" in row["tags"] and "finished" not in row["tags"]
    assert (row["params"]["sweep"]["status"], row["params"]["sweep"]["state"]) == ("failed", "failed")
    assert row["params"]["sweep"]["reason"] == "loss is not finite at epoch 3"
    tracker = sweep.track(problems.append)
    sweep.emit("session")
    sweep.emit("retry", id=id_)
    sweep.emit("start", id=id_, attempt=2)
    sweep.emit("end", id=id_, status="finished", metrics={})
    tracker.close()
    row = by_run(sweep.directory)[id_]
    assert "finished" in row["tags"] and "failed" not in row["tags"]
    assert problems == []


def test_a_running_trial_is_shown_while_it_runs(tmp_path: Path) -> None:
    sweep, problems = SyntheticSweep(tmp_path / "s"), list[str]()
    tracker = sweep.track(problems.append, interval=0.0)
    config = {"method": {"name": "duet"}, "train": {"epochs": 9}, "seed": 0}
    sweep.emit("configuration", number=0, params={"method.lambda": math.pi}, source="sampler", trials=["a" * 16])
    sweep.emit("trial", id="a" * 16, stage="pretrain", name="duet", config=config, configuration=0)
    sweep.emit("trial", id="b" * 16, stage="features", name="features", config={}, parent="a" * 16, epoch=9)
    sweep.emit("start", id="a" * 16, attempt=1)
    sweep.emit("start", id="b" * 16, attempt=1)
    sweep.progress("a" * 16, 1, {"loss": 3.0})
    sweep.progress("a" * 16, 2, {"loss": math.nan, "note": "text is no metric"})  # type: ignore[dict-item]
    tracker.close()
    [row] = summary(sweep.directory)
    assert row["active"] and "running" in row["tags"]
    steps, values = point(row, "loss", {"stage": "pretrain"})
    assert steps == [1, 2] and values[0] == 3.0 and math.isnan(values[1])
    assert problems == []


def test_artifacts_become_what_aim_can_show(tmp_path: Path) -> None:
    from PIL import Image
    from plotly import graph_objects
    from scipy.io import wavfile

    sweep, problems = SyntheticSweep(tmp_path / "s"), list[str]()
    figure = graph_objects.Figure(graph_objects.Scatter(x=[1, 2], y=[3, 4]), {"title": "<b>two</b> points"})
    Image.new("RGB", (4, 4)).save(sweep.directory / "grid.png")
    wavfile.write(sweep.directory / "note.wav", 8000, np.zeros(80, np.int16))
    figure.write_json(sweep.directory / "front.json")
    figure.write_html(sweep.directory / "front.html", include_plotlyjs=False)
    (sweep.directory / "table.csv").write_text("a,b\n1,2\n" * 50_000)
    (sweep.directory / "torn.png").write_bytes(b"not a picture")
    (sweep.directory / "probe.safetensors").write_bytes(b"weights")
    names = (
        "grid.png",
        "note.wav",
        "front.json",
        "front.html",
        "table.csv",
        "torn.png",
        "probe.safetensors",
        "gone.png",
    )
    tracker = sweep.track(problems.append)
    sweep.configuration(0, artifacts={name: name for name in names})
    tracker.figures({"pareto": figure})
    tracker.close()
    rows = by_run(sweep.directory)
    assert sorted(rows[f"{1000:016x}"]["artifacts"]) == [
        ("audios", "note.wav"),
        ("figures", "front.html"),
        ("figures", "front.json"),
        ("images", "grid.png"),
        ("texts", "table.csv"),
        ("texts", "torn.png"),
    ]
    assert rows["summary"]["artifacts"] == [("figures", "pareto")]
    assert rows["summary"]["name"] == "summary of demo"
    assert rebuild(sweep.directory, sweep.records, figures={"pareto": figure}) == len(rows)
    assert by_run(sweep.directory)["summary"]["artifacts"] == [("figures", "pareto")]
    assert problems == []


def test_a_plotly_figure_is_found_in_json_and_html_and_nowhere_else() -> None:
    assert plotly_json('{"data": [], "layout": {"title": "x"}}') == {"data": [], "layout": {"title": "x"}}
    html = '<script>Plotly.newPlot("id", [{"x": [1]}], {"title": "a)(b"}, {"responsive": true})</script>'
    assert plotly_json(html) == {"data": [{"x": [1]}], "layout": {"title": "a)(b"}}
    for text in ("", "<html></html>", '{"accuracy": 1}', "[1, 2]", 'Plotly.newPlot("id", [{]'):
        assert plotly_json(text) is None


def test_waiting_trials_have_no_page(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "s")
    sweep.emit("configuration", number=0, params={}, source="known", trials=["a" * 16])
    sweep.emit("trial", id="a" * 16, stage="pretrain", name="duet", config={}, configuration=0)
    assert pages(sweep.records) == []
    sweep.emit("start", id="a" * 16, attempt=1)
    assert [page.run for page in pages(sweep.records)] == ["a" * 16]


def test_a_page_takes_the_time_of_its_own_trial(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "s")
    for number in range(3):
        sweep.configuration(number)
    everything = {page.run: page for page in pages(sweep.records)}

    class Indexed(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError("walked over all trials")

    sweep.records.trials = Indexed(sweep.records.trials)
    only = [f"{1:016x}", f"{1000 + 2:016x}"]
    assert {page.run: page for page in pages(sweep.records, only)} == {run: everything[run] for run in only}


def test_the_list_of_runs_is_not_written_at_every_page(tmp_path: Path) -> None:
    writer = Writer(tmp_path, tmp_path / "aim")
    (tmp_path / "aim").mkdir()
    for number in range(3):
        writer.written[f"run {number}"] = {"page": "p", "curve": 0, "indexed": False}
        writer.save(interval=600.0)
    noted = Writer(tmp_path, tmp_path / "aim").written
    assert list(noted) == ["run 0"]
    writer.save()
    assert Writer(tmp_path, tmp_path / "aim").written == writer.written


# -- what may happen to Aim ------------------------------------------------------------------------------------------


def test_aim_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aim", None)
    sweep, problems = SyntheticSweep(tmp_path / "s"), list[str]()
    tracker = sweep.track(problems.append, interval=0.0)
    for number in range(3):
        sweep.configuration(number)
        time.sleep(0.05)
    tracker.close(timeout=30)
    [line] = problems
    assert line.startswith("Aim: not installed (pip install aim); the sweep is not affected")
    with pytest.raises(TrackingError, match="not installed"):
        rebuild(sweep.directory, sweep.records)


def test_a_disabled_tracker_does_nothing(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "s")
    tracker = sweep.track(pytest.fail, enabled=False)
    sweep.configuration(0)
    tracker.figures({})
    tracker.close()
    assert not (sweep.directory / "aim").exists()
    with pytest.raises(TrackingError, match="holds no Aim repository; `sweep track --rebuild"):
        summary(sweep.directory)


def test_a_place_that_cannot_be_a_repository_is_one_line_on_the_drivers_thread(tmp_path: Path) -> None:
    sweep, told = SyntheticSweep(tmp_path / "s"), list[tuple[str, threading.Thread]]()
    (sweep.directory / "aim").write_text("a file")
    tracker = sweep.track(lambda line: told.append((line, threading.current_thread())), interval=0.0)
    for number in range(3):
        sweep.configuration(number)
        time.sleep(0.05)
    tracker.close()
    [(line, thread)] = told
    assert "something could not be written" in line and "\n" not in line
    assert thread is threading.current_thread()


def test_a_full_queue_drops_without_blocking_and_the_end_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, problems, gate, busy = SyntheticSweep(tmp_path / "s"), list[str](), threading.Event(), threading.Event()
    write = Writer.write

    def slow(self: Writer, *arguments: Any) -> None:
        busy.set()
        assert gate.wait(60)
        write(self, *arguments)

    monkeypatch.setattr(Writer, "write", slow)
    tracker = sweep.track(problems.append, interval=0.0, capacity=4)
    sweep.emit("configuration", number=9, params={}, source="known", trials=[])
    sweep.configuration(0)
    assert busy.wait(60)
    for number in range(1, 4):
        sweep.configuration(number)
    gate.set()
    wait_for(tracker._queue.empty)
    sweep.emit("done")
    tracker.close()
    [line] = problems
    assert line.startswith("Aim: cannot keep up")
    assert set(by_run(sweep.directory)) == set(sweep.records.trials)


HOLD = """
import sys, time
from pathlib import Path
from aim import Repo
repo = Repo(sys.argv[1])
held = [repo.request_container(kind, sys.argv[2], read_only=False) for kind in ("meta", "seqs")]
print("held", flush=True)
time.sleep(600)
"""


def test_a_run_held_by_another_process_is_reported_once_and_written_when_it_is_free(tmp_path: Path) -> None:
    sweep = tracked(tmp_path / "s", configurations=1)
    command = [sys.executable, "-c", HOLD, str(sweep.directory / "aim"), f"{0:016x}"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        problems: list[str] = []
        tracker = sweep.track(problems.append, interval=0.0)
        sweep.emit("told", number=0, state="pruned", reason="seen again")

        def told() -> list[str]:
            tracker.event(sweep.records, {"event": "warning", "kind": "k", "text": "t"})
            return problems

        wait_for(told)
    finally:
        holder.kill()
        holder.wait()
    tracker.close()
    [line] = problems
    assert line.startswith("Aim: another process holds the repository")
    assert by_run(sweep.directory)[f"{0:016x}"]["params"]["sweep"]["reason"] == "seen again"


MOUNTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_tracking import SyntheticSweep
sweep = SyntheticSweep(Path(sys.argv[2]))
tracker = sweep.track(lambda line: print("PROBLEM", line), interval=0.0)
for number in range(8):
    sweep.configuration(number)
sweep.emit("done")
tracker.close(20)
print("RECORDS", sum(trial.status == "finished" for trial in sweep.records.trials.values()))
"""


@pytest.mark.parametrize(("options", "meaning"), [("ro", "cannot be written"), ("size=1200k", "the disk is full")])
def test_a_read_only_or_full_disk_costs_the_sweep_nothing(tmp_path: Path, options: str, meaning: str) -> None:
    place = tmp_path / "s" / "aim"
    place.mkdir(parents=True)
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount of one's own (unshare -rm)")
    mount = f'mount -t tmpfs -o {options} tmpfs "{place}" && exec "$@"'
    python = [sys.executable, "-c", MOUNTED, str(Path(__file__).parent), str(place.parent)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *python], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    problems = [line for line in done.stdout.splitlines() if line.startswith("PROBLEM")]
    # Aim itself sometimes waits for ever inside a write to a full disk; that is reported too, and costs nothing else
    assert any(meaning in line or "not everything was written" in line for line in problems), done.stdout + done.stderr
    assert "RECORDS 24" in done.stdout
    assert len(load(place.parent).trials) == 24


ENDLESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_tracking import SyntheticSweep
sweep = SyntheticSweep(Path(sys.argv[2]))
sweep.track(print, interval=0.0)
for number in range(6):
    sweep.configuration(number)
sweep.tracker.close(600)
"""


def test_a_writer_killed_in_the_middle_is_made_good_by_the_next_session_and_by_a_rebuild(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    writer = subprocess.Popen([sys.executable, "-c", ENDLESS, str(Path(__file__).parent), str(directory)])
    chunks = directory / "aim" / ".aim" / "meta" / "chunks"
    try:
        wait_for(lambda: chunks.exists() and len(list(chunks.iterdir())) >= 4)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(list(chunks.iterdir())) < 18  # it was killed before the end
    shutil.copytree(directory, tmp_path / "other")
    records, problems = load(directory), list[str]()
    tracker = Tracker(directory, on_problem=problems.append)
    session: Event = {"event": "session", "time": time.time()}
    records.apply(session)
    tracker.event(records, session)
    tracker.close()
    assert problems == []
    resumed, other = by_run(directory), load(tmp_path / "other")
    assert rebuild(tmp_path / "other", other) == len(resumed) >= 4
    assert resumed == by_run(tmp_path / "other")
    assert os.listdir(directory / "aim" / ".aim" / "locks") == []  # noqa: PTH208


def test_a_pretraining_of_several_configurations_has_a_page_for_each(tmp_path: Path) -> None:
    """They differ in an option of an evaluation: its curves are shown once, the numbers beside the option."""
    sweep, problems = SyntheticSweep(tmp_path / "s"), list[str]()
    tracker = sweep.track(problems.append)
    parent = "a" * 16
    config = {"method": {"name": "duet"}, "train": {"epochs": 1}, "seed": 0}
    for number in range(2):
        options = {"evals.linear.lr": 10.0**-number, "method.lambda": 3.0}
        sweep.emit("configuration", number=number, params=options, source="sampler", trials=[parent])
    sweep.emit("trial", id=parent, stage="pretrain", name="duet", config=config, configuration=0)
    sweep.emit("start", id=parent, attempt=1)
    sweep.progress(parent, 1, {"loss": 3.0})
    sweep.emit("end", id=parent, status="finished", metrics={"loss": 3.0})
    for number in range(2):
        ids = {"linear": f"{number + 1:016x}", "knn": "b" * 16}
        for name, id_ in ids.items():
            if id_ not in sweep.records.trials:
                more = {"parent": parent, "epoch": 1, "configuration": number}
                sweep.emit("trial", id=id_, stage="evaluation", name=name, config={"name": name}, **more)
                sweep.emit("start", id=id_, attempt=1)
        sweep.emit("evaluations", number=number, trial=parent, epoch=1, ids=ids)
        for name, id_ in ids.items():
            sweep.emit("end", id=id_, status="finished", metrics={f"{name}/all/val/top1": number + len(name)})
    sweep.emit("done")
    tracker.close()
    assert problems == []
    rows = {row["name"]: row for row in summary(sweep.directory)}
    evaluations = {"linear of duet #0 seed 0, epoch 1", "linear of duet #1 seed 0, epoch 1"}
    assert set(rows) == {"duet #0 seed 0", "duet #1 seed 0", "knn of duet #0 seed 0, epoch 1"} | evaluations
    assert rows["knn of duet #0 seed 0, epoch 1"]["params"]["sampled"] == {"method.lambda": 3.0}
    context = {"evaluation": "linear", "part": "all", "subset": "val"}
    for number in range(2):
        row = rows[f"duet #{number} seed 0"]
        sampled = {"evals.linear.lr": 10.0**-number, "method.lambda": 3.0}
        assert row["params"]["sampled"] == sampled
        assert rows[f"linear of duet #{number} seed 0, epoch 1"]["params"]["sampled"] == sampled
        assert row["params"]["sweep"]["configuration"] == number
        assert row["params"]["downstream"] == {"linear/all/val/top1": number + 6, "knn/all/val/top1": 4}
        assert point(row, "top1", context) == ([1], [number + 6])
        assert any(metric["name"] == "loss" for metric in row["metrics"]) is (number == 0)
    assert rebuild(sweep.directory, sweep.records) == 5

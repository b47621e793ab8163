"""The command line on a sweep that ran: what the verbs print, what they leave alone, and how they end."""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from graphs import World, sweep_of

from datasets.config import ConfigError
from datasets.transforms.load import shipped
from sweep import cli_runs
from sweep.cli import app, run_command
from sweep.console import Watch
from sweep.folder import create, default_directory, is_busy, lock
from sweep.ledger import Ledger
from sweep.records import LEDGER, MANIFEST, load
from trainables.core.load import ROOT, names

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line that must succeed; what it prints."""

    def call(*arguments: str | Path, code: int = 0) -> str:
        capsys.readouterr()
        found = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == code, captured
        return captured.out if code == 0 else captured.err

    return call


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a sweep of fake trials, some of which were stopped at a rung."""
    sweep = sweep_of(
        name="fakes", rungs=[0.2, 0.5], stop={"rule": "asha", "reduction": 2, "min_trials": 2}, budget={"trials": 8}
    )
    world = World(sweep).run()
    directory = tmp_path / "fakes"
    create(directory, sweep, {"data_root": None, "address": None, "track": False})
    ledger = Ledger(directory / LEDGER)
    for event in [*world.ledger, {"time": float(len(world.ledger)), "event": "done"}]:
        ledger.append(event)
    ledger.close()
    for trial in world.records.trials.values():
        (directory / "trials" / trial.id).mkdir()
        (directory / "trials" / trial.id / "log.txt").write_text("one\ntwo\nthree\n")
    return directory


def best_of(directory: Path) -> tuple[int, str]:
    done = [c for c in load(directory).configurations.values() if c.state == "complete"]
    found = max(done, key=lambda c: c.values[0])
    return found.number, found.trials[0]


def files(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


# -- the verbs -----------------------------------------------------------------------------------------------------

VERBS = {
    "ls", "plan", "run", "doctor", "data", "status", "watch", "logs", "stop", "resume", "extend", "retry", "table",
    "best", "explain", "report", "eval", "export", "import", "ui", "track", "clean",
}  # fmt: skip


def test_the_verbs_and_their_help(run: Run) -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert commands == VERBS
    overview = run("--help")
    for verb in VERBS:
        assert f"  {verb} " in overview
        assert "--help" in run(verb, "--help")
    assert run() == overview


def test_no_option_is_a_hyperparameter() -> None:
    """The command line does not grow with methods: everything of a sweep goes through --set."""
    assert set(inspect.signature(cli_runs.run).parameters) == {
        "name", "sets", "trials", "workers", "smoke", "directory", "data_root", "address", "reuse", "warm", "aim",
    }  # fmt: skip


def test_ls_shows_every_file_with_its_first_line(run: Run) -> None:
    everything = run("ls")
    for kind, title in (("method", "methods"), ("dataset", "datasets"), ("evaluation", "evaluations")):
        only = run("ls", title)
        for name in names(kind):  # type: ignore[arg-type]
            line = next(line for line in only.splitlines() if line.split()[0] == name)
            assert len(line.split()) > 2
            assert line in everything
    assert "demo" in run("ls", "spaces")


def test_ls_with_options_shows_defaults_and_ranges(run: Run) -> None:
    lines = run("ls", "methods", "-v").splitlines()
    line = next(line for line in lines if line.split()[0] == "lambda")
    assert "10.0" in line
    assert ">= 0" in line
    assert ["encoder.name", "'resnet18'"] in [line.split()[:2] for line in lines], "a method's own default"
    assert "adamw|sgd" not in "\n".join(lines), "the training section belongs to no method"


def test_ls_shows_transforms_and_the_settings_that_belong_to_no_method(run: Run) -> None:
    codes = {line.split()[0] for line in run("ls", "transforms").splitlines()[1:]}
    assert codes == set(shipped())
    settings = run("ls", "settings", "-v")
    for name in ("warmup_epochs", "center_crop", "limits.epoch_minutes", "budget.device_hours"):
        assert f"      {name} " in settings


def test_the_page_of_all_options_is_what_ls_says(run: Run) -> None:
    page = (ROOT / "docs" / "options.md").read_text()
    assert page.split("```\n")[1] == run("ls", "-v"), "`make docs/options.md` writes it again"


def test_plan_prices_and_writes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = run("plan", "demo", "--smoke")
    assert "duet on digits" in text
    assert "3 configurations x 1 seeds = 3 pretrainings" in text
    assert "price" in text
    assert list(tmp_path.iterdir()) == []


def test_data_shows_what_is_there(run: Run, tmp_path: Path) -> None:
    text = run("data", "digits", "--out", tmp_path, "--set", "size=12")
    assert "items (1, 12, 12), labels {'class': 10}" in text
    assert "val   400 items" in text
    assert (tmp_path / "digits.png").read_bytes()[1:4] == b"PNG"


def test_data_renders_a_set_and_shows_it(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    options = [f"--set={text}" for text in ("views=2", "count=2", "size=32", "held_out=0.5", "workers=1")]
    text = run("data", "bench3die", "--render", "solids", folder, *options)
    assert "40 pictures of 32 px to render, about" in text
    assert f"{folder}: 10 objects in train, 10 in val" in text
    text = run("data", "bench3die", "--data-root", folder, "--out", tmp_path, "--set", "size=32")
    assert "val   1 items" in text
    assert (tmp_path / "bench3die.png").read_bytes()[1:4] == b"PNG"


def test_rendering_what_cannot_be_is_one_line(run: Run, tmp_path: Path) -> None:
    assert "data digits: cannot be rendered" in run("data", "digits", "--render", "solids", tmp_path, code=2)
    assert "render.vews: no such option; did you mean 'views'?" in run(
        "data", "bench3die", "--render", "solids", tmp_path, "--set", "vews=2", code=2
    )


# -- a sweep that ran ----------------------------------------------------------------------------------------------


def test_status_says_how_it_went(run: Run, finished: Path) -> None:
    text = run("status", finished)
    assert "fakes in" in text
    assert ": finished;" in text
    assert "configurations  8 of 8" in text
    assert "asha: place" in text
    assert f"best good/all/val/score {load(finished).configurations[best_of(finished)[0]].values[0]:.4g}" in text


def test_watch_ends_where_no_driver_is_at_work(run: Run, finished: Path) -> None:
    text = run("watch", finished)
    assert "8/8 configurations" in text
    assert text.splitlines()[-1] == "finished"


def test_watch_says_each_configuration_once_in_one_view(
    run: Run, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, True, False])
    monkeypatch.setattr("sweep.folder.is_busy", lambda directory: next(looks))
    text = run("watch", finished, "--every", "0.01")
    assert [text.count(f"#{number} ") for number in range(8)] == [1] * 8
    assert text.count("8/8 configurations") == 3


WATCHER = """
import sys
from pathlib import Path
from sweep.console import Watch
from sweep.records import load
view = Watch(load(Path(sys.argv[1])), 1)
for _ in range(2000):
    view.say("x" * 100)
    view(None, {"event": "tick"})
view.close()
print("still here", file=sys.stderr)
"""


def test_a_reader_that_goes_away_does_not_end_what_is_shown(finished: Path) -> None:
    command = [sys.executable, "-c", WATCHER, str(finished)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "still here\n"
    assert process.wait() == 0


def test_an_output_that_cannot_be_written_is_let_go(finished: Path) -> None:
    class Gone(io.StringIO):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError(5, "Input/output error")

    view = Watch(load(finished), 1)
    view.console.file = gone = Gone()
    view.say("one")
    view.say("two")
    assert gone.tries == 1


def test_a_status_line_that_says_nothing_new_is_seldom_printed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, view, shown = [1000.0], Watch(load(finished), 1), io.StringIO()
    view.console.file, view.printed = shown, now[0]
    monkeypatch.setattr("sweep.console.time.monotonic", lambda: now[0])
    for _ in range(20):  # every 11 seconds
        now[0] += 11
        view(None, {"event": "tick"})
    assert shown.getvalue().count("configurations;") == 2, "at once, and after two minutes"
    next(iter(view.records.trials.values())).status = "running"
    now[0] += 11
    view(None, {"event": "tick"})
    assert shown.getvalue().count("configurations;") == 3


def test_the_time_left_does_not_count_what_was_taken_from_another_sweep(finished: Path) -> None:
    records = load(finished)
    told = len(records.configurations)
    view = Watch(records, 1)
    view.finished_before, view.began = 0, view.began - 100
    records.spec["budget"]["trials"] = 2 * told
    assert "about 2 min left" in view.line()
    for trial in records.trials.values():
        trial.origin = "another"
    assert "left" not in view.line()


def test_reading_leaves_the_folder_as_it_was(run: Run, finished: Path, tmp_path: Path) -> None:
    before, (_, trial) = files(finished), best_of(finished)
    for verb in (["status"], ["watch"], ["table"], ["table", "--by", "evaluation"], ["best"], ["clean"]):
        run(verb[0], finished, *verb[1:])
    run("logs", finished, trial)
    run("explain", finished, "good/all/val/score", trial)
    run("report", finished, "--out", tmp_path / "report")
    assert files(finished) == before


def test_a_sweep_under_a_driver_is_seen_as_running(run: Run, finished: Path) -> None:
    assert not is_busy(finished)
    held = lock(finished)
    try:
        assert is_busy(finished)
        owner = (finished / "lock").read_text()
        assert f"process {os.getpid()} on" in owner
        assert "is running" in run("clean", finished, "--features", code=2)
        assert is_busy(finished)
        assert (finished / "lock").read_text() == owner, "looking does not take the lock"
    finally:
        held.close()
    assert not is_busy(finished)
    assert "MB given back" in run("clean", finished, "--features")


def test_a_second_driver_is_refused_with_the_first_named(run: Run, finished: Path) -> None:
    held = lock(finished)
    with pytest.raises(Exception, match=f"is being run by process {os.getpid()} on .*`sweep stop"):
        lock(finished)
    held.close()
    lock(finished).close()


def test_logs_show_the_end(run: Run, finished: Path) -> None:
    trial = best_of(finished)[1]
    assert run("logs", finished, trial).split() == ["one", "two", "three"]
    assert run("logs", finished, trial[:10], "-n", "1").split() == ["three"]


@pytest.mark.parametrize("by", ["configuration", "trial", "evaluation"])
def test_tables_on_the_terminal_and_as_files(run: Run, finished: Path, tmp_path: Path, by: str) -> None:
    compact, wide = run("table", finished, "--by", by), run("table", finished, "--by", by, "--all")
    assert "good/all/val/score" in wide or by == "evaluation"
    assert len(compact.splitlines()) >= 8
    assert by == "evaluation" or ("score" in compact and max(map(len, compact.splitlines())) <= 160)
    for suffix, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet), ("json", pd.read_json)):
        path = tmp_path / f"results.{suffix}"
        assert str(path) in run("table", finished, "--by", by, "--out", path)
        assert len(read(path)) == {"configuration": 8, "trial": 8}.get(by, len(read(path)))
        assert len(read(path)) >= 8


def test_best_is_the_best(run: Run, finished: Path) -> None:
    number, trial = best_of(finished)
    assert trial[:8] in run("best", finished) or f" {number} " in run("best", finished)


def test_explain_names_everything_between_code_and_number(run: Run, finished: Path) -> None:
    trial = best_of(finished)[1]
    text = run("explain", finished, "good/all/val/score", trial)
    assert trial in text
    assert "sweep eval" in text


def test_a_finished_sweep_is_not_run_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `run`, `resume` and the same `run` once more: no driver starts, no event is written."""

    def alarm(*arguments: object, **options: object) -> None:
        pytest.fail("Ray would have been started")

    monkeypatch.setattr("sweep.cluster.connect", alarm)
    monkeypatch.setattr("sweep.report.conclude", lambda records: iter(()))
    from sweep.spec import load_sweep

    sweep = load_sweep("demo", ["budget.trials=1"], smoke=True)
    create(tmp_path / "d", sweep, {"data_root": None, "address": None, "track": False})
    ledger = Ledger(tmp_path / "d" / LEDGER)
    ledger.append({"event": "session"})
    point = {"method.lambda": 1000.0, "method.bins": 8, "method.kappa": 3.0}
    ledger.append({"event": "configuration", "number": 0, "params": point, "source": "known", "trials": ["a"]})
    config = {"method": {"name": "duet"}, "seed": 0}
    ledger.append({"event": "trial", "id": "a", "stage": "pretrain", "name": "duet", "config": config})
    for key in sweep.evals:
        trial = {"id": f"e{key}", "stage": "evaluation", "name": key, "config": {}, "parent": "a", "epoch": 2}
        ledger.append({"event": "trial", **trial})
        ledger.append({"event": "end", "id": f"e{key}", "status": "finished"})
    ledger.append({"event": "done"})
    ledger.close()
    before = (tmp_path / "d" / LEDGER).read_bytes()
    assert "finished already" in run("resume", tmp_path / "d")
    again = run("run", "demo", "--smoke", "--trials", "1", "--dir", tmp_path / "d", "--no-aim")
    assert "finished already" in again
    assert (tmp_path / "d" / LEDGER).read_bytes() == before


def test_the_manifest_says_how_it_came_to_be(finished: Path) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    assert manifest["asked"] == manifest["sweep"]
    assert set(manifest["environment"]) >= {"python", "torch", "ray", "optuna", "aim", "revision", "dirty"}


# -- the folder ----------------------------------------------------------------------------------------------------


def test_a_folder_that_a_kill_left_half_made_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    sweep, place = sweep_of(name="same"), tmp_path / "deep" / "s"
    for step in ("environment", "write_atomic"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"sweep.folder.{step}", killed)
            create(place, sweep, {})
    (place / f".{MANIFEST}.123").write_text("half")
    (place / "trials").mkdir()
    assert create(place, sweep, {}).spec["name"] == "same"
    for name in ("results.txt", "trials/x"):
        other = tmp_path / name.replace("/", "-")
        (other / name).mkdir(parents=True)
        with pytest.raises(ConfigError, match="is not empty and holds no sweep"):
            create(other, sweep, {})


def sizes_given_back(text: str) -> dict[str, float]:
    lines = [line.split(": ") for line in text.splitlines() if line.endswith("MB given back")]
    return {what: float(rest.split()[0]) for what, rest in lines}


def test_clean_takes_what_no_record_names(run: Run, finished: Path) -> None:
    trials = load(finished).trials.values()
    over = next(t for t in trials if t.stage == "pretrain" and t.checkpoints)
    published = finished / over.checkpoints[-1].path
    lost = [
        published.parent / "epoch-9999", published.parent / ".epoch-9998.77", finished / ".ray" / "x",
        finished / "cache" / "features" / ".k.h5.77",
    ]  # fmt: skip
    for folder in (published, *lost):
        folder.mkdir(parents=True)
        (folder / "model").write_bytes(bytes(2**20))
    kept = finished / "cache" / "features" / "k.h5"
    kept.write_bytes(b"whole")
    assert sizes_given_back(run("clean", finished, "--checkpoints"))["left by processes that were killed"] == 4.0
    assert not any(folder.exists() for folder in lost)
    assert kept.exists()


def test_clean_leaves_the_features_that_sweeps_share(
    run: Run, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache in (tmp_path / "shared", finished / "cache"):
        (cache / "features").mkdir(parents=True)
        (cache / "features" / "k.h5").write_bytes(bytes(2**20))
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "shared"))
    text = run("clean", finished, "--features")
    assert sizes_given_back(text)["features"] == 1.0
    assert f"features: those in {tmp_path / 'shared' / 'features'} stay" in text
    assert (tmp_path / "shared" / "features" / "k.h5").exists()
    assert not (finished / "cache").exists()


def test_clean_deletes_nothing_outside_the_sweep(run: Run, finished: Path, tmp_path: Path) -> None:
    best, outside = best_of(finished)[1], [tmp_path / "a", tmp_path / "b"]
    worse = [t for t in load(finished).trials.values() if t.stage == "pretrain" and t.over and t.id != best]
    ledger = Ledger(finished / LEDGER)
    for trial, folder, path in zip(worse, outside, (str(tmp_path / "a"), "../b"), strict=False):
        folder.mkdir()
        (folder / "model").write_bytes(bytes(2**20))
        ledger.append({"event": "checkpoint", "id": trial.id, "epoch": 99, "path": path, "digest": "d"})
    ledger.close()
    run("clean", finished, "--checkpoints", code=2)  # such a ledger is not read at all
    assert all((folder / "model").exists() for folder in outside)


# -- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (OSError(28, "No space", "x"), 2, "x: No")],
)
def test_ends_of_another_kind(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("sweep.listing.listing", broken)
    assert run_command(["ls"]) == code
    assert said in capsys.readouterr().err


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sweep.listing.listing", broken)
    with pytest.raises(ZeroDivisionError):
        run_command(["ls"])


def test_doctor_names_the_remedy_of_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from sweep import doctor

    monkeypatch.setattr(doctor, "_ray", lambda: doctor.Finding("Ray starts", True))
    monkeypatch.setattr(doctor, "_browser_free", lambda: doctor.Finding("Aim can be imported", True))
    monkeypatch.delenv("SWEEP_DATA", raising=False)
    assert run_command(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    assert any("`datasets` is" in line for line in lines)
    monkeypatch.setenv("SWEEP_DATA", str(tmp_path / "nothere"))
    monkeypatch.setattr(doctor, "SPACE_GB", 1e9)
    monkeypatch.setitem(doctor.WANTED, "torch", "9.")
    assert run_command(["doctor"]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD ")]
    assert [line.split(" - ")[1] for line in bad] == [
        "version 9.x is wanted; `make setup`",
        "checkpoints need room; free some or use --dir",
        "there is no such folder",
    ]


def test_a_new_sweep_of_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    first, second = sweep_of(name="same"), sweep_of(name="same", seeds=2)
    assert default_directory(first, tmp_path) == tmp_path / "same"
    create(tmp_path / "same", first, {})
    assert default_directory(first, tmp_path) == tmp_path / "same", "the same sweep goes on"
    assert default_directory(second, tmp_path) == tmp_path / "same-2"
    create(tmp_path / "same-2", second, {})
    assert default_directory(second, tmp_path) == tmp_path / "same-2"
    assert default_directory(sweep_of(name="same", seeds=3), tmp_path) == tmp_path / "same-3"

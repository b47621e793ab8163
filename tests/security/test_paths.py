"""Paths that a sweep's folder or a spec names stay inside the folder, wherever the folder came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.config import ConfigError
from sweep.cli import run_command
from sweep.folder import inside
from sweep.ledger import Ledger
from sweep.records import NotASweep, Trial, load
from sweep.run import resume, run
from sweep.spec import build


def trial_of(sweep: Path, stage: str) -> Trial:
    return next(trial for trial in load(sweep).trials.values() if trial.stage == stage)


def add(sweep: Path, *events: dict[str, Any]) -> None:
    """Put events with right checksums at the end of a ledger, as someone who hands on a folder could."""
    ledger = Ledger(sweep / "ledger.jsonl")
    for event in events:
        ledger.append(event)
    ledger.close()


# -- one path --------------------------------------------------------------------------------------------------------

OUT = ["", ".", "..", "../b", "a/../../b", "/etc/passwd", "out", "out/x", "loop", "a\0b", "s3://bucket/x", "a/.."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    base = tmp_path / "base"
    base.mkdir()
    (base / "out").symlink_to(tmp_path / "elsewhere")
    (base / "loop").symlink_to(base / "loop")
    (base / "a").mkdir()
    (base / "in").symlink_to(base / "a")
    return base


@pytest.mark.parametrize("relative", OUT)
def test_what_leads_out_is_refused(folder: Path, relative: str) -> None:
    with pytest.raises(ConfigError, match="leads out of this sweep's folder") as found:
        inside(folder, relative)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("relative", "place"), [("a", "a"), ("a/b", "a/b"), ("in/b", "a/b"), ("..a/b", "..a/b")])
def test_what_stays_is_followed(folder: Path, relative: str, place: str) -> None:
    assert inside(folder, relative) == (folder / place).resolve()


# -- a ledger --------------------------------------------------------------------------------------------------------

Hostile = Callable[[Trial, str], dict[str, Any]]
EVENTS: dict[str, Hostile] = {
    "checkpoint": lambda trial, path: {"event": "checkpoint", "id": trial.id, "epoch": 9, "path": path, "digest": ""},
    "dropped": lambda trial, path: {"event": "drop_checkpoint", "id": trial.id, "path": path},
    "artifact": lambda trial, path: {"event": "end", "id": trial.id, "status": "finished", "artifacts": {"a": path}},
    "id": lambda trial, path: {"event": "trial", "id": path, "stage": "pretrain", "name": "x", "config": {}},
    "member": lambda trial, path: {
        "event": "configuration", "number": 9, "params": {}, "source": "known", "trials": [path],
    },
    "attempt": lambda trial, path: {"event": "start", "id": trial.id, "attempt": path},
}  # fmt: skip


@pytest.mark.parametrize("path", ["../../elsewhere", "/etc", "a/../../b", "s3://bucket/a"])
@pytest.mark.parametrize("kind", EVENTS)
def test_a_ledger_that_names_other_places_is_not_read(finished: Path, kind: str, path: str) -> None:
    add(finished, EVENTS[kind](trial_of(finished, "pretrain"), path))
    with pytest.raises(NotASweep, match=r"ledger\.jsonl, line \d+: event ") as found:
        load(finished)
    assert "\n" not in str(found.value)


def test_an_event_that_this_version_never_writes_is_one_line(finished: Path) -> None:
    add(finished, {"event": "told", "number": 77, "state": "complete"})
    with pytest.raises(NotASweep, match=r"ledger\.jsonl, line \d+: no event of this version"):
        load(finished)


@pytest.mark.parametrize(("path", "right"), [("trials/a", True), ("../a", False), ("/etc", False)])
def test_a_result_taken_over_lies_in_the_sweep_it_came_from(
    finished: Path, tmp_path: Path, path: str, right: bool
) -> None:
    origin = str(tmp_path / "other")
    id_ = "f" * 16
    add(
        finished,
        {"event": "trial", "id": id_, "stage": "pretrain", "name": "x", "config": {}, "origin": origin},
        {"event": "checkpoint", "id": id_, "epoch": 1, "path": f"{origin}/{path}" if path[0] != "/" else path,
         "digest": ""},
    )  # fmt: skip
    if right:
        assert load(finished).trials[id_].origin == origin
    else:
        with pytest.raises(NotASweep, match="leads out"):
            load(finished)


@pytest.mark.parametrize("command", ["status", "best", "report", "clean", "resume", "track --rebuild", "export"])
def test_no_command_takes_such_a_folder(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    add(finished, EVENTS["checkpoint"](trial_of(finished, "pretrain"), "../elsewhere"))
    verb, *options = command.split()
    target = [str(tmp_path / "target")] if verb == "export" else []
    assert run_command([verb, *options, str(finished), *target]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_result_is_not_taken_over_from_such_a_folder(finished: Path, tmp_path: Path) -> None:
    add(finished, EVENTS["artifact"](trial_of(finished, "evaluation"), "../../elsewhere"))
    with pytest.raises(NotASweep, match="leads out"):
        run("demo", tmp_path / "new", reuse=finished, quiet=True, track=False)
    assert not (tmp_path / "new").exists()


# -- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trials", "trials/ID", "trials/ID/log.txt", "ledger.jsonl", "lock", "stop"])
def test_a_driver_writes_through_no_link_that_leads_out(finished: Path, tmp_path: Path, name: str) -> None:
    path = finished / name.replace("ID", trial_of(finished, "pretrain").id)
    moved = tmp_path / "elsewhere"
    if path.exists():
        path.rename(moved)
    else:
        moved.touch()
    before = {place: place.stat().st_mtime_ns for place in (moved, *moved.rglob("*"))}
    path.symlink_to(moved)
    with pytest.raises(ConfigError, match="is a link that leads out of the sweep's folder") as found:
        resume(finished, retry_failed=True, quiet=True)
    assert str(path) in str(found.value)
    assert {place: place.stat().st_mtime_ns for place in (moved, *moved.rglob("*"))} == before


# -- specs and evaluations -------------------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "method": "duet", "data": "digits", "space": {"method.lambda": {"float": [1, 2]}},
    "objectives": ["max linear/content/val/top1"], "evals": {"linear": {}},
}  # fmt: skip


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc", "", "a\n", ".hidden"])
def test_a_sweeps_name_is_one_name(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        build({**SPEC, "name": name}, "spec")


@pytest.mark.parametrize("key", ["../x", "..", ".", "a/b", "/etc", "", "a\n"])
def test_an_evaluations_key_is_one_name(key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a key"):
        build({**SPEC, "evals": {"linear": {}, key: {"name": "linear"}}}, "spec")


def test_an_artifact_of_an_evaluation_lies_in_its_folder(original: Path) -> None:
    stray = next(trial for trial in load(original).trials.values() if trial.name == "stray")
    assert stray.status == "failed"
    assert "../../escape lies outside its folder" in stray.reason
    assert stray.artifacts == {}
    record = json.loads((original / "trials" / stray.id / "record.json").read_text())
    assert record["artifacts"] == {}

"""What a folder from elsewhere can make run: nothing when it is looked at; the modules it names when it is resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_clusters import clean

from sweep.ledger import decode, encode
from sweep.records import load

EVIL = "from pathlib import Path\nPath({marker!r}).mkdir(exist_ok=True)\n"
LOOKS = ("status", "table", "best", "report", "clean", "watch")


@pytest.fixture
def hostile(finished: Path, tmp_path: Path) -> Path:
    """The finished sweep as an attacker would hand it on: its modules lie in it and do something on import."""
    names = ("evil", "cheap", "sitecustomize", "usercustomize", "typer", "pandas", "conftest")
    for name in names:
        (finished / f"{name}.py").write_text(EVIL.format(marker=str(tmp_path / "it-ran")))
    manifest = json.loads((finished / "sweep.json").read_text().replace("cheap.method", "evil.method"))
    manifest["options"]["modules"] = [str(finished)]
    for part in ("asked", "sweep"):
        manifest[part]["description"] = "</script><script>alert(1)</script>"
    (finished / "sweep.json").write_text(json.dumps(manifest))
    ledger = finished / "ledger.jsonl"
    events = [decode(line) for line in ledger.read_bytes().splitlines()]
    changed = json.loads(json.dumps(events).replace("cheap.method", "evil.method"))
    for event in changed:
        if event["event"] == "told":
            event["reason"] = "<img src=x onerror=alert(1)>"
    ledger.write_bytes(b"".join(encode(event) for event in changed))
    for meta in finished.glob("trials/*/attempt-*/epoch-*/meta.json"):
        meta.write_text(meta.read_text().replace("cheap.method", "evil.method"))
    return finished


def sweep_command(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command from another folder, in a process of its own."""
    command = [sys.executable, "-c", "from sweep.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, cwd=home, env=clean(home), capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip


def test_looking_imports_and_runs_nothing_of_it(hostile: Path, tmp_path: Path) -> None:
    marker, home = tmp_path / "it-ran", tmp_path / "home"
    home.mkdir()
    trial = next(iter(load(hostile).trials.values()))
    looks: list[tuple[str | Path, ...]] = [(verb, hostile) for verb in LOOKS]
    looks += [("logs", hostile, trial.id), ("explain", hostile, "good/all/val/score", trial.id), ("ls",)]
    for arguments in looks:
        done = sweep_command(home, *arguments)
        assert done.returncode == 0, done
        assert not marker.exists(), arguments


def test_a_checkpoint_names_a_module_which_is_not_looked_for_in_the_folder(hostile: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = sweep_command(home, "export", hostile, home / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
    assert "method 'evil.method': no such module" in done.stderr
    assert not (tmp_path / "it-ran").exists()


def test_resuming_it_runs_what_it_names(hostile: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    sweep_command(home, "resume", hostile)
    assert (tmp_path / "it-ran").exists(), "SECURITY.md says so; if this changes, say that"


def test_its_texts_are_no_markup_of_the_report(hostile: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = sweep_command(home, "report", hostile, "--out", home / "report")
    assert done.returncode == 0, done
    page = (home / "report" / "report.html").read_text()
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page

"""A sweep's folder and the state in it belong to their owner alone, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from datasets.atomic import PRIVATE, private, replacing
from sweep.folder import lock, write_manifest
from sweep.records import load


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def no_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_the_state_of_a_sweep_that_ran(original: Path) -> None:
    assert mode(original) == 0o700
    for name in ("sweep.json", "ledger.jsonl", "lock"):
        assert mode(original / name) == 0o600, name
    trials = list(load(original).trials.values())
    files = [original / "trials" / trial.id / name for trial in trials for name in ("record.json", "log.txt")]
    files += [original / "trials" / trial.id / "progress.jsonl" for trial in trials if trial.stage == "pretrain"]
    assert len(files) > 4
    assert {str(file): oct(mode(file)) for file in files if mode(file) != 0o600} == {}


def test_a_manifest_written_again_and_a_lock(original: Path, tmp_path: Path) -> None:
    from sweep.folder import sweep_of

    records = load(original)
    sweep = sweep_of(records)
    write_manifest(tmp_path / "new", sweep, sweep, {})
    write_manifest(tmp_path / "new", sweep, sweep, {})
    lock(tmp_path / "new").close()
    assert [mode(tmp_path / "new" / name) for name in (".", "sweep.json", "lock")] == [0o700, 0o600, 0o600]


def test_a_replaced_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", PRIVATE) as temporary:
        temporary.write_text("secret")
        assert mode(temporary) == 0o600
    assert mode(tmp_path / "a") == 0o600
    with open(tmp_path / "b", "a", opener=private) as file:
        file.write("secret")
    assert mode(tmp_path / "b") == 0o600

"""Killed in the middle of a write: of the ledger, a record, a curve, Aim, the features of a checkpoint."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch
from cheap_sweeps import HERE, cheap, command, finish, whole, write

from datasets.atomic import replacing
from sweep.aim_writer import summary
from sweep.records import load
from trainables.evals.base import Features
from trainables.evals.features import read
from trainables.evals.features import write as write_features

PLACES = {"ledger": 40, "record": 30, "progress": 12, "aim": 2}  # and the last write that may be the one


def dying(place: str, count: int, *arguments: str | Path) -> int:
    """The exit code of a driver that kills itself at the `count`th write of `place`."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("dying_driver.py")), place, str(count), *map(str, arguments)],
        cwd=HERE, env={**os.environ}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stdout + done.stderr
    return done.returncode


def kills_while_writing(tmp_path: Path, kills: int, seed: int) -> None:
    draw, directory = random.Random(seed), tmp_path / "sweep"
    sweep = cheap(base={"method": {"seconds": 0.05}}, budget={"trials": 8 + 6 * kills})
    file = write(sweep, tmp_path / "cheap.yaml")
    killed = 0
    for place in itertools.islice(itertools.cycle(PLACES), kills):
        begun = (directory / "sweep.json").exists()
        what: list[str | Path] = ["resume", directory] if begun else ["run", file, "--dir", directory]
        killed += dying(place, draw.randint(1, PLACES[place]), *what) == -9
        load(directory)  # readable at any moment
    finish(command("resume", directory))
    assert killed >= kills - 1, f"only {killed} found something to write"
    records = whole(directory)
    for trial in records.trials.values():
        if trial.stage == "pretrain":
            assert [entry["epoch"] for entry in records.progress(trial.id)] == [1, 2, 3, 4]
    shown = {row["run"] for row in summary(directory)} - {"summary"}
    assert shown == {t.id for t in records.trials.values() if t.stage != "features"}


@pytest.mark.slow
def test_eight_kills_while_writing(tmp_path: Path) -> None:
    kills_while_writing(tmp_path, kills=8, seed=4)


def test_features_whose_writer_was_killed_are_not_there_and_can_be_written(tmp_path: Path) -> None:
    features = Features(parts={"all": torch.rand(50, 4)}, labels={}, params={}, units={}, index=torch.arange(50))
    path, draw = tmp_path / "key.h5", random.Random(0)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            with replacing(path) as temporary, h5py.File(temporary, "w") as file:
                file.create_dataset("index", data=features.index.numpy())
                file.flush()
                os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
        assert read(path) is None
    write_features(path, features)
    found = read(path)
    assert found is not None
    torch.testing.assert_close(found.parts["all"], features.parts["all"])
    content = path.read_bytes()
    for _ in range(20):  # torn by a power cut after the rename
        path.write_bytes(content[: draw.randrange(len(content))])
        torn = read(path)
        assert torn is None or torch.equal(torn.parts["all"], features.parts["all"])

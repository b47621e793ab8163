"""Checkpoints that were cut short, bit-flipped or lost a file: always noticed, the last good one is used."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch

from datasets.base import Spec
from trainables.core.config import resolve
from trainables.core.fit import Silent, fit
from trainables.core.state import CheckpointError, read_meta

SETTINGS = {
    "method": {
        "name": "simclr",
        "encoder": {"name": "narrow_cifar10_resnet8", "width": 4, "stem": 4, "shortcut": "B"},
        "head_hidden": 8, "head_out": 4,
    },
    "data": {"name": "digits"},
    "views": {"tx": ["sca"]},
    "train": {"epochs": 3, "warmup_epochs": 0, "batch_size": 512, "checkpoint_every": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    listener = Silent()
    fit(resolve(SETTINGS), None, tmp_path_factory.mktemp("run"), listener, until=2)
    assert isinstance(read_meta(listener.checkpoints[0]).spec, Spec)
    return [(path, read_meta(path).digest) for path in listener.checkpoints]


def damage(checkpoint: Path, draw: random.Random) -> str:
    """Something a disk does to one of its files; what it was."""
    file = draw.choice(sorted(checkpoint.iterdir()))
    content = bytearray(file.read_bytes())
    kind = draw.choice(["cut", "flip", "lose"])
    if kind == "lose":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
    return f"{kind} {file.name}"


def test_every_damage_is_noticed(points: list[tuple[Path, str]], tmp_path: Path) -> None:
    draw, (source, digest) = random.Random(0), points[-1]
    seen = set()
    for number in range(200):
        copy = tmp_path / str(number)
        shutil.copytree(source, copy)
        what = damage(copy, draw)
        seen.add(what)
        try:
            found = read_meta(copy).digest
        except CheckpointError as error:
            assert "\n" not in str(error)
            continue
        assert found != digest, f"{what} was not noticed"
    assert len(seen) == 9, "each kind met each file"


def test_training_goes_on_from_the_last_good_one_and_says_which_was_not(
    points: list[tuple[Path, str]], tmp_path: Path
) -> None:
    whole = fit(resolve(SETTINGS), None, tmp_path / "whole", resume=reversed(points))
    assert whole.damaged == []
    draw = random.Random(1)
    for number in range(3):
        copies = [(tmp_path / f"{number}-{path.name}", digest) for path, digest in points]
        for (source, _), (copy, _) in zip(points, copies, strict=True):
            shutil.copytree(source, copy)
        damage(copies[-1][0], draw)
        found = fit(resolve(SETTINGS), None, tmp_path / f"run{number}", resume=reversed(copies))
        assert found.damaged == [copies[-1][0]]
        for name, value in whole.method.state_dict().items():
            torch.testing.assert_close(found.method.state_dict()[name], value, rtol=0, atol=0)

"""A lab's own method, evaluation, data set and sweep, in a folder of its own: nothing of the project is edited.

Everything goes through the installed command, in processes of their own, started in yet another folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sweep.records import Records, load
from trainables.core import state
from trainables.core.config import resolve

METHOD = '''"""Brightness: `scale` times the means of the rows of pixels, and a weight that has nothing to learn."""

import torch
from pydantic import Field
from datasets.config import Config as Base
from trainables.core.method import Method


class Config(Base):
    scale: float = Field(1.0, gt=0, description="of the representation")


class Brightness(Method):
    Config = Config

    def __init__(self, cfg, spec):
        super().__init__(cfg, spec)
        self.scale = cfg.scale
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.parts = {"all": 4, "half": 4}

    def forward(self, batch):
        first, second = (self.encode(view)["all"] for view in batch.views)
        return {"loss": (first - second / self.weight.detach()).square().mean()}

    def encode(self, x):
        level = self.scale * self.weight * x.mean((1, 3))
        return {"all": level, "half": level / 2}


METHOD = Brightness
'''
EVALUATION = '''"""Level: the mean of each part of the representation, times `times`."""

from pydantic import Field
from trainables.evals.base import REPORTED, EvalConfig, Needs, Request, Result, chosen_parts


class Config(EvalConfig):
    times: float = Field(1.0, description="factor of the result")


NEEDS = Needs()
VERSION = 1
METRICS = {"mean": "max"}


def requests(cfg, spec):
    return [Request(split, limit=cfg.limit) for split in REPORTED]


def metrics(cfg, spec, parts, capabilities):
    return [f"{part}/{split}/mean" for part in chosen_parts(cfg, parts) for split in REPORTED]


def run(subject, cfg, rng, inputs):
    found = {}
    for request in requests(cfg, subject.spec):
        parts = subject.features(request).parts
        for part in chosen_parts(cfg, subject.method.parts):
            found[f"{part}/{request.split}/mean"] = cfg.times * float(parts[part].mean())
    path = subject.out / "level.txt"
    path.write_text("seen")
    return Result(found, {"level.txt": path})
'''
DATA = '''"""Blobs: bright and dark images of 4x4."""

import numpy as np
from pydantic import Field
from datasets.base import Spec
from datasets.config import Config as Base
from datasets.memory import MemorySource, fingerprint

DOWNLOAD = "nothing is fetched"
SEED = {"train": 0, "val": 1, "test": 2}


class Config(Base):
    items: int = Field(60, ge=4, description="images of a split")


def open(cfg, root, split):
    rng = np.random.default_rng(SEED[split])
    labels = np.arange(cfg.items) % 2
    x = rng.integers(0, 40, (cfg.items, 1, 4, 4)) + 200 * labels[:, None, None, None]
    arrays = {"x": x.astype(np.uint8), "class": labels}
    spec = Spec(shape=(1, 4, 4), labels={"class": 2}, fingerprint=fingerprint(arrays))
    return MemorySource(arrays["x"], {"class": labels}, spec)
'''
SWEEP = """
method: lab.brightness
data: lab.blobs
base:
  views: {count: 2}
  train: {epochs: 2, warmup_epochs: 0, batch_size: 20, weight_decay: 0, checkpoint_every: 1}
space:
  method.scale: {choice: [1.0, 2.0, 4.0]}
objectives: [max lab.level/all/val/mean]
evals:
  lab.level: {parts: ["*"]}
  linear: {}
search: {sampler: grid}
budget: {trials: 3}
"""
ENCODE = """
from pathlib import Path
import torch
from trainables.core.state import load_method

method, config, meta = load_method(Path(MODEL))
parts = method.encode(torch.full((3, *meta.spec.shape), 0.25))
print({name: tuple(value.shape) for name, value in parts.items()}, float(parts["all"].sum()))
"""
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(['ray', 'aim', 'optuna', 'sweep']))\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's folder."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "lab").mkdir()
    for name, text in (("brightness", METHOD), ("level", EVALUATION), ("blobs", DATA)):
        (folder / "lab" / f"{name}.py").write_text(text)
    (folder / "mine.yaml").write_text(SWEEP)
    return folder


def ran(where: Path, *arguments: str | Path) -> str:
    """What the command prints; it must succeed."""
    command = Path(sys.executable).with_name("sweep")
    assert command.exists(), "the project is installed with its command"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SWEEP_DATA")}
    done = subprocess.run(
        [command, *map(str, arguments)], cwd=where, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's sweep, run from another folder than its own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    ran(elsewhere, "run", lab / "mine.yaml", "--dir", lab / "out", "--no-aim")
    return lab / "out"


def mean_pixel(split: str) -> float:
    """Of the blobs, as the views hand them over: in [-0.5, 0.5]."""
    import numpy as np

    rng = np.random.default_rng({"val": 1, "test": 2}[split])
    x = rng.integers(0, 40, (60, 1, 4, 4)) + 200 * (np.arange(60) % 2)[:, None, None, None]
    return float(x.mean() / 255 - 0.5)


def by_scale(records: Records) -> dict[float, dict[str, float]]:
    return {c.params["method.scale"]: records.final_metrics(c.trials[0]) for c in records.configurations.values()}


def test_the_sweep_measures_what_is_known_beforehand(finished: Path) -> None:
    records = load(finished)
    assert records.finished
    assert {c.state for c in records.configurations.values()} == {"complete"}
    found = by_scale(records)
    assert set(found) == {1.0, 2.0, 4.0}
    for scale, metrics in found.items():
        for split in ("val", "test"):
            assert metrics[f"lab.level/all/{split}/mean"] == pytest.approx(scale * mean_pixel(split), abs=1e-3 * scale)
            assert metrics[f"lab.level/half/{split}/mean"] == pytest.approx(
                metrics[f"lab.level/all/{split}/mean"] / 2, rel=1e-5
            )
            assert metrics[f"linear/all/{split}/top1"] == 1.0


def test_the_lab_can_plan_look_and_read_with_the_usual_verbs(lab: Path, finished: Path) -> None:
    assert "lab.brightness on lab.blobs" in ran(lab, "plan", "mine.yaml")
    assert "60 items" in ran(lab, "data", "lab.blobs", "--out", "sheet")
    assert "complete" in ran(lab, "status", finished)
    assert "lab.level/all/val/mean" in ran(lab, "table", finished, "--all")


def best(finished: Path) -> tuple[Path, dict[str, float]]:
    records = load(finished)
    number = max(records.configurations.values(), key=lambda c: c.values[0]).number
    trial = records.trials[records.configurations[number].trials[0]]
    assert trial.checkpoint is not None
    return finished / trial.checkpoint.path, records.final_metrics(trial.id)


def test_any_evaluation_on_its_checkpoint_without_the_sweep(lab: Path, finished: Path) -> None:
    checkpoint, expected = best(finished)
    shutil.copytree(checkpoint, lab / "alone")
    printed = ran(lab, "eval", "alone", "lab.level", "linear", "--set", "parts=[all]", "--set", "lab.level.times=2")
    assert "lab.level/all/val/mean" in printed
    metrics = json.loads((lab / "alone-evaluation" / "results.json").read_text())["metrics"]
    for split in ("val", "test"):
        name = f"lab.level/all/{split}/mean"
        assert metrics[name] == pytest.approx(2 * expected[name], rel=1e-6)
        assert metrics[f"linear/all/{split}/top1"] == 1.0


def encoded(model: Path, where: Path) -> str:
    """What ten lines print, in a process in which neither Ray nor Aim nor this platform can be imported."""
    lines = ENCODE.replace("MODEL", repr(str(model)))
    assert len(lines.strip().splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + lines], cwd=where, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_its_exported_encoder_serves_in_ten_lines_without_ray_and_aim(lab: Path, finished: Path) -> None:
    printed = ran(lab, "export", finished, lab / "model")
    assert "lab.brightness, parts all (4), half (4)" in printed
    assert sorted(file.name for file in (lab / "model").iterdir()) == ["meta.json", "model.safetensors"]
    shapes, _, total = encoded(lab / "model", lab).rpartition(" ")
    assert shapes == "{'all': (3, 4), 'half': (3, 4)}"
    largest = max(by_scale(load(finished)), key=lambda scale: by_scale(load(finished))[scale]["lab.level/all/val/mean"])
    assert float(total) == pytest.approx(3 * 4 * 0.25 * largest, rel=1e-2)


def test_an_exported_duet_serves_in_ten_lines_too(tmp_path: Path) -> None:
    method = {"name": "duet", "encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 8, "target": "vm"}
    config = resolve({"method": method, "data": {"name": "digits"}, "views": {"tx": ["rot"]}})
    spec = config.build_views(config.source(None, "train").spec).spec
    made = config.build_method(spec)
    state.save(tmp_path / "checkpoint", made, config.dump(), spec, epoch=1)
    ran(tmp_path, "export", "checkpoint", "model")
    shapes, _, total = encoded(tmp_path / "model", tmp_path).rpartition(" ")
    assert shapes == "{'all': (3, 64), 'content': (3, 8), 'group': (3, 8)}"
    with torch.no_grad():
        expected = made.eval().encode(torch.full((3, 1, 16, 16), 0.25))["all"].sum()
    assert float(total) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)

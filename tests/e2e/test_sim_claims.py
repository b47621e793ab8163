"""What SIM promises, on real words with fixed seeds; see `docs/studies/sim.md` for means over seeds.

Slow, and of real recordings: set SWEEP_DATA to a folder that holds Artificial Speech.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import Silent, fit
from trainables.evals.features import CheckpointSubject

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SWEEP_DATA" not in os.environ, reason="real data: set SWEEP_DATA to their folder"),
]
MODULES = ("module0", "module1", "module2")
Measured = dict[str, float]


def measured(weight: float, folder: Path) -> Measured:
    """Vowel accuracies by `linear`, and the means of the last of 40 epochs as `train/NAME`."""
    config = resolve(
        {
            "method": {
                "name": "sim", "kl_weight": weight, "encoder": {"channels": 32, "context": 32, "batch_norm": False}
            },
            "data": {"name": "deboer", "source": "files", "val_fraction": 0.2},
            "views": {"count": 1},
            "train": {
                "epochs": 40, "batch_size": 32, "optimizer": "adam", "lr": 1e-3, "betas": [0.9, 0.999],
                "weight_decay": 0, "schedule": "constant", "warmup_epochs": 0, "checkpoint_every": 40,
            },
            "seed": 0,
        }
    )  # fmt: skip
    listener, root = Silent(), Path(os.environ["SWEEP_DATA"])
    fit(config, root, folder, listener)
    subject = CheckpointSubject(listener.checkpoints[-1], root, folder / "features", out=folder / "out")
    found = dict(evaluate(subject, "linear", {"factor": "vowel", "parts": list(MODULES)}).metrics)
    return {**found, **{f"train/{name}": value for name, value in listener.epochs[-1].items()}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Measured]:
    return {weight: measured(weight, tmp_path_factory.mktemp(f"sim{weight}")) for weight in (0.001, 0.1)}


def test_vowels_are_read_from_the_first_module(runs: dict[float, Measured]) -> None:
    """Three vowels, the most frequent of which is 0.37 of all."""
    assert runs[0.001]["module0/val/top1"] >= 0.7
    assert runs[0.001]["module0/val/chance"] < 0.45


def test_a_larger_weight_lowers_the_divergence_of_every_module(runs: dict[float, Measured]) -> None:
    for number in range(3):
        assert runs[0.1][f"train/kl_time_{number}"] < runs[0.001][f"train/kl_time_{number}"]
    assert runs[0.1]["train/kl_time_0"] < runs[0.001]["train/kl_time_0"] / 3

"""(l) A full profile of one checkpoint: four axes, three factors of images, four quarters of the range, two probes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benches.rows import Row
from benches.store import checkpoint_in, data_root, subject
from trainables.core.evaluate import evaluate
from trainables.evals._bank_training import BankConfig, Job, Rows, fitted
from trainables.evals.base import Result

SHIFTS = ("hue_shift", "saturation_shift", "brightness_shift")
FACTORS = ("hue", "saturation", "brightness")
EVALUATIONS: list[tuple[str, dict[str, Any]]] = [
    ("informativeness", {"factors": FACTORS}),
    ("parameter_equivariance", {"transforms": SHIFTS}),
    ("feature_equivariance", {"transforms": SHIFTS}),
    ("invariance", {"transforms": ("jpeg", *SHIFTS)}),
    ("disentanglement", {"factors": FACTORS}),
]


def profile(
    items: int = 2000, encoder: str = "narrow_cifar10_resnet20", root: Path | None = None, **options: Any
) -> dict[str, float]:
    """CPU seconds of each evaluation, "all" of them and their "wall" seconds, the number of "metrics", and the images.

    Args:
        items: of all splits together, of CIFAR-10 a third of each. options: of those that fit probes.
    """
    spent, inputs = {"metrics": 0.0, "wall": 0.0}, dict[str, Result]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judged = subject(checkpoint_in(folder, root, items, encoder), folder / "cache", items, root)
        for evaluation, own in EVALUATIONS:
            asked = {**own, **(options if evaluation in ("informativeness", *(n for n, _ in EVALUATIONS[1:3])) else {})}
            if root is not None:
                asked["limit"] = items // 3
            judged.out = folder / evaluation
            judged.out.mkdir()
            begin, wall = time.process_time(), time.perf_counter()
            inputs[evaluation] = evaluate(judged, evaluation, asked, inputs=inputs)
            spent[evaluation] = time.process_time() - begin
            spent["wall"] += time.perf_counter() - wall
            spent["metrics"] += len(inputs[evaluation].metrics)
        spent["items"] = items
    return {**spent, "all": sum(spent[evaluation] for evaluation, _ in EVALUATIONS)}


def together(count: int = 12, epochs: int = 20, hidden: tuple[int, ...] = (64,)) -> dict[str, float]:
    """CPU seconds of training networks "alone" one after the other, "together", and their "ratio"."""
    cfg = BankConfig(probes=("mlp",), hidden=hidden, epochs=epochs, patience=epochs, batch_size=32)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 64, generator=rng)
    jobs = {k: Job(x, torch.randn(1000, 1, generator=rng), "number", 1) for k in range(count)}
    rows, spent = Rows(torch.arange(800), torch.arange(800, 1000)), dict[str, float]()
    for side, groups in (("together", [jobs]), ("alone", [{k: job} for k, job in jobs.items()])):
        begin = time.process_time()
        for group in groups:
            fitted(group, cfg, rows, 0)
        spent[side] = time.process_time() - begin
    return {**spent, "ratio": spent["alone"] / spent["together"]}


def measure() -> list[Row]:
    """2,000 images of 32x32, narrow ResNet-20."""
    root = data_root()
    profile(items=90, encoder="narrow_cifar10_resnet8", root=root, epochs=1)  # imports and first calls
    found = profile(root=root)
    spent = ", ".join(f"{name} {found[name]:.0f}" for name, _ in EVALUATIONS)
    beside = f"{found['metrics']:.0f} metrics of {found['items']:,.0f} images; CPU seconds: {spent}"
    both = together()
    side_by_side = f"12 networks of 64 hidden units: {both['alone']:.1f} s against {both['together']:.1f}, CPU time"
    return [
        Row("l, full profile", found["wall"], "s", "<= 300", beside),
        Row("l, probes side by side", both["ratio"], beside=side_by_side),
    ]

"""(l) A full profile of one checkpoint: four axes, three factors of images, four quarters of the range, two probes.

The other side is the published protocol (Plachouras et al., arXiv 2505.06224), which encodes the items, and what
became of them, again in every epoch of every probe, and once more for every pair, quarter and probe of the
disentanglement. Its encodings are counted, not run: their number x the time of one in its batches of 32, and the time
of transforming what is transformed, both measured here; for as many splits as are reported here. Its steps are run, on
features that are there: the presets `original` (published code, which reads factors from features that are kept) and
`paper_run` (published numbers), as many epochs as each probe needs until it stops. Predictors of features are also
validated after every twentieth of an epoch, on at most 500 of the held-out items. The small batches of its last metrics
are left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from benches.rows import Row
from benches.store import checkpoint_in, data_root, subject
from datasets.base import Split
from trainables.core.evaluate import evaluate
from trainables.evals import _bank_training
from trainables.evals._bank_training import BankConfig, Job, Rows, fitted
from trainables.evals.base import Request, Result
from trainables.evals.features import CheckpointSubject

SHIFTS = ("hue_shift", "saturation_shift", "brightness_shift")
FACTORS = ("hue", "saturation", "brightness")
EVALUATIONS: list[tuple[str, dict[str, Any]]] = [
    ("informativeness", {"factors": FACTORS}),
    ("parameter_equivariance", {"transforms": SHIFTS}),
    ("feature_equivariance", {"transforms": SHIFTS}),
    ("invariance", {"transforms": ("jpeg", *SHIFTS)}),
    ("disentanglement", {"factors": FACTORS}),
]


PROBES = ("informativeness", "parameter_equivariance", "feature_equivariance")
PRESETS = ("original", "paper_run")
SPLITS: tuple[Split, ...] = ("train", "val", "test")
QUARTERS = 4
CHEAPER = 20
BATCH, OFTEN, LOOKS = 16, 0.05, 500  # of the validations within an epoch: of what batches, how often, of how many items


def profile(
    items: int = 2000,
    encoder: str = "narrow_cifar10_resnet20",
    root: Path | None = None,
    against: bool = False,
    **options: Any,
) -> dict[str, float]:
    """CPU seconds of each evaluation, "all" of them and their "wall" seconds, the number of "metrics", and the images.

    Args:
        items: of all splits together, of CIFAR-10 a third of each. against: also the CPU seconds of the published
            protocol, by preset, what they are made of, and their "ratio" to ours. options: of those that fit probes.
    """
    spent, inputs, seconds = {"metrics": 0.0, "wall": 0.0}, dict[str, Result](), dict[str | None, float]()
    limit = None if root is None else items // 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judged = subject(checkpoint_in(folder, root, items, encoder), folder / "cache", items, root)
        wall = time.perf_counter()
        for code in (None, *SHIFTS):
            begin = time.process_time()
            count = {split: len(judged.features(Request(split, code, limit=limit)).index) for split in SPLITS}
            seconds[code] = time.process_time() - begin
        for evaluation, own in EVALUATIONS:
            asked = {**own, "limit": limit, **(options if evaluation in PROBES else {})}
            judged.out = folder / evaluation
            judged.out.mkdir()
            begin = time.process_time()
            inputs[evaluation] = evaluate(judged, evaluation, asked, inputs=inputs)
            spent[evaluation] = time.process_time() - begin
            spent["metrics"] += len(inputs[evaluation].metrics)
        spent |= {"wall": time.perf_counter() - wall, "items": sum(count.values()), "encoding": sum(seconds.values())}
        spent["all"] = spent["encoding"] + sum(spent[evaluation] for evaluation, _ in EVALUATIONS)
        spent["clean"] = forward(judged)
        longer = sum(seconds[code] for code in SHIFTS) / len(SHIFTS) - seconds[None]
        spent["moved"] = spent["clean"] + max(longer, 0.0) / spent["items"]
        for preset in PRESETS if against else ():
            steps, clean, moved = published(judged, preset, count, limit)
            spent |= {f"{preset}_steps": steps, f"{preset}_encodings": clean + moved}
            spent[preset] = steps + clean * spent["clean"] + moved * spent["moved"]
            spent[f"{preset}_ratio"] = spent[preset] / spent["all"]
    return spent


def forward(judged: CheckpointSubject, batch: int = 32, batches: int = 20) -> float:
    """CPU seconds of encoding one item of `batches` as published, median."""
    x = judged.inputs(Request("val", limit=batch))
    spent = []
    for _ in range(batches):
        begin = time.process_time()
        with torch.no_grad():
            judged.method.encode(x)
        spent.append((time.process_time() - begin) / len(x))
    return median(spent)


def published(
    judged: CheckpointSubject, preset: str, count: Mapping[Split, int], limit: int | None
) -> tuple[float, int, int]:
    """CPU seconds of the steps of all probes as published; how many clean and transformed items the protocol encodes.

    Args:
        count: items of each split.
    """
    fit, seconds, epochs = _bank_training.fit, 0.0, dict[str, list[int]]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        states, history = fit(*args, **kwargs)
        epochs[evaluation] += history.epochs
        return states, history

    for evaluation, own in EVALUATIONS:
        if evaluation in PROBES:
            epochs[evaluation] = []
            begin = time.process_time()
            with mock.patch.object(_bank_training, "fit", counted):
                evaluate(judged, evaluation, {**own, "preset": preset, "limit": limit})
            seconds += time.process_time() - begin
    train, reported = count["train"], count["val"] + count["test"]
    factors, *pairs = (epochs[evaluation] for evaluation in PROBES)
    both = sum(some * train + reported for probes in pairs for some in probes)
    steps, held = round(0.9 * train) // BATCH, round(0.1 * train)
    both += sum(pairs[1]) * (steps // max(1, int(OFTEN * steps))) * min(held, LOOKS)
    both += reported * len(dict(EVALUATIONS)["invariance"]["transforms"])
    once = train + reported if preset == "original" else sum(some * train + reported for some in factors)
    return seconds, once + both, both + reported * len(factors) * (len(SHIFTS) - 1) * QUARTERS


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
    found = profile(root=root, against=True)
    spent = ", ".join(f"{name} {found[name]:.0f}" for name in ("encoding", *(name for name, _ in EVALUATIONS)))
    beside = f"{found['metrics']:.0f} metrics of {found['items']:,.0f} images; CPU seconds: {spent}"
    both = together()
    side_by_side = f"12 networks of 64 hidden units: {both['alone']:.1f} s against {both['together']:.1f}, CPU time"
    each = f"encodings of {1000 * found['clean']:.1f} ms, {1000 * found['moved']:.1f} ms transformed"
    sides = "; ".join(
        f"{preset} {found[preset]:,.0f} s = {found[f'{preset}_encodings']:,.0f} encodings and "
        f"{found[f'{preset}_steps']:.0f} s of steps, {found[f'{preset}_ratio']:.0f} x"
        for preset in PRESETS
    )
    return [
        Row("l, full profile", found["wall"], "s", "<= 300", beside),
        Row("l, as published", found["original_ratio"], promise=f">= {CHEAPER}", beside=f"CPU time, {each}; {sides}"),
        Row("l, probes side by side", both["ratio"], beside=side_by_side),
    ]

"""A full profile of one checkpoint: four axes, three factors of images, four quarters of the range, two probes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benches.store import checkpoint_in, data_root, subject
from trainables.core.evaluate import evaluate
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


if __name__ == "__main__":
    print(profile(root=data_root()))

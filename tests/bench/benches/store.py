"""(e) Five evaluations of one checkpoint through the feature store, against encoding again in each."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benches.rows import Row
from datasets.base import Batch, Source, Split
from trainables.core import state
from trainables.core.config import Resolved, resolve
from trainables.core.evaluate import evaluate
from trainables.evals.features import CheckpointSubject

EVALUATIONS: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("linear", {"probe": "ridge"}),
    ("linear", {"probe": "sgd"}),
    ("knn", {}),
    ("knn", {"k": 20}),
]  # all of them read all three splits; `collapse` reads only two


class Repeated:
    """A data set that hands out the same few images again and again, where no large one is at hand."""

    def __init__(self, source: Source, items: int) -> None:
        self.source, self.items, self.spec = source, items, source.spec

    def __len__(self) -> int:
        return self.items

    def fetch(self, index: torch.Tensor, rng: torch.Generator) -> Batch:
        batch = self.source.fetch(index % len(self.source), rng)
        batch.index = index
        return batch


def subject(checkpoint: Path, cache: Path, items: int, root: Path | None) -> CheckpointSubject:
    """A subject with a store of its own, over about `items` images in all."""
    found = CheckpointSubject(checkpoint, root, cache)
    if root is None:
        sizes: dict[Split, int] = {"train": items * 8 // 10, "val": items // 10, "test": items // 10}
        for split, size in sizes.items():
            source = Repeated(found.resolved.source(None, split), size)
            found._open[split] = source, found.resolved.build_views(source.spec)
    return found


def data_root() -> Path | None:
    """Where CIFAR-10 is, if it is."""
    root = Path(os.environ.get("SWEEP_DATA", "/nowhere"))
    return root if (root / "cifar10").is_dir() or (root / "cifar-10-batches-py").is_dir() else None


def checkpoint_in(folder: Path, root: Path | None, items: int, encoder: str) -> Path:
    """A checkpoint of an untrained method; what its features are worth does not matter here."""
    data = {"name": "cifar", "limit": items * 8 // 10} if root else {"name": "digits", "size": 32, "channels": 3}
    resolved: Resolved = resolve(
        {"method": {"name": "duet", "encoder": {"name": encoder}}, "data": data, "views": {"tx": ["sca", "rot"]}}
    )
    spec = resolved.build_views(resolved.source(root, "train").spec).spec
    torch.manual_seed(0)
    state.save(folder / "checkpoint", resolved.build_method(spec), resolved.dump(), spec, 1)
    return folder / "checkpoint"


def compare(items: int = 9000, encoder: str = "narrow_cifar10_resnet20", root: Path | None = None) -> dict[str, float]:
    """Seconds "again" and "store" of all evaluations (CPU time, one thread), their "ratio", the "wall" ratio, items."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = {"again": 0.0, "store": 0.0}
    wall = {"again": 0.0, "store": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = checkpoint_in(folder, root, items, encoder)
        shared = subject(checkpoint, folder / "shared", items, root)
        for number, (evaluation, options) in enumerate(EVALUATIONS):
            fresh = subject(checkpoint, folder / f"own-{number}", items, root)
            for side, judged in (("store", shared), ("again", fresh)):
                begin = time.process_time(), time.perf_counter()
                evaluate(judged, evaluation, options)
                spent[side] += time.process_time() - begin[0]
                wall[side] += time.perf_counter() - begin[1]
        count = sum(len(shared.data(split)[0]) for split in ("train", "val", "test"))
    torch.set_num_threads(threads)
    ratios = {"ratio": spent["again"] / spent["store"], "wall": wall["again"] / wall["store"]}
    return {**spent, **ratios, "items": count}


def measure() -> list[Row]:
    """9,000 images of 32x32, narrow ResNet-20."""
    root = data_root()
    compare(items=300, encoder="narrow_cifar10_resnet8")  # imports and first calls
    found = compare(root=root)
    beside = (
        f"{found['again']:.1f} s against {found['store']:.1f}, CPU time; {found['wall']:.2f} x in wall time; "
        f"{found['items']:,.0f} {'images of CIFAR-10' if root else 'digits of 32x32'}"
    )
    return [Row("e, five evaluations", found["ratio"], promise=">= 4", beside=beside)]

"""(d) Batched views against the usual pipeline: torchvision's transforms, one PIL image at a time."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as tv

from benches import step
from benches.rows import Row
from datasets.base import Spec
from datasets.memory import MemorySource
from datasets.views import Views, ViewsConfig
from trainables.core.fit import generator

STACK = ("sca", "rot", "fli", "jit", "gra", "blu")
PROMISE = {16: ">= 8", 32: ">= 4"}
BATCH = 128


class PerSample:
    """Two views of each image with torchvision, the same operations with the same ranges and probabilities."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
        bilinear = tv.InterpolationMode.BILINEAR
        self.view = tv.Compose(
            [
                tv.RandomResizedCrop(images.shape[-1], scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation=bilinear),
                tv.RandomRotation(180, interpolation=bilinear),
                tv.RandomHorizontalFlip(0.5),
                tv.RandomApply([tv.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                tv.RandomGrayscale(0.2),
                tv.RandomApply([tv.GaussianBlur(3, (0.1, 2.0))], 0.5),
                tv.ToTensor(),
                tv.Normalize([0.5] * 3, [1.0] * 3),
            ]
        )

    def batch(self, index: Tensor) -> list[Tensor]:
        """Two views (B, 3, S, S)."""
        return [torch.stack([self.view(self.images[i]) for i in index.tolist()]) for _ in range(2)]


class Batched:
    """Two views from the project's own source and views."""

    def __init__(self, images: np.ndarray) -> None:
        self.source = MemorySource(images, {}, Spec(shape=tuple(images.shape[1:])))
        self.views = Views(ViewsConfig(tx=STACK), self.source.spec)

    def batch(self, index: Tensor) -> list[Tensor]:
        """Two views (B, 3, S, S)."""
        rng = generator(0, int(index[0]))
        return self.views(self.source.fetch(index, rng), rng).views


def compare(size: int, rounds: int) -> dict[str, float]:
    """Images/s of both (each image gives two views), and the median "ratio" over rounds; CPU time of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (BATCH * 4, 3, size, size), dtype=np.uint8)
    ours, usual = Batched(images), PerSample(images)
    found = []
    for number in range(rounds + 1):
        index = torch.arange(BATCH) + BATCH * (number % 4)
        found.append((_seconds(ours, index, repeat=8), _seconds(usual, index, repeat=1)))
    torch.set_num_threads(threads)
    rates = [statistics.median(BATCH / times[side] for times in found[1:]) for side in (0, 1)]
    return {"ours": rates[0], "usual": rates[1], "ratio": statistics.median(b / a for a, b in found[1:])}


def _seconds(pipeline: Batched | PerSample, index: Tensor, repeat: int) -> float:
    begin = time.process_time()
    for _ in range(repeat):
        pipeline.batch(index)
    return (time.process_time() - begin) / repeat


def model_seconds(size: int, encoder: str = "narrow_cifar10_resnet20", rounds: int = 3) -> float:
    """CPU seconds of one image in a DUET step whose views lie in memory."""
    bare = step.Bare(step.resolved(step.duet(size, STACK, encoder), 2))
    bare.steps()
    return statistics.median(bare.times()["bare"] / BATCH for _ in range(rounds))


def measure(rounds: int = 9) -> list[Row]:
    """Both sizes: the views alone, and a whole step of DUET fed by them."""
    rows = []
    for size, promise in PROMISE.items():
        found, model = compare(size, rounds), model_seconds(size)
        beside = f"{found['ours']:,.0f} images/s against {found['usual']:,.0f}, two views each"
        rows.append(Row(f"d, views, {size} px", found["ratio"], promise=promise, beside=beside))
        whole = {side: 1 / (model + 1 / found[side]) for side in ("ours", "usual")}
        beside = f"{whole['ours']:,.0f} images/s against {whole['usual']:,.0f}, DUET on a narrow ResNet-20, one thread"
        rows.append(Row(f"d, whole step, {size} px", whole["ours"] / whole["usual"], beside=beside))
    return rows

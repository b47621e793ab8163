"""(g) An epoch of pairs of renders from the packed cache, against decoding their JPEGs again in every epoch."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benches.epochs import epoch_by_item, epoch_shared
from benches.rows import Row
from datasets import bench3die
from datasets.render.write import RenderConfig, write_set
from datasets.rotations import relative_quaternion

BATCH = 128
PROMISE = ">= 10"


class Decoding:
    """What is usual: of each object two images and their latents are opened, resized and stacked, one by one."""

    def __init__(self, root: Path, objects: list[str], views: int, size: int) -> None:
        self.folders, self.views, self.size = [root / name.strip("/") for name in objects], views, size

    def batch(self, index: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Two views (B, 3, S, S) and the relative rotation (B, 4)."""
        found = []
        for item in index.tolist():
            folder = self.folders[item]
            for view in rng.choice(self.views, 2, replace=False):
                with Image.open(folder / f"image_{view}.jpg") as file:
                    image: Image.Image = file.convert("RGB")
                if image.size != (self.size, self.size):
                    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
                found.append((x, torch.from_numpy(np.load(folder / f"latent_{view}.npy")).float()))
        first, second = (torch.stack([latents for _, latents in found[view::2]]) for view in range(2))
        images = [torch.stack([x for x, _ in found[view::2]]) for view in range(2)]
        return *images, relative_quaternion(first, second)


@contextmanager
def rendered(objects: int, views: int, pixels: int) -> Iterator[Path]:
    """A set of solids with JPEGs of `pixels`, `objects` of each of ten classes, and an empty cache beside it."""
    cache = os.environ.get("SWEEP_CACHE")
    with tempfile.TemporaryDirectory() as name:
        os.environ["SWEEP_CACHE"] = str(Path(name) / "cache")
        try:
            list(write_set(RenderConfig(views=views, size=pixels, count=objects, workers=1), "solids", Path(name)))
            yield Path(name)
        finally:
            os.environ.pop("SWEEP_CACHE")
            if cache is not None:
                os.environ["SWEEP_CACHE"] = cache


def compare(root: Path, size: int, epochs: int = 4) -> dict[str, float]:
    """CPU seconds (one thread) of an epoch's batches of `size`, "decoded" and "packed", their "ratio"; "pack" once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begin = time.process_time()
    source = bench3die.open(bench3die.Config(source="files", size=size), root, "train")
    pack = time.process_time() - begin
    objects = np.load(root / "train_images.npy").tolist()[: len(source)]
    usual = Decoding(root, objects, len(list((root / objects[0].strip("/")).glob("*.jpg"))), size)
    decoded = min(epoch_by_item(usual, len(source), BATCH) for _ in range(2))
    packed = min(epoch_shared(source, BATCH) for _ in range(epochs))
    torch.set_num_threads(threads)
    return {"decoded": decoded, "packed": packed, "ratio": decoded / packed, "pack": pack, "pairs": len(source)}


def measure() -> list[Row]:
    """Solids in the published size of 256 pixels, delivered in 64 and in 128."""
    rows = []
    with rendered(objects=20, views=3, pixels=256) as root:
        for size in (64, 128):
            found = compare(root, size)
            beside = (
                f"{found['pairs']:.0f} pairs in {found['packed'] * 1000:.0f} ms against "
                f"{found['decoded'] * 1000:,.0f}, CPU time; packed once in {found['pack']:.1f} s"
            )
            rows.append(Row(f"g, packed renders, {size} px", found["ratio"], promise=PROMISE, beside=beside))
    return rows

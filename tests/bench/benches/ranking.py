"""(k) Retrieval of all fragments by all, in blocks, against the whole matrix of distances at once."""

from __future__ import annotations

import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from benches.rows import Row
from trainables.evals import _ranking

CONTENTS, STYLES = 10, 8


def made(rows: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Fragments of ten contents in eight styles, contents apart and styles nearly lost."""
    rng = torch.Generator().manual_seed(0)
    content, style = (torch.randint(count, (rows,), generator=rng) for count in (CONTENTS, STYLES))
    centres = [torch.randn(count, width, generator=rng) for count in (CONTENTS, STYLES)]
    x = centres[0][content] + 0.2 * centres[1][style] + torch.randn(rows, width, generator=rng)
    return x, {"content": content, "style": style}


def most(anew: bool = False) -> float:
    """The most memory of this process in GB, so far or counted anew; what its parent had before it is no part of it."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found, "Linux says it"
    return int(found.group(1)) / 2**20


def in_blocks(rows: int, width: int) -> tuple[float, float, float]:
    """CPU seconds (one thread), the most memory beside the features in GB, and wall seconds."""
    torch.set_num_threads(1)
    x, labels = made(rows, width)
    before = most(anew=True)
    begin, wall = time.process_time(), time.perf_counter()
    curves = _ranking.curves(x, labels, {factor: _ranking.adaptive(y) for factor, y in labels.items()})
    spent, wall = time.process_time() - begin, time.perf_counter() - wall
    assert curves["content"].auc > 0.8 > 0.3 > curves["style"].auc
    return spent, most() - before, wall


def at_once(rows: int, width: int) -> tuple[float, float, float]:
    """The same of the whole matrix, sorted: as the published evaluation does it."""
    torch.set_num_threads(1)
    x, labels = made(rows, width)
    before = most(anew=True)
    begin, wall = time.process_time(), time.perf_counter()
    apart = torch.cdist(x, x)
    apart.fill_diagonal_(torch.inf)
    order = apart.argsort(1)[:, :-1]
    for y in labels.values():
        hits = (y[order] == y[:, None]).cumsum(1)
        ks = torch.tensor(_ranking.within(_ranking.adaptive(y), rows, old=False))
        precision, recall = hits[:, ks - 1] / ks, hits[:, ks - 1] / (y.bincount()[y] - 1)[:, None]
        (2 * precision * recall / (precision + recall + 1e-8)).mean(0)
    spent, wall = time.process_time() - begin, time.perf_counter() - wall
    return spent, most() - before, wall


def compare(rows: int, width: int) -> dict[str, float]:
    """Seconds and GB of both, and the ratio of the memory."""
    found: dict[str, float] = {}
    for name, function in (("blocks", in_blocks), ("once", at_once)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # for a memory of its own
            seconds, memory, wall = pool.submit(function, rows, width).result()
        found |= {f"{name} seconds": seconds, f"{name} GB": memory, f"{name} wall": wall}
    return {**found, "ratio": found["once GB"] / found["blocks GB"]}


def measure() -> list[Row]:
    """20,000 fragments of 512 dimensions by content and style; the whole matrix of a quarter of them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        seconds, memory, wall = pool.submit(in_blocks, 20_000, 512).result()
    small = compare(5_000, 512)
    beside = f"20,000 fragments of 512 dimensions, two factors, CPU time of one thread; {wall:.0f} s of wall time"
    return [
        Row("k, retrieval of parts", seconds, "s", promise="<= 60", beside=beside),
        Row("k, memory of it", memory, "GB", promise="<= 4", beside="beside the features themselves"),
        Row(
            "k, against the whole matrix", small["ratio"], promise=">= 3",
            beside=f"memory, 5,000 fragments: {small['blocks GB']:.2f} GB in {small['blocks seconds']:.1f} s against "
            f"{small['once GB']:.2f} GB in {small['once seconds']:.1f} s",
        ),
    ]  # fmt: skip

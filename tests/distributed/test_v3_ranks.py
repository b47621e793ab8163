"""Two gloo ranks train V3 as one process does, in uneven shares too: pages and the codebook are those of all ranks.

Not with `exact: false`: the gradient of its rounding error is another one for every order of sums.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from joint import begin, compare, end, spawned, steps, train_step
from torch import nn

from datasets.base import Batch, Spec
from trainables.v3 import V3

SPLITS = {"even": (3, 3), "uneven": (4, 2), "one": (5, 1), "none": (4, 0)}  # pages of rank 0 and 1
SMALL: dict[str, Any] = {"encoder": {"channels": 12, "content": 5, "style": 4}, "atoms": 4}
METHODS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((6, 9), SMALL),
    "adapted": ((6, 9), {**SMALL, "supersample_content": True, "widen_style": 3, "dead": 0.9, "codebook_width": 3}),
    "original": ((6, 9), {**SMALL, "widen_style": 3, "compat": "original", "dead": 0.0}),
    "images": ((3, 3, 8, 8), {"encoder": {"channels": 8, "levels": (1, 1), "content": 5, "style": 4}, "atoms": 4,
                              "rank_weight": 0.1, "rank_target": 2.0, "style_route": "page_mean"}),
}  # fmt: skip
CASES = [(method, split) for method in METHODS for split in SPLITS]


def build(name: str) -> nn.Module:
    shape, options = METHODS[name]
    spec = Spec(shape=shape, fragments=shape[0])
    cfg = V3.Config(**options)
    V3.check(cfg, spec)
    torch.manual_seed(3)
    return V3(cfg, spec).double()


def share(name: str, split: str, rows: slice) -> Batch:
    """These rows of the joint batch; its seed is the same on all ranks."""
    n, rng = sum(SPLITS[split]), torch.Generator().manual_seed(11)
    x = torch.randn(n, *METHODS[name][0], generator=rng, dtype=torch.float64)
    return Batch([x[rows]], torch.arange(n)[rows], seed=17)


def work(rank: int, folder: str) -> None:
    begin(rank, folder)
    end({**steps(rank, CASES, SPLITS, build, share)}, rank, folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spawned(work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("name", "split"), CASES)
def test_two_ranks_are_one_process(ranks: list[dict[str, Any]], name: str, split: str) -> None:
    method = build(name)
    expected = train_step(method, method, share(name, split, slice(None)))
    assert expected["buffers"]["quantiser.initialised"]
    for rank in ranks:
        compare(rank[f"{name}/{split}"], expected)

"""Two gloo ranks train CPC, GIM, SIM and the supervised baselines as one process does, in uneven shares too.

Negatives come from all ranks and noise is drawn for the global batch, so losses and gradients are those of one process.
DistributedDataParallel would stop at a parameter that a step does not use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from joint import begin, compare, end, spawned, steps, train_step
from torch import Tensor, nn

from datasets.base import Batch, Spec
from trainables.core.config import resolve
from trainables.core.fit import fit
from trainables.cpc import CPC
from trainables.gim import GIM
from trainables.sim import SIM
from trainables.supervised import Supervised

SPLITS = {"even": (3, 3), "uneven": (4, 2), "one": (5, 1), "none": (4, 0)}  # items of rank 0 and 1
SOUND, IMAGES = (1, 1300), (1, 64, 64)
AHEAD: dict[str, Any] = {"prediction_steps": 4, "negatives": 3}
HEARS: dict[str, Any] = {"channels": 5, "context": 4}
SEES: dict[str, Any] = {"name": "resnet34", "channels": 2, "blocks": (1, 1, 1)}
METHODS: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "sim": (SIM, SOUND, {**AHEAD, "encoder": HEARS, "kl_weight": 0.1}),
    "sim-window": (SIM, SOUND, {**AHEAD, "encoder": HEARS, "window": 9, "train_module": 1}),
    "sim-images": (SIM, IMAGES, {**AHEAD, "encoder": SEES, "kl_reduction": "channels"}),
    "gim-exclusive": (GIM, SOUND, {**AHEAD, "encoder": {**HEARS, "context_at": "each"}, "sampling": "exclusive"}),
    "gim-sequence": (GIM, SOUND, {**AHEAD, "encoder": {**HEARS, "bptt": False}, "sampling": "sequence", "window": 9}),
    "cpc": (CPC, SOUND, {**AHEAD, "encoder": HEARS}),
    "cpc-images": (CPC, IMAGES, {**AHEAD, "encoder": {**SEES, "name": "cpc_resnet34"}}),
    "supervised": (Supervised, SOUND, {"encoder": HEARS}),
    "supervised-greedy": (Supervised, IMAGES, {"encoder": SEES, "greedy": True}),
}
CASES = [(method, split) for method in METHODS for split in SPLITS]


def build(name: str) -> nn.Module:
    method, shape, options = METHODS[name]
    torch.manual_seed(3)
    built: nn.Module = method(method.Config(**options), Spec(shape=shape, labels={"class": 4})).double()
    return built


def share(name: str, split: str, rows: slice) -> Batch:
    """These rows of the joint batch; its seed is the same on all ranks."""
    n, rng = sum(SPLITS[split]), torch.Generator().manual_seed(11)
    x = torch.randn(n, *METHODS[name][1], generator=rng, dtype=torch.float64)
    labels = {"class": torch.randint(4, (n,), generator=rng)[rows]}
    return Batch([x[rows]], torch.arange(n)[rows], labels=labels, seed=17)


def trained(folder: Path) -> dict[str, Tensor]:
    """The weights after two epochs of `fit` on tones, with odd batches and a partial last one.

    Without batch norm: the gradient of a bias before it is nothing but rounding, which Adam divides by its own size.
    """
    encoder = {**HEARS, "batch_norm": False}
    config = resolve(
        {"method": {"name": "sim", **AHEAD, "encoder": encoder, "kl_weight": 0.1},
         "data": {"name": "made.tones", "limit": 33}, "views": {"count": 1},
         "train": {"epochs": 2, "batch_size": 7, "warmup_epochs": 0, "lr": 1e-3}}
    )  # fmt: skip
    return dict(fit(config, None, folder).method.state_dict())


def work(rank: int, folder: str) -> None:
    begin(rank, folder)
    results: dict[str, Any] = {**steps(rank, CASES, SPLITS, build, share)}
    results["fit"] = trained(Path(folder) / "fit")
    end(results, rank, folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spawned(work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("name", "split"), CASES)
def test_two_ranks_are_one_process(ranks: list[dict[str, Any]], name: str, split: str) -> None:
    method = build(name)
    expected = train_step(method, method, share(name, split, slice(None)))
    for rank in ranks:
        compare(rank[f"{name}/{split}"], expected)


def test_whole_trainings_agree(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    """In float32; the order of sums differs."""
    expected = trained(tmp_path)
    for rank in ranks:
        assert rank["fit"].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(rank["fit"][name], value, rtol=0, atol=1e-5, msg=lambda t, n=name: f"{n}: {t}")

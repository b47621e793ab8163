"""PRE, MRR and H@k of predictions against values of SIE's code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_sie_blocks import close, golden
from torch import Tensor

from datasets.rotations import quaternion, relative_quaternion
from trainables.evals._retrieval import chance, nearest, normalized, ranks, rates, rotation_error

Split = tuple[Tensor, Tensor, Tensor]  # predictions (o, v, d), embeddings (o, v, d), quaternions (o v, 4)


def predicted(g: dict[str, Any], split: str) -> Split:
    views = int(g["views_per_object"])
    embeddings = g[f"emb_{split}"].unflatten(0, (-1, views))
    latents = g[f"latents_{split}"].unflatten(0, (-1, views))
    relation = relative_quaternion(latents[:, :1].expand_as(latents), latents).float()
    d = embeddings.shape[2]
    matrices = (relation @ g["hypernet_weight"].T).unflatten(2, (d, d))
    return (matrices @ embeddings[:, :1, :, None]).squeeze(3), embeddings, quaternion(latents.flatten(0, 1)[:, :3])


def prepared(found: Split, norm: bool) -> tuple[Tensor, Tensor]:
    return normalized(found[0], found[1]) if norm else (found[0], found[1])


@pytest.mark.parametrize("norm", [True, False])
def test_prediction_retrieval_error(norm: bool) -> None:
    g = golden("pre_norm" if norm else "pre_nonorm")
    of = {split: predicted(g, split) for split in ("train", "val")}
    for source, target in (("train", "train"), ("val", "val"), ("val", "all")):
        splits = ("train", "val") if target == "all" else (target,)
        queries = prepared(of[source], norm)[0].flatten(0, 1)
        galleries = [prepared(of[split], norm)[1].flatten(0, 1) for split in splits]
        turned = torch.cat([of[split][2] for split in splits])
        errors = rotation_error(of[source][2], turned[nearest(queries, *galleries)[-1]])
        close(errors.mean(), g[f"result/{source}_{target}_PRE"], 1e-5)
        close(errors, 1 - g[f"per_query/{source}_{target}"].square(), 1e-6)


@pytest.mark.parametrize("norm", [True, False])
def test_mean_reciprocal_rank_and_hits(norm: bool) -> None:
    g = golden("mrr_hk_norm" if norm else "mrr_hk_nonorm")
    for split in ("train", "val"):
        places = ranks(*prepared(predicted(g, split), norm))
        assert torch.equal(places.flatten(), g[f"per_query/{split}_{split}"])
        found = rates(places)
        close(found["mrr"], g[f"result/{split}_{split}_MRR"], 1e-6)
        for k in (1, 2, 5, 10):
            close(found[f"h{k}"], g[f"result/{split}_{split}_H{k}"], 1e-6)


def test_chance() -> None:
    assert chance(50)["mrr"] == pytest.approx(0.0900, abs=5e-5)
    assert [chance(50)[f"h{k}"] for k in (1, 2, 5, 10)] == pytest.approx([0.02, 0.04, 0.1, 0.2])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, more = torch.randn(40, 6), torch.randn(70, 6), torch.randn(31, 6)
    a, b = torch.randn(9, 5, 6), torch.randn(9, 5, 6)
    whole, places = nearest(x, y, more), ranks(a, b)
    assert torch.equal(whole[0], (x @ y.T).argmax(1)) and torch.equal(whole[1], (x @ torch.cat([y, more]).T).argmax(1))
    monkeypatch.setattr("trainables.evals._retrieval.BLOCK", 150)
    assert all(map(torch.equal, nearest(x, y, more), whole)) and torch.equal(ranks(a, b), places)

"""Offline evaluations against values of SIE's code: heads on parts, their measures, PRE, MRR and H@k."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_sie_blocks import close, golden, named
from torch import Tensor

from datasets.base import Spec
from datasets.rotations import quaternion, relative_quaternion
from trainables.core.config import TrainConfig
from trainables.core.optim import lr_multiplier
from trainables.evals import relation
from trainables.evals._heads import Head
from trainables.evals._retrieval import chance, nearest, normalized, ranks, rates, rotation_error
from trainables.evals.probes import accuracy, top_k
from trainables.extractors.backbone import Backbone

Split = tuple[Tensor, Tensor, Tensor]  # predictions (o, v, d), embeddings (o, v, d), quaternions (o v, 4)


def predicted(g: dict[str, Any], split: str) -> Split:
    views = int(g["views_per_object"])
    embeddings = g[f"emb_{split}"].unflatten(0, (-1, views))
    latents = g[f"latents_{split}"].unflatten(0, (-1, views))
    relation = relative_quaternion(latents[:, :1].expand_as(latents), latents).float()
    d = embeddings.shape[2]
    matrices = (relation @ g["hypernet_weight"].T).unflatten(2, (d, d))
    return (matrices @ embeddings[:, :1, :, None]).squeeze(3), embeddings, quaternion(latents.flatten(0, 1)[:, :3])


@pytest.mark.parametrize("norm", [True, False])
def test_prediction_retrieval_error(norm: bool) -> None:
    g = golden("pre_norm" if norm else "pre_nonorm")
    of = {split: predicted(g, split) for split in ("train", "val")}
    for source, target in (("train", "train"), ("val", "val"), ("val", "all")):
        splits = ("train", "val") if target == "all" else (target,)
        galleries = [of[split][1].flatten(0, 1) for split in splits]
        turned = torch.cat([of[split][2] for split in splits])
        found = nearest(of[source][0].flatten(0, 1), *galleries)[-1][int(norm)]
        errors = rotation_error(of[source][2], turned[found])
        close(errors.mean(), g[f"result/{source}_{target}_PRE"], 1e-5)
        close(errors, 1 - g[f"per_query/{source}_{target}"].square(), 1e-6)


@pytest.mark.parametrize("norm", [True, False])
def test_mean_reciprocal_rank_and_hits(norm: bool) -> None:
    g = golden("mrr_hk_norm" if norm else "mrr_hk_nonorm")
    for split in ("train", "val"):
        p, real, _ = predicted(g, split)
        places = ranks(normalized(p), normalized(real)) if norm else ranks(p, real)
        assert torch.equal(places.flatten(), g[f"per_query/{split}_{split}"].double())
        found = rates(places)
        close(found["mrr"], g[f"result/{split}_{split}_MRR"], 1e-6)
        for k in (1, 2, 5, 10):
            close(found[f"h{k}"], g[f"result/{split}_{split}_H{k}"], 1e-6)


def test_chance() -> None:
    assert chance(50)["mrr"] == pytest.approx(0.0900, abs=5e-5)
    assert [chance(50)[f"h{k}"] for k in (1, 2, 5, 10)] == pytest.approx([0.02, 0.04, 0.1, 0.2])


def test_embeddings_that_are_all_the_same_find_nothing() -> None:
    """A collapsed model, or a predictor that gives 0, is no better than a random order."""
    for p, real in ((torch.zeros(10, 50, 16), torch.randn(10, 50, 16)), (torch.ones(10, 50, 16),) * 2):
        found = rates(ranks(p, real))
        assert found["mrr"] < chance(50)["mrr"] and found["h10"] == 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, more = torch.randn(40, 6), torch.randn(70, 6), torch.randn(31, 6)
    a, b = torch.randn(9, 5, 6), torch.randn(9, 5, 6)
    whole, places = nearest(x, y, more), ranks(a, b)
    for at, gallery in enumerate((y, torch.cat([y, more]))):
        assert torch.equal(whole[at][0], (x @ gallery.T).argmax(1))
        assert torch.equal(whole[at][1], (normalized(x) @ normalized(gallery).T).argmax(1))
    monkeypatch.setattr("trainables.evals._retrieval.ROWS", 7)
    monkeypatch.setattr("trainables.evals._retrieval.COLUMNS", 13)
    for blocks, one in zip(nearest(x, y, more), whole, strict=True):
        assert torch.equal(blocks[0], one[0]) and torch.equal(blocks[1], one[1])
    assert torch.equal(ranks(a, b), places)


HEADS = [f"{what}_{part}_{kind}" for what in ("angle", "classification", "color") for part in ("equi", "inv")
         for kind in ("linear", "mlp")]  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_heads_on_parts(name: str) -> None:
    """A part of one view, or of two side by side, behind a linear map or Linear-ReLU-Linear-ReLU-Linear."""
    g = golden(f"evalhead_{name}")
    d, equi, hidden = g["x"].shape[1], int(g["equi_dims"]), int(g["hidden"])
    options = Backbone.Config(encoder={"name": "small_resnet10"}, equi=32)
    assert Backbone(options, Spec(shape=(3, 32, 32))).parts == {"all": 128, "inv": 96, "equi": 32}
    part = slice(d - equi, d) if "_equi_" in name else slice(0, d - equi)
    x = torch.cat([g[view][:, part] for view in ("x", "y") if view in g], dim=1)
    head = Head(x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]), (hidden, hidden) if hidden else (), g["out"].shape[1])
    given = {f"net.{key.removeprefix('head.')}": value for key, value in named(g, "param/").items()}
    if not hidden:
        given = {key.replace("net.", "net.0."): value for key, value in given.items()}
    head.double().load_state_dict({"mean": head.mean, "scale": head.scale, **given})
    close(head(x), g["out"])


def test_measures() -> None:
    g = golden("metrics")
    labels = g["labels"].long()
    assert accuracy(g["logits"], labels) == pytest.approx(float(g["top1"]), abs=1e-6)
    assert top_k(g["logits"], labels, 5) == pytest.approx(float(g["top5"]), abs=1e-6)
    found = relation.measure(g["pred"], g["target"])
    assert found["r2"] == pytest.approx(float(g["r2"]), rel=1e-9)
    assert found["floor"] == pytest.approx(float(g["r2_constant_mean"]), rel=1e-9)


def test_the_schedule_that_its_evaluations_define_and_never_call() -> None:
    g = golden("eval_lr_schedule_unused")
    epochs, steps = int(g["epochs"]), int(g["steps_per_epoch"])
    train = TrainConfig(epochs=epochs, warmup_epochs=10, schedule_per="step", final_lr=0.001)
    peak = float(g["lr"]) * int(g["batch_size"]) / 256
    lrs = [peak * lr_multiplier(train, e, s, steps) for e in range(epochs) for s in range(steps)]
    close(torch.tensor(lrs, dtype=torch.float64), g["lrs"], 1e-12)

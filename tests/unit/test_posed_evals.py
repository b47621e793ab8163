"""Evaluations of pairs of views on features that know the pose exactly, and on noise; nothing is trained."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import ConfigError
from datasets.rotations import product, quaternion
from trainables.core.method import Method
from trainables.evals import base, prediction_retrieval, relation
from trainables.evals.base import Features, Request
from trainables.evals.features import _chosen

OBJECTS, VIEWS = {"train": 60, "val": 20, "test": 25}, 10
SPEC = Spec(shape=(3, 32, 32), labels={"class": 10, "object": 0}, params={"latents": 7}, views=1)
PARTS = {"all": 6, "emb_equi": 4}


class Turning(Method):
    """`emb_equi` is the object's absolute quaternion; the predictor multiplies it by the relative one."""

    parts = PARTS
    group = ("rotation",)

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.unused = nn.Parameter(torch.zeros(1))

    def predict(self, parts: dict[str, Tensor], delta: Tensor) -> dict[str, Tensor]:
        return {"emb_equi": product(parts["emb_equi"], delta)}


class Posed:
    """A subject whose features are the pose and the hues (`blind` False), or noise."""

    spec = SPEC

    def __init__(self, folder: Path, blind: bool = False) -> None:
        self.method, self.blind = Turning(), blind
        self.cache = self.out = folder

    def features(self, request: Request) -> Features:
        rng = np.random.default_rng(OBJECTS[request.split])
        n = OBJECTS[request.split] * VIEWS
        latents = torch.from_numpy(rng.uniform(size=(n, 7)))
        latents[:, :3] = math.pi * (latents[:, :3] - 0.5)
        q = quaternion(latents[:, :3])
        known = {"all": torch.cat([q, latents[:, [3, 6]]], 1), "emb_equi": q}
        noise = {part: torch.from_numpy(rng.normal(size=(n, size))) for part, size in PARTS.items()}
        parts = {name: x.float() for name, x in (noise if self.blind else known).items()}
        owner = torch.arange(n) // VIEWS
        labels = {"class": owner % 10, "object": owner}
        return Features(parts, labels, {"latents": latents.float()}, {}, torch.arange(n))


def measured(module: object, folder: Path, blind: bool, **options: object) -> dict[str, float]:
    subject = Posed(folder, blind)
    cfg = module.Config(**options)  # type: ignore[attr-defined]
    promised = base.check(module, cfg, SPEC, PARTS, base.capabilities_of(subject.method))
    found = module.run(subject, cfg, np.random.default_rng(0), {}).metrics  # type: ignore[attr-defined]
    assert sorted(found) == sorted(promised)
    return dict(found)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_what_relates_two_views_is_read_from_what_knows_it_and_not_from_noise(head: str, tmp_path: Path) -> None:
    options = {"parts": ("all",), "head": head, "steps": 400, "hidden": (64, 64)}
    knowing = measured(relation, tmp_path, blind=False, **options)
    blind = measured(relation, tmp_path, blind=True, **options)
    for split in ("val", "test"):
        floor = knowing[f"all/{split}/rotation_floor"]
        assert floor == pytest.approx(0.23, abs=0.03), "what the one mean of unequal columns gives for nothing"
        assert knowing[f"all/{split}/colour_r2"] > 0.97
        assert blind[f"all/{split}/rotation_r2"] == pytest.approx(floor, abs=0.06)
        assert abs(blind[f"all/{split}/colour_r2_uniform"]) < 0.06
        if head == "mlp":  # the relative rotation is a product of both
            assert knowing[f"all/{split}/rotation_r2"] > floor + 0.5
            assert knowing[f"all/{split}/rotation_mse"] < 0.06


def test_pairs_are_of_one_object_and_two_views() -> None:
    owner = torch.tensor([0, 0, 1, 2, 2, 2])
    groups = [rows.nonzero()[:, 0] for rows in (owner[None] == owner.unique()[:, None])]
    first, second = relation.drawn(groups, 50, np.random.default_rng(0))
    assert (owner[first] == owner[second]).all() and (first != second).all()
    assert len(first) == 100 and set(owner[first].tolist()) == {0, 2}, "one view makes no pair"
    assert {(int(a), int(b)) for a, b in zip(first, second, strict=True) if a > 2} == {
        (a, b) for a in (3, 4, 5) for b in (3, 4, 5) if a != b
    }
    with pytest.raises(ConfigError, match="no object has two images"):
        relation.drawn(list(torch.arange(4)[:, None]), 5, np.random.default_rng(0))


def test_a_predictor_that_turns_finds_the_view_and_one_on_noise_does_not(tmp_path: Path) -> None:
    knowing = measured(prediction_retrieval, tmp_path, blind=False)
    blind = measured(prediction_retrieval, tmp_path, blind=True)
    for split in ("val", "test"):
        for prefix in ("", "raw_"):
            assert knowing[f"emb_equi/{split}/{prefix}mrr"] == pytest.approx(1)
            assert knowing[f"emb_equi/{split}/{prefix}h1"] == 1
            assert knowing[f"emb_equi/{split}/{prefix}pre"] == pytest.approx(0, abs=1e-6)
            assert knowing[f"emb_equi/{split}/{prefix}pre_all"] == pytest.approx(0, abs=1e-6)
            assert blind[f"emb_equi/{split}/{prefix}pre"] > 0.45
        assert blind[f"emb_equi/{split}/mrr"] == pytest.approx(blind[f"emb_equi/{split}/mrr_chance"], abs=0.12)
        assert knowing[f"emb_equi/{split}/pre_chance"] == pytest.approx(0.627, abs=0.06)


def test_without_the_view_that_is_known_and_with_the_train_split(tmp_path: Path) -> None:
    options = {"train": True, "identity": False}
    knowing = measured(prediction_retrieval, tmp_path, blind=False, **options)
    blind = measured(prediction_retrieval, tmp_path, blind=True, **options)
    assert knowing["emb_equi/train/mrr"] == pytest.approx(1) and knowing["emb_equi/train/pre"] < 1e-6
    assert "emb_equi/train/pre_all" not in knowing  # all of it is its own
    assert blind["emb_equi/train/mrr"] == pytest.approx(blind["emb_equi/train/mrr_chance"], abs=0.12)


def test_what_they_need_is_said(tmp_path: Path) -> None:
    bare = Spec(shape=(3, 32, 32), labels={"object": 0})
    with pytest.raises(ConfigError, match="relation: the data do not say how their views came about"):
        base.check(relation, relation.Config(), bare, PARTS, {})
    with pytest.raises(ConfigError, match="prediction_retrieval: needs 'predict' capability"):
        base.check(prediction_retrieval, prediction_retrieval.Config(), SPEC, PARTS, {})
    with pytest.raises(ConfigError, match="needs the part 'emb_equi'; there is all"):
        base.check(prediction_retrieval, prediction_retrieval.Config(), SPEC, {"all": 3}, {"predict": ()})
    with pytest.raises(ConfigError, match="is told of 'rot', which is no pose of the data"):
        base.check(prediction_retrieval, prediction_retrieval.Config(), SPEC, PARTS, {"predict": ("rot",)})


def test_a_limit_takes_whole_objects() -> None:
    class Owned:
        owner = np.repeat(np.arange(20), 5)

        def __len__(self) -> int:
            return 100

    rows = _chosen(Owned(), Request("train", limit=33))  # type: ignore[arg-type]
    assert len(rows) == 30 and (np.bincount(rows // 5, minlength=20) % 5 == 0).all()
    assert torch.equal(rows, rows.sort().values)
    assert len(_chosen(Owned(), Request("train", limit=3))) == 5  # type: ignore[arg-type]

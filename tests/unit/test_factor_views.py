"""Transforms that move one factor train methods, and transforms of methods are asked for by evaluations of factors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.base import Batch, Spec
from datasets.config import parse
from datasets.views import Views, ViewsConfig
from trainables.core import state
from trainables.core.config import resolve
from trainables.core.load import load
from trainables.duet import DUET
from trainables.evals import base, informativeness
from trainables.evals.base import Request
from trainables.evals.features import CheckpointSubject
from trainables.nets.pairs import group_of
from trainables.sie import SIE
from trainables.sim import SIM

IMAGES = ("hue_shift", "hue_shift@25", "saturation_shift", "saturation_shift@sane", "brightness_shift@100", "jpeg")
SOUNDS = ("pitch_shift", "pitch_shift@25", "white_noise_snr", "time_stretch", "reverb@75")
ENCODER = {"name": "narrow_cifar10_resnet8", "width": 8, "stem": 8}


pytestmark = pytest.mark.usefixtures("cache")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def seen(code: str, x: torch.Tensor, count: int, rate: int | None = None) -> tuple[Spec, Batch]:
    views = Views(parse(ViewsConfig, {"tx": [code], "count": count}, "views"), Spec(tuple(x.shape[1:]), rate=rate))
    return views.spec, views(Batch([x], torch.arange(len(x))), rng())


def learned(method: torch.nn.Module, batch: Batch) -> None:
    loss = method(batch)["loss"]
    loss.backward()
    gradients = [value.grad for value in method.parameters() if value.grad is not None]
    assert loss.isfinite() and all(bool(one.isfinite().all()) for one in gradients)
    assert any(bool(one.any()) for one in gradients)


@pytest.mark.parametrize("code", IMAGES)
def test_images_are_moved_for_duet_and_sie(code: str) -> None:
    spec, batch = seen(code, torch.rand(6, 3, 16, 16, generator=rng()), 2)
    unit = batch.units[code]
    assert batch.views[0].shape == (6, 3, 16, 16) and unit.min() >= 0 and unit.max() <= 1
    around = spec.kinds[code] == "circular"
    assert around == (code == "hue_shift") and spec.relations == {code: 2 if around else 1}
    step = (unit[1] - unit[0])[:, 0]
    told = batch.relations[code]
    expected = torch.stack([(2 * math.pi * step).cos(), (2 * math.pi * step).sin()], 1) if around else step[:, None]
    assert torch.allclose(told, expected, atol=1e-5)
    options = {"encoder": ENCODER, "equi_tx": (code,), "target": "vm" if around else "ga", "head_hidden": 8}
    learned(DUET(parse(DUET.Config, options, "method"), spec), batch)
    cfg = parse(SIE.Config, {"encoder": ENCODER, "equi": 16, "projector": [16, 16], "group": [code]}, "method")
    assert group_of(cfg, spec) == (code,)
    learned(SIE(cfg, spec), batch)


@pytest.mark.parametrize("code", SOUNDS)
def test_sounds_are_moved_for_sim(code: str) -> None:
    spec, batch = seen(code, torch.randn(3, 1, 4800, generator=rng()) / 4, 1, rate=16_000)
    assert batch.units[code].min() >= 0 and batch.units[code].max() <= 1
    options = {"encoder": {"channels": 8, "context": 6}, "prediction_steps": 4, "negatives": 3}
    learned(SIM(parse(SIM.Config, options, "method"), spec), batch)


def made(config: dict[str, Any], folder: Path) -> CheckpointSubject:
    torch.manual_seed(0)
    resolved = resolve(config)
    spec = resolved.build_views(resolved.source(None, "train").spec).spec
    state.save(folder / "epoch-0001", resolved.build_method(spec), resolved.dump(), spec, epoch=1)
    return CheckpointSubject(folder / "epoch-0001", None, folder / "features")


def asked(subject: CheckpointSubject, name: str, **options: Any) -> dict[str, float]:
    module = load("evaluation", name)
    quick: dict[str, Any] = {"draw": False} if name == "invariance" else {"epochs": 1, "hidden": [8]}
    cfg = parse(module.Config, {**quick, "limit": 30, **options}, "evals")
    promised = base.check(module, cfg, subject.spec, subject.method.parts, {})
    found: dict[str, float] = module.run(subject, cfg, np.random.default_rng(0), {}).metrics
    assert sorted(found) == sorted(promised) and all(math.isfinite(value) for value in found.values())
    return found


def test_transforms_of_duet_are_asked_for(tmp_path: Path) -> None:
    codes = ["sca", "rot", "fli", "jit", "gra", "blu", "sol"]
    subject = made(
        {
            "method": {"name": "duet", "encoder": ENCODER, "head_hidden": 8, "equi_tx": ["rot", "hue"]},
            "data": {"name": "digits", "channels": 3, "limit": 40},
            "views": {"tx": codes, "center_crop": True},
        },
        tmp_path,
    )
    every = {"sca", "rot", "fli", "bri", "con", "sat", "hue", "gra", "blu", "sol"}
    assert {name.split("/")[2] for name in asked(subject, "invariance")} >= {f"{code}_cos_mean" for code in every}
    for name in ("parameter_equivariance", "feature_equivariance"):
        found = asked(subject, name, transforms=["*", "hue_shift", "jpeg@50"])
        for code in (*every, "hue_shift", "jpeg@50"):
            assert any(metric.startswith(f"all/val/{code}_") for metric in found), (name, code)


def test_renderings_of_sie_are_asked_for(tmp_path: Path) -> None:
    subject = made(
        {
            "method": {
                "name": "sie", "encoder": {"name": "small_resnet10", "width": 4}, "equi": 16, "projector": [16, 16],
            },
            "data": {"name": "bench3die", "source": "solids", "size": 32, "solids": {"objects": 3, "views": 4}},
        },
        tmp_path,
    )  # fmt: skip
    factors = ["floor_hue", "light_hue", "hue"]
    found = asked(subject, "informativeness", parts=["inv", "equi"], factors=factors)
    assert {"inv/val/floor_hue_slp_rmse", "equi/test/light_hue_mlp_rmse"} <= found.keys()
    assert "equi/test/hue_shift@sane_cos_mean" in asked(
        subject, "invariance", parts=["inv", "equi"], transforms=["rot", "hue_shift@sane"]
    )
    cfg = informativeness.Config(factors=("floor_hue", "light_hue"))
    kinds = informativeness._factors.kinds(cfg, subject.spec)
    features, values = informativeness._factors.labelled(subject, cfg, Request("test", "hue_shift", repeat=2), kinds)
    source = subject.data("test")[0]
    latents = source.fetch(torch.arange(len(source)), rng()).params["latents"][0].double()
    for factor, column in (("floor_hue", 3), ("light_hue", 6)):
        assert torch.equal(values[factor], latents[features.index, column, None])
        assert values[factor].min() >= 0 and values[factor].max() <= 1 and values[factor].std() > 0.05

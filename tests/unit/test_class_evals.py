"""Probes and nearest neighbours of frames, draws and few labels, of encoders of sound and of images in patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_features import SOUND, made

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core.evaluate import evaluate
from trainables.core.load import load
from trainables.evals import _classes, adversarial, base, features, knn, linear, transfer
from trainables.evals._labelled import Labelled, framewise, labelled
from trainables.evals.base import Request, Result
from trainables.evals.features import CheckpointSubject

HEARS = {"channels": 32, "context": 6, "batch_norm": False}  # enough of them to tell pitches without training
TONES: dict[str, Any] = {**SOUND, "method": {**SOUND["method"], "encoder": HEARS}}
FRAMED = {**TONES, "data": {"name": "made.tones", "limit": 60, "frames": 13, "samples": 2080}}  # as many as context has
SEES = {"name": "resnet34", "channels": 4, "blocks": [1, 1, 1], "patch": 4, "step": 2}
IMAGES: dict[str, Any] = {
    "method": {"name": "sim", "encoder": SEES, "prediction_steps": 4, "negatives": 3},
    "data": {"name": "digits", "channels": 3, "limit": 60},
    "views": {"count": 1},
}
PLAIN: dict[str, Any] = {
    "method": {
        "name": "simclr",
        "encoder": {"name": "narrow_cifar10_resnet8", "width": 8, "stem": 8},
        "head_hidden": 8,
    },
    "data": {"name": "digits", "size": 8, "limit": 60},
}
LAYERS = {**TONES, "method": {**TONES["method"], "name": "cpc", "encoder": {"name": "cpc_extra_audio", **HEARS}}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    forms = {"sound": TONES, "framed": FRAMED, "images": IMAGES, "plain": PLAIN, "layers": LAYERS}
    return {name: made(config, tmp_path_factory.mktemp(name)) for name, config in forms.items()}


def judged(checkpoint: Path, folder: Path, name: str, **options: Any) -> Result:
    """A result whose metrics are those that were promised, and whose features those that were asked for."""
    subject = CheckpointSubject(checkpoint, None, folder / "cache")
    module = load("evaluation", name)
    cfg = module.Config(**options)
    able = base.capabilities_of(subject.method)
    promised = base.check(module, cfg, subject.spec, subject.method.parts, able)
    result = evaluate(subject, name, options)
    assert sorted(promised) == sorted(result.metrics)
    for request in module.requests(cfg, subject.spec):
        assert subject.store.path(subject.key(request)).exists(), request
    return result


@pytest.mark.parametrize("name", ["linear", "knn"])
@pytest.mark.parametrize("of", ["sound", "images"])
@pytest.mark.parametrize("pool", ["max", "flat"])
def test_pools(name: str, of: str, pool: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    factor = "pitch" if of == "sound" else "class"
    code = "whi" if of == "sound" else "fli"
    options: dict[str, Any] = {"factor": factor, "pool": pool, "transformed": (code,), "refit": True}
    options |= {"probe": "ridge"} if name == "linear" else {}
    result = judged(checkpoints[of], tmp_path, name, parts=("module0", "module2"), **options)
    assert f"module2/test/top1_{code}" in result.metrics
    if name == "linear":
        subject = CheckpointSubject(checkpoints[of], None, tmp_path / "cache")
        width, places = subject.method.parts["module0"], int(np.prod(subject.method.places["module0"]))  # type: ignore[index,arg-type,union-attr]
        weight = load_file(result.artifacts["probe_module0.safetensors"])["weight"]
        assert len(weight) == width * (places if pool == "flat" else 1)


def test_a_probe_reads_every_layer_and_module(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    result = judged(checkpoints["layers"], tmp_path, "linear", parts=("*",), factor="pitch", pool="max", bias=False)
    parts = {name.split("/")[0] for name in result.metrics}
    assert {"layer2", "layer5", "layer7", "module0", "context", "all"} <= parts
    probes = [load_file(path)["weight"] for path in result.artifacts.values()]
    assert len(probes) == len(parts) and len({float(weight.abs().sum()) for weight in probes}) == len(parts) - 1, (
        "all = context"
    )
    assert not load_file(result.artifacts["probe_layer2.safetensors"])["bias"].any()
    flat = judged(checkpoints["layers"], tmp_path / "b", "knn", parts=("*",), factor="pitch", pool="flat", k=5)
    assert len(flat.metrics) == len(result.metrics)


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_samples_of_the_latents_say_less_than_their_means(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"factor": "pitch", "parts": ("module1",), "pool": "flat"}
    options |= {"probe": "ridge"} if name == "linear" else {}
    still = judged(checkpoints["sound"], tmp_path, name, **options).metrics
    drawn = judged(checkpoints["sound"], tmp_path, name, draws=3, **options).metrics
    assert drawn["module1/val/chance"] == still["module1/val/chance"]
    assert name == "knn" or drawn["module1/val/top1"] < still["module1/val/top1"], "untrained latents deviate by 1"


@pytest.mark.parametrize("options", [{}, {"draws": 2}, {"probe": "adam", "adam": {"epochs": 2, "batch_size": 3}}])
def test_draws_of_an_item_are_held_out_together(
    options: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Labelled] = []
    fit = linear._probe.fit

    def watched(cfg: Any, train: Labelled, *rest: Any) -> Any:
        held.append(train)
        return fit(cfg, train, *rest)

    monkeypatch.setattr(linear._probe, "fit", watched)
    judged(checkpoints["framed"], tmp_path, "linear", factor="pitch", **options)
    draws = options.get("draws", 0) or 1
    (train,) = held
    assert train.x.shape == (60 * draws * 13, 6) and train.draws == draws
    assert torch.equal(train.owner, torch.arange(60).repeat_interleave(draws * 13))
    assert torch.equal(train.row, torch.arange(60 * draws).repeat_interleave(13))


def test_frames_are_told_where_they_are_labelled(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Three pitches, one after the other; module 0 has more frames than there are labels."""
    result = judged(checkpoints["framed"], tmp_path, "linear", factor="pitch", parts=("module0", "module2"))
    for part in ("module0", "module2"):
        assert result.metrics[f"{part}/test/top1"] > 0.65 > 0.45 > result.metrics[f"{part}/test/chance"]


def test_labels_of_a_frame_meet_its_features() -> None:
    frames = torch.arange(12.0).view(1, 12, 1)
    labels = torch.tensor([[0, -1, 2, 3, 4, 5, 6, 7, 8, 9]])
    x, y, row = framewise(frames, labels)
    assert x[:, 0].tolist() == [2, 4, 5, 6, 7, 8, 9, 10, 11] and y.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert row.tolist() == [0] * 9
    x, y, _ = framewise(frames, labels[:, :4])  # three frames of each
    assert x[:, 0].tolist() == [1, 7, 10] and y.tolist() == [0, 2, 3]
    x, y, _ = framewise(frames[:, :9], labels)  # the last label has no frame
    assert x[:, 0].tolist() == [0, 2, 3, 4, 5, 6, 7, 8] and y.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(ConfigError, match="7 frames are too coarse for 10 labels"):
        framewise(frames[:, :7], labels)


def test_few_labels(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    options = {"factor": "pitch", "parts": ("module1",), "pool": "flat"}
    every = judged(checkpoints["sound"], tmp_path, "linear", probe="ridge", **options)
    few = judged(checkpoints["sound"], tmp_path, "linear", probe="ridge", per_class=2, subsets=5, **options)
    tops = few.metrics["module1/val/top1"], every.metrics["module1/val/top1"]
    assert tops[0] < tops[1] - 0.2 and few.metrics["module1/val/std_top1"] > 0
    assert set(few.artifacts) == {"probe_module1.safetensors", *(f"probe_module1-{i}.safetensors" for i in range(1, 5))}
    once = judged(checkpoints["sound"], tmp_path, "knn", per_class=2, **options)
    assert once.metrics["module1/val/std_top1"] == 0
    assert base.direction(linear, "module1/val/std_top1") == "" and base.direction(linear, "a/val/top1_rot") == "max"


def test_few_items_are_whole_and_of_every_class() -> None:
    item = torch.arange(40).repeat_interleave(3)
    y = (torch.arange(40) % 4).repeat_interleave(3)
    rows = Labelled(torch.arange(120.0)[:, None], y, torch.arange(120), item, item, 3)
    few = rows.few(2, np.random.default_rng(0))
    assert few.y.bincount().tolist() == [6] * 4 and few.item.unique(return_counts=True)[1].tolist() == [3] * 8
    assert torch.equal(few.x[:, 0].long(), few.row) and torch.equal(y[few.row], few.y)
    assert len(rows.few(100, np.random.default_rng(0)).x) == 120
    assert not torch.equal(rows.few(2, np.random.default_rng(1)).item, few.item)


def test_defaults_ask_for_what_was_asked_before() -> None:
    spec = Spec(shape=(1, 100), labels={"class": 3, "phone": 5}, frames={"phone": 10})
    every = [Request(split) for split in ("train", "val", "test")]
    assert linear.requests(linear.Config(), spec) == every == knn.requests(knn.Config(parts=("*",)), spec)
    assert linear.requests(linear.Config(pool="max", limit=3), spec) == [
        Request(split, limit=3, pool="max") for split in ("train", "val", "test")
    ]
    for options in ({"pool": "flat"}, {"factor": "phone"}):
        cfg = linear.Config(parts=("a", "b", "a"), draws=2, **options)
        asked = [Request(s, part=p, pool="frames", draws=2) for p in ("a", "b") for s in ("train", "val", "test")]
        assert linear.requests(cfg, spec) == asked
        assert linear.requests(cfg.model_copy(update={"parts": ("*",)}), spec) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "max"}, "pool: 'max' needs frames, which the method does not have"),
        ({"pool": "flat"}, "pool: 'flat' needs frames, which the method does not have"),
        ({"draws": 3}, "draws: 3 needs frames, which the method does not have"),
        ({"factor": "phone"}, "'phone' is labelled per frame, and the method has no frames"),
        ({"factor": "phone", "pool": "max", "able": True}, "'phone' is labelled per frame, and each frame is a row"),
        ({"factor": "phone", "per_class": 2, "able": True}, "per_class: 'phone' is labelled per frame"),
        ({"subsets": 2}, "subsets: are of per_class train items"),
        ({"probe": "mlp", "bias": False}, "bias: off is for linear probes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options: dict[str, Any], message: str) -> None:
    spec = Spec(shape=(1, 100), labels={"class": 3, "phone": 5}, frames={"phone": 10})
    able = {"frames": ()} if options.pop("able", False) else {}
    with pytest.raises(ConfigError, match=f"^linear: .*{message}") as refused:
        base.check(linear, linear.Config(**options), spec, {"all": 4}, able)
    assert "\n" not in str(refused.value)
    if "factor" not in options:
        with pytest.raises(ConfigError, match=f"^transfer: .*{message}"):
            base.check(transfer, transfer.Config(**options), spec, {"all": 4}, able)


def test_an_encoder_without_frames_is_judged_as_ever(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    result = judged(checkpoints["plain"], tmp_path, "linear", probe="adam", adam={"epochs": 3}, per_class=3)
    assert set(_classes.METRICS) >= {name.rsplit("/", 1)[1] for name in result.metrics}
    with pytest.raises(ConfigError, match="SimCLR has no frames"):
        evaluate(CheckpointSubject(checkpoints["plain"], None, tmp_path), "linear", {"pool": "max"})


def test_frames_of_longer_sounds_by_transfer(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """As phones of whole utterances are read after training on crops."""
    to = {"name": "made.tones", "samples": 4160, "frames": 26, "limit": 50}
    result = judged(checkpoints["sound"], tmp_path, "transfer", to=to, factor="pitch", parts=("module1",))
    assert result.metrics["module1/test/top1"] > 0.8
    with pytest.raises(ConfigError, match="too coarse for 520 labels; take a part with more frames"):
        judged(checkpoints["sound"], tmp_path, "transfer", to={**to, "frames": 520}, factor="pitch", parts=("module2",))


@pytest.mark.parametrize(
    ("name", "of", "options"),
    [
        ("linear", "sound", {"pool": "flat"}),
        ("knn", "sound", {"pool": "flat", "draws": 2}),
        ("linear", "framed", {}),
        ("adversarial", "sound", {"pool": "flat"}),
        ("frame_votes", "sound", {}),
    ],
)
def test_more_frames_than_memory_holds_are_refused(
    name: str, of: str, options: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    subject = CheckpointSubject(checkpoints[of], None, tmp_path)
    length, width = subject.method.places["module1"][0], subject.method.parts["module1"]  # type: ignore[index,union-attr,misc,operator]
    items, one = len(subject.data("train")[0]), length * width * options.get("draws", 1)
    monkeypatch.setattr(features, "MOST", items * one - 1)
    with pytest.raises(ConfigError) as refused:
        evaluate(subject, name, {"factor": "pitch", "parts": ("module1",), **options})
    assert str(refused.value) == (
        f"part 'module1': frames of {items} items, {one:,} values each, are more than the {items * one - 1:,} that "
        f"are held in memory; set limit to {items - 1} or less"
    )
    assert not list(tmp_path.glob("*.h5"))
    evaluate(subject, name, {"factor": "pitch", "parts": ("module1",), "limit": items - 1, **options})


# -- adversarial items ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of", "pool"), [("sound", "mean"), ("sound", "flat"), ("images", "max"), ("plain", "mean")])
def test_items_are_attacked(of: str, pool: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    options = {"factor": "pitch" if of == "sound" else "class", "pool": pool, "probe": "ridge", "attacked": 40}
    parts = {"parts": ("module1",)} if of != "plain" else {}
    found = judged(checkpoints[of], tmp_path, "adversarial", eps=(1e-9, 0.3), **options, **parts)
    assert {name.rsplit("/", 1)[1] for name in found.metrics} == {
        "top1", "top1_attacked", "chance", "top1_eps_1e-09", "top1_eps_0.3",
    }  # fmt: skip
    part = parts.get("parts", ("all",))[0]
    for split in ("val", "test"):
        clean, moved = (found.metrics[f"{part}/{split}/{name}"] for name in ("top1", "top1_eps_0.3"))
        assert moved < clean == found.metrics[f"{part}/{split}/top1_eps_1e-09"]
        assert found.metrics[f"{part}/{split}/top1_attacked"] == pytest.approx((clean + moved) / 2)
    same = judged(checkpoints[of], tmp_path, "linear", **{k: v for k, v in options.items() if k != "attacked"}, **parts)
    probe, other = (
        load_file(r.artifacts[f"{n}_{part}.safetensors"]) for r, n in ((found, "attacked"), (same, "probe"))
    )
    assert all(torch.equal(value, other[name]) for name, value in probe.items())


def test_an_attack_does_more_than_noise_of_its_size(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    subject = CheckpointSubject(checkpoints["sound"], None, tmp_path)
    cfg = adversarial.Config(factor="pitch", pool="flat", probe="ridge", parts=("module1",))
    x, y = subject.inputs(Request("val")), subject.features(Request("val")).labels["pitch"]
    train = labelled(subject.features(Request("train", part="module1", pool="frames")), "module1", "pitch")
    probe = linear._probe.fit(cfg, train, 3, 0)
    eps = 0.05
    clean, (moved,) = adversarial.attack(subject, cfg, "module1", probe, x, y, (eps,))
    noise = eps * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    shaken, _ = adversarial.attack(subject, cfg, "module1", probe, (x + noise).clamp(-1, 1), y, (eps,))
    assert moved < shaken - 0.1 <= clean


def test_the_direction_is_that_of_the_cross_entropy_also_of_sure_answers() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0])
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, y, reduction="sum"), scores)
    (found,) = torch.autograd.grad(adversarial.rise(scores, y), scores)
    torch.testing.assert_close(found, expected / -expected.gather(1, y[:, None]))
    sure = torch.tensor([[500.0, 0.0, 1.0]], requires_grad=True)
    assert torch.autograd.grad(adversarial.rise(sure, torch.tensor([0])), sure)[0].sign().tolist() == [[-1, 1, 1]]


def test_attacks_that_cannot_be_are_refused() -> None:
    spec = Spec(shape=(1, 1000), labels={"class": 3, "phone": 5}, frames={"phone": 10})
    wrong = {"pool": "max"}, {"factor": "phone"}, {"factor": "clas"}
    for options, message in zip(wrong, ("needs frames", "labelled per frame", "did you mean 'class'"), strict=True):
        with pytest.raises(ConfigError, match=f"^adversarial: .*{message}"):
            base.check(adversarial, adversarial.Config(**options), spec, {"all": 4}, {})
    with pytest.raises(ConfigError, match="have items of"):
        base.check(adversarial, adversarial.Config(), Spec(shape=(4,), labels={"class": 2}), {"all": 4}, {})
    with pytest.raises(ConfigError, match=r"in \[-3.00, 0.00\] and not in \[-1, 1\]; do not normalise"):
        adversarial.bounds(torch.linspace(-3, 0, 8).view(1, 1, 8))
    assert adversarial.bounds(torch.rand(1, 3, 2, 2)) == (0, 1)
    names = base.check(adversarial, adversarial.Config(), spec, {"all": 4}, {})
    assert "all/val/top1_eps_0.0001" in names and base.direction(adversarial, names[-1]) == "max"

"""Frames of latents and decoders of them, on sounds and images made here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from PIL import Image
from test_features import made
from torch import Tensor

from datasets.config import ConfigError
from trainables.core.draws import generator
from trainables.core.evaluate import evaluate
from trainables.evals import (
    _decoder,
    _frames,
    _sound,
    base,
    latent_decoder,
    linear,
    total_correlation,
)
from trainables.evals._decoder import Decoder
from trainables.evals._frames import Frames, some_frames
from trainables.evals.base import Request, Result
from trainables.evals.features import CheckpointSubject
from trainables.losses.sound import LOSSES, sound_losses

SOUND: dict[str, Any] = {
    "method": {"name": "sim", "encoder": {"channels": 8, "context": 6}, "prediction_steps": 4, "negatives": 3},
    "data": {"name": "made.tones", "limit": 40, "samples": 1280},
    "views": {"count": 1},
}
IMAGES: dict[str, Any] = {
    "method": {
        "name": "sim", "prediction_steps": 1, "negatives": 3, "kl_reduction": "channels",
        "encoder": {"name": "resnet34", "channels": 4, "blocks": [1, 1, 1], "patch": 8, "step": 4},
    },
    "data": {"name": "digits", "size": 16, "limit": 200},
    "views": {"count": 1},
}  # fmt: skip
QUICK: dict[str, Any] = {"training": {"epochs": 2}, "clips": 3}


@pytest.fixture(scope="module")
def of_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(SOUND, tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(IMAGES, tmp_path_factory.mktemp("images"))


@pytest.fixture
def heard(of_sound: Path, tmp_path: Path) -> CheckpointSubject:
    return CheckpointSubject(of_sound, None, tmp_path / "cache", out=tmp_path / "out")


# -- frames ---------------------------------------------------------------------------------------------------------


def test_latents_are_drawn_anew_or_computed_once(heard: CheckpointSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    request, rows = Request("train"), torch.tensor([3, 0])
    drawn = Frames(heard, request, "module1", "sample")
    rng = generator(0, "a")
    one, two = drawn(rows, rng), drawn(rows, rng)
    assert one.shape == (2, *heard.method.places["module1"], 8) and not torch.equal(one, two)  # type: ignore[index,misc,union-attr]
    torch.testing.assert_close(drawn(rows, generator(0, "a")), one)
    mean = Frames(heard, request, "module1", "mean")
    assert torch.equal(mean(rows, rng), mean(rows, rng))
    torch.testing.assert_close(mean.every(0)[rows], heard.method.frames(heard.inputs(request)[rows])["module1"])  # type: ignore[operator]
    monkeypatch.setattr(_frames, "STORED", 10)  # too many to be kept
    again = Frames(heard, request, "module1", "mean")
    assert again.stored is None and mean.stored is not None
    torch.testing.assert_close(again(rows, rng), mean(rows, rng))
    torch.testing.assert_close(
        torch.stack([drawn(rows, rng) for _ in range(300)]).mean(0), mean(rows, rng), atol=0.3, rtol=0
    )


def test_what_stands_for_the_means_of_a_method_that_samples(tmp_path: Path) -> None:
    """Parts are then of one sample by the method's own option, and the options that speak of means say so."""
    options = {**SOUND, "method": {**SOUND["method"], "sample_at_evaluation": True}}
    subject = CheckpointSubject(made(options, tmp_path), None, tmp_path / "cache")
    rows, plain = torch.arange(5), CheckpointSubject(made(SOUND, tmp_path / "plain"), None, tmp_path / "cache")
    sample, mean = (Frames(one, Request("val"), "module0", "mean")(rows, generator(0)) for one in (subject, plain))
    assert torch.equal(sample, Frames(subject, Request("val"), "module0", "mean")(rows, generator(1)))
    assert 0.3 < float((sample - mean).std()) < 3, "untrained latents deviate by about 1"
    for kind, option in (
        (latent_decoder.Config, "latents"), (total_correlation.Config, "latents"), (linear.Config, "draws"),
    ):  # fmt: skip
        assert "method.sample_at_evaluation" in str(kind.model_fields[option].description)


def test_longer_sounds_are_kept_only_where_they_fit(heard: CheckpointSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = heard.on({"name": "made.tones", "limit": 20, "samples": 2560})
    made_for = 20 * heard.method.places["module1"][0] * 8  # type: ignore[index,union-attr,misc,operator]
    for most, kept in ((made_for, False), (3 * made_for, True)):
        monkeypatch.setattr(_frames, "STORED", most)
        assert (Frames(longer, Request("val"), "module1", "mean").stored is not None) == kept


def test_few_frames_of_each_item(heard: CheckpointSubject) -> None:
    request = Request("val")
    whole = heard.features(Request("val", part="module2", pool="frames")).parts["module2"]
    few = some_frames(heard, request, ["module2", "module0"], 3, "mean", 1)
    assert few["module2"].shape == (40, 3, 8) and few["module0"].shape == (40, 3, 8)
    there = (few["module2"][:, :, None] - whole[:, None]).abs().amax(-1) < 1e-6  # (n, 3, L)
    assert bool((there.sum(-1) >= 1).all()) and bool(there.any(1).sum(-1).eq(3).all()), "each once"
    assert some_frames(heard, request, ["module2"], None, "mean", 1)["module2"].shape == whole.shape
    again, other = (some_frames(heard, request, ["module0"], 3, "sample", seed)["module0"] for seed in (1, 2))
    assert torch.equal(again, some_frames(heard, request, ["module0"], 3, "sample", 1)["module0"])
    assert not torch.allclose(again, other)


@pytest.mark.parametrize("latents", ["sample", "mean"])
def test_an_encoder_that_diverged_is_named(
    latents: Any, heard: CheckpointSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_frames, "STORED", 10)
    with torch.no_grad():
        next(heard.method.parameters()).fill_(math.nan)
    with pytest.raises(ConfigError, match=r"not finite \(part 'module1'\); its training diverged"):
        Frames(heard, Request("val"), "module1", latents)(torch.arange(3), generator(0))
    with pytest.raises(ConfigError, match="encodes to values that are not finite"):
        evaluate(heard, "latent_decoder", {**QUICK, "parts": ["module1"], "latents": latents})


# -- decoders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "samples", "name"),
    [
        (511, 10_240, "module0"), (129, 10_240, "module1"), (64, 10_240, "module2"), (1023, 20_480, "module0"),
        (441, 8821, "module0"), (111, 8821, "module1"), (55, 8821, "module2"), (52, 10_240, "simple_v2"),
        (13, 10_240, "v3_two_modules"), (2047, 10_240, "gim_l1"), (24, 10_240, "simple_v1"),
    ],
)  # fmt: skip
def test_the_decoder_that_fits_a_part(frames: int, samples: int, name: str) -> None:
    found = latent_decoder.fitting(None, "module0", frames, samples)
    assert found == name
    made = latent_decoder.build({"net": found, "width": 2, "places": [frames], "shape": [1, samples]})
    assert made(torch.zeros(1, frames, 2)).shape == (1, 1, samples)


def test_a_decoder_of_sound_and_what_it_writes(heard: CheckpointSubject) -> None:
    before = {name: value.clone() for name, value in heard.method.state_dict().items()}
    options = {**QUICK, "parts": ["module1"], "every": 2, "dimensions": 3}
    found = evaluate(heard, "latent_decoder", options)
    assert all(torch.equal(value, before[name]) for name, value in heard.method.state_dict().items())
    assert not heard.method.training
    again = evaluate(heard, "latent_decoder", options)
    assert again.metrics == found.metrics, "a seed decides everything"
    for split in ("val", "test"):
        values = {name: found.metrics[f"module1/{split}/{name}"] for name in latent_decoder.SOUND}
        silent = heard.inputs(Request(split)).square().mean()  # type: ignore[arg-type]
        assert values["loss_silence"] == pytest.approx(float(silent), rel=1e-4)
        assert values["loss"] == values["mse"] and values["mse_mean"] > 0
        assert values["r2"] == pytest.approx(1 - values["mse"] / values["mse_mean"])
    sounds = {name: soundfile.info(path) for name, path in found.artifacts.items() if name.endswith(".wav")}
    pause = int(_sound.PAUSE * 16_000)
    lengths = {
        "reconstructions_module1_original.wav": 3, "reconstructions_module1_decoded.wav": 3, "samples_module1.wav": 3,
        "samples_module1_epoch0002.wav": 3, "interpolations_module1_whole.wav": 10,
        "interpolations_module1_partial.wav": 10, "masks_module1_all.wav": 3, "masks_module1_without.wav": 3,
        "masks_module1_only.wav": 3, "masks_module1_zero.wav": 3,
    }  # fmt: skip
    assert sounds.keys() == lengths.keys()
    for name, count in lengths.items():
        assert sounds[name].samplerate == 16_000 and sounds[name].frames == count * 1280 + (count - 1) * pause
    for name in ("reconstructions", "samples", "interpolations", "masks"):
        assert Image.open(found.artifacts[f"{name}_module1.png"]).width > 300


class Given:
    """Latents that are the same each time."""

    def __init__(self, z: Tensor) -> None:
        self.z, self.width = z, z.shape[2]

    def __call__(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        return self.z[rows]


def test_a_decoder_learns_what_another_one_makes() -> None:
    z = torch.randn(80, 40, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    form = {"net": "gim_l1", "width": 6, "places": [40], "shape": [1, 205]}
    with torch.no_grad():
        true = latent_decoder.build(form)(z)
    cfg = latent_decoder.Recipe(epochs=80, lr=0.02, batch_size=16, decay=0.97)
    epochs: list[int] = []
    found = _decoder.train(
        lambda: latent_decoder.build(form), Given(z), true, torch.arange(80), cfg, 0,
        watch=lambda now: epochs.append(now.best),
    )  # fmt: skip
    assert epochs == list(range(1, 81)) and found.held_out < 0.01 * float(true.var())
    assert cfg.rate(2) == pytest.approx(0.02 * 0.97**2)


@pytest.mark.parametrize("loss", [*range(7), "mel"])
def test_every_loss(loss: int | str, heard: CheckpointSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reported is the loss by name, of what the decoder makes of the very items."""
    made: list[Tensor] = []
    decode = Decoder.__call__

    def watched(self: Decoder, z: Tensor, block: int = 512) -> Tensor:
        made.append(decode(self, z, block))
        return made[-1]

    options = {"loss": loss, "n_fft": 256, "weight": 0.1, "latents": "mean", "training": {"epochs": 1}, "clips": 2}
    monkeypatch.setattr(Decoder, "__call__", watched)
    found = evaluate(heard, "latent_decoder", {**options, "limit": 16}).metrics
    decoded = [x for x in made if x.shape == (16, 1, 1280)][-1]  # of test, which is reported last
    true, name = heard.inputs(Request("test", limit=16)), LOSSES[loss] if isinstance(loss, int) else loss
    other = name.removeprefix("mse_")

    def by_hand(x: Tensor) -> float:
        alone = sound_losses(x, true, other, 1.0, 16_000, 256).mean()
        return float((x - true).square().mean() + 0.1 * alone if name != other else alone)

    assert found["all/test/mse"] == pytest.approx(float((decoded - true).square().mean()), rel=1e-5)
    assert found["all/test/loss"] == pytest.approx(by_hand(decoded), rel=1e-4)
    assert found["all/test/loss_silence"] == pytest.approx(by_hand(torch.zeros_like(true)), rel=1e-4)
    mel = float(sound_losses(decoded, true, "mel", 1.0, 16_000, 2048).mean())  # 4096 does not fit in 1280 samples
    assert found["all/test/mel"] == pytest.approx(mel, rel=1e-4), "whatever the window of the loss"


def test_a_decoder_of_images(of_images: Path, tmp_path: Path) -> None:
    seen = CheckpointSubject(of_images, None, tmp_path)
    places = base.places_of(base.capabilities_of(seen.method))
    assert places["module2"] == (3, 3)
    recipe = {"epochs": 20, "lr": 5e-3, "batch_size": 16, "decay": 0.95}
    decoder = evaluate(
        seen, "latent_decoder", {"parts": ["module2"], "latents": "mean", "training": recipe, "clips": 3}
    )
    assert decoder.metrics["module2/val/mse"] < 0.9 * decoder.metrics["module2/val/mse_mean"]
    assert decoder.metrics["module2/val/r2"] > 0.1 and not any("mel" in name for name in decoder.metrics)
    assert not any(name.endswith(".wav") for name in decoder.artifacts)
    inputs = {"latent_decoder": decoder}
    score = evaluate(seen, "interpolation_score", {"parts": ["module2"], "limit": 5}, inputs=inputs)
    request, (net, form) = Request("val", limit=5), latent_decoder.read(inputs, "module2", seen)
    drawn = net(latent_decoder.latents(seen, request, form, 0))
    apart, between = (
        float((x[:, None] - x[None]).square().mean((2, 3, 4)).sum()) / 20 for x in (drawn, seen.inputs(request))
    )
    assert score.metrics["module2/val/apart"] == pytest.approx(apart, rel=1e-4)
    assert score.metrics["module2/val/told"] == pytest.approx(apart / between, rel=1e-4)
    moved = evaluate(seen, "latent_traversal", {"parts": ["module2"]}, inputs=inputs)
    assert (
        moved.metrics["module2/train/change"] > 0 and Image.open(moved.artifacts["traversal_module2.png"]).width > 300
    )


def test_sounds_of_other_data(heard: CheckpointSubject) -> None:
    """Longer ones, whose decoder other evaluations read with the same data."""
    options = {**QUICK, "parts": ["module1"], "data": {"name": "made.tones", "limit": 20, "samples": 2560}}
    decoder = evaluate(heard, "latent_decoder", options)
    _, form = latent_decoder.read({"latent_decoder": decoder}, "module1", heard)
    assert form["shape"] == [1, 2560] and form["places"] != list(heard.method.places["module1"])  # type: ignore[index,call-overload]
    z = latent_decoder.latents(heard, Request("val", limit=4), form, 0)
    assert z.shape == (4, form["places"][0], 8)
    evaluate(heard, "interpolation_score", {"parts": ["module1"], "limit": 4}, inputs={"latent_decoder": decoder})


def test_a_decoder_that_is_not_there(heard: CheckpointSubject) -> None:
    with pytest.raises(ConfigError, match="reads the decoder of 'all'; add it to the parts of latent_decoder"):
        latent_decoder.read({"latent_decoder": Result({})}, "all", heard)

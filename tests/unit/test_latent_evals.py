"""What is read from decoders of latents, and analyses without one, where the answer is known."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_features import made
from test_latent_decoder import QUICK, SOUND
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import ConfigError, parse
from trainables.core.evaluate import evaluate
from trainables.evals import (
    _density,
    _latents,
    base,
    interpolation_score,
    latent_decoder,
    latent_space,
    latent_traversal,
    linear,
    probe_weights,
    total_correlation,
)
from trainables.evals._decoder import Decoder
from trainables.evals.base import Request
from trainables.evals.features import CheckpointSubject
from trainables.evals.probes import Linear

WIDTHS = {"all": 6, "module0": 8, "module1": 8, "context": 6}
PLACES = {"all": (64,), "module0": (511,), "module1": (129,), "context": (64,)}
FRAMES = {"frames": tuple(f"{part}={places[0]}" for part, places in PLACES.items())}
WORDS = Spec(shape=(1, 10_240), labels={"vowel": 3, "pitch": 0, "phone": 5}, rate=16_000, frames={"phone": 160})


@pytest.fixture(scope="module")
def of_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(SOUND, tmp_path_factory.mktemp("sound"))


@pytest.fixture
def heard(of_sound: Path, tmp_path: Path) -> CheckpointSubject:
    return CheckpointSubject(of_sound, None, tmp_path / "cache", out=tmp_path / "out")


# -- what is read from a decoder ------------------------------------------------------------------------------------


def test_the_score_of_a_decoder_whose_answer_is_known() -> None:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, 16, generator=rng)
    everything = interpolation_score.drawn(6, None, np.random.default_rng(0))
    assert len({tuple(pair) for pair in everything.tolist()}) == 30 and bool(
        (everything[:, 0] != everything[:, 1]).all()
    )
    some = interpolation_score.drawn(6, 7, np.random.default_rng(0))
    assert len({tuple(pair) for pair in some.tolist()}) == 7
    spread = interpolation_score.measure(_latents.contribution(lambda z: z, z, everything, _latents.doublings(16)), 1)
    few = z.clone()
    few[:, :, 2:] = few[:1, :, 2:]  # all there is lies in two dimensions
    narrow = interpolation_score.measure(_latents.contribution(lambda z: z, few, everything, (2, 4, 8, 16)), 1)
    assert narrow["area"] == pytest.approx(0, abs=1e-9) and narrow["half"] == 2 and narrow["half_share"] == 1 / 8
    assert 0.2 < spread["area"] < 1 and spread["half"] > 2 and spread["apart"] > 0
    shown = interpolation_score.between(z, everything)
    by_hand = sum(float((a - b).square().mean()) for a in z for b in z) / 30
    assert shown == pytest.approx(by_hand)
    assert spread["told"] == spread["apart"] == pytest.approx(shown)
    for decode in (torch.zeros_like, lambda z: 0.05 * z):  # says nothing, or next to nothing, of what it is given
        flat = interpolation_score.measure(_latents.contribution(decode, z, everything, (2, 4, 8, 16)), shown)
        assert flat["area"] == flat["half_share"] == 1 and flat["half"] == 16, "nothing decoded is no good score"
        assert flat["told"] < 0.01
    shape = _latents.Contribution((2, 4, 8), (1.0, 1.0, 0.0), 1.0)
    assert interpolation_score.measure(shape, 1)["area"] == pytest.approx(0.75)
    assert [_latents.doublings(width) for width in (1, 2, 3, 6, 512)][:4] == [(1,), (2,), (2, 3), (2, 4, 6)]


def test_edits_of_latents() -> None:
    z = torch.arange(24.0).view(2, 3, 4)
    kept = _latents.masked(z, torch.tensor([1, 3]), keep=True)
    assert torch.equal(kept[..., [1, 3]], z[..., [1, 3]]) and not bool(kept[..., [0, 2]].any())
    assert torch.equal(kept + _latents.masked(z, torch.tensor([1, 3])), z)
    steps = _latents.interpolated(z[0], z[1], 10, torch.tensor([2]))
    assert torch.equal(steps[0], z[1]) and torch.equal(steps[-1][:, 2], z[0][:, 2])
    assert torch.equal(steps[-1][:, [0, 1, 3]], z[1][:, [0, 1, 3]])
    other = z.clone()
    other[:, :, 3] += 5
    other[:, :, 1] -= 9
    assert _latents.largest(z, other, 2).tolist() == [[1, 3], [1, 3]]


class Tones(nn.Module):
    """Of each frame the sum of a steady tone and, by the first dimension, of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        time = torch.arange(160) / 160
        first, second = (torch.sin(2 * math.pi * k * time) for k in (5, 9))
        return (10 * first + (z[:, :1, :1].sum(2) + 4) * second)[:, None]


def test_the_traversal_of_a_decoder_whose_answer_is_known() -> None:
    decoder = Decoder(Tones(), torch.zeros(4), torch.ones(4), 1, 0.0)
    form = {"net": "module2", "places": [8], "width": 4}
    found, changes, _ = latent_traversal.measure(decoder, form, latent_traversal.Config())
    assert found["dimensions"] == pytest.approx(1) and found["dimensions_share"] == 0.25
    assert changes[0] > 1 and not bool(changes[1:].any())
    assert found["straight"] == pytest.approx(1, abs=1e-3)
    sounds = torch.linspace(2, 5, 30) + torch.sin(torch.arange(30.0))
    flat = latent_traversal.detrended(sounds[None])
    assert float(flat[0, 0]) == pytest.approx(0, abs=1e-6) == float(flat[0, -1])
    assert latent_traversal.spectra(torch.randn(3, 1, 160), 50).shape == (3, 50)


def test_how_many_frames_make_a_sound() -> None:
    cfg = latent_traversal.Config
    for net, frames in (("module0", 1), ("module1", 2), ("module2", 1), ("simple_v2", 1)):
        form = {"net": net, "places": [64], "width": 4}
        assert latent_traversal.length_of(form, cfg()) == frames
        assert latent_traversal.length_of(form, cfg(frames=7)) == 7
    with pytest.raises(ConfigError, match="1 make no sound in the decoder 'module1'; take at least 2"):
        latent_traversal.length_of({"net": "module1", "places": [64], "width": 4}, cfg(frames=1))


def test_a_traversal_is_written(heard: CheckpointSubject) -> None:
    inputs = {"latent_decoder": evaluate(heard, "latent_decoder", {**QUICK, "parts": ["*"]})}
    found = evaluate(heard, "latent_traversal", {"parts": ["module0", "context"], "shown": 2}, inputs=inputs)
    assert len([name for name in found.artifacts if name.endswith(".wav")]) == 4
    with found.artifacts["changes_context.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {float(row["change"]) for row in rows} != {0.0}


# -- analyses without a decoder ---------------------------------------------------------------------------------------


def test_total_correlation_of_what_is_known() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    tied = torch.stack([x[:, 0], 0.8 * x[:, 0] + 0.6 * x[:, 1]], 1)
    exact = -0.5 * math.log(1 - 0.8**2)
    assert _density.gaussian_total_correlation(tied) == pytest.approx(exact, abs=0.03)
    assert abs(_density.gaussian_total_correlation(x)) < 0.01
    assert _density.total_correlation(tied, 0.1) > _density.total_correlation(x, 0.1) + 0.2
    assert _density.gaussian_total_correlation(torch.cat([x, torch.zeros(4000, 1)], 1)) < 0.01, "a dead dimension"
    few = _density.gaussian_total_correlation(x[:5].repeat(1, 20) + 1e-3 * torch.randn(5, 40, generator=rng))
    assert math.isfinite(few)
    apart = 100 * torch.arange(50.0, dtype=torch.float64)[:, None].expand(-1, 3)
    alone = 1.5 * math.log(2 * math.pi * 0.01) + math.log(50)  # each sample by itself
    assert _density.entropy(apart, 0.1) == pytest.approx(alone)


def test_total_correlation_of_frames(heard: CheckpointSubject) -> None:
    cfg = {"parts": ["module0"], "dimensions": [2, 8, 50], "repeats": 2, "standardise": True}
    found = evaluate(heard, "total_correlation", cfg)
    assert found.metrics["module0/val/samples"] == 200
    assert found.metrics["module0/val/tc_8"] > found.metrics["module0/val/tc_2"]
    assert {name.split("/")[2] for name in found.metrics} == {"tc_2", "tc_8", "gaussian_2", "gaussian_8", "samples"}
    assert evaluate(heard, "total_correlation", cfg).metrics == found.metrics


def test_a_normal_space_and_one_of_classes(heard: CheckpointSubject) -> None:
    rng = torch.Generator().manual_seed(0)
    normal = latent_space.off_normal(torch.randn(20_000, 5, generator=rng))
    assert normal["mean_off"] < 0.02 and normal["std_off"] < 0.02
    assert latent_space.off_normal(torch.full((9, 3), 2.0)) == {"mean_off": 2.0, "std_off": 1.0}
    labels = torch.arange(60) % 3
    random = torch.randn(60, 4, generator=rng)
    parted = random.clone()
    parted[:, 2] += 50 * labels
    right, wrong = (latent_space.together(z, labels, 5) for z in (parted, random))
    assert right["purity"] == 1 and right["silhouette"] > 0.9
    assert wrong["purity"] == pytest.approx(wrong["chance"], abs=0.12) and wrong["chance"] == pytest.approx(19 / 59)
    assert latent_space.telling(parted, labels)[0] == 2
    assert latent_space.together(random, torch.zeros(60, dtype=torch.long), 5)["silhouette"] == 0
    found = evaluate(heard, "latent_space", {"parts": ["module1"], "factor": "pitch", "raw": True})
    saved = load_file(found.artifacts["encodings_val.safetensors"])
    torch.testing.assert_close(saved["parts.module1"], heard.features(Request("val")).parts["module1"])
    assert saved["labels.pitch"].shape == (40,)
    for name in ("tsne_module1", "histograms_module1", "scatter_module1", "activations_module1", "tsne_raw"):
        assert Image.open(found.artifacts[f"{name}.png"]).width > 300


def test_weights_of_a_probe_that_needs_two_dimensions(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    weight = 0.01 * torch.randn(6, 3, generator=rng)
    weight[4], weight[1] = torch.tensor([5.0, -5, 0]), torch.tensor([0.0, 3, -3])
    scale = torch.tensor([1.0, 2, 1, 1, 10, 1])
    probe = Linear(weight, torch.zeros(3), torch.zeros(6), scale, 0.1)
    path = probe.save(tmp_path / "probe_all.safetensors")
    back = probe_weights.read(path, "all", 6)
    w = probe_weights._of(back, "standardised")
    assert probe_weights.important(w).tolist()[:2] == [4, 1]
    assert probe_weights.important(probe_weights._of(back, "raw")).tolist()[:2] == [1, 4], "of features as they are"
    assert probe_weights.measure(w)["near_zero"] == pytest.approx(14 / 18)
    same = probe_weights.rescaled(torch.ones(2, 3), "class")
    assert not bool(same.any())
    plane = probe_weights.plane(back, torch.tensor([4, 1]))
    x = torch.zeros(1, 6, dtype=torch.float64)
    x[0, 4], x[0, 1] = 3.0, -3.0
    torch.testing.assert_close(plane[0, -1], back(x).softmax(1)[0])
    uniform, single = torch.linspace(-1, 1, 5000), torch.zeros(1)
    assert float(_density.curve(uniform, single, 0.05)) == pytest.approx(0.5, rel=0.02)
    with pytest.raises(ConfigError, match="has 6 weights a class, the part 5 dimensions"):
        probe_weights.read(path, "all", 5)
    with pytest.raises(ConfigError, match="reads the probe of 'all'; add it to the parts of linear"):
        probe_weights.read(None, "all", 5)


# -- what is refused before anything runs ---------------------------------------------------------------------------


def check(module: ModuleType, options: Mapping[str, Any], **beside: Any) -> list[str]:
    return base.check(module, module.Config(**options), WORDS, WIDTHS, FRAMES, beside)


@pytest.mark.parametrize(
    ("module", "options", "beside", "message"),
    [
        (latent_decoder, {}, {}, None),
        (latent_decoder, {"parts": ("modul0",)}, {}, "no part 'modul0'; did you mean 'module0'"),
        (latent_decoder, {"decoder": "module1"}, {}, "has 64 frames of 10,240 samples; 'module1' makes 5,040"),
        (latent_decoder, {"loss": "mel", "n_fft": 32_768}, {}, "32768 needs more than 16384 samples, there are 10240"),
        (latent_decoder, {"masked": (6,)}, {}, "masked: 'all' has 6 dimensions, none is 6"),
        (interpolation_score, {}, {"latent_decoder": latent_decoder.Config()}, None),
        (interpolation_score, {"parts": ("module0",)}, {"latent_decoder": latent_decoder.Config(parts=("*",))}, None),
        (
            interpolation_score, {"parts": ("module0",)}, {"latent_decoder": latent_decoder.Config()},
            "reads the decoder of 'module0'; add it to the parts of latent_decoder",
        ),
        (
            latent_traversal, {"parts": ("*",)}, {"latent_decoder": latent_decoder.Config()},
            "reads decoders of every part; add it to the parts of latent_decoder",
        ),
        (latent_space, {"factor": "vowl"}, {}, "no label 'vowl'; did you mean 'vowel'"),
        (latent_space, {"factor": "pitch"}, {}, "'pitch' is continuous; classes of items are needed"),
        (latent_space, {"factor": "phone"}, {}, "'phone' is given per frame; classes of items are needed"),
        (latent_space, {"scatter": (0, 1, 6)}, {}, "scatter: name three dimensions below the 6 of 'all'"),
        (probe_weights, {}, {"linear": linear.Config(probe="mlp")}, "has no weights of dimensions; choose logistic"),
        (probe_weights, {}, {"linear": linear.Config(pool="flat")}, "weights of all frames side by side"),
        (probe_weights, {"parts": ("module0",)}, {"linear": linear.Config()}, "reads the probe of 'module0'; add it"),
        (total_correlation, {"parts": ("module0",)}, {}, None),
    ],
)  # fmt: skip
def test_what_cannot_apply_is_refused_in_one_line(
    module: ModuleType, options: dict[str, Any], beside: dict[str, Any], message: str | None
) -> None:
    with pytest.raises(ConfigError, match=message) if message else nullcontext() as refused:
        check(module, options, **beside)
    if message:
        text = str(refused.value)  # type: ignore[union-attr]
        assert text.startswith(f"{module.__name__.rsplit('.', 1)[1]}: ") and "\n" not in text


def test_what_images_and_methods_without_frames_are_told() -> None:
    images = Spec(shape=(3, 64, 64), labels={"class": 3})
    places = {"frames": ("all=7x7",)}
    for options, message in (({"loss": "mel"}, "'mel' is of sound"), ({"decoder": "module0"}, "'module0' is of sound")):
        with pytest.raises(ConfigError, match=message):
            base.check(latent_decoder, latent_decoder.Config(**options), images, {"all": 8}, places)  # type: ignore[arg-type]
    assert len(base.check(latent_decoder, latent_decoder.Config(), images, {"all": 8}, places)) == 10
    with pytest.raises(ConfigError, match="needs 'frames' capability"):
        base.check(latent_decoder, latent_decoder.Config(), images, {"all": 8}, {})
    for wrong, message in (
        ({"decoder": "module_0"}, "no such decoder; did you mean 'module0'"),
        ({"loss": 7}, "loss: Input should be 'mse', 'spectral'"),
        ({"data": {"evaluate": "words"}}, "data: write {name: DATA, ...}, such as {name: deboer, evaluate: words}"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)) as refused:
            parse(latent_decoder.Config, wrong, "")
        assert "\n" not in str(refused.value)

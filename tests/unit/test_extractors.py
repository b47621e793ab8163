"""Published encoders: their sizes, files of every layout, and that they say what another implementation says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchaudio.functional import resample
from torchaudio.models import wav2vec2_model

from datasets.base import Spec
from datasets.config import ConfigError, parse
from trainables.core.load import load
from trainables.core.method import Method, has
from trainables.core.original import read_original, take_over
from trainables.core.presets import expand
from trainables.core.state import CheckpointError
from trainables.extractors import clap, pesto
from trainables.extractors.base import PACKAGES
from trainables.extractors.names import ALIASES, EXTRACTORS, published
from trainables.extractors.whisper import sines

# dimensions, and millions of parameters as published
SIZES = {
    "ResNet18_ImageNet": (512, 11.18), "ResNet34_ImageNet": (512, 21.28), "ResNet50_ImageNet": (2048, 23.51),
    "ResNet101_ImageNet": (2048, 42.50), "ViT_b_16_ImageNet": (768, 85.80), "ViT_b_32_ImageNet": (768, 87.46),
    "ViT_l_16_ImageNet": (1024, 303.30), "ViT_l_32_ImageNet": (1024, 305.51), "DINO": (2048, 23.51),
    "DINOv2_small": (384, 22.06), "DINOv2_base": (768, 86.58), "DINOv2_large": (1024, 304.37),
    "SimCLR": (2048, 23.51), "ViT_MAE": (768, 85.80), "CLIP": (512, 87.85), "IJEPA": (1280, 630.76),
    "Wav2Vec2": (768, 94.37), "HuBERT": (768, 94.37), "UniSpeech": (768, 94.37), "MERT": (768, 94.37),
    "Whisper": (768, 88.16), "XVector": (512, 4.21), "CLAP": (512, 68.61), "AudioMAE": (768, 85.65),
    "MDuo": (3840, 85.40), "VGGishMTAT": (512, 3.69), "MULE_1728": (1728, 53.44), "MULE_512": (512, 60.30),
    "Music2Latent_8192": (8192, 16.26), "Music2Latent_64": (64, 16.26), "PESTO": (384, 0.03),
}  # fmt: skip
NEEDS = {"CLAP": "transformers", "Music2Latent_8192": "music2latent", "Music2Latent_64": "music2latent"}
SMALL: dict[str, Any] = {"size": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2, "hidden": 24}
IMAGES = Spec((3, 32, 32), labels={"class": 2})


def made(name: str, spec: Spec, **options: Any) -> Method:
    """An extractor of a published name, or a module, with some other options."""
    found = published(name)
    module, preset = (name, options) if found is None else (found.module, {**found.options, **options})
    method_class = load("method", module if "." in module else f"trainables.extractors.{module}").METHOD
    torch.manual_seed(0)
    method: Method = method_class(parse(method_class.Config, preset, "method"), spec)
    return method.eval().requires_grad_(False)


def input_of(name: str) -> Spec:
    one = EXTRACTORS[name]
    if one.hears is None:
        return Spec((3, 224, 224))
    seconds, rate = one.hears
    return Spec((1, round(seconds * rate)), rate=rate)


def noisy(net: nn.Module) -> nn.Module:
    """Weights that no initialisation has: biases, norms and their statistics are not what is easily mistaken."""
    torch.manual_seed(1)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value) if "var" in name else 0.1 * torch.randn_like(value))
    return net.eval().requires_grad_(False)


def same(method: Method, given: dict[str, Tensor], x: Tensor, wanted: Tensor) -> None:
    """A file's weights are taken over, all of them, and then give what is wanted."""
    before = method.encode(x)["all"]
    take_over(method, given, Path("file"))
    found = method.encode(x)["all"]
    assert found.shape == (len(x), method.parts["all"]) and not torch.allclose(before, found, atol=1e-3)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    if has(method, "frames"):
        frames = method.frames(x)["all"]  # type: ignore[operator]
        places = torch.Size(method.places["all"])  # type: ignore[index]
        assert frames.shape == (len(x), places.numel(), method.parts["all"])
        torch.testing.assert_close(frames.mean(1), found, atol=1e-5, rtol=1e-4)


def test_every_name_of_the_list_is_there() -> None:
    assert SIZES.keys() == EXTRACTORS.keys() and len(EXTRACTORS) == 31  # F1 to F32 with an alias each for F9 and F13
    assert all(expand(name, {}) == expand(target, {}) for name, target in ALIASES.items())
    assert expand("DINO", {"net": "resnet18"}) == ("trainables.extractors.resnet", {"net": "resnet18"})
    assert expand("SimCLR", {})[0] == "simclr"  # as a method it is the one that is trained
    assert {"ViT_ImageNet", "DINOv2"} <= ALIASES.keys()


@pytest.mark.parametrize("name", EXTRACTORS)
def test_sizes_are_the_published_ones(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    dims, millions = SIZES[name]
    with torch.device("meta"):
        method = made(name, input_of(name))
    assert method.parts == {"all": dims}
    assert sum(p.numel() for p in method.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    with pytest.raises(ConfigError, match="is not trained; evaluate it with `sweep eval`"):
        type(method).check(method.cfg, input_of(name))


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_package_that_is_not_installed_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, NEEDS[name], "no_such_package")
    with pytest.raises(ConfigError, match=f"needs the package {NEEDS[name]}"):
        made(name, input_of(name))


@pytest.mark.parametrize("net", ["resnet18", "resnet50"])
def test_a_resnet_is_torchvisions(net: str) -> None:
    theirs = noisy(getattr(torchvision.models, net)(weights=None))
    given = dict(theirs.state_dict())
    theirs.fc = nn.Identity()
    x = torch.randn(3, 3, 64, 64)
    spec = Spec((3, 64, 64))
    same(made("resnet", spec, net=net), given, x, theirs(x))
    counted = {name: value for name, value in given.items() if not name.endswith("num_batches_tracked")}
    same(made("resnet", spec, net=net), counted, x, theirs(x))  # as files of early releases
    rest = {"projector.0.weight": torch.zeros(2, 2)}
    encoder = {f"encoder.{name}": value for name, value in given.items() if not name.startswith("fc")}
    same(made("resnet", spec, net=net), {**encoder, **rest}, x, theirs(x))  # SimCLR's
    backbone = {f"backbone.{name}": value for name, value in given.items() if not name.startswith("fc")}
    same(made("resnet", spec, net=net), {**backbone, "head.mlp.0.weight": torch.zeros(2)}, x, theirs(x))  # DINO's


def test_a_vit_is_torchvisions() -> None:
    theirs = noisy(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=4))
    given = dict(theirs.state_dict())
    theirs.heads = nn.Identity()
    x = torch.randn(3, 3, 32, 32)
    same(made("vit", IMAGES, **SMALL), given, x, theirs(x))
    old = {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for name, v in given.items()}
    same(made("vit", IMAGES, **SMALL), old, x, theirs(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.ln.bias"), "lacks 1 of the method's .* such as 'net.norm.bias'"),
        (lambda w: w.pop("encoder.layers.encoder_layer_1.self_attention.in_proj_bias"), "lacks 1 of the method's"),
        (lambda w: w.update({"encoder.other": torch.zeros(1)}), "'net.encoder.other' has no place in this method"),
        (lambda w: w.update({"class_token": torch.zeros(1, 1, 8)}), "are its options those it had?"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_one_line(change: Any, message: str) -> None:
    given = dict(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=4).state_dict())
    change(given)
    with pytest.raises(CheckpointError, match=message):
        take_over(made("vit", IMAGES, **SMALL), given, Path("file"))


@pytest.mark.parametrize(
    ("name", "options", "spec", "message"),
    [
        ("vit", SMALL, Spec((3, 30, 32)), "views.size: 30 x 32 should be a multiple of the patch of 8"),
        ("vit", {**SMALL, "class_token": False}, IMAGES, "there is no class token"),
        ("vit", {**SMALL, "heads": 3}, IMAGES, "method.heads: should divide"),
        ("resnet", {}, Spec((1, 16_000), rate=16_000), "takes images of 3 channels"),
        ("whisper", {}, Spec((3, 32, 32)), "takes sound of one channel"),
        ("whisper", {}, Spec((1, 16_000 * 31), rate=16_000), "hears 30 s"),
        ("pesto", {}, Spec((1, 22_050), rate=22_050), "needs 32769 samples at 22050 Hz"),
        ("short_chunk", {}, Spec((1, 8_000), rate=16_000), "needs 32768 samples"),
    ],
)
def test_what_cannot_be_shown_is_one_line(name: str, options: Any, spec: Spec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(name, spec, **options)


def test_safetensors_are_read_and_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"module.a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(read_original(tmp_path / "a.safetensors")["a"], torch.ones(2))
    (tmp_path / "b.safetensors").write_bytes(b"no weights")
    for name, message in (("b", "is no file of safetensors"), ("c", "no such file")):
        with pytest.raises(CheckpointError, match=message):
            read_original(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_that_was_cut_short_is_one_line(tmp_path: Path, suffix: str) -> None:
    """At any place, as by a download that broke off."""
    from safetensors.torch import save_file

    content, path = {f"layer{number}.weight": torch.randn(40, 40) for number in range(8)}, tmp_path / f"a.{suffix}"
    (torch.save if suffix == "pth" else save_file)(content, path)  # type: ignore[operator]
    whole = path.read_bytes()
    for length in (0, 1, 4, 100, 3000, 30_000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=re.escape(f"{path}: ")) as said:
            read_original(path)
        assert "\n" not in str(said.value)


def test_the_holder_that_evaluations_are_of(tmp_path: Path) -> None:
    """DINO's teacher, I-JEPA's target encoder, and not what they are beside."""
    for holder, beside in (("teacher", "student"), ("target_encoder", "encoder")):
        content = {beside: {"a": torch.zeros(1)}, holder: {"module.a": torch.ones(1)}, "epoch": 3}
        torch.save(content, tmp_path / "a.pth")
        assert torch.equal(read_original(tmp_path / "a.pth")["a"], torch.ones(1))


def test_wav2vec2_is_torchaudios() -> None:
    """Its own files, with the head of a fine-tuning and the names that weight norm had before torch 2."""
    layers = [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2]
    theirs = noisy(wav2vec2_model("group_norm", layers, False, 32, 0, 128, 16, 2, 2, 0, 24, 0, 0, False, 0, 29))
    given = dict(theirs.state_dict())
    old = {name.replace("parametrizations.weight.original0", "weight_g"): value for name, value in given.items()}
    old = {name.replace("parametrizations.weight.original1", "weight_v"): value for name, value in old.items()}
    assert old.keys() != given.keys() and "aux.weight" in given
    x = 0.1 * torch.randn(2, 1, 4000)
    wanted = theirs.extract_features(x[:, 0])[0][-1].mean(1)  # type: ignore[operator]
    options = {"channels": 8, "width": 32, "depth": 2, "heads": 2, "hidden": 24}
    for one in (given, old):
        same(made("Wav2Vec2", Spec((1, 4000), rate=16_000), **options), one, x, wanted)


def test_positions_of_whisper_are_sines() -> None:
    found = sines(1500, 768)
    assert found.shape == (1500, 768) and found[0].unique().tolist() == [0.0, 1.0]
    assert found[7, 0] == pytest.approx(math.sin(7)) and found[7, 384] == pytest.approx(math.cos(7))
    assert found[1000, 383] == pytest.approx(math.sin(0.1))


@pytest.mark.parametrize("name", ["HuBERT", "MERT", "VGGishMTAT", "MULE_512", "MDuo", "AudioMAE", "PESTO", "XVector"])
def test_sound_of_another_rate_is_resampled(name: str) -> None:
    """To the network's own; features do not depend on the batch an item is in."""
    small: dict[str, dict[str, Any]] = {
        "wav2vec2": {"channels": 8, "width": 32, "depth": 1, "heads": 2, "hidden": 8},
        "m2d": {"width": 16, "depth": 1, "heads": 2, "hidden": 8}, "short_chunk": {"channels": 4},
        "audiomae": {"width": 16, "depth": 1, "heads": 2, "hidden": 8},
        "mule": {"slow": (16, 16, 16, 16), "fast": (8, 8, 8, 8), "group": 4, "fast_group": 2},
    }  # fmt: skip
    one = EXTRACTORS[name]
    assert one.hears is not None
    rate, x = one.hears[1], 0.3 * torch.randn(2, 1, 3 * 32_000)
    method = made(name, Spec((1, 3 * 32_000), rate=32_000), **small.get(one.family, {}))
    native = made(name, Spec((1, 3 * rate), rate=rate), **small.get(one.family, {}))
    found = method.encode(x)["all"]
    assert found.shape == (2, method.parts["all"]) and bool(found.isfinite().all()) and not torch.equal(*found)
    assert torch.equal(found, native.encode(resample(x, 32_000, rate))["all"])
    torch.testing.assert_close(method.encode(x[:1])["all"], found[:1], atol=1e-5, rtol=1e-3)
    if has(method, "frames"):
        assert method.frames(x)["all"].shape[1] == method.places["all"][0]  # type: ignore[index, operator]


def test_patches_of_m2d_need_not_be_square() -> None:
    """Of four frames each: as many stacked bands at four times as many places, also where a chunk is cut short."""
    spec = Spec((1, 16_000 * 2), rate=16_000)
    small = {"bands": 16, "chunk": 80, "patch": 8, "width": 16, "depth": 1, "heads": 2, "hidden": 8}
    for step, places in ((8, 26), (2, 101)):
        method = made("MDuo", spec, **small, step=step)
        found = method.frames(0.3 * torch.randn(2, *spec.shape))["all"]  # type: ignore[operator]
        assert found.shape == (2, places, 32) and method.places["all"] == (places,)  # type: ignore[index]
    with pytest.raises(ConfigError, match="patch: 8 and 7 should divide bands 16 and chunk 80"):
        made("MDuo", spec, **small, step=7)


def test_other_encoders_of_pesto() -> None:
    """Without a further convolution, or with ones that stand alone."""
    torch.manual_seed(0)
    x = torch.randn(5, 1, 24)
    plain = pesto.Encoder(24, (6, 5, 2), 7, 20, further=0)
    assert not len(plain.prefilt_layers) and plain(x).sum(1).tolist() == pytest.approx([1.0] * 5)
    added, alone = (pesto.Encoder(24, (6, 5, 2), 7, 20, 2, residual) for residual in (True, False))
    alone.load_state_dict(added.state_dict())
    for encoder in (added, alone):
        for layer in encoder.prefilt_layers:
            torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    plain.load_state_dict({key: v for key, v in added.state_dict().items() if "prefilt" not in key})
    torch.testing.assert_close(added(x), plain(x))
    assert not torch.allclose(alone(x), plain(x), atol=1e-4) and torch.equal(*alone(x)[:2])


def test_clap_hears_what_its_library_does() -> None:
    transformers = pytest.importorskip("transformers")
    options = {"width": 16, "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "features": 12}
    method = made("CLAP", Spec((1, 48_000 * 3), rate=48_000), **options)
    x = 0.1 * torch.randn(2, 1, 48_000 * 3)
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    heard = extractor(list(x[:, 0].numpy()), sampling_rate=48_000, return_tensors="pt")["input_features"]
    torch.testing.assert_close(clap.bands(x[:, 0]), heard.float(), atol=1e-3, rtol=0)
    theirs = noisy(transformers.ClapAudioModelWithProjection(method.net.config))  # type: ignore[union-attr]
    given = {**theirs.state_dict(), "text_model.x": torch.zeros(1)}
    same(method, given, x, theirs(input_features=heard.float()).audio_embeds)


@pytest.mark.parametrize("features", [True, False])
def test_music2latent_is_its_packages(features: bool) -> None:
    pytest.importorskip("music2latent")
    from music2latent.inference import encode_audio_inference

    method = made("Music2Latent_8192", Spec((1, 30_000), rate=44_100), features=features)
    noisy(method.encoder)  # type: ignore[arg-type]
    x = 0.1 * torch.randn(2, 1, 30_000)

    class Holder:
        gen = method

    alone = [encode_audio_inference(one, Holder, 44_100, 1, "cpu", extract_features=features) for one in x]
    torch.testing.assert_close(method.frames(x)["all"].transpose(1, 2), torch.cat(alone), atol=1e-3, rtol=1e-3)  # type: ignore[operator]
    given = {**method.state_dict(), "decoder.x": torch.zeros(1)}
    same(
        made("Music2Latent_8192", Spec((1, 30_000), rate=44_100), features=features), given, x, method.encode(x)["all"]
    )

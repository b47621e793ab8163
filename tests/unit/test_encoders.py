"""`sweep eval` of encoders by their names: published weights, untrained baselines, and what is wrong in one line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from sweep.cli import run_command
from trainables.core.state import load_method, load_tensors

DIGITS = ["--data", "digits", "--set", "data.limit=40", "--set", "views.size=32"]
HEARD = ["depth=1", "width=32", "channels=8", "heads=2", "hidden=8"]
TONES = ["--data", "made.tones", "--set", "data.samples=6000", "--set", "data.tones=1",
         *(word for option in HEARD for word in ("--set", f"method.{option}"))]  # fmt: skip
Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Lines of a command that succeeds, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def do(*arguments: str) -> list[str]:
        assert run_command(["eval", *arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out.splitlines()

    return do


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that fails."""
    monkeypatch.chdir(tmp_path)

    def do(*arguments: str) -> str:
        assert run_command(["eval", *arguments]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and not (tmp_path / "runs").exists(), said.err
        return said.err

    return do


def weights(folder: Path, seed: int = 0, **change: Any) -> Path:
    torch.manual_seed(seed)
    content = {**torchvision.models.resnet18(weights=None).state_dict(), **change}
    torch.save(content, folder / "resnet.pth")
    return folder / "resnet.pth"


def results(folder: str = "") -> dict[str, Any]:
    (found,) = Path(folder or "runs/extractors").rglob("results.json")
    content: dict[str, Any] = json.loads(found.read_text())
    return content


def folders() -> list[str]:
    return sorted(path.name for path in Path("runs/extractors").iterdir())


def test_published_weights(run: Run, tmp_path: Path) -> None:
    file = weights(tmp_path)
    lines = run("ResNet18_ImageNet", "knn", "collapse", *DIGITS, "--weights", str(file))
    assert lines[0] == f"ResNet18_ImageNet: items (3, 32, 32), weights: {file}"
    found = results()
    assert 0.3 < found["metrics"]["knn/all/val/top1"] <= 1 and "collapse/all/val/effective_rank" in found["metrics"]
    assert (found["encoder"], found["weights"]) == ("ResNet18_ImageNet", str(file))
    (checkpoint,) = Path("runs/extractors").glob("*/encoder-*")
    method, resolved, meta = load_method(checkpoint)
    assert resolved.views.normalize == "imagenet" and resolved.views.center_crop and meta.spec.shape == (3, 32, 32)
    given = torch.load(file, weights_only=True)
    assert torch.equal(load_tensors(checkpoint)["net.layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])
    theirs = torchvision.models.resnet18(weights=None).eval()
    theirs.load_state_dict(given)
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(method.encode(x)["all"], theirs(x).detach(), atol=1e-5, rtol=1e-4)


def test_a_profile_of_one_checkpoint_has_its_picture(run: Run) -> None:
    five = ["informativeness", "parameter_equivariance", "feature_equivariance", "invariance", "disentanglement"]
    moved = [word for name in five[1:4] for word in ("--set", f"{name}.transforms=[brightness_shift@sane]")]
    brief = [word for name in five[:3] for word in ("--set", f"{name}.preset=small", "--set", f"{name}.epochs=1")]
    run("ResNet18_ImageNet", "profile", *reversed(five), *DIGITS, *moved, *brief, "--untrained")
    found = results()["metrics"]
    assert {name for name in found if name.startswith("profile/all/test/")} == {
        f"profile/all/test/{axis}" for axis in (*five, "invariance_chance")
    }
    (picture,) = Path("runs/extractors").glob("*/profile/profile_test.png")
    assert picture.stat().st_size > 10_000
    folders_of = {path.parent.name for path in Path("runs/extractors").glob("*/*/*.csv")}
    assert folders_of == {*five, "profile"}, "each has a folder of its own"


def test_content_and_options_are_the_identity(run: Run, tmp_path: Path) -> None:
    """The same again computes nothing anew; other weights, data or views are other features in another folder."""
    file = weights(tmp_path)
    arguments = ["ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(file)]
    first = run(*arguments)
    made = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.suffix in (".h5", ".safetensors")}
    assert len(made) == 4  # three splits and the encoder
    assert run(*arguments) == first
    moved = file.rename(tmp_path / "other.pth")
    run("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(moved))
    assert {path: path.stat().st_mtime_ns for path in made} == made and len(folders()) == 1
    run("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(weights(tmp_path, seed=1)))
    run("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(moved), "--set", "views.center_crop=false")
    assert len(folders()) == 3
    assert len({path.name for path in Path("runs").rglob("*.h5")}) == 9


def test_weights_lie_where_they_are_looked_for(run: Run, tmp_path: Path) -> None:
    Path("models/pretrained").mkdir(parents=True)
    weights(tmp_path).rename("models/pretrained/resnet18_imagenet.pt")
    assert "weights: models/pretrained/resnet18_imagenet.pt" in run("ResNet18_ImageNet", "collapse", *DIGITS)[0]
    Path("elsewhere").mkdir()
    Path("models/pretrained/resnet18_imagenet.pt").rename("elsewhere/resnet18_imagenet.pth")
    assert "elsewhere" in run("ResNet18_ImageNet", "collapse", *DIGITS, "--weights", "elsewhere")[0]


def test_an_untrained_encoder_follows_from_its_seed(run: Run) -> None:
    tensors = []
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        torch.manual_seed(len(tensors))  # of no matter
        lines = run("ResNet18_ImageNet", "collapse", *DIGITS, "--untrained", "--seed", seed, "--out", place)
        assert f"weights: untrained, seed {seed}" in lines[0]
        (checkpoint,) = Path(place).glob("encoder-*")
        tensors.append(load_tensors(checkpoint)["net.conv1.weight"])
    assert torch.equal(tensors[0], tensors[1]) and not torch.equal(tensors[0], tensors[2])
    assert results("a") == results("b") != results("c")


def test_simclr_is_the_published_encoder_here(run: Run) -> None:
    small = ["--set", "method.net=resnet18"]
    lines = run("SimCLR", "collapse", "--data", "digits", "--set", "data.limit=40", *small, "--set", "views.size=32",
                "--untrained")  # fmt: skip
    assert lines[0] == "SimCLR: items (3, 32, 32), weights: untrained, seed 0"
    (checkpoint,) = Path("runs/extractors").glob("*/encoder-*")
    assert load_method(checkpoint)[1].method_name == "trainables.extractors.resnet"


def test_sound_and_its_notes(run: Run) -> None:
    lines = run("HuBERT", "linear", *TONES, "--untrained", "--set", "factor=pitch")
    assert "note: items are of 0.38 s; evaluations of HuBERT are published of 10 s" in lines
    assert results()["metrics"]["linear/all/val/top1"] > 0.5  # three tones, by a random network
    assert "note: items are resampled from 16000 to 24000 Hz" in run("MERT", "collapse", *TONES, "--untrained")


def test_tracks_are_cut_as_the_encoder_hears(run: Run) -> None:
    small = ["--set", "method.channels=2"]
    lines = run("VGGishMTAT", "knn", "--data", "made.tracks", *small, "--untrained")
    assert lines[0].startswith("VGGishMTAT: items (1, 59040)") and not any("note" in line for line in lines)
    assert results()["metrics"]["knn/all/val/top1"] == 1.0  # of a low and a high tone, by a random network
    lines = run("VGGishMTAT", "collapse", "--data", "made.tracks", *small, "--untrained", "--set", "data.seconds=2.5")
    assert lines[0].startswith("VGGishMTAT: items (1, 40000)")
    assert lines[1] == "note: items are of 2.50 s; evaluations of VGGishMTAT are published of 3.69 s"


def test_images_that_are_cut_already_stay_as_they_are(run: Run) -> None:
    sizes = {"whole": ("data.size=32", True), "cut": ("data.size=36", False)}
    for place, (size, same) in sizes.items():
        run("ResNet18_ImageNet", "collapse", *DIGITS, "--set", size, "--untrained", "--out", place)
        (checkpoint,) = Path(place).glob("encoder-*")
        assert load_method(checkpoint)[1].views.center_crop is not same


def test_any_method_untrained(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "method.encoder={name: narrow_cifar10_resnet8}", "--set", "views.tx=[sca, rot]"]
    lines = run(
        "duet", "knn", "--data", "digits", "--set", "data.limit=40", *small, "--untrained", "--set", "parts=['*']"
    )
    assert "duet: items (1, 16, 16), weights: untrained, seed 0" in lines[0]
    assert {"knn/all/val/top1", "knn/content/val/top1"} <= results()["metrics"].keys()
    (checkpoint,) = Path("runs/extractors").glob("*/encoder-*")
    lines = run(str(checkpoint), "knn", "--untrained", "--seed", "3")
    folder = checkpoint.parent / f"{checkpoint.name}-untrained-3"
    assert lines[0] == f"{checkpoint}: duet with its options, weights: untrained, seed 3"
    assert results(str(folder))["weights"] == "untrained, seed 3"
    assert run_command(["eval", str(checkpoint), "knn", "--data", "cifar"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is a checkpoint, which is judged on its own data" in said
    one, other = load_tensors(checkpoint), load_tensors(folder / "encoder")
    assert one.keys() == other.keys() and not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["ResNet18_ImageNt", "knn", *DIGITS],
            "no checkpoint (no meta.json in it) and no encoder's name; did you mean",
        ),
        (["ResNet18_ImageNet", "knn"], "name what it is shown, --data NAME"),
        (["ResNet18_ImageNet", "profile", *DIGITS], "profile: needs the result of 'informativeness'; evaluate it in"),
        (["DINO", "knn", *DIGITS], "no weights in models/pretrained/dino{.safetensors,.pt,.pth,.ckpt}"),
        (["DINO", "knn", *DIGITS], "give --weights FILE (facebookresearch/dino dino_resnet50_pretrain.pth"),
        (["DINO", "knn", *DIGITS, "--weights", "none.pth"], "none.pth: no such file"),
        (["DINO", "knn", *DIGITS, "--weights", "a.pth", "--untrained"], "has no weights; leave --weights out"),
        (["./encoder", "knn", "--seed", "1"], "--seed 1: is of drawn weights; add --untrained"),
        (["DINO", "knn", "--data", "digit", "--untrained"], "no such dataset; did you mean 'digits'?"),
        (["DINO", "knn", *DIGITS, "--untrained", "--set", "method.nett=resnet18"], "method.nett: no such option"),
        (["HuBERT", "knn", *DIGITS, "--untrained"], "this encoder takes sound of one channel (1, T)"),
        (["ViT_b_16", "knn", *DIGITS, "--untrained", "--set", "views.size=40"], "should be a multiple of the patch"),
        (["ResNet18_ImageNet", "nothing", *DIGITS, "--untrained"], "no such evaluation"),
        (["ResNet18_ImageNet", "knn", *DIGITS, "--untrained", "--set", "knn.j=3"], "knn.j: no such option"),
        (["./encoder", "knn"], "encoder: is no checkpoint"),
        (["ResNet18_ImageNet", "knn", *DIGITS, "--untrained", "--device", "tpu"], "--device tpu: this machine has cpu"),
        (["./encoder", "knn", "--weights", "a.pth"], "encoder is a checkpoint, which has its own"),
    ],
)
def test_what_is_wrong_is_one_line(fails: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in fails(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer5.conv1.weight": torch.zeros(1)}, "'layer5.conv1.weight' has no place in this method"),
        (
            {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            "is (64, 1, 7, 7) and the method's net.conv1.weight (64, 3, 7, 7)",
        ),
    ],
)
def test_weights_that_do_not_fit(
    fails: Callable[..., str], tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    file = weights(tmp_path, **change)
    assert message in fails("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(file))
    torch.save({k: v for k, v in torch.load(file, weights_only=True).items() if "bn1" not in k}, file)
    if "conv1.weight" not in change:
        torch.save({k: v for k, v in torch.load(file, weights_only=True).items() if k not in change}, file)
        assert "lacks" in fails("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(file))


class Code:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/sweep-extractor-was-here"),))


def test_nothing_that_a_file_holds_is_run(fails: Callable[..., str], tmp_path: Path) -> None:
    file = weights(tmp_path, code=Code())
    assert "and that is not run" in fails("ResNet18_ImageNet", "knn", *DIGITS, "--weights", str(file))
    assert not Path("/tmp/sweep-extractor-was-here").exists()


def test_settings_beside_the_weights_are_read(run: Run, tmp_path: Path) -> None:
    """As many training scripts write them, in argparse's class."""
    file = weights(tmp_path)
    torch.save({"model": torch.load(file, weights_only=True), "args": argparse.Namespace(lr=0.1, epochs=3)}, file)
    assert "ResNet18" in run("ResNet18_ImageNet", "collapse", *DIGITS, "--weights", str(file))[0]


def test_import_has_the_views_of_an_extractor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "--method",
        "ResNet18_ImageNet",
        "--data",
        "digits",
        "--set",
        "data.channels=3",
        "--set",
        "views.size=32",
    ]
    assert run_command(["import", str(weights(tmp_path)), "encoder", *options]) == 0, capsys.readouterr().err
    assert "as published: views.normalize=imagenet" in capsys.readouterr().out
    assert load_method(Path("encoder"))[1].views.center_crop


def test_the_list_imports_no_torch() -> None:
    code = (
        "import sys; from sweep.listing import listing; text = '\\n'.join(listing('extractors'));"
        "assert 'torch' not in sys.modules; print(text)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("extractors\n") and "  DINOv2_base             DINOv2 ViT-B/14" in said


def test_the_long_list_has_weights_and_options() -> None:
    from sweep.listing import listing

    text = "\n".join(listing("extractors", verbose=True))
    assert "      weights: timm vit_base_patch16_224 (Apache-2.0)" in text and "      also called DINOv2" in text
    assert "  trainables.extractors.mule\n      depths" in text

"""ImageNet in both layouts: splits, subsets, the table of the validation images, decoding, and what is wrong."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from opened import every, one_line, rng, whole
from PIL import Image

from datasets import imagenet
from datasets.base import SPLITS, in_order
from datasets.config import ConfigError, parse
from trainables.core.config import resolve

SMALL: dict[str, Any] = {"resize": 20, "size": 16, "val_fraction": 0.2}
CLASSES = ("n01", "n02", "n03")


pytestmark = pytest.mark.usefixtures("cache")


def photograph(path: Path, seed: int, colour: int, wide: int = 36) -> None:
    """All of one brightness, with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 20, (24, wide, 3))
    Image.fromarray((noise + colour).astype(np.uint8)).save(path, "JPEG" if path.suffix != ".png" else "PNG")


def write_official(root: Path, train: int = 10, val: int = 6) -> list[tuple[str, str]]:
    """The brightness of an image is 50 times its class, and 50 more. Returns the table."""
    for number, name in enumerate(CLASSES):
        for image in range(train):
            photograph(root / "JPEG" / "train" / name / f"{name}_{image}.JPEG", image + 100 * number, 50 + 50 * number)
    table = [(f"val_{image:02}", CLASSES[(image * 2) % 3]) for image in range(val)][::-1]
    for name, wnid in table:
        photograph(root / "JPEG" / "val" / f"{name}.JPEG", int(name[-2:]), 50 + 50 * CLASSES.index(wnid), 24)
    (root / "metadata").mkdir()
    lines = [f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for name, wnid in table]
    (root / "metadata" / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines, ""]))
    return table


@pytest.mark.parametrize("packed", [True, False])
def test_the_official_layout(tmp_path: Path, packed: bool) -> None:
    table = write_official(tmp_path / "imagenet")
    sources = every(imagenet, tmp_path, **SMALL, packed=packed)
    assert [len(source) for source in sources.values()] == [24, 6, 6]
    for split, source in sources.items():
        assert source.spec.shape == (3, 16, 16) and source.spec.labels == {"class": 3} and source.spec.fingerprint
        x, labels = whole(source)
        assert torch.equal((x.mean((1, 2, 3)) * 255 / 50 - 1).floor().long(), labels["class"]), split
    assert whole(sources["test"])[1]["class"].tolist() == [CLASSES.index(wnid) for _, wnid in table]
    assert whole(sources["val"])[1]["class"].bincount().tolist() == [2, 2, 2]
    assert sources["test"].spec.note == "6 of 50,000 images of val present"


def test_decoded_for_every_batch_is_what_was_packed(tmp_path: Path) -> None:
    write_official(tmp_path)
    packed, unpacked = (imagenet.open(imagenet.Config(**SMALL, packed=p), tmp_path, "train") for p in (True, False))
    for ours, theirs in zip(in_order(packed, 7), in_order(unpacked, 7), strict=True):
        assert torch.equal(ours.views[0], theirs.views[0]) and torch.equal(ours.labels["class"], theirs.labels["class"])
    index = torch.tensor([5, 2, 9])
    unpacked.prefetch(index, rng())  # type: ignore[attr-defined]
    assert torch.equal(unpacked.fetch(index, rng()).views[0], packed.fetch(index, rng()).views[0])


def test_folders_of_photographs(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for image in range(6):
            photograph(tmp_path / "train" / name / f"{image}{('.jpg', '.JPEG', '.png')[image % 3]}", image, 90 * number)
        photograph(tmp_path / "val" / name / "a.jpg", number, 90 * number)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no photograph")
    (tmp_path / "train" / ".hidden").mkdir()
    sources = every(imagenet, tmp_path, **SMALL)
    assert [len(source) for source in sources.values()] == [9, 3, 2]
    assert whole(sources["test"])[1]["class"].tolist() == [0, 1]
    seen = torch.cat([whole(sources[split])[0] for split in ("train", "val")])
    assert len(seen.flatten(1).unique(dim=0)) == 12
    assert len(imagenet.open(imagenet.Config(**SMALL, ratio=0.5), tmp_path, "train")) == 4
    few = imagenet.open(imagenet.Config(**SMALL, limit=4), tmp_path, "train")
    assert len(few) == 4 and whole(few)[1]["class"].bincount().tolist() == [2, 2]


def test_the_split_does_not_hang_on_the_order_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_official(tmp_path)
    there = [whole(imagenet.open(imagenet.Config(**SMALL), tmp_path, split))[0] for split in SPLITS]
    backwards = SimpleNamespace(scandir=lambda path: sorted(os.scandir(path), key=lambda one: one.name, reverse=True))
    monkeypatch.setattr(imagenet, "os", backwards)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "other"))
    again = [whole(imagenet.open(imagenet.Config(**SMALL), tmp_path, split))[0] for split in SPLITS]
    assert all(torch.equal(a, b) for a, b in zip(there, again, strict=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "metadata/LOC_val_solution.csv").unlink(), "it names the classes"),
        (lambda root: (root / "metadata/LOC_val_solution.csv").write_text("h\nval_00,n09 1"), "'n09' is no folder of"),
        (lambda root: (root / "metadata/LOC_val_solution.csv").write_text("h\nval_00"), "lines of NAME,WNID"),
        (lambda root: (root / "metadata/LOC_val_solution.csv").write_text('h\n"' + "a" * 200_000), "lines of NAME"),
        (lambda root: (root / "JPEG/val/val_00.JPEG").unlink(), "val_00.JPEG: damaged"),
        (lambda root: (root / "JPEG/val/val_00.JPEG").write_bytes(b"x" * 99), "val_00.JPEG: damaged"),
    ],
)
def test_what_is_missing_is_one_line(tmp_path: Path, spoil: Any, message: str) -> None:
    write_official(tmp_path)
    spoil(tmp_path)
    assert message in one_line(imagenet, tmp_path, "test", **SMALL)


def test_what_cannot_be_split_is_one_line(tmp_path: Path) -> None:
    assert "holds JPEG/train/WNID, or train/CLASS" in one_line(imagenet, tmp_path)
    (tmp_path / "train").mkdir()
    assert "no photographs" in one_line(imagenet, tmp_path)
    photograph(tmp_path / "train" / "a" / "a.jpg", 0, 0)
    assert "cannot be split by class" in one_line(imagenet, tmp_path, **SMALL)
    with pytest.raises(ConfigError, match="size 300 is above resize 256"):
        parse(imagenet.Config, {"size": 300}, "data")


def test_folders_of_others_are_named_and_files_are_no_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog", "emu"):
        for image in range(6):
            photograph(tmp_path / ("val" if name == "emu" else "train") / name / f"{image}.png", image, 90)
        photograph(tmp_path / "val" / name / "a.png", 9, 90)
    sources = every(imagenet, tmp_path, **SMALL)
    assert [source.spec.note for source in sources.values()] == [
        "", "", "1 folders of val are no class of train and are left out ('emu')",
    ]  # fmt: skip
    (tmp_path / "file" / "JPEG").mkdir(parents=True)
    (tmp_path / "file" / "JPEG" / "train").write_text("")
    assert "JPEG/train: Not a directory; it should hold a folder for each class" in one_line(
        imagenet, tmp_path / "file"
    )


def test_an_image_that_is_too_large_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_official(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "damaged (Image size (864 pixels) exceeds limit" in one_line(imagenet, tmp_path, **SMALL)


def test_real_photographs(tmp_path: Path) -> None:
    archive = Path(os.environ.get("SWEEP_DATA", "")) / "cifar10-jpeg" / "CIFAR-10-images.tar.xz"
    if not archive.exists():
        pytest.skip("real data: set SWEEP_DATA to their folder (cifar10-jpeg)")
    with tarfile.open(archive) as file:
        for member in file:
            part, _, name = member.name.partition("/")
            if part == "test" and member.isfile() and int(Path(name).stem) < 24:
                content = file.extractfile(member)
                assert content is not None
                place = tmp_path / ("val" if int(Path(name).stem) < 4 else "train") / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
            elif part == "train":
                break
    config = resolve({"method": {"name": "simclr"}, "data": {"name": "imagenet", "resize": 36, "size": 32}})
    sources = {split: imagenet.open(config.data, tmp_path, split) for split in SPLITS}
    assert [len(source) for source in sources.values()] == [180, 20, 40]
    assert whole(sources["val"])[1]["class"].bincount().tolist() == [2] * 10
    x = whole(sources["train"])[0]
    assert 0.3 < x.mean() < 0.6 and x.std() > 0.2

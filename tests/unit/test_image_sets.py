"""STL-10, 3D Shapes and Animals with Attributes 2 in their own layouts, crops of their pixels, and downloads."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from opened import every, one_line, rng, whole
from PIL import Image

from datasets import _download, awa2, deboer, fsdd, shapes3d, stl10
from datasets._download import downloaded, unpacked
from datasets.base import SPLITS, DataError, Split
from datasets.config import ConfigError
from datasets.transforms.load import find
from datasets.views import Views, ViewsConfig

EVERY: tuple[Split, ...] = SPLITS


pytestmark = pytest.mark.usefixtures("cache")


# -- STL-10 ---------------------------------------------------------------------------------------------------------


def write_stl10(root: Path, unlabelled: int = 50, train: int = 40, test: int = 20) -> dict[str, np.ndarray]:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, count in (("unlabeled", unlabelled), ("train", train), ("test", test)):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, 96, 96), np.uint8)
        (folder / f"{name}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        made[name] = images
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((np.arange(count) % 10 + 1).astype(np.uint8).tobytes())
    return made


def test_stl10(tmp_path: Path) -> None:
    images = write_stl10(tmp_path / "stl10")
    sources = every(stl10, tmp_path)
    assert [len(source) for source in sources.values()] == [40, 10, 20]
    spec = sources["train"].spec
    assert spec.labels == {} and spec.note == "50 of 100,000 unlabelled images present"
    shown = torch.cat([whole(sources[one])[0] for one in ("train", "val")])
    assert len((shown * 255).round().flatten(1).unique(dim=0)) == 50
    assert torch.equal(whole(sources["test"])[0], torch.from_numpy(images["test"]).float() * (1 / 255))
    cfg = stl10.evaluated(stl10.Config(val_fraction=0.25))
    labelled = {one: stl10.open(cfg, tmp_path, one) for one in EVERY}
    counted = [whole(source)[1]["class"].bincount().tolist() for source in labelled.values()]
    assert counted == [[3] * 10, [1] * 10, [2] * 10]
    x, labels = whole(labelled["train"])
    place = [int(np.flatnonzero((images["train"] == (item * 255).round().numpy()).all((1, 2, 3)))[0]) for item in x]
    assert [row % 10 for row in place] == labels["class"].tolist()
    few = stl10.open(stl10.Config(items="labelled", per_class=2), tmp_path, "train")
    assert whole(few)[1]["class"].bincount().tolist() == [2] * 10


def test_gray_is_that_of_8_bit_libraries(tmp_path: Path) -> None:
    images = write_stl10(tmp_path)
    x = whole(stl10.open(stl10.Config(channels=1), tmp_path, "test"))[0]
    expected = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in images["test"]]
    assert x.shape == (20, 1, 96, 96) and np.array_equal((x[:, 0] * 255).round().numpy(), np.stack(expected))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_X.bin", b"123", "train_X.bin: damaged .3 bytes"),
        ("train_y.bin", b"\x0b" * 40, "classes 1 .. 10"),
        ("train_y.bin", b"\x01" * 39, "should hold 40 classes 1 .. 10"),
        ("train_y.bin", None, "no 'train_y.bin'"),
    ],
)
def test_damaged_stl10_is_one_line(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    write_stl10(tmp_path)
    if content is None:
        (tmp_path / "stl10_binary" / file).unlink()
    else:
        (tmp_path / "stl10_binary" / file).write_bytes(content)
    text = one_line(stl10, tmp_path, items="labelled")
    assert message.replace(".3 bytes", "(3 bytes") in text


# -- 3D Shapes ------------------------------------------------------------------------------------------------------


def write_shapes(path: Path, count: int = 96) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 64, 64, 3), np.uint8)
    numbers = np.stack([rng.permutation(np.arange(count) % n) for n in (10, 10, 10, 8, 4, 15)], 1)
    scales = np.array([0.1, 0.1, 0.1, 0.07, 1, 4.3])
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["labels"] = numbers * scales - np.array([0, 0, 0, -0.75, 0, 30])
    return {"images": images, "numbers": numbers}


def test_shapes3d(tmp_path: Path) -> None:
    made = write_shapes(tmp_path / "3dshapes" / "3dshapes.h5")
    sources = every(shapes3d, tmp_path)
    assert [len(source) for source in sources.values()] == [69, 8, 19]
    spec = sources["train"].spec
    assert spec.shape == (3, 64, 64) and spec.note == "96 of 480,000 images present"
    assert spec.labels == {
        "floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "class": 4, "orientation": 15
    }  # fmt: skip
    for source in sources.values():
        x, labels = whole(source)
        for place in range(0, len(x), 7):
            image = (x[place].permute(1, 2, 0) * 255).round().numpy()
            (row,) = np.flatnonzero((made["images"] == image).all((1, 2, 3)))
            assert [int(labels[name][place]) for name in shapes3d.FACTORS] == made["numbers"][row].tolist()
    first = every(shapes3d, tmp_path, first=20)
    assert sum(map(len, first.values())) == 20 and first["train"].spec.note == ""
    assert first["train"].spec.labels["orientation"] <= 15


def test_damaged_shapes_are_one_line(tmp_path: Path) -> None:
    assert "no '3dshapes.h5'" in one_line(shapes3d, tmp_path)
    (tmp_path / "3dshapes.h5").write_bytes(b"torn")
    assert "3dshapes.h5: damaged" in one_line(shapes3d, tmp_path)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file["images"], file["labels"] = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 5))
    assert "labels (n, 6)" in one_line(shapes3d, tmp_path)


# -- Animals with Attributes 2 --------------------------------------------------------------------------------------


def write_awa2(folder: Path, count: int = 20) -> None:
    folder = folder / "Animals_with_Attributes2"
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("           2\tkiller+whale\n           1\tantelope\n           3\tbeaver\n")
    for number, name in enumerate(("antelope", "killer+whale", "beaver")):
        (folder / "JPEGImages" / name).mkdir(parents=True)
        for item in range(count):
            pixels = np.full((60 + item, 100, 3), 30 * number + 2 * item, np.uint8)
            pixels[:, :8] = 255  # outside the central square
            Image.fromarray(pixels).save(folder / "JPEGImages" / name / f"{name}_1{item:04}.jpg", quality=95)


def test_awa2(tmp_path: Path) -> None:
    write_awa2(tmp_path / "awa2-dataset" / "AwA2-data")
    sources = every(awa2, tmp_path, size=32)
    assert [len(source) for source in sources.values()] == [42, 9, 9]
    assert sources["train"].spec.labels == {"class": 3} and "60 of 37,322 images present" in sources["train"].spec.note
    for source in sources.values():
        x, labels = whole(source)
        above = x[:, :, :, 8:24].mean((1, 2, 3)) * 255 - 30 * labels["class"]
        assert above.min() > -2 and above.max() < 40 and len(above.round().unique()) >= len(x) / 3
        assert len(labels["class"].bincount().unique()) == 1
        assert torch.allclose(x[:, :, 4, 4], x[:, :, 4, 16], atol=0.02), "the border is cut off"
    few = awa2.open(awa2.Config(size=32, per_class=4), tmp_path, "train")
    assert whole(few)[1]["class"].bincount().tolist() == [4] * 3


def test_a_limit_decodes_no_other_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_awa2(tmp_path)
    read, calls = awa2.shrunk, []

    def counted(path: Path, size: int) -> np.ndarray:
        calls.append(path)
        return read(path, size)

    monkeypatch.setattr(awa2, "shrunk", counted)
    assert len(awa2.open(awa2.Config(size=32, limit=6), tmp_path, "train")) == len(calls) == 6


def test_damaged_awa2_is_one_line(tmp_path: Path) -> None:
    write_awa2(tmp_path, 4)
    folder = tmp_path / "Animals_with_Attributes2"
    (folder / "JPEGImages" / "beaver" / "beaver_10000.jpg").write_bytes(b"torn")
    assert "beaver_10000.jpg: damaged" in one_line(awa2, tmp_path, size=32)
    (folder / "classes.txt").write_text("1\t../../etc\n")
    assert "a number and a class" in one_line(awa2, tmp_path)
    (folder / "classes.txt").write_text("1\twhale\n")
    assert "no JPEGImages/whale/*.jpg" in one_line(awa2, tmp_path)


# -- crops of pixels ------------------------------------------------------------------------------------------------


def test_a_crop_cuts_the_datas_own_pixels(tmp_path: Path) -> None:
    images = write_stl10(tmp_path)
    source = stl10.open(stl10.Config(), tmp_path, "test")
    views = Views(ViewsConfig(tx=("cro",), size=64, count=1, normalize=False), source.spec)
    batch = source.fetch(torch.arange(20), rng())
    cut = (views(batch, rng()).views[0] * 255).round().numpy()
    assert cut.shape == (20, 3, 64, 64)
    places = set()
    for image, square in zip(images["test"], cut, strict=True):
        rows = np.lib.stride_tricks.sliding_window_view(image, (3, 64, 64))[0]
        ((top, left),) = np.argwhere((rows == square).all((2, 3, 4)))
        places.add((int(top), int(left)))
    assert len(places) >= 18
    centre = (views.clean(batch).views[0] * 255).round().numpy()
    assert np.array_equal(centre, images["test"][:, :, 16:80, 16:80])
    assert Views(ViewsConfig(tx=("sca",), size=64), source.spec).loaded == (3, 64, 64), "without it images are resized"


def test_every_place_of_a_crop_is_as_likely() -> None:
    crop = find("cro")(find("cro").Config(), (1, 7, 9), (1, 5, 5))
    p = crop.sample(9000, rng())
    counted = (p[:, 0] * 3 + p[:, 1]).long().bincount()
    assert len(counted) == 15 and counted.min() > 500 and crop.identity == (2, 1)
    with pytest.raises(ConfigError, match="'cro' cannot cut"):
        find("cro")(find("cro").Config(), (1, 4, 9), (1, 5, 5))
    for wrong in (lambda: crop.at(1, 2), lambda: crop.unit(p)):
        with pytest.raises(ConfigError, match="no single"):
            wrong()


# -- downloads ------------------------------------------------------------------------------------------------------


def archive(path: Path, files: dict[str, bytes]) -> str:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as opened:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
    return path.as_uri()


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_an_archive_is_fetched_and_unpacked(tmp_path: Path, suffix: str) -> None:
    files = {"set-1.0/a/1.wav": b"one", "set-1.0/2.wav": b"two", "set-1.0/../../evil": b"no", "/set/x/evil": b"no"}
    unpacked(archive(tmp_path / f"v1.{suffix}", files), tmp_path / "data" / "set", strip=1)
    files_there = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    there = {path.relative_to(tmp_path / "data").as_posix() for path in files_there}
    assert {"set/a/1.wav", "set/2.wav"} <= there and not any(".." in name for name in there)
    assert all(name.startswith("set/") for name in there), "nothing beside the folder is left"
    assert not (tmp_path / "evil").exists() and (tmp_path / "data/set/a/1.wav").read_bytes() == b"one"


def test_what_ends_early_or_is_damaged_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v1.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="a damaged archive"):
        unpacked((tmp_path / "v1.zip").as_uri(), tmp_path / "data" / "set")
    with pytest.raises(OSError):
        downloaded((tmp_path / "none.h5").as_uri(), tmp_path / "data" / "none.h5")
    assert list((tmp_path / "data").iterdir()) == []


def test_sets_are_fetched_once_and_where_they_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []

    def instead(url: str, folder: Path, strip: int = 0) -> None:
        asked.append((url, folder))
        markers = {"fsdd": "recordings", "deboer": "reshuffledv2", "Animals_with_Attributes2": "classes.txt"}
        (folder / markers.get(folder.name, ".")).mkdir(parents=True)

    for module in (fsdd, deboer, awa2):
        monkeypatch.setattr(module, "unpacked", instead)
    monkeypatch.setattr(shapes3d, "downloaded", instead)
    for module in (fsdd, deboer, awa2, shapes3d):
        for _ in range(2):
            module.fetch(module.Config(), tmp_path)
    assert [url.split("/")[2] for url, _ in asked] == [
        "github.com", "github.com", "cvml.ista.ac.at", "storage.googleapis.com"
    ]  # fmt: skip
    assert _download.TIMEOUT > 0

"""Whole house numbers: boxes of digitStruct.mat, the split, the cut digits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from opened import every, one_line, rng
from PIL import Image

from datasets import svhn_numbers
from datasets.base import DataError

pytestmark = pytest.mark.usefixtures("cache")


def write_matlab(file: Path, houses: list[list[tuple[float, ...]]]) -> None:
    """As MATLAB writes it: a lone digit's numbers stand there, those of more are references."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        names, groups = [], []
        for number, boxes in enumerate(houses, 1):
            text = content.create_dataset(f"#refs#/n{number}", data=np.array([[ord(c)] for c in f"{number}.png"], "u2"))
            group = content.create_group(f"#refs#/b{number}")
            for place, key in enumerate(svhn_numbers.BOX):
                values = [np.array([[box[place]]], float) for box in boxes]
                if len(values) == 1:
                    group[key] = values[0]
                else:
                    one = [
                        content.create_dataset(f"#refs#/{key}{number}_{i}", data=v).ref for i, v in enumerate(values)
                    ]
                    group.create_dataset(key, data=np.array(one, h5py.ref_dtype)[:, None], dtype=h5py.ref_dtype)
            names.append(text.ref)
            groups.append(group.ref)
        for key, refs in (("name", names), ("bbox", groups)):
            content.create_dataset(
                f"digitStruct/{key}", data=np.array(refs, h5py.ref_dtype)[:, None], dtype=h5py.ref_dtype
            )


def write_part(folder: Path, houses: int, digits: int = 3) -> None:
    """Houses of `digits` digits, whose boxes have the gray level 20 x digit; every fifth has one digit alone."""
    boxes = []
    for house in range(houses):
        pixels = np.zeros((40, 100, 3), np.uint8)
        row = []
        for place in range(1 if house % 5 == 4 else digits):
            digit = (house + place) % 10
            pixels[4:34, 10 + 25 * place : 30 + 25 * place] = 20 * digit
            row.append((10 + 25 * place, 4, 20, 30, digit or 10))
        boxes.append(row)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{house + 1}.png")
    write_matlab(folder / "digitStruct.mat", boxes)


def test_boxes(tmp_path: Path) -> None:
    file = tmp_path / "digitStruct.mat"
    write_matlab(file, [[(1, 2, 3, 4, 10)], [(-5, -1, 7, 8, 1), (9, 2, 7, 8, 9)]])
    read = svhn_numbers.read_boxes(file)
    assert read["number"].tolist() == [1, 2] and read["count"].tolist() == [1, 2]
    assert read["boxes"].tolist() == [[1, 2, 3, 4, 0], [0, 0, 7, 8, 1], [9, 2, 7, 8, 9]]


def test_boxes_of_the_real_files() -> None:
    root = os.environ.get("SWEEP_DATA")
    if not root or not (Path(root) / "svhn" / "train" / "digitStruct.mat").exists():
        pytest.skip("real data: set SWEEP_DATA to a folder with svhn/train/digitStruct.mat")
    found = {}
    for part in ("train", "test", "extra"):
        read = svhn_numbers.read_boxes(Path(root) / "svhn" / part / "digitStruct.mat")
        ends = np.cumsum(read["count"])
        found[part] = ["".join(map(str, own[:, 4])) for own in np.split(read["boxes"], ends[:-1])]
    assert found == {"train": ["19", "23", "25"], "test": ["5", "210", "6"], "extra": ["478", "71", "174"]}
    sources = every(svhn_numbers, Path(root))
    assert [len(source) for source in sources.values()] == [4, 1, 2]
    assert "9 of 248,823 pictures" in sources["train"].spec.note


def test_split() -> None:
    counts = {"train": np.full(30, 2), "test": np.full(21, 3), "extra": np.array([1, 2] * 50)}
    split = svhn_numbers.split_houses(counts, 2, 0)
    assert {name: np.bincount(rows[:, 0], minlength=3).tolist() for name, rows in split.items()} == {
        "train": [30, 0, 40], "val": [0, 10, 5], "test": [0, 11, 5]
    }  # fmt: skip
    together = np.concatenate(list(split.values()))
    assert len(np.unique(together, axis=0)) == len(together) == 101
    assert (together[together[:, 0] == 2, 1] % 2 == 1).all(), "houses of one digit are left out"
    without = svhn_numbers.split_houses({name: counts[name] for name in ("train", "test")}, 2, 0)
    assert [len(rows) for rows in without.values()] == [30, 10, 11]
    assert [len(rows) for rows in svhn_numbers.split_houses(counts, 3, 0).values()] == [0, 10, 11]


def test_digits_are_cut_out(tmp_path: Path) -> None:
    for part, houses in (("train", 30), ("test", 20), ("extra", 25)):
        write_part(tmp_path / "svhn" / part, houses)
    sources = every(svhn_numbers, tmp_path)
    assert [len(source) for source in sources.values()] == [40, 10, 10]
    for source in sources.values():
        batch = source.fetch(torch.arange(len(source)), rng())
        assert batch.views[0].shape == (len(source), 2, 3, 48, 32)
        level = (batch.views[0] * 255).mean((2, 3, 4)).round().long()
        assert torch.equal(level, 20 * batch.labels["content"]) and batch.labels["style"].dtype == torch.float32
    orders = {tuple(sources["val"].fetch(torch.tensor([0]), rng(seed)).labels["content"][0].tolist())
              for seed in range(100)}  # fmt: skip
    assert len(orders) == 6, "any two of three digits, in any order"
    alone = svhn_numbers.open(svhn_numbers.Config(items="fragments"), tmp_path, "val")
    assert len(alone) == 30 and alone.spec.shape == (3, 48, 32)


def test_what_lies_outside_is_black() -> None:
    image = Image.new("RGB", (10, 10), (200, 200, 200))
    digit = svhn_numbers.cut(image, np.array([5, 0, 10, 10]))
    assert digit.shape == (3, 48, 32) and digit[:, :, 2].min() > 150 and digit[:, :, -2].max() < 30


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    assert "no 'train/digitStruct.mat'" in one_line(svhn_numbers, tmp_path)
    write_part(tmp_path / "train", 5)
    assert "no 'test/digitStruct.mat'" in one_line(svhn_numbers, tmp_path)
    write_part(tmp_path / "test", 1)
    assert "too few houses of 2 digits for a split 'val'" in one_line(svhn_numbers, tmp_path, "val")
    (tmp_path / "train" / "2.png").write_bytes(b"torn")
    assert "2.png: damaged" in one_line(svhn_numbers, tmp_path)
    (tmp_path / "train" / "digitStruct.mat").write_bytes(b"torn")
    assert "digitStruct.mat: damaged" in one_line(svhn_numbers, tmp_path)
    with pytest.raises(DataError, match="damaged"):
        svhn_numbers.read_boxes(tmp_path / "none.mat")


# -- V3's files -----------------------------------------------------------------------------------------------------


def pages_of(source: Any) -> set[tuple[Any, ...]]:
    """Every house of a split: which, its digits and their pixels in order."""
    batch = source.fetch(torch.arange(len(source)), rng())
    keys = zip(batch.labels["style"].tolist(), batch.labels["content"].tolist(), batch.views[0], strict=True)
    return {(house, digit, x.numpy().tobytes()) for house, digit, x in keys}


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    for part, houses in (("train", 30), ("test", 20), ("extra", 25)):
        write_part(tmp_path / "svhn" / part, houses)
    (line,) = svhn_numbers.render(svhn_numbers.RenderConfig(), str(tmp_path / "svhn"), tmp_path / "out")
    assert "40 houses in train, 10 houses in val, 10 houses in test" in line
    with h5py.File(tmp_path / "out" / "SVHN_h5" / "val.hdf5") as file:
        assert {name: (value.shape, value.dtype.kind) for name, value in file.items()} == {
            "data": ((30, 48, 32, 3), "u"), "content_label": ((30,), "i"), "style_label": ((30,), "O")
        }  # fmt: skip
        names = file["style_label"].asstr()[:].tolist()
        assert names[0] == names[2] and sum(name.startswith("e") for name in names) == 6
    cut = every(svhn_numbers, tmp_path, items="fragments")
    read = every(svhn_numbers, tmp_path / "out", items="fragments")
    for split, source in cut.items():
        assert "pictures present" in source.spec.note and read[split].spec.note == ""
        assert pages_of(source) == pages_of(read[split]) and len(pages_of(source)) == len(source)
    houses = every(svhn_numbers, tmp_path / "out", n=3, source="files")
    assert [len(source) for source in houses.values()] == [40, 10, 10]
    with pytest.raises(DataError, match="is there already"):
        list(svhn_numbers.render(svhn_numbers.RenderConfig(), str(tmp_path / "svhn"), tmp_path / "out"))


def test_digits_of_a_house_need_not_lie_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "SVHN_h5"
    folder.mkdir()
    names, digits = ["7.png", "e7.png", "7.png", "3.png", "e7.png", "7.png"], [0, 1, 2, 3, 4, 5]
    with h5py.File(folder / "train.hdf5", "w") as file:
        file["data"] = np.broadcast_to(np.array(digits, np.uint8)[:, None, None, None], (6, 48, 32, 3))
        file["content_label"], file["style_label"] = digits, np.array(names, "S")
    source = svhn_numbers.open(svhn_numbers.Config(items="fragments"), tmp_path, "train")
    batch = source.fetch(torch.arange(len(source)), rng())
    assert batch.labels["content"].tolist() == [0, 2, 5, 1, 4], "a house of one digit is left out"
    assert batch.labels["style"].tolist() == [7, 7, 7, 1_000_007, 1_000_007]
    assert torch.equal((batch.views[0][:, 0, 0, 0] * 255).round().long(), batch.labels["content"])


def test_damaged_files_of_v3_are_one_line(tmp_path: Path) -> None:
    assert "no 'SVHN_h5/train.hdf5'" in one_line(svhn_numbers, tmp_path, source="files")
    (tmp_path / "SVHN_h5").mkdir()
    path = tmp_path / "SVHN_h5" / "train.hdf5"
    path.write_bytes(b"torn")
    assert "train.hdf5: damaged" in one_line(svhn_numbers, tmp_path)
    for shape, digit, name, message in (
        ((2, 32, 32, 3), 1, "5", "bytes, one for each label"),
        ((2, 48, 32, 3), 10, "5", "should be digits 0 .. 9"),
        ((2, 48, 32, 3), 1, "x5", "should name pictures"),
        ((2, 48, 32, 3), 1, None, "damaged"),
    ):
        with h5py.File(path, "w") as file:
            file["data"], file["content_label"] = np.zeros(shape, np.uint8), [digit, digit]
            if name is not None:
                file["style_label"] = np.array([name, name], "S")
        assert message in one_line(svhn_numbers, tmp_path)


def test_a_changed_picture_is_read_again(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_part(tmp_path / part, 12)
    cfg = svhn_numbers.Config(items="fragments")
    before = svhn_numbers.open(cfg, tmp_path, "train").spec.fingerprint
    assert svhn_numbers.open(cfg, tmp_path, "train").spec.fingerprint == before
    Image.new("RGB", (100, 40), (9, 9, 9)).save(tmp_path / "train" / "1.png")
    assert svhn_numbers.open(cfg, tmp_path, "train").spec.fingerprint != before
    (tmp_path / "train" / "2.png").unlink()
    assert "2.png, which digitStruct.mat lists" in one_line(svhn_numbers, tmp_path, items="fragments")

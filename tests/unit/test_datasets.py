"""Data sets, their splits, and the cache they share."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import cifar, digits, mnist
from datasets._parts import interleaved, key, parts
from datasets.base import SPLITS, DataError, Source, Spec, in_order
from datasets.memory import Arrays, MemorySource, cached, fingerprint

RNG = torch.Generator()


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def real() -> Path:
    if not os.environ.get("SWEEP_DATA"):
        pytest.skip("SWEEP_DATA does not name a folder with real data")
    return Path(os.environ["SWEEP_DATA"])


def whole(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    batch = source.fetch(torch.arange(len(source)), RNG)
    return batch.views[0], batch.labels["class"]


# -- memory ---------------------------------------------------------------------------------------------------------


def test_fetch_is_one_index_operation() -> None:
    array = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 1, 2, 2)
    source = MemorySource(array, {"class": np.arange(5)}, Spec(shape=(3, 2, 2)), rows=np.array([4, 1, 0]))
    batch = source.fetch(torch.tensor([2, 0]), RNG)
    assert len(source) == 3 and batch.index.tolist() == [2, 0] and batch.labels["class"].tolist() == [0, 4]
    assert batch.views[0].shape == (2, 3, 2, 2) and batch.views[0].dtype == torch.float32
    assert torch.allclose(batch.views[0][1, 2], torch.tensor([[16.0, 17], [18, 19]]) / 255)


def test_sound_lies_in_minus_one_to_one() -> None:
    array = np.array([[[-32768, 0, 16384]]], dtype=np.int16)
    source = MemorySource(array, {}, Spec(shape=(1, 3), rate=8000))
    assert source.fetch(torch.tensor([0]), RNG).views[0].tolist() == [[[-1.0, 0.0, 0.5]]]


def test_cache_builds_once_and_maps(cache: Path) -> None:
    built = []

    def build() -> Arrays:
        built.append(1)
        return {"x": np.arange(6, dtype=np.uint8)}

    with ThreadPoolExecutor(4) as pool:
        entries = list(pool.map(lambda _: cached("k", build), range(8)))
    assert len(built) == 1 and len({entry.fingerprint for entry in entries}) == 1
    assert isinstance(entries[0].arrays["x"], np.memmap) and not entries[0].arrays["x"].flags.writeable
    assert entries[0].fingerprint == fingerprint({"x": np.arange(6, dtype=np.uint8)})
    assert sorted(path.name for path in cache.iterdir()) == [".k.lock", "k"], "nothing temporary is left"


@pytest.mark.parametrize("damage", ["x.npy", "meta.json"])
def test_damaged_entry_is_built_again(cache: Path, damage: str) -> None:
    def build() -> Arrays:
        return {"x": np.arange(600, dtype=np.uint8)}

    cached("k", build)
    (cache / "k" / damage).write_bytes((cache / "k" / damage).read_bytes()[:-30])
    assert cached("k", build).arrays["x"].tolist() == build()["x"].tolist()


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def build() -> Arrays:
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        cached("k", build)
    assert not (cache / "k").exists()


def test_unusable_cache_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set SWEEP_CACHE") as caught:
        cached("k", lambda: {"x": np.zeros(1, np.uint8)})
    assert "\n" not in str(caught.value)


def test_fingerprint_tells_content_type_and_shape() -> None:
    variants: list[np.ndarray] = [
        np.zeros(4, np.uint8),
        np.ones(4, np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros(2, np.int16),
    ]
    assert len({fingerprint({"x": array}) for array in variants} | {fingerprint({"y": variants[0]})}) == 5


def test_key_follows_files_and_options(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    before = key("d", 1, [file], 16)
    assert before == key("d", 1, [file], 16) and before.startswith("d-")
    assert len({before, key("d", 2, [file], 16), key("d", 1, [file], 32), key("d", 1, [], 16)}) == 4
    file.write_text("22")
    assert key("d", 1, [file], 16) != before


# -- splits ---------------------------------------------------------------------------------------------------------


def test_parts_are_disjoint_complete_and_stratified() -> None:
    labels = np.random.default_rng(0).choice(3, 1000, p=[0.6, 0.3, 0.1])
    split = parts(labels, [500, 300], seed=0)
    assert [len(part) for part in split] == [500, 300, 200]
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(1000))
    for part in split:
        expected = np.bincount(labels) * len(part) / 1000
        assert np.abs(np.bincount(labels[part], minlength=3) - expected).max() <= 2
    again, other = parts(labels, [500, 300], seed=0), parts(labels, [500, 300], seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(split, again, strict=True))
    assert not np.array_equal(split[0], other[0])


def test_limit_keeps_the_shares() -> None:
    labels = np.repeat([0, 1], [900, 100])
    small, large = parts(labels, [500], 0, limit=50), parts(labels, [500], 0)
    assert all(set(a) <= set(b) for a, b in zip(small, large, strict=True))
    assert all(abs(int((labels[part] == 1).sum()) - 5) <= 1 for part in small)


def test_interleaved_is_a_permutation() -> None:
    labels = np.array([3, 3, 1, 7, 7, 7])
    assert sorted(interleaved(labels, 0)) == list(range(6))


# -- digits ---------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    sources = {split: digits.open(digits.Config(), None, split) for split in SPLITS}
    assert [len(source) for source in sources.values()] == [1000, 400, 397]
    spec = sources["train"].spec
    assert spec.shape == (1, 16, 16) and spec.labels == {"class": 10} and len(spec.fingerprint) == 16
    x, y = whole(sources["test"])
    assert x.shape == (397, 1, 16, 16) and x.min() == 0 and x.max() <= 1 and x.std() > 0.2
    assert torch.bincount(y).min() >= 37 and torch.bincount(y).max() <= 42
    assert sum(len(batch) for batch in in_order(sources["val"], 64)) == 400


def test_digits_splits_share_no_image() -> None:
    rows = [digits.open(digits.Config(), None, split)._rows for split in SPLITS]  # type: ignore[attr-defined]
    assert len(np.unique(np.concatenate(rows))) == digits.ITEMS


def test_digits_options() -> None:
    cfg = digits.Config(size=12, channels=3, limit=40)
    source = digits.open(cfg, None, "train")
    x, _ = whole(source)
    assert x.shape == (40, 3, 12, 12) and torch.equal(x[:, 0], x[:, 2])
    assert source.spec.fingerprint != digits.open(digits.Config(), None, "train").spec.fingerprint


# -- cifar ----------------------------------------------------------------------------------------------------------


def write_cifar(root: Path, counts: dict[str, int], labels: tuple[str, ...] = ("labels",)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        content: dict[str, Any] = {"data": rng.integers(0, 256, (count, 3072), np.uint8)}
        content |= {label: (np.arange(count) % 10).tolist() for label in labels}
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    return root


def test_cifar_subset(tmp_path: Path) -> None:
    write_cifar(
        tmp_path / "cifar10" / "cifar-10-batches-py", {"data_batch_1": 60, "data_batch_3": 40, "test_batch": 20}
    )
    sources = {split: cifar.open(cifar.Config(val_fraction=0.2), tmp_path, split) for split in SPLITS}
    assert [len(source) for source in sources.values()] == [80, 20, 20]
    assert sources["train"].spec.note == "100 of 50,000 training images present"
    assert torch.bincount(whole(sources["val"])[1]).tolist() == [2] * 10
    both = torch.cat([whole(sources[split])[0] for split in ("train", "val")])
    assert len(both.flatten(1).unique(dim=0)) == 100
    few = cifar.open(cifar.Config(per_class=3), tmp_path, "test")
    assert torch.bincount(whole(few)[1]).tolist() == [2] * 10


def test_cifar100_has_coarse_labels(tmp_path: Path) -> None:
    labels = ("fine_labels", "coarse_labels")
    write_cifar(tmp_path / "cifar-100-python", {"train": 30, "test": 10}, labels)
    source = cifar.open(cifar.Config(variant="cifar100"), tmp_path, "test")
    assert source.spec.labels == {"class": 100, "coarse": 20}
    assert set(source.fetch(torch.arange(2), RNG).labels) == {"class", "coarse"}


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "cifar-10-batches-py", {"data_batch_1": 30, "test_batch": 10})
    before = cifar.open(cifar.Config(), tmp_path, "test").spec.fingerprint
    write_cifar(folder, {"test_batch": 12})
    after = cifar.open(cifar.Config(), tmp_path, "test")
    assert len(after) == 12 and after.spec.fingerprint != before


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getenv, ("HOME",)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x80\x02}q", "damaged"),
        (b"", "damaged"),
        (pickle.dumps(Evil(), protocol=2), "damaged .*unexpected"),
        (pickle.dumps({"labels": []}, protocol=2), "layout"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, protocol=2), "differ in number"),
    ],
)
def test_damaged_cifar_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        cifar.open(cifar.Config(), tmp_path, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module, marker", [(cifar, "cifar-10-batches-py"), (mnist, "MNIST/raw")])
def test_missing_data_say_what_helps(tmp_path: Path, module: Any, marker: str) -> None:
    name = module.__name__.split(".")[-1]
    with pytest.raises(DataError) as caught:
        module.open(module.Config(), tmp_path, "train")
    text = str(caught.value)
    assert marker in text and str(tmp_path / name) in text and f"sweep data {name} --data-root {tmp_path}" in text
    assert "\n" not in text
    with pytest.raises(DataError, match=f"sweep data {name} --data-root DIR"):
        module.open(module.Config(), None, "train")


def test_real_cifar(real: Path) -> None:
    train, val = (cifar.open(cifar.Config(), real, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (7200, 800)
    assert train.spec.note == "8,000 of 50,000 training images present"
    x = torch.cat([whole(train)[0], whole(val)[0]])
    assert torch.allclose(x.mean((0, 2, 3)), torch.tensor([0.4929, 0.4831, 0.4467]), atol=1e-4)
    assert torch.bincount(torch.cat([whole(train)[1], whole(val)[1]])).tolist() == [
        *(802, 769, 799, 776, 850, 777, 804, 795, 826, 802)
    ]
    assert len(cifar.open(cifar.Config(variant="cifar100"), real, "test")) == 900


# -- mnist ----------------------------------------------------------------------------------------------------------


def write_mnist(root: Path, count: int, zipped: bool = False) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + rng.integers(0, 256, (count, 28, 28), np.uint8).tobytes()
        labels = struct.pack(">II", 0x801, count) + (np.arange(count) % 10).astype(np.uint8).tobytes()
        for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            file = raw / (f"{name}.gz" if zipped else name)
            file.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path / "mnist", 50, zipped)
    train = mnist.open(mnist.Config(), tmp_path, "train")
    assert len(train) == 45 and train.spec.note == "50 of 60,000 training images present"
    assert len(mnist.open(mnist.Config(), tmp_path, "val")) == 5
    x, y = whole(mnist.open(mnist.Config(size=32, channels=3), tmp_path, "test"))
    assert x.shape == (50, 3, 32, 32) and y.tolist() == [i % 10 for i in range(50)]


def test_damaged_mnist_is_one_line(tmp_path: Path) -> None:
    write_mnist(tmp_path, 5)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: damaged") as caught:
        mnist.open(mnist.Config(), tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_real_mnist(real: Path) -> None:
    test = mnist.open(mnist.Config(size=32, limit=1000), real, "test")
    x, y = whole(test)
    assert test.spec.note == "" and x.shape == (1000, 1, 32, 32) and torch.bincount(y).min() >= 85

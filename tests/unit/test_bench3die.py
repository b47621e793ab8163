"""3DIEBench: the layout on disk, splits by object, pairs of views and what relates them, the packed cache."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from datasets import _renders, bench3die, rotations
from datasets.base import SPLITS, DataError, Split
from datasets.render.write import RenderConfig, write_set
from datasets.views import Views, ViewsConfig
from trainables.core.config import resolve
from trainables.core.fit import Silent, fit
from trainables.evals.base import Request
from trainables.evals.features import CheckpointSubject, _chosen
from trainables.nets.pairs import RelatedMethod

VIEWS, COUNT = 3, 4


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    list(write_set(RenderConfig(views=VIEWS, size=32, count=COUNT, workers=1, held_out=0.25), "solids", folder))
    return folder


@pytest.fixture
def own(rendered: Path, tmp_path: Path) -> Path:
    """A set that a test may change."""
    return Path(shutil.copytree(rendered, tmp_path / "own"))


def every_latents(source: _renders.Renders) -> torch.Tensor:
    """(n, k) of the images of a split, in order."""
    return source.fetch(torch.arange(len(source)), rng()).params["latents"][0]


def on_disk(folder: Path, part: str) -> torch.Tensor:
    """The same from the files, (objects * VIEWS, 7)."""
    names = [path.strip("/") for path in np.load(folder / f"{part}_images.npy")]
    files = [folder / name / f"latent_{view}.npy" for name in names for view in range(VIEWS)]
    return torch.from_numpy(np.stack([np.load(file) for file in files])).float()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def opened(root: Path | None, split: Split = "train", **values: Any) -> _renders.Renders:
    cfg = bench3die.Config(**{"size": 32, "source": "files", "val_fraction": 0.2, **values})
    source = bench3die.open(cfg, root, split)
    assert isinstance(source, _renders.Renders)
    return source


def one_line(root: Path | None, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, **values)
    text = str(caught.value)
    assert "\n" not in text and text
    return text


# -- layout ---------------------------------------------------------------------------------------------------------


def test_the_originals_val_is_our_test_and_our_val_is_held_out_of_train(rendered: Path) -> None:
    sources = {split: opened(rendered, split) for split in SPLITS}
    assert [len(source) for source in sources.values()] == [24, 6, 10]
    seen = {split: every_latents(opened(rendered, split, items="images")) for split in SPLITS}
    content = {split: set(map(tuple, latents.tolist())) for split, latents in seen.items()}
    assert sum(map(len, content.values())) == len(set.union(*content.values())) == 40 * VIEWS
    assert torch.equal(seen["test"], on_disk(rendered, "val")), "in the order of the list"
    other = set(map(tuple, every_latents(opened(rendered, "val", items="images", split_seed=1)).tolist()))
    assert other != content["val"] and other < content["val"] | content["train"]


def test_the_spec(rendered: Path) -> None:
    spec = opened(rendered).spec
    assert spec.shape == (3, 32, 32) and spec.labels == {"class": 10} and spec.params == {"latents": 7}
    assert bench3die.RELATIONS == {"rotation": 4, "euler": 3, "colour": 2, "light": 2}
    assert spec.views == 2 and spec.relations == bench3die.RELATIONS and spec.note == ""
    single = opened(rendered, items="images").spec
    assert single.views == 1 and single.relations == {} and single.fingerprint == spec.fingerprint


def test_labels_are_those_of_the_list(rendered: Path) -> None:
    source = opened(rendered, "test")
    assert (
        source.fetch(torch.arange(10), rng()).labels["class"].tolist() == np.load(rendered / "val_labels.npy").tolist()
    )


def test_other_views_latents_and_files_do_no_harm(own: Path) -> None:
    (own / "LICENSE").write_text("CC BY-NC 4.0")
    objects = [own / path.strip("/") for path in np.load(own / "train_images.npy")]
    (objects[0] / "notes.txt").write_text("")
    (objects[1] / "image_2.jpg").unlink()
    (objects[1] / "latent_2.npy").unlink()
    (objects[2] / "image_0.jpg").rename(objects[2] / "image_10.jpg")  # numbers are ordered as numbers
    (objects[2] / "latent_0.npy").rename(objects[2] / "latent_10.npy")
    for path in own.glob("*/*/latent_*.npy"):
        np.save(path, np.concatenate([np.load(path), [1.0, 2.0, 3.0]]))
    whole = [opened(own, split, items="images") for split in ("train", "val")]
    assert sum(map(len, whole)) == 30 * VIEWS - 1
    assert whole[0].spec.params == {"latents": 10}
    assert every_latents(whole[0])[:, 7:].unique(dim=0).tolist() == [[1, 2, 3]]
    batch = opened(own).fetch(torch.arange(24), rng())
    assert batch.params["latents"].shape == (2, 24, 10)
    assert {name: value.shape[1] for name, value in batch.relations.items()} == bench3die.RELATIONS
    assert _renders.views_of(objects[2]) == [1, 2, 10]


def test_the_split_files_may_lie_elsewhere(own: Path) -> None:
    (own / "lists").mkdir()
    (own / "render.json").unlink()
    for part in ("train", "val"):
        for what in ("images", "labels"):
            (own / f"{part}_{what}.npy").rename(own / "lists" / f"{part}_{what}.npy")
    assert "no 'train_images.npy'" in one_line(own)
    assert len(opened(own, splits="lists")) == len(opened(own, splits=str(own / "lists"))) == 24
    inside = own.parent / "root" / "3DIEBench"
    inside.parent.mkdir()
    own.rename(inside)
    assert len(opened(inside.parent, splits="3DIEBench/lists")) == 24
    (inside / "lists" / "train_images.npy").rename(inside / "lists" / "other.npy")
    assert "no 'train_images.npy'" in one_line(inside.parent, splits="3DIEBench/lists")


def test_a_limit_takes_the_first_objects_and_decodes_no_other(own: Path) -> None:
    first = opened(own, limit=5, items="images")
    assert len(first) == 5 * VIEWS
    assert torch.equal(every_latents(first), every_latents(opened(own, items="images"))[: 5 * VIEWS])
    kept = {path.strip("/") for path in np.load(own / "train_images.npy")}
    used = set(map(tuple, every_latents(opened(own, limit=3, items="images")).tolist()))
    for name in kept:  # damage what was not asked for; in place, so that nothing is seen to have changed
        files = [own / name / f"latent_{view}.npy" for view in range(VIEWS)]
        latents = {tuple(torch.from_numpy(np.load(file)).float().tolist()) for file in files}
        if not latents & used:
            (own / name / "image_0.jpg").write_bytes(b"")
    assert len(opened(own, limit=3, size=64)) == 3


# -- pairs ----------------------------------------------------------------------------------------------------------


def test_a_pair_is_two_views_of_one_object_with_what_relates_them(rendered: Path) -> None:
    pairs, images = opened(rendered), opened(rendered, items="images")
    index = torch.tensor([3, 17, 0])
    batch = pairs.fetch(index, rng(1))
    every = images.fetch(torch.arange(len(images)), rng())
    assert len(images) == VIEWS * len(pairs)
    assert torch.equal(every.labels["object"], torch.arange(24).repeat_interleave(VIEWS))
    for place, item in enumerate(index.tolist()):
        rows = []
        for view in range(2):
            latents = batch.params["latents"][view, place]
            (row,) = torch.nonzero((every.params["latents"][0] == latents).all(1)).flatten().tolist()
            assert torch.equal(every.views[0][row], batch.views[view][place])
            rows.append(row)
        assert rows[0] != rows[1] and {row // VIEWS for row in rows} == {item}
    first, second = batch.params["latents"]
    assert torch.equal(batch.relations["rotation"], rotations.relative_quaternion(first, second))
    assert torch.equal(batch.relations["euler"], rotations.relative_euler(first, second))
    assert torch.equal(batch.relations["colour"], (second - first)[:, [3, 6]])
    assert torch.equal(batch.relations["light"], (second - first)[:, [4, 5]])


def test_draws_belong_to_the_generator_and_the_item(rendered: Path) -> None:
    source = opened(rendered)
    whole = source.fetch(torch.arange(24), rng(5))
    part = source.fetch(torch.tensor([20, 4]), rng(5))
    assert torch.equal(part.params["latents"], whole.params["latents"][:, [20, 4]])
    others = [source.fetch(torch.arange(24), rng(seed)).params["latents"] for seed in range(4)]
    assert all(not torch.equal(one, whole.params["latents"]) for one in others)
    generator = rng(5)
    twice = [source.fetch(torch.arange(24), generator).params["latents"] for _ in range(2)]
    assert not torch.equal(*twice), "the next batch of the same generator"


def test_every_ordered_pair_is_as_likely() -> None:
    items, counts = np.arange(60_000), np.full(60_000, 4)
    for salt in (0, 2**62 - 1):
        first, second = _renders.drawn_pairs(salt, items, counts)
        found = Counter(zip(first.tolist(), second.tolist(), strict=True))
        assert len(found) == 12 and all(a != b for a, b in found)
        assert max(abs(number - 5000) for number in found.values()) < 5 * 68  # five standard deviations
    neighbours = [_renders.drawn_pairs(salt, items, counts)[0] for salt in (7, 8)]
    assert abs(float(np.corrcoef(neighbours)[0, 1])) < 0.02
    many = _renders.drawn_pairs(3, items, np.full(60_000, 50))
    assert all(len(np.unique(drawn)) == 50 for drawn in many)


def test_images_come_object_by_object_and_view_by_view(rendered: Path) -> None:
    images = opened(rendered, "test", items="images")
    names = [path.strip("/") for path in np.load(rendered / "val_images.npy")]
    batch = images.fetch(torch.arange(len(images)), rng())
    assert torch.equal(batch.params["latents"][0], on_disk(rendered, "val"))
    assert torch.equal(batch.labels["object"], torch.arange(len(names)).repeat_interleave(VIEWS))
    x = _renders.read_image(rendered / names[2] / "image_1.jpg", 32)
    assert torch.equal(batch.views[0][2 * VIEWS + 1], torch.from_numpy(x.copy()).float().mul_(1 / 255))


def test_an_evaluation_of_a_few_images_sees_whole_objects(rendered: Path) -> None:
    source = bench3die.open(bench3die.Config(source="files", items="images", size=32), rendered, "train")
    batch = source.fetch(torch.arange(len(source)), torch.Generator())
    assert torch.equal(torch.from_numpy(source.owner), batch.labels["object"])  # type: ignore[attr-defined]
    rows = _chosen(source, Request("train", limit=len(source) - 1))
    kept = batch.labels["object"][rows]
    assert 0 < len(rows) < len(source)
    assert all((kept == one).sum() == (batch.labels["object"] == one).sum() for one in kept.unique())


def test_views_pass_on_what_the_data_know(rendered: Path) -> None:
    source = opened(rendered)
    made = Views(ViewsConfig(tx=("gra",)), source.spec)
    batch = source.fetch(torch.arange(6), rng())
    out = made(batch, rng())
    assert set(out.relations) == set(made.spec.relations) == {"rotation", "euler", "colour", "light", "gra"}
    assert torch.equal(out.relations["rotation"], batch.relations["rotation"])
    assert torch.equal(out.params["latents"], batch.params["latents"])
    clean = made.clean(batch)
    assert clean.relations == {} and torch.equal(clean.params["latents"][0], batch.params["latents"][0])


# -- the packed cache -----------------------------------------------------------------------------------------------


def test_no_image_is_decoded_twice(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened(rendered).fetch(torch.arange(24), rng())

    def never(*arguments: Any) -> None:
        raise AssertionError("a JPEG was read again")

    monkeypatch.setattr(_renders, "read_image", never)
    for split in ("train", "val"):
        opened(rendered, split, items="images")  # one entry for both, and for both kinds of items
    after = opened(rendered).fetch(torch.arange(24), rng())
    assert torch.equal(before.views[1], after.views[1])
    with pytest.raises(AssertionError):
        opened(rendered, size=64)


def test_who_comes_meanwhile_waits(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = _renders.read_image, []

    def counted(path: Path, size: int) -> np.ndarray:
        calls.append(path)
        return read(path, size)

    monkeypatch.setattr(_renders, "read_image", counted)
    with ThreadPoolExecutor(3) as pool:
        sources = list(pool.map(lambda _: opened(own), range(3)))
    assert len(calls) == len(set(calls)) == 30 * VIEWS
    assert len({source.spec.fingerprint for source in sources}) == 1


def test_a_changed_folder_is_packed_again(own: Path) -> None:
    before = opened(own).spec.fingerprint
    folder = own / str(np.load(own / "train_images.npy")[0]).strip("/")
    (folder / "image_0.jpg").unlink()
    shutil.copy(folder / "image_1.jpg", folder / "image_0.jpg")
    assert opened(own).spec.fingerprint != before


def test_what_a_killed_process_left_is_deleted(own: Path, cache: Path) -> None:
    opened(own)
    (entry,) = cache.glob("bench3die-*")
    left, alive = cache / f".{entry.name}.999999999", cache / f".{entry.name}.1"
    for folder in (left, alive):
        folder.mkdir()
    shutil.rmtree(entry)
    opened(own)
    assert not left.exists() and alive.exists()


def test_too_large_for_the_disk_is_said_before(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))  # type: ignore[attr-defined]
    text = one_line(own)
    assert "0.0 GB are left" in text and "data.size or data.limit" in text and "SWEEP_CACHE" in text


# -- without it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", ["objects", "images"])
def test_without_the_packed_cache_everything_is_the_same(rendered: Path, cache: Path, items: str) -> None:
    for split in SPLITS:
        files = opened(rendered, split, items=items, packed=False)
        assert not list(cache.glob("bench3die-32-*")) or split != "train", "no image is kept"
        packed = opened(rendered, split, items=items)
        assert len(files) == len(packed)
        assert replace(files.spec, fingerprint="") == replace(packed.spec, fingerprint="")
        index = torch.randperm(len(files), generator=rng(2))
        ours, theirs = (source.fetch(index, rng(7)) for source in (files, packed))
        assert all(torch.equal(a, b) for a, b in zip(ours.views, theirs.views, strict=True))
        for name in ("params", "labels", "relations"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert not [path for path in cache.glob("bench3die-latents-*/*") if path.name == "x.npy"]


def test_without_it_other_sizes_and_other_images_are_other_data(own: Path) -> None:
    prints = [opened(own, packed=False, size=size).spec.fingerprint for size in (32, 64, 32)]
    assert prints[0] == prints[2] != prints[1]
    folder = own / str(np.load(own / "train_images.npy")[0]).strip("/")
    (folder / "image_0.jpg").unlink()
    shutil.copy(folder / "image_1.jpg", folder / "image_0.jpg")
    assert opened(own, packed=False).spec.fingerprint != prints[0]


def test_threads_decode_the_images_of_a_batch(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at once as PyTorch has threads: each waits until all have begun."""
    together, read = Barrier(3, timeout=30), _renders.read_image

    def meeting(path: Path, size: int) -> np.ndarray:
        together.wait()
        return read(path, size)

    monkeypatch.setattr(_renders, "read_image", meeting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert len(opened(rendered, packed=False).fetch(torch.arange(6), rng())) == 6


def test_what_comes_next_is_decoded_before(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read, paths = opened(rendered, packed=False), _renders.read_image, []
    expected = source.fetch(torch.tensor([4, 1, 9]), rng(3))

    def noted(path: Path, size: int) -> np.ndarray:
        paths.append(path)
        return read(path, size)

    monkeypatch.setattr(_renders, "read_image", noted)
    source.prefetch(torch.tensor([4, 1, 9]), rng(3))
    batch = source.fetch(torch.tensor([4, 1, 9]), rng(3))
    assert all(torch.equal(a, b) for a, b in zip(batch.views, expected.views, strict=True)) and len(paths) == 6
    source.prefetch(torch.tensor([0, 2]), rng(3))
    other = source.fetch(torch.tensor([4, 1, 9]), rng(3))  # not what was announced
    assert all(torch.equal(a, b) for a, b in zip(other.views, expected.views, strict=True))
    opened(rendered).prefetch(torch.arange(3), rng())  # packed, there is nothing to do


def test_training_without_it_is_the_same_and_decodes_one_batch_ahead(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, take = [], _renders.Files.__getitem__

    def noted(self: _renders.Files, rows: np.ndarray) -> np.ndarray:
        ahead.append(self._ahead is not None and np.array_equal(self._ahead[0], rows))
        return take(self, rows)

    monkeypatch.setattr(_renders.Files, "__getitem__", noted)
    losses = []
    for packed in (True, False):
        config = resolve(
            {
                "method": {"name": "simclr", "encoder": {"name": "narrow_cifar10_resnet8"}},
                "data": {"name": "bench3die", "size": 32, "packed": packed},
                "train": {"epochs": 2, "batch_size": 8, "collapse_rank": 0},
            }
        )
        listener = Silent()
        fit(config, rendered, tmp_path / str(packed), listener)
        losses.append([epoch["loss"] for epoch in listener.epochs])
    assert losses[0] == losses[1]
    steps = math.ceil(len(bench3die.open(config.data, rendered, "train")) / 8)
    assert ahead == [False, *[True] * (steps - 1)] * 2 + [False], (
        "of each epoch all but the first, none of the last look"
    )


# -- what is wrong --------------------------------------------------------------------------------------------------


def test_missing_data_say_what_helps(tmp_path: Path) -> None:
    text = one_line(tmp_path)
    assert "train_images.npy" in text and str(tmp_path / "bench3die") in text and "--render solids" in text
    assert "--data-root" in one_line(None)


def test_a_set_that_is_being_rendered_is_not_replaced_by_solids(own: Path) -> None:
    (own / "train_images.npy").unlink()
    for source in ("auto", "files"):
        text = one_line(own, source=source)
        assert text == f"bench3die: {own}: is not rendered to the end, run `--render` again"


def broken(own: Path, what: str) -> None:
    folder = own / str(np.load(own / "train_images.npy")[0]).strip("/")
    if what == "no latents":
        (folder / "latent_1.npy").unlink()
    elif what == "no image":
        (folder / "image_1.jpg").unlink()
    elif what == "no folder":
        shutil.rmtree(folder)
    elif what == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    elif what == "torn image":
        (folder / "image_1.jpg").write_bytes((folder / "image_1.jpg").read_bytes()[:300])
    elif what == "torn latents":
        (folder / "latent_1.npy").write_bytes(b"\x93NUMPY")
    elif what == "few latents":
        np.save(folder / "latent_1.npy", np.zeros(3))
    elif what == "one view":
        for view in (1, 2):
            (folder / f"image_{view}.jpg").unlink()
            (folder / f"latent_{view}.npy").unlink()
    elif what == "pickled list":
        np.save(own / "train_images.npy", np.array(["/a/b/"] * 30, object), allow_pickle=True)
    elif what == "numbers for names":
        np.save(own / "train_images.npy", np.arange(30))
    elif what == "fewer labels":
        np.save(own / "train_labels.npy", np.arange(5))
    elif what == "outside":
        np.save(own / "train_images.npy", np.array(["/../../etc/"] * 30))
    elif what == "in both":
        both = np.load(own / "train_images.npy")
        both[7] = np.load(own / "val_images.npy")[2].strip("/")  # however it is written
        np.save(own / "train_images.npy", both)
    elif what == "twice":
        twice = np.load(own / "train_images.npy")
        twice[7] = twice[3]
        np.save(own / "train_images.npy", twice)
    elif what == "no labels":
        (own / "val_labels.npy").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no latents", "view 1 has no latent"),
        ("no image", "view 1 has no image"),
        ("no folder", "No such file or directory; the split files list it"),
        ("empty folder", "holds no image_0.jpg"),
        ("torn image", "image_1.jpg: damaged"),
        ("torn latents", "latent_1.npy: damaged"),
        ("few latents", r"holds \(3,\) numbers, it should be \(7,\)"),
        ("one view", "an object has one view, pairs need two; use data.items=images"),
        ("pickled list", "train_images.npy: damaged"),
        ("numbers for names", "one list of text and one of whole numbers"),
        ("fewer labels", "equally long"),
        ("outside", "is no SYNSET/OBJECT"),
        ("in both", r"train_images.npy and val_images.npy both list 'solid\d/\d{4}'; what tests may not train"),
        ("twice", r"train_images.npy: lists 'solid\d/\d{4}' twice; list each object once"),
        ("no labels", "no 'val_labels.npy' in"),
    ],
)
def test_damage_is_one_line(own: Path, cache: Path, what: str, message: str) -> None:
    broken(own, what)
    with pytest.raises(DataError, match=message) as caught:
        for split in ("train", "val"):
            opened(own, split)
    assert "\n" not in str(caught.value)
    assert what == "one view" or not list(cache.glob("bench3die-*")), "nothing half packed is left"


# -- generated solids -----------------------------------------------------------------------------------------------


def test_solids_are_rendered_once_where_there_is_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = bench3die.Config(size=32, solids=bench3die.Solids(objects=3, views=2))
    source = bench3die.open(cfg, tmp_path, "train")
    assert len(source) == 18 and source.spec.note.startswith("generated solids, not 3DIEBench")
    monkeypatch.setattr(bench3die, "write_set", lambda *arguments: pytest.fail("rendered again"))
    again = bench3die.open(cfg.model_copy(update={"source": "solids"}), None, "train")
    assert again.spec.note == "" and again.spec.fingerprint == source.spec.fingerprint


def test_files_come_first(rendered: Path) -> None:
    source = bench3die.open(bench3die.Config(size=32), rendered, "train")
    assert source.spec.note == "" and source.spec.fingerprint == opened(rendered).spec.fingerprint


# -- in training and evaluation -------------------------------------------------------------------------------------


def test_a_method_is_trained_on_pairs_and_its_encoder_sees_every_image(rendered: Path, tmp_path: Path) -> None:
    data = {"name": "bench3die", "size": 32, "limit": 12}
    config = resolve(
        {
            "method": {"name": "simclr", "encoder": {"name": "narrow_cifar10_resnet8"}},
            "data": data,
            "train": {"epochs": 1, "batch_size": 6, "collapse_rank": 0},
        }
    )
    listener = Silent()
    fit(config, rendered, tmp_path / "run", listener)
    subject = CheckpointSubject(listener.checkpoints[-1], rendered, tmp_path / "features")
    assert subject.meta.spec.relations == bench3die.RELATIONS and subject.spec.relations == {}
    every, source = subject.features(Request("train")), subject.data("train")[0]
    assert isinstance(source, _renders.Renders)
    assert every.index.tolist() == list(range(12 * VIEWS)) == list(range(len(source)))
    assert torch.equal(every.labels["object"], torch.arange(12).repeat_interleave(VIEWS))
    assert torch.equal(every.params["latents"], every_latents(source))


@pytest.mark.parametrize("group", [["euler"], ["euler", "colour"], ["euler", "colour", "light"]])
def test_a_method_is_told_the_rotation_as_angles(rendered: Path, group: list[str]) -> None:
    small = {"encoder": {"name": "narrow_cifar10_resnet8"}, "projector": [16, 16], "equi": 32}
    method = {"name": "sie", **small, "group": group}
    config = resolve({"method": method, "data": {"name": "bench3die", "size": 32}})
    source = config.source(rendered, "train")
    views = config.build_views(source.spec)
    config.method_class.check(config.method, views.spec)
    made = config.build_method(views.spec)
    batch = views(source.fetch(torch.arange(8), rng()), rng())
    assert isinstance(made, RelatedMethod)
    g = made.relation(batch)
    assert g.shape == (8, made.k) == (8, sum(bench3die.RELATIONS[name] for name in group))
    assert torch.equal(g[:, :3], rotations.relative_euler(*batch.params["latents"]))
    assert torch.isfinite(made(batch)["loss"])

"""Sprites: composing characters, the files and pages made of them, the colour jitter, and pages as such."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from opened import one_line, rng
from PIL import Image

from datasets import sprites
from datasets._colours import jitter, jittered
from datasets._pages import Book, Fragments, Pages
from datasets.base import SPLITS, DataError, Spec
from datasets.config import ConfigError
from datasets.synth import characters
from datasets.synth.characters import RenderConfig, Sheets
from datasets.views import Views, ViewsConfig
from sweep.tools import show_data

GOLDEN = Path(__file__).parents[1] / "golden" / "v3"


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def real() -> Path:
    for root in filter(None, [os.environ.get("SWEEP_DATA")]):
        if (Path(root) / "sprites" / "sheets").is_dir():
            return Path(root)
    pytest.skip("real data: set SWEEP_DATA to a folder with sprites/sheets and sprites/Sprites_h5")


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sheets whose cells have one colour each; every layer covers a part of the one below, shoes half transparent."""
    folder = tmp_path_factory.mktemp("made") / "sheets"
    for place, layer in enumerate((*characters.LAYERS, "shoes")):
        (folder / layer).mkdir(parents=True)
        for number in range(10):
            pixels = np.zeros((1344, 832, 4), np.uint8)
            for row in range(21):
                pixels[row * 64 : row * 64 + 64 - 8 * place, 256:320] = 20 * number + 10, 10 * row, 40 * place, 255
            if layer == "shoes":
                pixels[..., 3] //= 2
            if layer == "shoes" and number != 1:
                continue
            Image.fromarray(pixels).save(folder / layer / f"{number}.png", compress_level=1)
    return folder


# -- characters -----------------------------------------------------------------------------------------------------


def test_layers_cover_each_other(sheets: Path) -> None:
    poses = Sheets(sheets).compose(4321)
    assert poses.shape == (9, 3, 64, 64) and poses.dtype == np.uint8
    for pose, row in zip(poses, characters.ROWS, strict=True):
        for place, digit in enumerate((4, 3, 2, 1)):  # the lowest eight rows of each layer are not covered
            bottom = 60 - 8 * place
            assert pose[:, bottom, 5].tolist() == [20 * digit + 10, 10 * row, 40 * place], (place, row)
        assert pose[:, 0, 5].tolist() != [30, 10 * row, 160], "shoes are half transparent"


def test_the_published_sample_is_composed_exactly(real: Path) -> None:
    source, count = Sheets(real / "sprites" / "sheets"), 0
    for split in ("train", "val", "test"):
        with h5py.File(real / "sprites" / "Sprites_h5" / f"{split}.hdf5") as pages:
            for name, page in pages.items():
                assert int(name) in characters.characters(split)
                assert np.array_equal(source.compose(int(name))[page["c"][:]], page["seq"][:]), name
                assert page["s"][:].tolist() == [int(name)] * 9
                count += 1
    assert count == 72


def test_published_splits() -> None:
    numbers = {split: characters.characters(split) for split in ("train", "val", "test")}
    assert [len(own) for own in numbers.values()] == [1728, 216, 216]
    assert len(set().union(*numbers.values())) == 2160
    assert {number % 10 for number in numbers["val"]} == {8} and {number % 10 for number in numbers["test"]} == {9}
    assert characters.digits(4321) == (4, 3, 2, 1) and characters.digits(15) == (0, 0, 1, 5)
    few = characters.characters("train", 30)
    assert len(set(few)) == 30 and set(few) < set(numbers["train"])
    assert len({tuple(characters.order(0, number)) for number in few}) > 20
    assert characters.order(0, 15).tolist() == characters.order(0, 15).tolist() != characters.order(1, 15).tolist()


def test_files_are_written_in_v3s_layout(sheets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (line,) = sprites.render(RenderConfig(limit=5), str(sheets), out)
    assert "5 characters in train" in line
    with h5py.File(out / "Sprites_h5" / "val.hdf5") as pages:
        assert sorted(map(int, pages)) == characters.characters("val", 5)
        for name, page in pages.items():
            assert {key: (value.shape, value.dtype.str) for key, value in page.items()} == {
                "seq": ((9, 3, 64, 64), "|u1"), "c": ((9,), "<i8"), "s": ((9,), "<i8")
            }  # fmt: skip
            assert sorted(page["c"][:]) == list(range(9))
            assert np.array_equal(page["seq"][:], Sheets(sheets).compose(int(name))[page["c"][:]])
    with pytest.raises(DataError, match="is there already"):
        list(sprites.render(RenderConfig(), str(sheets), out))


def test_wrong_sheets_are_one_line(sheets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .*body/0\.png"):
        list(sprites.render(RenderConfig(), str(tmp_path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "body").mkdir()
    for content, message in ((b"torn", "damaged"), (None, "should be 832x1344 pixels, is 64x64")):
        if content:
            (tmp_path / "body" / "0.png").write_bytes(content)
        else:
            Image.new("RGBA", (64, 64)).save(tmp_path / "body" / "0.png")
        with pytest.raises(DataError, match=message) as caught:
            Sheets(tmp_path).compose(0)
        assert "\n" not in str(caught.value)


# -- the set --------------------------------------------------------------------------------------------------------


def test_pages_and_fragments_are_those_of_the_files(sheets: Path, tmp_path: Path) -> None:
    list(sprites.render(RenderConfig(limit=6), str(sheets), tmp_path))
    cfg = sprites.Config(jitter=(0, 0, 0, 0))
    pages = sprites.open(cfg, tmp_path, "train")
    assert pages.spec.shape == (9, 3, 64, 64) and pages.spec.fragments == 9 and pages.spec.frames == {"content": 1}
    assert pages.spec.note == "6 of 1,728 train characters present" and len(pages) == 6
    batch = pages.fetch(torch.arange(6), rng())
    with h5py.File(tmp_path / "Sprites_h5" / "train.hdf5") as file:
        for row, number in enumerate(batch.labels["style"].tolist()):
            page = file[str(number)]
            assert np.array_equal((batch.views[0][row] * 255).round().numpy(), page["seq"][:])
            assert batch.labels["content"][row].tolist() == page["c"][:].tolist()
            assert [int(batch.labels[name][row]) for name in characters.LAYERS[:3]] == list(
                characters.digits(number)[:3]
            )
    single = sprites.open(cfg.model_copy(update={"items": "fragments"}), tmp_path, "train")
    assert (
        single.spec.shape == (3, 64, 64)
        and single.spec.fragments == 0
        and single.spec.frames == {}
        and len(single) == 54
    )
    alone = single.fetch(torch.arange(54), rng())
    assert torch.equal(alone.views[0], batch.views[0].flatten(0, 1))
    assert torch.equal(alone.labels["content"], batch.labels["content"].flatten())
    assert torch.equal(alone.labels["style"], batch.labels["style"].repeat_interleave(9))
    few = sprites.open(cfg.model_copy(update={"n": 4}), tmp_path, "train").fetch(torch.arange(6), rng(1))
    for row in range(6):
        runs = batch.labels["content"][row].unfold(0, 4, 1)
        assert (runs == few.labels["content"][row]).all(1).any()


def test_without_files_characters_are_composed(sheets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(characters, "characters", lambda split, limit=None: [10, 4321, 15])
    source = sprites.open(sprites.Config(jitter=(0, 0, 0, 0)), sheets.parent, "train")
    batch = source.fetch(torch.tensor([1]), rng())
    content = characters.order(0, 4321)
    assert batch.labels["style"].tolist() == [4321] and batch.labels["content"][0].tolist() == content.tolist()
    assert np.array_equal((batch.views[0][0] * 255).round().numpy(), Sheets(sheets).compose(4321)[content])


def test_damaged_files_are_one_line(sheets: Path, tmp_path: Path) -> None:
    text = one_line(sprites, tmp_path)
    assert "no 'sheets/body/0.png'" in text and "--render SHEETS DIR" in text
    assert "Sprites_h5/train.hdf5" in one_line(sprites, sheets.parent, source="files")
    folder = tmp_path / "Sprites_h5"
    folder.mkdir()
    (folder / "train.hdf5").write_bytes(b"torn")
    assert "damaged" in one_line(sprites, tmp_path)
    with h5py.File(folder / "train.hdf5", "w"):
        pass
    assert "holds no page" in one_line(sprites, tmp_path)
    for name, seq, content in (
        ("15", np.zeros((8, 3, 64, 64), np.uint8), np.arange(8)),
        ("15", np.zeros((9, 3, 64, 64), np.uint8), np.arange(9) + 1),
        ("7015", np.zeros((9, 3, 64, 64), np.uint8), np.arange(9)),
        ("x", np.zeros((9, 3, 64, 64), np.uint8), np.arange(9)),
    ):
        with h5py.File(folder / "train.hdf5", "w") as file:
            file[f"{name}/seq"], file[f"{name}/c"] = seq, content
        assert "train.hdf5" in one_line(sprites, tmp_path)


def test_unseen_characters_come_in_copies(sheets: Path, tmp_path: Path) -> None:
    options = {"characters": "ood", "copies": 5, "jitter": (0, 0, 0, 0)}
    batches = {}
    for split, hair in (("train", range(8)), ("val", [8]), ("test", [9])):
        source = sprites.open(sprites.Config(**options), sheets.parent, split)
        batch = batches[split] = source.fetch(torch.arange(len(source)), rng())
        assert batch.labels["style"].tolist() == [6660 + one for one in hair for _ in range(5)]
        assert all((batch.labels[part] == 6).all() for part in characters.LAYERS[:3])
        assert len({tuple(row) for row in batch.labels["content"].tolist()}) > 2 and source.spec.note == ""
    x, plain = batches["val"].views[0], Sheets(sheets).compose(6668)
    shown = [page[content.argsort()] for page, content in zip(x, batches["val"].labels["content"], strict=True)]
    assert len({page.numpy().tobytes() for page in shown}) == 5, "copies differ in colour"
    for page in shown:  # in nothing else: what is black stays so, and what is not does not become so
        assert np.array_equal(page.amax(1).numpy() > 0.01, plain.max(1) > 2)
    again = sprites.open(sprites.Config(**options), sheets.parent, "val").fetch(torch.arange(5), rng(1))
    assert torch.equal(again.views[0], x)
    assert "is composed of sheets" in one_line(sprites, sheets.parent, **options, source="files")
    assert "characters=ood needs the sheets" in one_line(sprites, tmp_path, **options)


def test_pages_as_a_film_and_as_strips(sheets: Path, tmp_path: Path) -> None:
    list(sprites.render(RenderConfig(limit=12), str(sheets), tmp_path))
    lines = list(sprites.draw(sprites.Config(items="fragments"), tmp_path, tmp_path / "out"))
    assert lines == [str(tmp_path / "out" / name) for name in ("sprites.gif", "sprites_strips.png")]
    index = torch.randperm(12, generator=rng())[:10]
    cfg = sprites.Config(jitter=(0, 0, 0, 0))
    pages = sprites.open(cfg, tmp_path, "train").fetch(index, rng()).views[0]
    with Image.open(lines[0]) as gif:
        assert gif.size == (320, 128) and gif.n_frames == 9 and gif.info["loop"] == 0
        for place in range(9):
            gif.seek(place)
            assert gif.info["duration"] == 250
            shown = np.asarray(gif.convert("RGB")).astype(int)
            for number in (0, 6):  # of the second row the second
                tile = shown[number // 5 * 64 :][:64, number % 5 * 64 :][:, :64].transpose(2, 0, 1)
                assert np.abs(tile - (pages[number, place] * 255).round().numpy()).mean() < 6, "a palette of 256"
    with Image.open(lines[1]) as strip:
        pixels = np.asarray(strip).astype(int)
        assert pixels.shape == (640, 576, 3)
        plain = (pages * 255).round().numpy()
        differing = [
            np.abs(pixels[64 * row : 64 * row + 64, 64 * place : 64 * place + 64].transpose(2, 0, 1)
                   - plain[row, place]).mean() for row in range(10) for place in range(9)
        ]  # fmt: skip
        assert 3 < np.mean(differing) < 80


def test_the_verb_draws_them_beside_the_sheet(sheets: Path, tmp_path: Path) -> None:
    list(sprites.render(RenderConfig(limit=10), str(sheets), tmp_path))
    lines = list(show_data("sprites", ["n=5"], tmp_path, tmp_path / "out"))
    drawn = ["sprites.png", "sprites.gif", "sprites_strips.png"]
    assert [Path(line.strip()).name for line in lines[-3:]] == drawn
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(drawn)


def test_a_lacking_sheet_is_named(sheets: Path, tmp_path: Path) -> None:
    shutil.copytree(sheets, tmp_path / "sheets")
    (tmp_path / "sheets" / "topwear" / "6.png").unlink()
    assert "topwear/6.png" in one_line(sprites, tmp_path, characters="ood", copies=2)


def test_unseen_characters_of_the_real_sheets(real: Path) -> None:
    source = sprites.open(sprites.Config(characters="ood", copies=2, source="sheets"), real, "test")
    assert len(source) == 2 and source.fetch(torch.arange(2), rng()).views[0].amax() > 0.5


# -- jitter ---------------------------------------------------------------------------------------------------------


def test_jitter_is_that_of_the_original() -> None:
    with np.load(GOLDEN / "sprites_jitter_a.npz") as g:
        frames = torch.from_numpy(g["frames"]).float() / 255
        names = ["brightness", "contrast", "saturation", "hue"]
        factors = [torch.full((len(frames),), float(g[name])) for name in names]
        order = [names.index(str(name).removeprefix("adjust_")) for name in g["order"]]
        made = (jitter(frames, factors, order) * 255).round().numpy().astype(int)
        assert np.abs(made - g["jittered"]).max() <= 1
        assert np.abs(g["jittered"].astype(int) - g["frames"]).max() > 50


def test_neutral_jitter_changes_nothing() -> None:
    x = torch.randint(256, (4, 3, 8, 8), generator=rng()).float() / 255
    factors = [torch.full((4,), value) for value in (1.0, 1.0, 1.0, 0.0)]
    assert ((jitter(x, factors, (3, 1, 2, 0)) - x) * 255).abs().max() < 1.01


def test_a_page_is_jittered_as_one_and_pages_differ() -> None:
    x = torch.rand(1, 1, 3, 4, 4, generator=rng()).expand(40, 3, -1, -1, -1).contiguous()
    made = jittered(x, np.arange(40), 7, (0, 0, 0, 0.5))
    assert torch.equal(made[:, 0], made[:, 2]) and len(made[:, 0].flatten(1).unique(dim=0)) > 35
    assert torch.equal(made[5:6], jittered(x[5:6], np.array([5]), 7, (0, 0, 0, 0.5)))
    assert not torch.equal(made, jittered(x, np.arange(40), 8, (0, 0, 0, 0.5)))


def test_evaluations_see_characters_as_they_are(sheets: Path, tmp_path: Path) -> None:
    """The jitter is training's alone, and evaluations that read the training split do not draw it either."""
    list(sprites.render(RenderConfig(limit=6), str(sheets), tmp_path))
    cfg = sprites.Config()
    variants = [cfg, cfg.model_copy(update={"augment": "all"}), sprites.evaluated(cfg), sprites.Config(jitter=(0,) * 4)]
    for split in SPLITS:
        for items in ("pages", "fragments"):
            ours, published, judged, plain = (
                sprites.open(one.model_copy(update={"items": items}), tmp_path, split)
                .fetch(torch.arange(6), rng())
                .views[0]
                for one in variants
            )
            assert torch.equal(ours, plain) is (split != "train")
            assert not torch.equal(published, plain) and torch.equal(judged, plain)
    assert sprites.evaluated(variants[1]) == variants[1]


# -- pages ----------------------------------------------------------------------------------------------------------


def book() -> Book:
    """Three pages of 4, 2 and 6 fragments, which show their own number."""
    x = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 1, 2, 2))
    own = {"content": np.arange(12)}
    return Book(x, np.array([0, 4, 6]), np.array([4, 2, 6]), own, {"style": np.array([5, 6, 7])})


@pytest.mark.parametrize("draw", ["run", "any"])
def test_fragments_of_longer_pages_are_drawn(draw: str) -> None:
    spec = Spec(shape=(2, 1, 2, 2), labels={"content": 12, "style": 8})
    pages = Pages(book(), spec, draw)  # type: ignore[arg-type]
    seen: list[set[tuple[int, ...]]] = [set(), set(), set()]
    for seed in range(300):
        batch = pages.fetch(torch.tensor([0, 1, 2]), rng(seed))
        assert torch.equal((batch.views[0][:, :, 0, 0, 0] * 255).round().long(), batch.labels["content"])
        assert batch.labels["style"].tolist() == [5, 6, 7]
        for place, row in enumerate(batch.labels["content"].tolist()):
            seen[place].add(tuple(row))
    assert [len(one) for one in seen] == ([3, 1, 5] if draw == "run" else [12, 1, 30])
    assert all(value < 4 for row in seen[0] for value in row) and seen[1] == {(4, 5)}


def test_fragments_of_chosen_pages() -> None:
    few = Fragments(book().take(np.array([2, 1])), Spec(shape=(1, 2, 2), labels={"content": 12, "style": 8}))
    batch = few.fetch(torch.arange(len(few)), rng())
    assert batch.labels["content"].tolist() == [6, 7, 8, 9, 10, 11, 4, 5]
    assert batch.labels["style"].tolist() == [7] * 6 + [6] * 2


def test_views_of_pages_lose_a_half_as_their_fragments_do() -> None:
    pages = Pages(book(), Spec(shape=(2, 1, 2, 2), labels={"content": 12, "style": 8}))
    batch = pages.fetch(torch.tensor([0, 1]), rng())
    views = Views(ViewsConfig(count=1), pages.spec)
    assert torch.equal(views(batch, rng()).views[0], batch.views[0] - 0.5)
    assert torch.allclose(views.pixels(views.clean(batch).views[0]), batch.views[0])
    assert Views(ViewsConfig(count=1, normalize=False), pages.spec)(batch, rng()).views[0].max() > 0
    with pytest.raises(ConfigError, match="needs images"):
        Views(ViewsConfig(tx=("fli",), count=1), pages.spec)

"""PhoneNums: permutations, glyphs, blur and noise of rendered pages; splits, few shots, files in V3's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opened import every, one_line, rng
from PIL import Image

from datasets import phonenums
from datasets.base import SPLITS, DataError
from datasets.config import ConfigError, parse
from datasets.synth import phone_numbers
from datasets.synth.phone_numbers import PALETTE, UNSEEN, Look

GOLDEN = Path(__file__).parents[1] / "golden" / "v3"
PLAIN: dict[str, Any] = {"blur": False, "noise": 0, "shift": 0}


pytestmark = pytest.mark.usefixtures("cache")


# -- rendering ------------------------------------------------------------------------------------------------------


def test_blur_is_that_of_the_original() -> None:
    with np.load(GOLDEN / "phonenums_blur_a.npz") as g:
        made = phone_numbers.blurred(g["image"], g["levels"])
        assert np.abs(made - g["blurred"]).max() <= 2
        assert np.abs(g["image"].astype(int) - g["blurred"]).max() > 20


def test_sizes_go_from_strip_to_strip() -> None:
    size = phone_numbers.sizes(np.array([5, 13, 9]), 5)
    assert size.tolist() == [5, 7, 9, 11, 13, 13, 13, 11, 11, 9, *[9] * 5]
    levels = phone_numbers.draw_levels(18_000, np.random.default_rng(0))
    shares = [float((levels == level).mean()) for level in (5, 9, 13)]
    assert np.allclose(shares, [11 / 18, 5 / 18, 2 / 18], atol=0.01)
    assert all(np.isclose(phone_numbers.kernel(size).sum(), 1) for size in (5, 7, 9, 11, 13))


def test_permutations_have_their_ranks() -> None:
    ranks = np.array([0, 1, 720, phone_numbers.PERMUTATIONS - 1])
    made = phone_numbers.permutations(ranks).tolist()
    assert made == sorted(made) and made[0] == list(range(10)) == made[3][::-1]
    digits, style = phone_numbers.numbers(800, 8, 10, False, 3)
    assert (np.sort(digits, 1) == np.arange(10)).all() and np.bincount(style).tolist() == [100] * 8
    for one in range(8):
        assert len(np.unique(digits[style == one], axis=0)) == 100
    free = phone_numbers.numbers(800, 8, 20, True, 3)[0]
    assert free.shape == (800, 20) and np.bincount(free.ravel()).min() > 1400


def test_ink_and_paper() -> None:
    digits = np.arange(10)
    for colour in (*PALETTE.values(), *UNSEEN.values()):
        x = phone_numbers.page(Look(**PLAIN), digits, colour, 0, 4).astype(int)
        ink = np.array([int(240 * channel / 255 + 8) for channel in colour])
        paper = x[:, :, 0, 0]
        assert (paper == paper[0]).all() and np.abs(paper[0] - 245).max() <= 2, "one paper a page"
        share = np.stack([phone_numbers.glyph("DejaVuSans", 48, -3, digit, 0, 0) for digit in range(10)])
        full = [x[digit][:, share[digit] == 255] for digit in range(10)]
        assert all((own == own[:, :1]).all() for own in full), "one ink a digit"
        inks = np.stack([own[:, 0] for own in full])
        assert np.abs(inks - ink).max() <= 4 and len(np.unique(inks, axis=0)) > 3, "a jitter of its own each"


def test_a_page_follows_from_seed_and_number() -> None:
    digits, colour = np.arange(10), (0, 0, 255)
    one = phone_numbers.page(Look(), digits, colour, 0, 1)
    assert one.shape == (10, 3, 48, 32) and one.dtype == np.uint8
    assert np.array_equal(one, phone_numbers.page(Look(), digits, colour, 0, 1))
    for other in ((1, 1), (0, 2)):
        assert not np.array_equal(one, phone_numbers.page(Look(), digits, colour, *other))


def test_shift_and_noise() -> None:
    centres = [np.average(np.arange(32), weights=phone_numbers.glyph("DejaVuSans", 48, -3, 4, right, 0).sum(0))
               for right in (0, 4, 8)]  # fmt: skip
    assert np.allclose(np.diff(centres), 0.5, atol=0.1)
    noisy = [
        phone_numbers.page(Look(**{**PLAIN, "noise": 10}), np.arange(10), (0, 0, 0), 0, number)[0, :, :4]
        for number in range(40)
    ]
    deviations = [float(corner.astype(float).std()) for corner in noisy]
    assert min(deviations) < 2.5 and 6 < max(deviations) < 10
    dark = phone_numbers.page(Look(**{**PLAIN, "noise": 50}), np.zeros(4, int), (0, 0, 0), 0, 7)
    assert np.median(dark[:, :, :4]) > 200, "clipped, not wrapped around"


@pytest.mark.parametrize(("look", "message"), [
    ({"font": "NoSuch"}, "no font 'NoSuch'"), ({"offset": -20}, "does not fit"), ({"font": "LastResortHE-Regular"}, ""),
])  # fmt: skip
def test_what_cannot_be_drawn_is_one_line(tmp_path: Path, look: dict[str, Any], message: str) -> None:
    if message:
        assert message in one_line(phonenums, None, made={"pages": 160, **look})


# -- the set --------------------------------------------------------------------------------------------------------


def test_splits_are_complete_disjoint_and_even(tmp_path: Path) -> None:
    sources = every(phonenums, tmp_path, made={"pages": 160, **PLAIN})
    assert [len(source) for source in sources.values()] == [128, 16, 16]
    spec = sources["train"].spec
    assert spec.shape == (10, 3, 48, 32) and spec.labels == {"content": 10, "style": 8}
    assert spec.fragments == 10 and spec.frames == {"content": 1} and "rendered" in spec.note
    seen = set()
    for source in sources.values():
        batch = source.fetch(torch.arange(len(source)), rng())
        assert len(set(batch.labels["style"].bincount(minlength=8).tolist())) == 1
        assert torch.equal(batch.labels["content"].sort(1).values, torch.arange(10).expand(len(source), 10))
        seen |= {(*row, s) for row, s in zip(batch.labels["content"].tolist(), batch.labels["style"].tolist(),
                                             strict=True)}  # fmt: skip
    assert len(seen) == 160


def test_a_fragment_shows_its_digit_in_its_colour(tmp_path: Path) -> None:
    source = phonenums.open(
        phonenums.Config(items="fragments", made=phonenums.Made(pages=160, **PLAIN)), tmp_path, "val"
    )
    batch = source.fetch(torch.arange(len(source)), rng())
    assert batch.views[0].shape == (160, 3, 48, 32)
    for x, digit, style in zip(batch.views[0], batch.labels["content"], batch.labels["style"], strict=True):
        share = torch.from_numpy(phone_numbers.glyph("DejaVuSans", 48, -3, int(digit), 0, 0).copy())
        ink = (x[:, share == 255] * 255).mean(1)
        assert (ink - torch.tensor(list(PALETTE.values())[int(style)]) * 240 / 255 - 8).abs().max() < 6
        assert (x[:, share == 0] * 255).round().min() >= 241


def test_few_shots_are_nested_and_held_apart(tmp_path: Path) -> None:
    options: dict[str, Any] = {"palette": "ood", "made": {"pages": 240, **PLAIN}}
    pages: dict[Any, set[bytes]] = {}
    for shots in (1, 5, 10):
        sources = every(phonenums, tmp_path, shots=shots, **options)
        assert [len(source) for source in sources.values()] == [8 * shots, 80, 80]
        for split, source in sources.items():
            x = source.fetch(torch.arange(len(source)), rng()).views[0]
            pages[split, shots] = {row.numpy().tobytes() for row in x}
    assert pages["train", 1] < pages["train", 5] < pages["train", 10]
    assert pages["test", 1] == pages["test", 10] and pages["val", 1] == pages["val", 5]
    parts = [pages["train", 10], pages["val", 10], pages["test", 10]]
    assert len(set().union(*parts)) == 240
    text = one_line(phonenums, tmp_path, "test", **{**options, "made": {"pages": 160, **PLAIN}}, shots=1)
    assert "no page is left for a split 'test'" in text


def test_digits_with_repeats_and_shorter_pages(tmp_path: Path) -> None:
    made = {"pages": 160, "repeats": True, "length": 12, **PLAIN}
    source = every(phonenums, tmp_path, made=made, n=4)["train"]
    content = source.fetch(torch.arange(len(source)), rng()).labels["content"]
    assert content.shape == (128, 4) and any(len(set(row)) < 4 for row in content.tolist())
    assert "lower data.n" in one_line(phonenums, tmp_path, made=made, n=13)
    with pytest.raises(ConfigError, match="needs repeats"):
        parse(phonenums.Config, {"made": {"length": 12}}, "data")


def test_no_number_comes_twice_in_a_colour(tmp_path: Path) -> None:
    """Two pages of one name would be one file, and be in two splits."""
    digits, style = phone_numbers.numbers(800, 8, 2, True, 0)
    assert len(np.unique(np.column_stack([style, digits]), axis=0)) == 800
    cfg = phonenums.RenderConfig(pages=400, repeats=True, length=2, **PLAIN)
    assert any("320 pages in train" in line for line in phonenums.render(cfg, "default", tmp_path))
    names = [path.name for path in tmp_path.rglob("*.png")]
    assert len(names) == len(set(names)) == 400
    with pytest.raises(ConfigError, match=r"there are 800 of 2 digits \(got 1,000\)"):
        parse(phonenums.Config, {"made": {"repeats": True, "length": 2}}, "data")


def test_pngs_in_v3s_layout_are_read_back(tmp_path: Path) -> None:
    cfg = phonenums.RenderConfig(pages=160, noise=2)
    (line,) = phonenums.render(cfg, "default", tmp_path)
    assert "128 pages in train, 16 pages in val, 16 pages in test" in line
    made = every(phonenums, None, made=phonenums.Made(pages=160, noise=2), source="made")
    read = every(phonenums, tmp_path)
    assert all(source.spec.note == "" for source in read.values())
    for split in SPLITS:
        shown = [
            {(x.numpy().tobytes(), *content.tolist(), int(style)) for x, content, style in zip(
                batch.views[0], batch.labels["content"], batch.labels["style"], strict=True)}
            for batch in (one[split].fetch(torch.arange(len(one[split])), rng()) for one in (made, read))
        ]  # fmt: skip
        assert shown[0] == shown[1]
    with pytest.raises(DataError, match="is there already"):
        list(phonenums.render(cfg, "default", tmp_path))
    list(phonenums.render(phonenums.RenderConfig(pages=240, palette="ood", **PLAIN), "DejaVuSerif", tmp_path))
    unseen = every(phonenums, tmp_path, palette="ood", shots=5)
    assert [len(source) for source in unseen.values()] == [40, 80, 80]


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    assert "no 'PhoneNums/test'" in one_line(phonenums, tmp_path, source="files")
    for split in SPLITS:
        (tmp_path / "PhoneNums" / split).mkdir(parents=True)
    assert "no file such as 0123456789_black.png" in one_line(phonenums, tmp_path)
    page = tmp_path / "PhoneNums" / "train" / "0123456789_red.png"
    page.write_bytes(b"torn")
    assert "0123456789_red.png: damaged" in one_line(phonenums, tmp_path)
    Image.new("RGB", (32, 48)).save(page)
    assert "should be 320x48 pixels, is 32x48" in one_line(phonenums, tmp_path)
    assert "palette=ood" in one_line(phonenums, tmp_path, shots=1)

"""What holds for every transform that ships, found by itself, and the distributions of the draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.config import ConfigError, parse
from datasets.transforms.audio import SoundTransform
from datasets.transforms.color import COMPONENTS, ORDERS
from datasets.transforms.load import alone, build, complete, find, shipped
from datasets.transforms.ranged import QUARTERS, Ranged

CODES = sorted(shipped())
IMAGES = {code for code in CODES if not issubclass(shipped()[code], SoundTransform)}
SEMITONES = {"pitch_shift"}  # of which the quarters are even, and not of the parameter
NEVER_NEUTRAL = {"jpeg", "white_noise_snr"}  # whose identity is what changes least
RANGED = [code for code in CODES if issubclass(shipped()[code], Ranged)]
SHAPE, SIZE, SOUND = (3, 12, 12), 10, (1, 600)
ROUNDED = {"hue_shift": 0.025, "saturation_shift": 0.002, "brightness_shift": 0.002}  # 8 bit, of hue too


def make(code: str, shape: tuple[int, ...] = SHAPE, size: int = SIZE, **options: Any) -> Any:
    kind = find(code)
    if issubclass(kind, SoundTransform):
        if kind.Config.model_fields.get("rate") and kind.Config.model_fields["rate"].default is None:
            options = {"rate": 16_000, **options}
        return kind(parse(kind.Config, options, code), SOUND, SOUND)
    return kind(parse(kind.Config, options, code), shape, (shape[0], size, size))


def items(code: str, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = SOUND if issubclass(find(code), SoundTransform) else SHAPE
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_codes_are_there() -> None:
    expected = {"sca", "rot", "ron", "fli", "flv", "blu", "gra", "jit", "bri", "con", "sat", "hue", "res", "ccr", "sol"}
    assert expected <= set(CODES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("code", CODES)
def test_contract(code: str, dtype: torch.dtype) -> None:
    transform, x = make(code), items(code, 16, dtype)
    p, kept = transform.sample(16, rng()), x.clone()
    y = transform.apply(x, p)
    assert p.shape == (16, transform.dims) and p.dtype == torch.float32
    assert y.shape == (16, *transform.out_shape) and y.dtype == dtype and y.isfinite().all()
    assert torch.equal(x, kept), "the input was written to"
    assert torch.equal(y, transform.apply(x, p)), "not a function of x and p alone"
    assert torch.equal(p, transform.sample(16, rng())), "draws depend on more than the generator"
    one_by_one = torch.cat([transform.apply(x[i : i + 1], p[i : i + 1]) for i in range(16)])
    assert torch.allclose(y, one_by_one, atol=1e-6)
    assert transform.apply(x[:0], p[:0]).shape == (0, *transform.out_shape)


@pytest.mark.parametrize("code", sorted(set(CODES) - NEVER_NEUTRAL))
def test_identity_is_identity(code: str) -> None:
    transform, x = make(code, size=12), items(code, 8)
    y = transform.apply(x, transform.still(8))
    assert torch.allclose(y, x, atol=ROUNDED.get(code, 2e-6))


@pytest.mark.parametrize("code", [code for code in CODES if shipped()[code].usable])
def test_unit(code: str) -> None:
    transform = make(code)
    unit = transform.unit(transform.sample(4000, rng()))
    assert unit.shape == (4000, 1)
    if code != "sca":
        assert unit.min() >= -1e-6 and unit.max() <= 1 + 1e-6
    assert (len(unit.unique()) == 2) == transform.binary
    if transform.kind == "quarter":
        assert unit.unique().tolist() == [0.125, 0.375, 0.625, 0.875]
    assert transform.unit(transform.still(1)).isfinite().all()


@pytest.mark.parametrize(
    "code, identity",
    [("rot", 0.5), ("ron", 0.125), ("fli", 0.25), ("flv", 0.25), ("blu", 0.25), ("gra", 0.25), ("sca", 1 - 9 / 10)]
    + [(code, 0.5) for code in (*COMPONENTS, "sol")],
)
def test_unit_of_the_identity(code: str, identity: float) -> None:
    transform = make(code)
    assert transform.unit(transform.still(1)).item() == pytest.approx(identity, abs=1e-6)


@pytest.mark.parametrize(
    "code, probability",
    [("fli", 0.5), ("flv", 0.5), ("blu", 0.5), ("gra", 0.2), ("jit", 0.8), ("hue", 0.8), ("sol", 0.2)],
)
def test_masks(code: str, probability: float) -> None:
    assert make(code).sample(20_000, rng())[:, -1].mean().item() == pytest.approx(probability, abs=0.02)
    assert make(code, probability=1).sample(100, rng())[:, -1].min() == 1
    assert make(code, probability=0).sample(100, rng())[:, -1].max() == 0


@pytest.mark.parametrize(
    "code, low, high",
    [("rot", -180, 180), ("blu", 0.1, 2), ("bri", 0.6, 1.4), ("con", 0.6, 1.4), ("sat", 0.6, 1.4), ("hue", -0.1, 0.1)],
)
def test_ranges_are_uniform(code: str, low: float, high: float) -> None:
    transform = make(code)
    p = transform.sample(20_000, rng())
    values = (p[:, 0] if not transform.masked else p[p[:, -1] > 0, 0]).sub(low).div(high - low)
    assert values.min() >= -1e-6 and values.max() <= 1 + 1e-6
    quantiles = values.quantile(torch.tensor([0.1, 0.5, 0.9]))
    assert torch.allclose(quantiles, torch.tensor([0.1, 0.5, 0.9]), atol=0.02)


@pytest.mark.parametrize("code", RANGED)
def test_a_quarter_is_drawn_from_by_its_name(code: str) -> None:
    for number, name in enumerate(QUARTERS):
        quarter, whole = (alone(c, SOUND if code not in IMAGES else SHAPE, 16_000) for c in (f"{code}@{name}", code))
        p = quarter.sample(2000, rng())
        low, high = quarter.range
        assert p[:, 0].min() >= low and p[:, 0].max() <= high
        unit = whole.unit(p)
        share = 1 - unit if code == "white_noise_snr" else unit
        if code not in SEMITONES:
            assert share.min() >= number / 4 - 1e-6 and share.max() <= (number + 1) / 4 + 1e-6
            assert share.max() - share.min() > (0.2 if code == "reverb" else 0.24)
        own = quarter.unit(p)
        assert torch.equal(own, unit) or (own.min() < 0.02 and own.max() > 0.98)
    with pytest.raises(ConfigError, match=f"'{code}': has no range '30'; known: 25"):
        find(f"{code}@30")


@pytest.mark.parametrize("channels", [1, 3])
def test_compression_loses_more_and_more(channels: int) -> None:
    x = torch.linspace(0, 1, 24).view(1, 1, 1, -1).expand(1, channels, 24, 24).mul(255).round() / 255
    jpeg = alone("jpeg", x.shape[1:])
    lost = [(jpeg.apply(x, jpeg.at(strength, 1)) - x).abs().mean().item() for strength in (0, 60, 100)]
    assert lost[0] < 0.01 and lost[0] < lost[1] < lost[2]


def test_a_sane_range() -> None:
    assert alone("brightness_shift@sane", SHAPE).sample(500, rng()).min() >= 0
    assert alone("hue_shift@sane", SHAPE).circular and not alone("hue_shift@50", SHAPE).circular
    with pytest.raises(ConfigError, match="'rot' has no ranges"):
        find("rot@25")


def test_a_range_stands_in_the_name_or_in_the_options() -> None:
    codes = ("hue_shift@25", "hue_shift")
    options = complete(codes, {"hue_shift": {"range": 50}})
    assert options == {"hue_shift@25": {"range": "25"}, "hue_shift": {"range": "50"}}
    assert complete(codes, options) == options
    first, second = build(codes, options, SHAPE, SHAPE)
    assert first.params(first.transform.sample(9, rng()))["hue_shift@25"].max() <= -0.25
    assert second.params(second.transform.sample(9, rng()))["hue_shift"].min() >= -0.25


@pytest.mark.parametrize(
    "pixels, low, high, mean, std", [(36, -0.0625, 0.594, 0.227, 0.166), (32, 0.0625, 0.656, 0.317, 0.147)]
)
def test_boxes(pixels: int, low: float, high: float, mean: float, std: float) -> None:
    sca = make("sca", (3, pixels, pixels), 32)
    p = sca.sample(30_000, rng())
    left, top, w, h = sca.boxes(p).unbind(1)
    assert (left >= 0).all() and (top >= 0).all() and (left + w <= pixels).all() and (top + h <= pixels).all()
    assert (w < pixels).all() and (h < pixels).all(), "the full image never occurs"
    unit = sca.unit(p)
    assert unit.min().item() == pytest.approx(low, abs=0.04) and unit.max().item() == pytest.approx(high, abs=0.04)
    assert unit.mean().item() == pytest.approx(mean, abs=0.01) and unit.std().item() == pytest.approx(std, abs=0.01)
    assert torch.corrcoef(torch.stack((w, h)))[0, 1].item() == pytest.approx(0.71, abs=0.03)
    assert left[w == pixels - 4].unique().tolist() == [0, 1, 2, 3, 4]


def test_corrected_box_is_in_range() -> None:
    sca = make("sca", (3, 36, 36), 32, mode="corrected")
    p = sca.sample(5000, rng())
    unit, (_, _, w, h) = sca.unit(p), sca.boxes(p).unbind(1)
    assert unit.min() >= 0 and unit.max() <= 1
    assert torch.allclose(unit[:, 0], 1 - (w * h).sqrt() / 36, atol=1e-6)


def test_a_box_that_never_fits_is_the_widest() -> None:
    sca = make("sca", (3, 8, 40), 8, scale_min=0.95, aspect_min=1)
    _, _, w, h = sca.boxes(sca.sample(50, rng())).unbind(1)
    assert (w == 40).all() and (h == 8).all()


def test_jitter_has_one_order_per_batch_and_all_occur() -> None:
    jit = make("jit")
    numbers = [jit.sample(4, rng(seed))[:, 4].unique() for seed in range(300)]
    assert all(len(number) == 1 for number in numbers)
    assert len(torch.cat(numbers).unique()) == len(ORDERS)


def test_jitter_on_rows_of_several_batches() -> None:
    jit, x = make("jit"), items("jit", 12)
    p = torch.cat([jit.sample(4, rng(seed)) for seed in range(3)])
    parts = torch.cat([jit.apply(x[i : i + 4], p[i : i + 4]) for i in (0, 4, 8)])
    assert torch.equal(jit.apply(x, p), parts)


def test_hue_keeps_gray_and_turns_full_circle() -> None:
    hue, x = make("hue"), items("hue", 4)
    gray = x.mean(1, keepdim=True).expand_as(x)
    assert torch.allclose(hue.apply(gray, hue.at(0.3, 4)), gray, atol=1e-6)
    third = hue.apply(x, hue.at(1 / 3, 4))
    assert torch.allclose(third, x.roll(1, dims=1), atol=1e-5), "a third of a turn moves red to green to blue"


@pytest.mark.parametrize("code, strength", [("rot", 30.0), ("ron", 90.0), ("fli", 1.0), ("blu", 1.5), ("bri", 0.7)])
def test_fixed_strength(code: str, strength: float) -> None:
    transform, x = make(code), items(code, 3)
    p = transform.at(strength, 3)
    assert (p[:, 0] == strength).all()
    assert not torch.allclose(transform.apply(x, p), x, atol=1e-3)


def test_fixed_box() -> None:
    sca = make("sca", size=12)
    assert sca.boxes(sca.at(0.5, 2)).tolist() == [[3, 3, 6, 6]] * 2


@pytest.mark.parametrize("code, strength", [("jit", 1.0), ("res", 1.0), ("ron", 45.0), ("sca", 1.5)])
def test_no_such_strength(code: str, strength: float) -> None:
    with pytest.raises(ConfigError, match=code):
        make(code).at(strength, 2)


def test_small_angles_are_no_circle() -> None:
    narrow = make("rot", degrees=90)
    assert make("rot").circular and not narrow.circular
    assert narrow.sample(1000, rng()).abs().max() <= 90
    assert narrow.unit(torch.tensor([[-90.0], [0], [90]])).flatten().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "codes, options, message",
    [
        (("rot",), {"rot": {"degree": 3}}, "did you mean 'degrees'"),
        (("rot",), {"rot": {"degrees": 300}}, "rot.degrees"),
        (("rot",), {"fli": {}}, "'fli' is not in the stack"),
        (("jit",), {"hue": {"strength": 0.2}}, "part of 'jit'"),
        (("sca",), {"sca": {"scale_min": 0.9, "scale_max": 0.3}}, "scale_min 0.9 is above"),
        (("jit",), {"jit": {"ratios": [0.8, 0.8, 0.8, 2.0]}}, "of hue in"),
        (("rott",), {}, "did you mean 'rot'"),
        (("mylab_absent.transforms.Foo",), {}, "PYTHONPATH"),
        (("datasets.base.Batch",), {}, "no subclass"),
        (("hue_shift@20",), {}, "no range '20'"),
        (("hue_shift@25",), {"hue_shift@25": {"range": "50"}}, "leave 'range' out"),
    ],
)
def test_wrong_options_are_one_line(codes: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        complete(codes, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "code, shape", [("gra", (1, 12, 12)), ("jit", (1, 12, 12)), ("ron", (3, 12, 10)), ("rot", (1, 99))]
)
def test_items_that_do_not_fit(code: str, shape: tuple[int, ...]) -> None:
    kind = find(code)
    with pytest.raises(ConfigError, match=code):
        kind(kind.Config(), shape, shape)

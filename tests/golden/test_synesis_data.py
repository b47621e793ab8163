"""Data and transforms of the representation evaluation framework against values of its original code."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datasets import imagenet
from datasets.base import Batch, Spec
from datasets.colour_labels import FACTORS, colour_labels, hsv
from datasets.transforms.eight_bit import quality
from datasets.transforms.load import alone
from datasets.transforms.ranged import QUARTERS
from datasets.transforms.sound_factors import aligned, noisy, shifted
from datasets.views import Views, ViewsConfig

FOLDER = Path(__file__).parent / "synesis"


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def near(actual: Tensor | np.ndarray, expected: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(actual, dtype=float), expected.astype(float), rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "levels"), [("hue", 1), ("saturation", 0), ("brightness", 0)])
def test_colours_of_8_bit_images(name: str, levels: int) -> None:
    g = golden("image_transforms")
    x = torch.from_numpy(g["images"]).permute(0, 3, 1, 2).float() / 255
    transform = alone(f"{name}_shift", x.shape[1:])
    for column, factor in enumerate(g[f"{name}_factor"]):
        p = transform.at(float(factor), len(x))
        y = transform.apply(x, p) * 255
        near(y.permute(0, 2, 3, 1).round(), g[f"{name}_out"][:, column], atol=levels)
        near(transform.unit(p)[0], g[f"{name}_param01"][column : column + 1], atol=1e-6)


def test_compression() -> None:
    g = golden("image_transforms")
    x = torch.from_numpy(g["images"]).permute(0, 3, 1, 2).float() / 255
    jpeg = alone("jpeg", x.shape[1:])
    assert [quality(strength) for strength in g["jpeg_compression"]] == g["jpeg_quality"].tolist()
    for column, strength in enumerate(g["jpeg_compression"]):
        p = jpeg.at(float(strength), len(x))
        near((jpeg.apply(x, p) * 255).permute(0, 2, 3, 1), g["jpeg_out"][:, column], atol=3)
        near(jpeg.unit(p)[0], g["jpeg_param01"][column : column + 1], atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_ratios_of_pitches(rate: int) -> None:
    g = golden("audio_pitchshift")
    for part in ("full", *QUARTERS):
        shift = alone("pitch_shift" if part == "full" else f"pitch_shift@{part}", (1, 4000), rate)
        assert [[ratio.numerator, ratio.denominator] for ratio in shift.ratios] == g[f"sr{rate}_{part}"].tolist()


@pytest.mark.parametrize(("rate", "count"), [(22_050, 50), (44_100, 80), (48_000, 38)])
def test_numbers_of_ratios(rate: int, count: int) -> None:
    assert len(alone("pitch_shift", (1, 4000), rate).ratios) == count


def test_shifted_pitches() -> None:
    g = golden("audio_pitchshift")
    x, rate = torch.from_numpy(g["x"]), int(g["sample_rate"])
    shift = alone("pitch_shift", x.shape[1:], rate)
    for number, (a, b) in enumerate(g["ratios"]):
        near(shifted(x, Fraction(int(a), int(b)), rate), g[f"y_{number}"], atol=1e-3)
        near(shift.apply(x, shift.at(a / b, 1)), g[f"y_{number}"], atol=1e-3)


def test_white_noise() -> None:
    g = {name: torch.from_numpy(array) for name, array in golden("audio_whitenoise").items()}
    near(noisy(g["x"], g["white"], g["snr_db"]), g["y"].numpy(), atol=1e-5)


def test_stretched_sounds_are_as_long_as_they_were() -> None:
    g = golden("equi_batch_timestretch")
    stretch = alone("time_stretch", (1, 20))
    for number, (length, first) in enumerate(zip(g["lengths"], g["offset_or_leftpad"], strict=True)):
        share = (first + 0.5) / max(abs(20 - length), 1) if first >= 0 else 0.9
        x = torch.from_numpy(g[f"stretched_{number}"])[None]
        near(aligned(x, 20, float(share)), g["aligned"][number], atol=1e-10)
    near(stretch.unit(torch.from_numpy(g["rates"])[:, None])[:, 0], g["p_target"], atol=1e-6)


def test_units_of_sound() -> None:
    g = golden("equi_param_maps_audio")
    for code, natural, unit in (("white_noise_snr", "snr_db", "noise_p"), ("pitch_shift", "ratio", "pitch_p")):
        for name in (code, *(f"{code}@{part}" for part in QUARTERS)):
            made = alone(name, (1, 4000), 16_000).unit(torch.from_numpy(g[natural])[:, None])
            near(made[:, 0], g[unit], atol=1e-6)


def test_colour_labels() -> None:
    g = golden("image_hsv_labels")
    x = torch.from_numpy(g["images"]).permute(0, 3, 1, 2)
    assert np.array_equal(hsv(x).permute(0, 2, 3, 1), g["hsv"])
    for made in (colour_labels(x), colour_labels(x.float() / 255)):
        near(torch.stack([made[factor] for factor in FACTORS], 1), g["labels"][:, :3], atol=1e-9)


def test_splits_of_imagenet() -> None:
    g = golden("image_split_subset")
    parts = imagenet._split(g["classes"], 0.1, 42)
    for part, rows in parts.items():
        assert np.array_equal(rows, g[f"{part}_idx"])
        assert np.array_equal(imagenet._subset(len(rows), 0.5, 42), g[f"{part}_subset"])


def test_preparation_of_photographs() -> None:
    g = golden("image_preprocess")
    made = np.stack([imagenet.prepared(Image.fromarray(image), 16, 12) for image in g["images"]])
    near(made.transpose(0, 2, 3, 1), g["cropped"], atol=1)
    views = Views(ViewsConfig(normalize="imagenet"), Spec((3, 12, 12)))
    cropped = torch.from_numpy(g["cropped"]).permute(0, 3, 1, 2).float() / 255
    near(views.clean(Batch([cropped], torch.arange(2))).views[0], g["tensor"], atol=1e-6)

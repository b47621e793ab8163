"""Data and transforms of the representation evaluation framework against values of its original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.colour_labels import FACTORS, colour_labels, hsv
from datasets.transforms.eight_bit import quality
from datasets.transforms.load import alone

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


def test_colour_labels() -> None:
    g = golden("image_hsv_labels")
    x = torch.from_numpy(g["images"]).permute(0, 3, 1, 2)
    assert np.array_equal(hsv(x).permute(0, 2, 3, 1), g["hsv"])
    for made in (colour_labels(x), colour_labels(x.float() / 255)):
        near(torch.stack([made[factor] for factor in FACTORS], 1), g["labels"][:, :3], atol=1e-9)

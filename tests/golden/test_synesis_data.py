"""Data and transforms of the representation evaluation framework against values of its original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

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

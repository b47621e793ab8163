"""Hue, saturation and brightness of images whose colours are known."""

from __future__ import annotations

import pytest
import torch

from datasets.colour_labels import colour_labels
from datasets.transforms.load import alone


def plain(*colours: tuple[int, int, int]) -> torch.Tensor:
    """(1, 3, 1, n) image of so many pixels."""
    return torch.tensor(colours, dtype=torch.uint8).T[None, :, None]


@pytest.mark.parametrize(
    ("colour", "hue", "saturation", "brightness"),
    [((255, 0, 0), 0, 255, 255), ((0, 128, 0), 60, 255, 128), ((0, 0, 255), 120, 255, 255), ((90, 90, 90), 0, 0, 90)],
)
def test_plain_colours(colour: tuple[int, int, int], hue: int, saturation: int, brightness: int) -> None:
    made = colour_labels(plain(colour, colour))
    assert [made[name].item() for name in ("hue", "saturation", "brightness")] == [hue, saturation, brightness]


def test_reds_of_both_ends_have_a_mean_on_the_circle() -> None:
    x = plain((255, 0, 60), (255, 60, 0))  # hues 173 and 7
    assert colour_labels(x)["hue"].item() == 90
    mean = colour_labels(x, circular=True)["hue"].item()
    assert min(mean, 180 - mean) < 1e-9


@pytest.mark.parametrize(
    ("code", "number", "expected"),
    [("hue_shift", 0.25, 45), ("saturation_shift", 0.5, -74), ("brightness_shift", 0.5, -102)],
)
def test_a_transform_moves_its_factor(code: str, number: float, expected: float) -> None:
    x = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    transform = alone(code, x.shape[1:])
    before, after = colour_labels(x), colour_labels(transform.apply(x, transform.at(number, 1)))
    moved = (after[transform.factor] - before[transform.factor]).item()
    assert moved == pytest.approx(expected, abs=1)
    if code != "saturation_shift":
        assert after["saturation"].item() == pytest.approx(before["saturation"].item(), abs=2)

"""The lifted input: a tight frame of oriented bands."""

from __future__ import annotations

import math

import pytest
import torch

from datasets.config import ConfigError
from trainables.nets.encoder import EncoderConfig, build_encoder
from trainables.nets.lift import MAPS, ORIENTATIONS, SCALES, Lifted, filters, lift

SIZES = [(32, 32), (16, 16), (15, 17), (36, 20)]


@pytest.mark.parametrize("size", SIZES)
def test_it_keeps_the_energy_and_can_be_taken_back(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = lift(x)
    assert maps.shape == (2, 54, *size)
    torch.testing.assert_close(maps.square().sum(), x.square().sum())
    spectrum = torch.fft.rfft2(maps.unflatten(1, (3, MAPS))) * filters(*size).conj()
    torch.testing.assert_close(torch.fft.irfft2(spectrum.sum(2), s=size), x)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
@pytest.mark.parametrize("scale", range(1, SCALES - 1))
def test_a_wave_lies_in_the_band_of_its_scale_and_direction(scale: int, orientation: int) -> None:
    """A plane wave of the band's middle frequency: its own map holds more of it than any other."""
    angle, cycles = orientation * math.pi / ORIENTATIONS, 0.5 ** (scale + 1) / 2  # per pixel
    down, across = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    wave = torch.sin(2 * math.pi * cycles * (across * math.cos(angle) + down * math.sin(angle)))
    energy = lift(wave[None, None])[0].square().mean((1, 2))
    assert int(energy.argmax()) == 1 + scale * ORIENTATIONS + orientation


def test_a_constant_image_is_in_the_low_pass_alone() -> None:
    energy = lift(torch.ones(1, 1, 16, 16))[0].square().sum((1, 2))
    assert float(energy[-1]) == pytest.approx(256) and float(energy[:-1].max()) < 1e-8


def test_the_presets_lift_colour_images_and_leave_lifted_data_alone() -> None:
    cfg = EncoderConfig(name="lifted_cifar10_resnet20", depth=8, width=4, stem=4)
    encoder = build_encoder(cfg, (3, 16, 16))
    assert isinstance(encoder, Lifted) and encoder.features == 16
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    encoder(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    plain = build_encoder(cfg, (54, 16, 16))
    plain.load_state_dict(encoder.net.state_dict())
    torch.testing.assert_close(plain.eval()(lift(x)), encoder.eval()(x))
    with pytest.raises(ConfigError, match="takes 54 channels, the data have 1"):
        build_encoder(cfg, (1, 16, 16))


def test_half_precision_is_lifted_in_full() -> None:
    x = torch.rand(1, 3, 16, 16).bfloat16()
    assert lift(x).dtype == torch.float32

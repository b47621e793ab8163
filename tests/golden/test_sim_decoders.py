"""Decoders of Smooth InfoMax, and the losses they are trained with, against values of its original code."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from test_sim_losses import close, golden
from test_sim_networks import drawn_weights, load, named

from datasets.config import ConfigError
from trainables.losses.sound import LOSSES, mel_decibel, power_spectrum, sound_loss
from trainables.nets.decoders import GridDecoder
from trainables.nets.modular import PRESETS as NETWORKS
from trainables.nets.modular import Sound, frame_counts
from trainables.nets.sound_decoder import PRESETS, SoundDecoder

CASES = {
    "decoder_module0": "module0", "decoder_module1": "module1", "decoder_module2": "module2",
    "legacy_decoder_simple_v2": "simple_v2", "legacy_decoder_v3_two_modules": "v3_two_modules",
    "legacy_decoder_gim_l2": "gim_l2", "legacy_decoder_gim_l4": "gim_l4",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decoders_of_sound(case: str) -> None:
    g = golden(f"{case}_a")
    z = g["in_z"].clone().requires_grad_()
    decoder = SoundDecoder(z.shape[1], CASES[case]).double()
    weights = list(named(g, "w_").values())  # in their order, weight and bias
    names = [name for number in range(len(weights) // 2) for name in (f"{number}.weight", f"{number}.bias")]
    load(decoder, {f"convolutions.{name}": value for name, value in zip(names, weights, strict=True)})
    out = decoder(z.transpose(1, 2))
    close(out, g["out_x"])
    assert decoder.samples(z.shape[2]) == out.shape[2]
    if "grad_z" in g:
        out.square().sum().backward()
        close(z.grad, g["grad_z"])


FRAMES = {  # network, its layer, lengths that come back
    "module0": ("sim_audio", 1, (10_240, 20_480)), "module1": ("sim_audio", 3, (10_240, 20_480)),
    "module2": ("sim_audio", 4, (10_240, 20_480)), "simple_v2": ("vgim_audio", 1, (10_240,)),
    "v3_two_modules": ("vgim_audio", 3, (10_240,)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_lengths_of_decoders(name: str) -> None:
    decoder = SoundDecoder(2, name, hidden=3)
    assert decoder(torch.randn(1, 9, 2)).shape == (1, 1, decoder.samples(9))
    network, layer, lengths = FRAMES.get(name, ("sim_audio", 0, ()))
    options = NETWORKS[network]
    assert isinstance(options, Sound)
    for length in lengths:
        assert decoder.samples(frame_counts(options, length)[layer]) == length
    if name == "simple_v1":
        assert decoder.samples(24) == 10_240


def test_an_unknown_decoder() -> None:
    with pytest.raises(ConfigError, match="did you mean 'module1'"):
        SoundDecoder(4, "module_1")


def test_the_decoder_of_images() -> None:
    g = golden("vision_decoder_a")
    decoder = GridDecoder(6, (7, 7)).double()

    def mine(name: str) -> str:
        return re.sub(r"layers\.(\d+)", lambda found: f"convolutions.{int(found[1]) // 2}", name)

    load(decoder, {mine(key): value for key, value in drawn_weights(g).items()})
    close(decoder(g["in_z"].flatten(2).transpose(1, 2)), g["out_x"])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_waveforms(name: str) -> None:
    g = golden("decoder_losses_a")
    prediction = g["in_prediction"].clone().requires_grad_()
    loss = sound_loss(prediction, g["in_target"], name)
    close(loss, g[f"out_{name}"], rtol=1e-8)
    if f"grad_{name}" in g:
        loss.backward()
        close(prediction.grad, g[f"grad_{name}"], rtol=1e-6 if name == "fft" else 1e-8)


def test_mel_spectra_in_decibel() -> None:
    g = golden("decoder_losses_a")
    close(mel_decibel(g["in_target"]), g["out_mel_db_target"], rtol=1e-8)


def test_losses_of_waveforms_by_hand() -> None:
    x = torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(0))
    y = x + 0.1
    mse = float(sound_loss(x, y, "mse"))
    assert mse == pytest.approx(0.01, rel=1e-4)
    for name in ("spectral", "fft", "mel"):
        assert float(sound_loss(x, x, name)) == 0
        both = float(sound_loss(x, y, f"mse_{name}", weight=0.5))
        assert both == pytest.approx(mse + 0.5 * float(sound_loss(x, y, name)), rel=1e-5)
    silence = mel_decibel(torch.zeros(1, 1, 5000))
    assert torch.equal(silence, torch.full_like(silence, -100.0))
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(8000) / 16_000)[None, None]
    assert int(power_spectrum(tone, 1024, 256)[0, 0, :, 5].argmax()) == 64  # 1 kHz of 8 kHz over 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"name": "mel"}, "4096 needs more than 2048 samples, there are 2000"), ({"name": "MSE"}, "must be one of mse")],
)
def test_losses_that_cannot_be_taken(arguments: dict[str, Any], message: str) -> None:
    x = torch.zeros(1, 1, 2000)
    with pytest.raises(ConfigError, match=message):
        sound_loss(x, x, **arguments)


def test_losses_of_waveforms_in_low_precision() -> None:
    x = torch.randn(1, 1, 5000).bfloat16()
    for name in LOSSES:
        assert sound_loss(x, 0.5 * x, name).dtype == torch.float32

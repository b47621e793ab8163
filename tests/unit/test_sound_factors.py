"""Pitch, tempo, noise and reverberation of sounds of which these are known."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError, parse
from datasets.transforms.load import alone, find
from datasets.transforms.reverb import SHORTEST
from datasets.views import Views, ViewsConfig

RATE = 16_000
SHAPE = (1, RATE)


def tone(hertz: float, samples: int = RATE) -> Tensor:
    return torch.sin(torch.arange(samples) * (2 * math.pi * hertz / RATE)).view(1, 1, -1)


def loudest(x: Tensor) -> float:
    """Hz of the strongest frequency."""
    spectrum = torch.fft.rfft(x.flatten() * torch.hann_window(x.numel())).abs()
    return spectrum.argmax().item() * RATE / x.numel()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.25, 2.0])
def test_a_pitch_is_moved(ratio: float) -> None:
    shift = alone("pitch_shift", SHAPE, RATE)
    assert loudest(shift.apply(tone(500), shift.at(ratio, 1))) == pytest.approx(500 * ratio, rel=0.02)


def test_ratios_are_drawn_alike() -> None:
    p = alone("pitch_shift", SHAPE, RATE).sample(14_000, rng())
    assert p.unique(return_counts=True)[1].float().sub(1000).abs().max() < 150


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.7, 2.0])
def test_a_tempo_leaves_the_pitch(speed: float) -> None:
    stretch = alone("time_stretch", SHAPE)
    y = stretch.apply(tone(500), torch.tensor([[speed, 0.4]]))
    assert y.shape == (1, *SHAPE) and loudest(y) == pytest.approx(500, rel=0.02)
    assert 0.5 < y[..., 4000:-4000].abs().max() < 1.3


@pytest.mark.parametrize(("speed", "share", "place"), [(1.5, 0.9, 4800 + 9000 / 1.5), (0.7, 0.0, 9000 / 0.7)])
def test_a_tempo_moves_what_happens(speed: float, share: float, place: float) -> None:
    time = torch.arange(RATE)
    x = tone(500) * torch.exp(-(((time - 9000) / 1000) ** 2))
    energy = alone("time_stretch", SHAPE).apply(x, torch.tensor([[speed, share]]))[0, 0].square()
    assert (energy @ time.float() / energy.sum()).item() == pytest.approx(place, abs=400)


@pytest.mark.parametrize("snr", [-20.0, 0.0, 30.0])
def test_noise_is_as_loud_as_asked_for_and_repeats(snr: float) -> None:
    noise, x = alone("white_noise_snr", (1, 2 * RATE), RATE), tone(300, 2 * RATE)
    added = noise.apply(x, noise.at(snr, 1)) - x
    assert 20 * (x.norm() / added.norm()).log10().item() == pytest.approx(snr, abs=0.1)
    assert torch.allclose(added[..., :RATE], added[..., RATE:], atol=1e-5 * 10 ** (-snr / 20))
    p = noise.sample(2, rng())
    p[:, 0] = 0
    one, other = noise.apply(x.expand(2, -1, -1), p) - x
    assert torch.corrcoef(torch.stack((one[0, :RATE], other[0, :RATE])))[0, 1].abs() < 0.05


def fall(response: Tensor) -> float:
    """Seconds in which a response (T,) falls by 60 dB, from -5 to -25 dB of the energy that is still to come."""
    left = response.square().flip(0).cumsum(0).flip(0)
    level = 10 * (left / left[0]).log10()
    first, last = (int((level < dB).int().argmax()) for dB in (-5.0, -25.0))
    return (last - first) / RATE * 3


def responses(seconds: float, **options: Any) -> Tensor:
    click = torch.zeros(1, 1, 3 * RATE)
    click[..., 0] = 1
    kind = find("reverb")
    reverb = kind(parse(kind.Config, {"rate": RATE, **options}, "reverb"), click.shape[1:], click.shape[1:])
    return reverb.apply(click, reverb.at(seconds, 1))[0, 0]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.5])
def test_reverberation_falls_in_the_time_asked_for(seconds: float) -> None:
    response = responses(seconds)
    assert response[0].item() == pytest.approx(1, abs=1e-4)
    assert fall(response[1:]) == pytest.approx(seconds, rel=0.1)
    absorbing = 0.161 * 5.6 * 3.9 * 3 / seconds  # Sabine
    assert response[1:].square().sum().item() == pytest.approx(16 * math.pi * 0.35**2 / absorbing, rel=0.1)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_room_of_the_library(seconds: float) -> None:
    pytest.importorskip("pyroomacoustics")
    response = responses(seconds, engine="room")
    assert torch.equal(response, responses(seconds, engine="room"))
    assert fall(response[int(response.argmax()) + 1 :]) == pytest.approx(seconds, rel=0.35)


def test_a_room_without_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(ConfigError, match="'room' needs pyroomacoustics"):
        responses(1, engine="room")
    assert alone("reverb", SHAPE, RATE).cfg.engine == "decay", "whatever is installed"


def test_times_that_the_room_cannot_have() -> None:
    reverb = alone("reverb@25", SHAPE, RATE)
    seconds = reverb.sample(5000, rng())[:, 0]
    assert seconds.min() >= SHORTEST and seconds.max() <= 0.75
    assert seconds.mean().item() == pytest.approx((SHORTEST + 0.75) / 2, abs=0.01)
    with pytest.raises(ConfigError, match=r"0 or at least 0\.105 s"):
        reverb.at(0.05, 1)


@pytest.mark.parametrize("code", ["pitch_shift", "white_noise_snr", "reverb"])
def test_the_rate_is_that_of_the_data(code: str) -> None:
    cfg = parse(ViewsConfig, {"tx": [code], "count": 1}, "views")
    views = Views(cfg, Spec((1, 2000), rate=8000))
    assert views.transforms[code].rate == 8000
    made = views(Batch([torch.rand(3, 1, 2000)], torch.arange(3)), rng())
    assert made.views[0].shape == (3, 1, 2000) and code in made.params
    with pytest.raises(ConfigError, match=f"set views.options.{code}.rate"):
        Views(cfg, Spec((1, 2000)))
    told = parse(ViewsConfig, {"tx": [code], "count": 1, "options": {code: {"rate": 24_000}}}, "views")
    assert Views(told, Spec((1, 2000), rate=8000)).transforms[code].rate == 24_000


def test_what_cannot_be_shifted() -> None:
    with pytest.raises(ConfigError, match="known: 1/2, 64/125"):
        alone("pitch_shift", SHAPE, RATE).at(1.1, 1)
    with pytest.raises(ConfigError, match="more than 125 samples at 16000 Hz"):
        alone("pitch_shift", (1, 100), RATE)
    with pytest.raises(ConfigError, match="needs 2,048 Hz or more, the data have 2,000"):
        alone("pitch_shift", SHAPE, 2000)
    lowest = alone("pitch_shift", (1, 200), 2048)
    assert lowest.apply(torch.rand(2, 1, 200), lowest.at(0.5, 2)).isfinite().all()
    with pytest.raises(ConfigError, match="no ratio for a sample rate of 8009 Hz"):
        alone("pitch_shift", SHAPE, 8009)

"""Reverberation of sound (C, T), by the time in which it falls by 60 dB.

Source: Plachouras et al., IJCNN 2025, arXiv 2505.06224: a room of 5.6 x 3.9 x 3 m, the microphone 0.35 m beside the
source. There are two ways to its impulse response, and an option says which; the default is not the published one, and
needs no library:

- `decay`: the direct sound, and Gaussian noise that falls by 60 dB in the given time, as loud beside it as the field of
  such a room is by Sabine's formula.
- `room`: image sources up to the fourth order and ray tracing, by the library pyroomacoustics (published).
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datasets.config import Config, ConfigError
from datasets.transforms.base import Shape, uniform
from datasets.transforms.sound_factors import SEEDS, RateOptions, SoundFactor, seeds

ROOM, SOURCE, MICROPHONE = (5.6, 3.9, 3.0), (3.5, 2.7, 2.1), (3.5, 3.05, 2.1)
VOLUME = ROOM[0] * ROOM[1] * ROOM[2]
SURFACE = 2 * (ROOM[0] * ROOM[1] + ROOM[0] * ROOM[2] + ROOM[1] * ROOM[2])
SPEED = 343.0  # of sound, m/s
DISTANCE = MICROPHONE[1] - SOURCE[1]
SABINE = 24 * math.log(10) / SPEED
SHORTEST = SABINE * VOLUME / SURFACE  # seconds; walls that reflect nothing
TRIES, ORDER, RAYS, RADIUS, LEAST = 5, 4, 10_000, 0.5, 1e-5
BLOCK = 2**21  # samples that are convolved at once


class ReverbOptions(RateOptions):
    """Options of reverberation."""

    engine: Literal["decay", "room"] = Field(
        "decay", description="decaying noise, or the room by pyroomacoustics (published), which is to be installed"
    )


class Reverb(SoundFactor):
    """`reverb`: reverberation that falls by 60 dB in up to 3 s.

    Parameters: the seconds, a seed; 0 s leaves the sound as it is. Less than 0.105 s is not possible in the room: it is
    drawn again, five times at most. The unit is a share of 3 s.
    """

    code = "reverb"
    Config: ClassVar[type[Config]] = ReverbOptions
    dims = 2
    full = (0.0, 3.0)
    identity = (0.0, 0.0)

    def __init__(self, cfg: Any, shape: Shape, target: Shape) -> None:
        super().__init__(cfg, shape, target)
        self.rate = self.known_rate()
        if cfg.engine == "room" and importlib.util.find_spec("pyroomacoustics") is None:
            raise ConfigError("views.options.reverb.engine: 'room' needs pyroomacoustics, which is not installed")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 2)."""
        tries = uniform(n * TRIES, *self.range, rng).view(n, TRIES)
        first = (tries > SHORTEST).int().argmax(1, keepdim=True)
        seconds = tries.gather(1, first).clamp(min=SHORTEST)
        return torch.cat([seconds, torch.rand(n, 1, generator=rng)], 1)

    def apply(self, x: Tensor, p: Tensor) -> Tensor:
        """Convolved with each item's response, and as long as it was."""
        y, samples = x.clone(), x.shape[-1]
        size = 1 << (2 * samples - 1).bit_length()
        every, block = (p[:, 0] > 0).nonzero()[:, 0], max(1, BLOCK // (x.shape[1] * samples))
        for first in range(0, len(every), block):
            rows = every[first : first + block]
            response = (self._room if self.cfg.engine == "room" else self._decay)(p[rows], samples)
            here = rows.to(x.device)
            spectra = torch.fft.rfft(x[here], size) * torch.fft.rfft(response.to(x), size)[:, None]
            y[here] = torch.fft.irfft(spectra, size)[..., :samples]
        return y

    def at(self, strength: float, n: int) -> Tensor:
        """Seconds, 0 or as many as the room can have.

        Raises:
            ConfigError: fewer.
        """
        if strength != 0 and strength < SHORTEST:
            raise ConfigError(f"transform 'reverb': is of 0 or at least {SHORTEST:.3f} s (got {strength:g})")
        return super().at(strength, n)

    def _decay(self, p: Tensor, samples: int) -> Tensor:
        """(n, T): 1, then noise whose energy is to 1 as that of the room's field is to that of the direct sound."""
        length = min(samples, math.ceil(self.full[1] * self.rate))
        noise = torch.stack([torch.randn(length, generator=generator) for generator in seeds(p[:, 1])])
        seconds, time = p[:, :1].double(), torch.arange(length, dtype=torch.float64) / self.rate
        fall = torch.where(time < seconds, 10 ** (-3 * time / seconds), 0)
        absorbing = SABINE * VOLUME / seconds  # m2
        energy = 16 * math.pi * DISTANCE**2 / absorbing
        whole = self.rate * seconds / (6 * math.log(10))  # of fall, squared, to its end
        tail = noise.double() * fall * (energy / whole).sqrt()
        tail[:, 0] = 1
        return tail

    def _room(self, p: Tensor, samples: int) -> Tensor:
        """(n, T) by image sources and rays, cut to T."""
        import pyroomacoustics as rooms

        made = torch.zeros(len(p), samples, dtype=torch.float64)
        for row, (seconds, share) in zip(made, p.tolist(), strict=True):
            absorption = min(1.0, SABINE * VOLUME / (SURFACE * seconds))
            _, order = rooms.inverse_sabine(max(seconds, SHORTEST * (1 + 1e-6)), ROOM, SPEED)
            rooms.random.seed(int(share * SEEDS))
            room = rooms.ShoeBox(
                ROOM,
                fs=self.rate,
                materials=rooms.Material(absorption),
                max_order=min(order, ORDER),
                ray_tracing=True,
                air_absorption=True,
            )
            room.set_ray_tracing(n_rays=RAYS, receiver_radius=RADIUS, energy_thres=LEAST)
            room.add_source(SOURCE)
            room.add_microphone(MICROPHONE)
            room.compute_rir()
            response = torch.from_numpy(room.rir[0][0])[:samples]
            row[: len(response)] = response
        return made

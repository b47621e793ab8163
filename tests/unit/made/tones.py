"""Sounds made in memory: steady tones in a row, of three pitches, in noise; label "pitch" of the last one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from datasets import config
from datasets.base import SPLITS, Source, Spec, Split
from datasets.memory import MemorySource

VERSION = 1
DOWNLOAD = "nothing is fetched"
PITCHES = (300.0, 700.0, 1500.0)  # Hz


class Config(config.Config):
    """Options of the tones."""

    samples: int = Field(1300, ge=100, description="of each sound")
    tones: int = Field(3, ge=1, description="in a row")
    frames: int = Field(0, ge=0, description="labels of each sound; 0 = one")
    silence: int = Field(0, ge=0, description="samples behind the tones, of each sound's own")
    limit: int = Field(60, ge=1, description="sounds of a split")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; `root` is not used."""
    rng = np.random.default_rng(SPLITS.index(split))
    pitch = rng.integers(len(PITCHES), size=(cfg.limit, cfg.tones))
    heard = cfg.samples - cfg.silence
    length = -(-heard // cfg.tones)
    time = np.arange(length) / 16_000
    phase = rng.uniform(0, 2 * np.pi, size=(cfg.limit, cfg.tones, 1))
    sound = 0.4 * np.sin(2 * np.pi * np.array(PITCHES)[pitch][..., None] * time + phase)
    sound = sound.reshape(cfg.limit, -1)[:, :heard] + 0.05 * rng.standard_normal((cfg.limit, heard))
    sound = np.pad(sound, ((0, 0), (0, cfg.silence)))
    array = (sound * 32767).clip(-32768, 32767).astype(np.int16)[:, None]
    labels = pitch[:, np.arange(cfg.frames) * cfg.tones // cfg.frames] if cfg.frames else pitch[:, -1]
    frames = {"pitch": cfg.samples // cfg.frames} if cfg.frames else {}
    spec = Spec((1, cfg.samples), labels={"pitch": len(PITCHES)}, rate=16_000, fingerprint="tones", frames=frames)
    return MemorySource(array, {"pitch": labels.astype(np.int64)}, spec)

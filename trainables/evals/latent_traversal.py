"""Traversal of a latent through its decoder (SIM-E10): what each dimension alone changes in what is decoded.

Protocol of Denoodt, "V-GIM", master's thesis, VUB 2023. All dimensions are 0 but one, which takes `steps` values from
-reach to reach; of that one frame is decoded (`latent_decoder`), two where a decoder makes no sound of one. The
straight line from the first to the last sample is taken away, and the magnitude of the Fourier transform is looked at
in its first `bins` bins. Images, which have a fixed number of cells, are decoded from the value in every cell. A
decoder is all that is read: metrics stand under `train`, on which it was made. With S_d(v) the spectrum (of images the
pixels) while dimension d has the value v:

    change       mean over dimensions of the mean over v of |S_d(v) - S(0)|, Euclidean
    dimensions   exp of the entropy of the dimensions' shares of the change: how many of them matter; dimensions_share:
                 of C
    straight     |S_d(reach) - S_d(-reach)| over the length of the way between them in `steps` steps, mean over
                 dimensions weighed by their change: 1 if a spectrum moves straight from one end to the other

Artifacts: `changes_PART.csv`; for the `shown` dimensions that change most `traversal_PART.png`, sound in time and in
frequency or images in a row, and `traversal_PART_D.wav`, the value held in all frames of an item, one after another.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.evals import _files, _sound, latent_decoder
from trainables.evals._decoder import Decoder
from trainables.evals.base import Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts
from trainables.nets.sound_decoder import SoundDecoder

AT_ONCE = 256  # latents that are decoded together
COLUMNS = 10


class Config(EvalConfig):
    """The values, and what is looked at and shown."""

    steps: int = Field(20, ge=3, le=1000, description="values of a dimension (V-GIM: 20)")
    reach: float = Field(3.0, gt=0, le=1000, description="largest value; the smallest is its negative (V-GIM: 3)")
    frames: int | None = Field(
        None, ge=1, le=100_000, description="of sound that hold the value; None = the fewest that make one (V-GIM: 1)"
    )
    bins: int = Field(50, ge=1, le=100_000, description="of the spectrum, or all there are (V-GIM: 50)")
    shown: int = Field(3, ge=1, le=50, description="dimensions in the figure, those that change most")


NEEDS = Needs(capabilities=("frames",), after=("latent_decoder",))
VERSION = 1
METRICS = {"change": "", "dimensions": "", "dimensions_share": "", "straight": ""}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None: no data are read."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns."""
    return [f"{part}/train/{name}" for part in chosen_parts(cfg, parts) for name in METRICS]


def check_inputs(cfg: Config, spec: Spec, capabilities: Capabilities, configs: Mapping[str, EvalConfig]) -> None:
    """Refuse parts that have no decoder."""
    latent_decoder.check_reader(cfg, configs)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/train/{change,dimensions,dimensions_share,straight}`, a table, figures and sounds."""
    result = Result({})
    for part in chosen_parts(cfg, subject.method.parts):
        decoder, form = latent_decoder.read(inputs, part, subject)
        found, changes, straight = measure(decoder, form, cfg)
        result.metrics |= {f"{part}/train/{name}": value for name, value in found.items()}
        rows = [(d, float(changes[d]), float(straight[d])) for d in range(len(changes))]
        columns = ("dimension", "change", "straight")
        paths = [_files.table(subject.out / f"changes_{part}.csv", columns, rows)]
        paths += _shown(subject.out, part, decoder, form, cfg, changes.argsort(descending=True)[: cfg.shown].tolist())
        result.artifacts |= {path.name: path for path in paths}
    return result


def length_of(form: Mapping[str, Any], cfg: Config) -> int:
    """L, frames that hold the value.

    Raises:
        ConfigError: so few make no sound.
    """
    if form["net"] == "grid":
        return int(torch.Size(form["places"]).numel())
    with torch.device("meta"):
        net = SoundDecoder(1, form["net"])
    fewest = next(frames for frames in itertools.count(1) if net.samples(frames) > 2)
    if cfg.frames is not None and cfg.frames < fewest:
        raise ConfigError(f"frames: {cfg.frames} make no sound in the decoder '{form['net']}'; take at least {fewest}")
    return cfg.frames or fewest


def latents(dimension: int, length: int, width: int, cfg: Config) -> Tensor:
    """(steps, L, C), zero but for one dimension."""
    z = torch.zeros(cfg.steps, length, width)
    z[:, :, dimension] = torch.linspace(-cfg.reach, cfg.reach, cfg.steps)[:, None]
    return z


def detrended(sounds: Tensor) -> Tensor:
    """Sounds (..., T) less the straight line from their first to their last sample."""
    rise = torch.linspace(0, 1, sounds.shape[-1], dtype=sounds.dtype)
    return sounds - (sounds[..., :1] * (1 - rise) + sounds[..., -1:] * rise)


def spectra(decoded: Tensor, bins: int) -> Tensor:
    """What is compared (n, k): of sounds (n, 1, T) the first bins' magnitudes, of images the pixels."""
    if decoded.ndim == 4:
        return decoded.flatten(1)
    return torch.fft.rfft(detrended(decoded[:, 0])).abs()[:, :bins]


def measure(decoder: Decoder, form: Mapping[str, Any], cfg: Config) -> tuple[dict[str, float], Tensor, Tensor]:
    """The metrics, and of each dimension its change and how straight its way is, both (C,)."""
    length, width = length_of(form, cfg), int(form["width"])
    zero = decoder(torch.zeros(1, length, width))
    still = spectra(zero, cfg.bins)
    changes, straight = torch.zeros(width), torch.zeros(width)
    together = max(1, AT_ONCE // cfg.steps)
    for some in torch.arange(width).split(together):
        z = torch.cat([latents(int(d), length, width, cfg) for d in some])
        moved = spectra(decoder(z, AT_ONCE), cfg.bins).unflatten(0, (len(some), cfg.steps))
        changes[some] = (moved - still).norm(dim=-1).mean(1)
        way = moved.diff(dim=1).norm(dim=-1).sum(1)
        straight[some] = (moved[:, -1] - moved[:, 0]).norm(dim=-1) / way.clamp_min(1e-30)
    shares = changes.double() / changes.double().sum().clamp_min(1e-30)
    count = float(torch.special.entr(shares).sum().exp())
    found = {
        "change": float(changes.mean()), "dimensions": count, "dimensions_share": count / width,
        "straight": float((shares * straight).sum()),
    }  # fmt: skip
    return found, changes, straight


def _shown(out: Path, part: str, decoder: Decoder, form: Mapping[str, Any], cfg: Config, dims: list[int]) -> list[Path]:
    width, every = int(form["width"]), int(torch.Size(form["places"]).numel())
    made = {d: decoder(latents(d, length_of(form, cfg), width, cfg)) for d in dims}
    names = {d: f"dimension {d}" for d in dims}
    values = torch.linspace(-cfg.reach, cfg.reach, cfg.steps)
    path = out / f"traversal_{part}.png"
    if form["net"] == "grid":
        some = torch.linspace(0, cfg.steps - 1, min(COLUMNS, cfg.steps)).round().long()
        columns = [f"{value:.1f}" for value in values[some].tolist()]
        rows = [images[some] for images in made.values()]
        return [_sound.picture(path, rows, [*names.values()], columns, f"one dimension of {part}, in every cell")]
    rate = form["rate"] or 16_000
    curves = {}
    for d, sounds in made.items():
        flat = detrended(sounds[:, 0])
        frequencies = torch.arange(min(cfg.bins, flat.shape[1] // 2 + 1)) * rate / flat.shape[1]
        time = torch.arange(flat.shape[1]) * 1000 / rate
        curves[names[d]] = ((time, flat), (frequencies, spectra(sounds, cfg.bins)))
    title = f"one dimension of {part} from {-cfg.reach:g} to {cfg.reach:g}, all others 0"
    paths = [_files.families(path, curves, values, (("ms", "amplitude"), ("Hz", "magnitude")), title)]
    for d in dims:
        held = decoder(latents(d, every, width, cfg), 16)
        paths.append(_sound.wav(out / f"traversal_{part}_{d}.wav", held, rate))
    return paths

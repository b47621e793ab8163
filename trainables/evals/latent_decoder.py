"""A decoder of latents (SIM-E7, E8, E16): what can be heard, or seen, of what one module of a network says.

Protocol of Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936. From the frames of one part a
decoder is trained to the sound that the encoder heard (transposed convolutions, `nets/sound_decoder.py`), or to the
image it saw (`GridDecoder`, pixels in [0, 1]), by a loss of `losses/sound.py`. The encoder is frozen and in evaluation
mode. Where its latents are distributions (SIM), every step and every report sees another sample of them; `latents:
mean` takes the means (what the method encodes to: with its `sample_at_evaluation` one sample, always the same). The
epoch is chosen on a held-out fifth of the train split. Reported on `val` and `test`:

    loss, loss_mean      the loss that was trained, and that of the train split's mean signal whatever was heard
    loss_silence         the same of silence (sound)
    mse, mse_mean, r2    mean squared error, that of the mean signal, and 1 - mse / mse_mean
    mel, mel_mean        squared difference of mel spectra in decibel (sound; windows of 4096, whatever those of the
                         loss, halved till they fit)

Written for each part, besides `decoder_PART.safetensors` which other evaluations read, sounds as .wav (several in a
row) and as spectrograms, images as one figure: originals and what is decoded; samples of N(0, I), also during training
(`every`); interpolations between two items in 10 steps, of all dimensions and of the `dimensions` in which the two
differ most by the square of their means over time; chosen dimensions at zero, all others at zero, and everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets.base import Spec, Split
from datasets.config import ConfigError, near
from trainables.core.draws import generator
from trainables.evals import _decoder, _generation
from trainables.evals._frames import Frames, FramesConfig, device_of, places_shown
from trainables.evals.base import (
    REPORTED,
    Capabilities,
    EvalConfig,
    Needs,
    Request,
    Result,
    Subject,
    chosen_parts,
    places_of,
)
from trainables.losses.sound import LOSSES, sound_losses
from trainables.nets.decoders import GridDecoder
from trainables.nets.sound_decoder import PRESETS, SoundDecoder

SLACK = 0.05  # of a sound that a decoder may make too much, which is cut, or too little, which is silent
MEL = 4096  # window of the mel spectra that are reported, so that configurations with other windows compare
SOUND = ("loss", "loss_mean", "loss_silence", "mse", "mse_mean", "r2", "mel", "mel_mean")
IMAGE = ("loss", "loss_mean", "mse", "mse_mean", "r2")
Loss = Literal["mse", "spectral", "mse_spectral", "fft", "mse_fft", "mel", "mse_mel"]


class Recipe(_decoder.Training):
    """How to train a decoder of latents; defaults are SIM's."""

    epochs: int = Field(200, ge=1, le=10_000, description="passes over the train split (SIM: 200; LibriSpeech: 50)")
    batch_size: int = Field(64, ge=2, le=65_536, description="items of a step (SIM: 64)")
    lr: float = Field(
        2e-4, gt=0, le=1, description="learning rate of AdamW, with weight_decay 0 Adam (SIM: 2e-4; V-GIM: 5e-3)"
    )
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="on all parameters, apart from the gradient (SIM: 0; V-GIM: 1e-5, added to it)"
    )
    decay: float = Field(1.0, gt=0, le=1, description="of the learning rate, a factor per epoch (SIM: 1; V-GIM: 0.995)")

    def rate(self, epoch: int) -> float:
        """Exponential."""
        return self.lr * self.decay**epoch


class Config(FramesConfig):
    """What to decode, by what, and what to show."""

    loss: Loss = Field("mse", description="of sound, also by its number 0 to 6 (SIM's README: 0, its code: 6)")
    weight: float = Field(
        1.0, ge=0, le=1e9, description="lambda, of the second term of a sum (SIM: 1; mel is 10^4 times mse)"
    )
    n_fft: int | None = Field(None, ge=16, le=65_536, description="window of the loss; None = 1024, of mel 4096 (SIM)")
    decoder: str | None = Field(
        None, description="of sound: module0, module1, module2, simple_v1, ...; None = the first that fits the part"
    )
    latents: Literal["sample", "mean"] = Field(
        "sample",
        description="of distributions: another sample at each step (SIM), or their means; with "
        "method.sample_at_evaluation these are one sample, always the same",
    )
    training: Recipe = Field(default_factory=Recipe, description="how the decoder is trained")
    every: int | None = Field(None, ge=1, description="epochs between samples of N(0, I) (SIM: 5); None = the last")
    clips: int = Field(10, ge=2, le=100, description="items that are written, and samples (SIM: 10)")
    dimensions: int | None = Field(
        None, ge=1, description="in partial interpolations and masks; None = an eighth of the part's"
    )
    masked: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="dimensions to set to zero; () = as many as `dimensions`, whose means over time vary most"
    )

    @field_validator("loss", mode="before")
    @classmethod
    def _numbered(cls, value: Any) -> Any:
        return LOSSES[value] if isinstance(value, int) and 0 <= value < len(LOSSES) else value

    @field_validator("decoder")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"no such decoder{near(name, set(PRESETS))}")
        return name


NEEDS = Needs(capabilities=("frames",))
VERSION = 2
METRICS = {
    "loss": "min", "loss_mean": "", "loss_silence": "", "mse": "min", "mse_mean": "", "r2": "max", "mel": "min",
    "mel_mean": "",
}  # fmt: skip


def data(cfg: Config) -> list[dict[str, Any]]:
    """Other data, which the plan looks for."""
    return [cfg.data] if cfg.data else []


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of the train split, which say whose rows are whose; frames are encoded when they are needed."""
    return [] if cfg.data else [Request("train", limit=cfg.limit)]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: no decoder fits a part, a loss of sound is asked for images, or its windows are too long.
    """
    chosen, places = chosen_parts(cfg, parts), places_of(capabilities)
    for part in chosen:
        if cfg.data is None:
            form_of(cfg, part, parts[part], places[part], spec)
        for dimension in cfg.masked:
            if dimension >= parts[part]:
                raise ConfigError(f"masked: '{part}' has {parts[part]} dimensions, none is {dimension}")
    return [f"{part}/{split}/{name}" for part in chosen for split in REPORTED for name in _names(spec)]


def _names(spec: Spec) -> tuple[str, ...]:
    return SOUND if len(spec.shape) == 2 else IMAGE


def form_of(cfg: Config, part: str, width: int, places: tuple[int, ...], spec: Spec) -> dict[str, Any]:
    """Plain values from which `build` makes the decoder of a part, and what readers of it must know.

    Raises:
        ConfigError: one line.
    """
    form = {
        "part": part, "width": width, "places": list(places), "shape": list(spec.shape), "rate": spec.rate,
        "latents": cfg.latents, "data": cfg.data,
    }  # fmt: skip
    if len(spec.shape) == 3:
        if cfg.loss != "mse":
            raise ConfigError(f"loss: '{cfg.loss}' is of sound; of images choose mse")
        if cfg.decoder is not None:
            raise ConfigError(f"decoder: '{cfg.decoder}' is of sound; images have one, leave it out")
        return {**form, "net": "grid"}
    if len(spec.shape) != 2 or spec.shape[0] != 1:
        raise ConfigError(f"decodes sound of one channel or images, the data have items of {spec.shape}")
    silence = torch.zeros(1, 1, spec.shape[1])
    sound_losses(silence, silence, cfg.loss, cfg.weight, spec.rate or 16_000, cfg.n_fft)
    return {**form, "net": fitting(cfg.decoder, part, places[0], spec.shape[1])}


def fitting(name: str | None, part: str, frames: int, samples: int) -> str:
    """The preset of a decoder that makes so many samples of so many frames, but for a few at the end.

    Raises:
        ConfigError: none does, or the one that is named does not.
    """
    with torch.device("meta"):
        makes = {preset: SoundDecoder(1, preset).samples(frames) for preset in ([name] if name else PRESETS)}
    apart = {preset: abs(made - samples) for preset, made in makes.items() if abs(made - samples) <= SLACK * samples}
    if not apart:
        which = f"'{name}' makes {makes[name]:,}" if name else "none makes so many"
        raise ConfigError(f"decoder: part '{part}' has {frames:,} frames of {samples:,} samples; {which}")
    return min(apart, key=lambda preset: apart[preset])


class Fitted(nn.Module):
    """Frames (b, L, C) -> items as the data are: sounds brought to their length, pixels in [0, 1]."""

    def __init__(self, form: Mapping[str, Any]) -> None:
        super().__init__()
        self.shape, self.frames = tuple(form["shape"]), int(torch.Size(form["places"]).numel())
        self.net: nn.Module
        if form["net"] == "grid":
            self.net = GridDecoder(form["width"], tuple(form["places"]), self.shape[0], self.shape[1])
        else:
            self.net = SoundDecoder(form["width"], form["net"])

    def forward(self, z: Tensor) -> Tensor:
        """The items; of fewer frames than the data have, shorter sounds."""
        x: Tensor = self.net(z)
        if len(self.shape) == 3:
            return (x + 1) / 2
        return F.pad(x, (0, self.shape[-1] - x.shape[-1])) if z.shape[1] == self.frames else x


def build(form: Mapping[str, Any]) -> nn.Module:
    """The net of a decoder's form."""
    return Fitted(form)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...`, decoders, sounds and figures."""
    result, seed, subject = Result({}), int(rng.integers(2**31)), cfg.of(subject)
    places, chosen = places_shown(subject), chosen_parts(cfg, subject.method.parts)
    forms = {part: form_of(cfg, part, subject.method.parts[part], places[part], subject.spec) for part in chosen}
    seen = {split: subject.inputs(_request(cfg, split)) for split in ("train", *REPORTED)}
    owner = subject.features(_request(cfg, "train")).owner
    loss = _Losses(cfg, subject.spec)
    for part, form in forms.items():
        frames = Frames(subject, _request(cfg, "train"), part, cfg.latents)
        shown = _generation.Shown(subject.out, part, cfg, subject.spec.rate, seed)
        decoder = _decoder.train(
            lambda form=form: build(form), frames, seen["train"], owner, cfg.training, seed, loss,  # type: ignore[misc]
            device_of(subject), watch=lambda now, shown=shown, form=form: shown.during(now, form),  # type: ignore[misc]
        )  # fmt: skip
        name = f"decoder_{part}.safetensors"
        result.artifacts[name] = decoder.save(subject.out / name, form)
        for split in REPORTED:
            reported = Frames(subject, _request(cfg, split), part, cfg.latents)
            found = loss.report(decoder, reported, seen[split], seen["train"].mean(0), seed)
            result.metrics |= {f"{part}/{split}/{metric}": value for metric, value in found.items()}
            if split == "val":
                few = reported(torch.arange(min(cfg.clips, reported.count)), generator(seed, part)).cpu()
                result.artifacts |= shown.after(decoder, few, seen[split])
    return result


def _request(cfg: Config, split: Split) -> Request:
    return Request(split, limit=cfg.limit)


class _Losses:
    """The loss that is trained, of each item, and what is reported."""

    def __init__(self, cfg: Config, spec: Spec) -> None:
        self.cfg, self.spec = cfg, spec
        self.window = MEL
        while spec.shape[-1] <= self.window // 2:
            self.window //= 2

    def __call__(self, decoded: Tensor, true: Tensor) -> Tensor:
        if len(self.spec.shape) == 3:
            return _decoder.squared(decoded, true)
        cfg = self.cfg
        return sound_losses(decoded, true, cfg.loss, cfg.weight, self.spec.rate or 16_000, cfg.n_fft)

    def mel(self, decoded: Tensor, true: Tensor) -> Tensor:
        """(n,) of sounds."""
        return sound_losses(decoded, true, "mel", 1.0, self.spec.rate or 16_000, self.window)

    def report(
        self, decoder: _decoder.Decoder, frames: Frames, true: Tensor, mean: Tensor, seed: int
    ) -> dict[str, float]:
        """The metrics of one part and split, in pieces: all frames of many items would not fit in memory."""
        sound, rng = len(self.spec.shape) == 2, generator(seed, frames.part)
        sums: dict[str, float] = {}
        for rows in torch.arange(frames.count).split(self.cfg.training.batch_size):
            wanted = true[rows]
            decoded, always = decoder(frames(rows, rng)), mean.expand_as(wanted)
            losses = {"loss": self(decoded, wanted), "loss_mean": self(always, wanted)}
            losses |= {"mse": _decoder.squared(decoded, wanted), "mse_mean": _decoder.squared(always, wanted)}
            if sound:
                losses["loss_silence"] = self(torch.zeros_like(wanted), wanted)
                losses |= {"mel": self.mel(decoded, wanted), "mel_mean": self.mel(always, wanted)}
            for name, values in losses.items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
        found = {name: value / frames.count for name, value in sums.items()}
        return {**found, "r2": 1 - found["mse"] / max(found["mse_mean"], 1e-12)}


# -- for evaluations that read it -----------------------------------------------------------------------------------


def check_reader(cfg: EvalConfig, configs: Mapping[str, EvalConfig]) -> None:
    """Refuse to read decoders of parts that will have none.

    Raises:
        ConfigError: one line.
    """
    decoder = configs.get("latent_decoder")
    if isinstance(decoder, Config) and "*" not in decoder.parts:
        for part in cfg.parts:
            if part not in decoder.parts:
                which = "decoders of every part" if part == "*" else f"the decoder of '{part}'"
                raise ConfigError(f"reads {which}; add it to the parts of latent_decoder")


def read(inputs: Mapping[str, Result], part: str, subject: Subject) -> tuple[_decoder.Decoder, dict[str, Any]]:
    """The decoder of a part, where the encoder lies, and its form.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path: Path | None = inputs["latent_decoder"].artifacts.get(f"decoder_{part}.safetensors")
    if path is None:
        raise ConfigError(f"reads the decoder of '{part}'; add it to the parts of latent_decoder")
    decoder, form = _decoder.restore(path, build)
    return decoder.to(device_of(subject)), form


def latents(subject: Subject, request: Request, form: Mapping[str, Any], seed: int) -> Tensor:
    """Latents (n, L, C) of the data that a decoder was trained on, as it was fed with them: one draw, or the means."""
    return Frames(_on(subject, form), request, form["part"], form["latents"]).every(seed)


def items(subject: Subject, request: Request, form: Mapping[str, Any]) -> Tensor:
    """What these latents are of, (n, *shape) as a decoder's target."""
    return _on(subject, form).inputs(request)


def _on(subject: Subject, form: Mapping[str, Any]) -> Subject:
    return subject if form["data"] is None else subject.on(form["data"])

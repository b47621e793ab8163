"""Reconstruction (DU-E4): how much of an image can be read back from its frozen representation.

Protocol, this project's own. A decoder is trained from each part of the representation to the image that the encoder
saw, clean or under fresh draws of one transform (`transform`), by the mean squared error of pixels in [0, 1] (see
`_decoder.py` for training and choice of the epoch). Reported on `val` and `test`:

    mse        mean squared error of a pixel
    mse_mean   the same of the train split's mean image: what is reached without looking
    r2         1 - mse / mse_mean

Artifacts: `decoder_PART.safetensors`, which `controlled_generation` reads, and `reconstructions_PART.png`, images of
`val` above what is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from datasets.base import Spec, Split
from datasets.config import ConfigError
from datasets.transforms.load import alone
from trainables.evals import _decoder, _files
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject, chosen_parts
from trainables.nets.decoders import ImageDecoder, LinearDecoder

SHOWN = 8  # images of a figure


class Config(EvalConfig):
    """What to decode from, and by what."""

    limit: int | None = Field(5000, ge=10, description="at most so many images of each split; None = all")
    transform: str | None = Field(None, description="code of a transform under whose draws images are; None = clean")
    decoder: Literal["conv", "linear"] = Field("conv", description="upsampling convolutions, or one linear layer")
    width: int = Field(64, ge=16, le=4096, description="channels of the 4x4 map that convolutions start from")
    training: _decoder.Training = Field(default_factory=_decoder.Training, description="how the decoder is trained")


NEEDS = Needs()
VERSION = 2
METRICS = {"mse": "min", "mse_mean": "", "r2": "max"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of every split."""
    splits: tuple[Split, ...] = ("train", *REPORTED)
    return [_request(cfg, split) for split in splits]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data are no images, or there is no such transform.
    """
    if len(spec.shape) != 3:
        raise ConfigError(f"decodes images (C, H, W), the data have items of {spec.shape}")
    if cfg.transform is not None and cfg.transform not in spec.params:
        alone(cfg.transform, spec.shape, spec.rate)
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in METRICS]


def build(form: Mapping[str, Any]) -> nn.Module:
    """The net of a decoder's form."""
    if form["decoder"] == "linear":
        return LinearDecoder(form["features"], tuple(form["shape"]))
    return ImageDecoder(form["features"], tuple(form["shape"]), form["width"])


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/{mse,mse_mean,r2}`, decoders and figures."""
    result, seed = Result({}), int(rng.integers(2**31))
    train, seen = subject.features(_request(cfg, "train")), subject.inputs(_request(cfg, "train"))
    reported = {split: (subject.features(r), subject.inputs(r)) for split, r in _reported(cfg).items()}
    mean = seen.mean(0)
    for part in chosen_parts(cfg, subject.method.parts):
        z = train.parts[part]
        form = {"decoder": cfg.decoder, "width": cfg.width, "features": z.shape[1], "shape": list(seen.shape[1:]),
                "transform": cfg.transform}  # fmt: skip
        decoder = _decoder.train(lambda form=form: build(form), z, seen, train.owner, cfg.training, seed)  # type: ignore[misc]
        name = f"decoder_{part}.safetensors"
        result.artifacts[name] = decoder.save(subject.out / name, form)
        for split, (features, true) in reported.items():
            error = float(decoder.losses(features.parts[part], true).mean())
            without = float(_decoder.squared(mean.expand_as(true), true).mean())
            found = {"mse": error, "mse_mean": without, "r2": 1 - error / max(without, 1e-12)}
            result.metrics.update({f"{part}/{split}/{metric}": value for metric, value in found.items()})
        features, true = reported["val"]
        shown = torch.stack([true[:SHOWN], decoder(features.parts[part][:SHOWN])])
        name = f"reconstructions_{part}.png"
        title = f"decoded from {part}, mse {result.metrics[f'{part}/val/mse']:.4f}"
        columns = [""] * shown.shape[1]
        result.artifacts[name] = _files.grid(subject.out / name, shown, ["image", "decoded"], columns, title)
    return result


def _request(cfg: Config, split: Split) -> Request:
    return Request(split, transform=cfg.transform, limit=cfg.limit)


def _reported(cfg: Config) -> dict[Split, Request]:
    return {split: _request(cfg, split) for split in REPORTED}

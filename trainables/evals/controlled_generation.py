"""Controlled generation (DU-E5): whether editing a representation draws the image that the transform would give.

Protocol, this project's own. The decoder is that of `reconstruction`, trained on images under the transform that the
method's bins are about. The representation z of a clean image is edited and decoded, and compared with the image that
was really transformed, by the mean squared error of pixels in [0, 1].

    circular, quarter   z is rolled by m = 1 ... G - 1 bins; the image is turned by 360 m / G degrees
    other kinds         each image is transformed by a draw; z is edited to say exactly its parameter p (`steer`)

    edited_mse     of the edited representation
    unedited_mse   of z as it is: what ignoring the edit gives
    decoded_mse    of the representation of the really transformed image: what the decoder could reach
    gain           1 - edited_mse / unedited_mse: above 0 the edit moves towards the real image

Artifact: `edits.png`, real images above generated ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Kind, Spec, Split
from datasets.config import ConfigError
from datasets.transforms.load import alone
from trainables.evals import _decoder, _files, equivariance_roll, reconstruction
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject, group_of

IMAGES = 4  # rows of the figure
COLUMNS = 8
TURNED = ("circular", "quarter")  # kinds whose bins are rolled


class Config(EvalConfig):
    """Whose bins, and how many images to edit; with a circular transform each costs G encodings."""

    transform: str = Field("", description="whose bins, of the method's transforms; '' = its first")
    limit: int | None = Field(256, ge=2, description="images of each split; None = all")


NEEDS = Needs(capabilities=("roll", "steer"), after=("reconstruction",))
VERSION = 1
METRICS = {"edited_mse": "min", "unedited_mse": "", "decoded_mse": "min", "gain": "max"}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features; the others depend on the method's bins."""
    return [Request(split, limit=cfg.limit) for split in REPORTED]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a part other than `all` is asked for, or a transform without bins, or without a turn among them.
    """
    code = group_of(cfg.transform, capabilities["roll"])
    kind = _kind(code, spec)
    if kind in TURNED:
        equivariance_roll.check_bins(kind, parts, capabilities)
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: only 'all' can be edited (got {', '.join(cfg.parts)})")
    return [f"all/{split}/{name}" for split in REPORTED for name in METRICS]


def check_inputs(cfg: Config, spec: Spec, capabilities: Capabilities, configs: Mapping[str, EvalConfig]) -> None:
    """Refuse a decoder that will not have seen what the edits draw.

    Raises:
        ConfigError: it is not of the part `all`, or of images under another transform.
    """
    decoder = configs.get("reconstruction")
    if isinstance(decoder, reconstruction.Config):
        code = group_of(cfg.transform, capabilities["roll"])
        _check_decoder(bool({"all", "*"} & set(decoder.parts)), decoder.transform, code)


@dataclass(frozen=True)
class Edit:
    """One edit of every image: its name, the edited representations (n, D), and the images really transformed."""

    name: str
    z: Tensor
    request: Request


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `all/{val,test}/...` and a figure."""
    method: Any = subject.method
    code = group_of(cfg.transform, method.equivariant_to)
    decoder = _decoder_of(inputs["reconstruction"], code)
    result = Result({})
    for split in REPORTED:
        clean = subject.features(Request(split, limit=cfg.limit)).parts["all"]
        plain = decoder(clean)
        errors, shown = [], []
        for edit in edits(subject, cfg, code, split, clean):
            real = subject.inputs(edit.request)
            drawn, reached = decoder(edit.z), decoder(subject.features(edit.request).parts["all"])
            errors.append([float(_decoder.squared(one, real).mean()) for one in (drawn, plain, reached)])
            shown.append((edit.name, real[:COLUMNS], drawn[:COLUMNS]))
        edited, unedited, decoded = (float(value) for value in np.mean(errors, axis=0))
        found = (edited, unedited, decoded, 1 - edited / max(unedited, 1e-12))
        result.metrics.update({f"all/{split}/{n}": v for n, v in zip(METRICS, found, strict=True)})
        if split == "val":
            result.artifacts["edits.png"] = _figure(subject, shown, code)
    return result


def edits(subject: Subject, cfg: Config, code: str, split: Split, z: Tensor) -> Iterator[Edit]:
    """Every edit of the clean images' representations (n, D)."""
    method: Any = subject.method
    kind = _kind(code, subject.spec)
    if kind in TURNED:
        for m, degrees in equivariance_roll.turns(method.bins, quarter=kind == "quarter").items():
            request = Request(split, transform=code, strength=degrees, limit=cfg.limit)
            yield Edit(f"{degrees:g}°", _on(method, method.roll, z, m, code), request)
        return
    request = Request(split, transform=code, limit=cfg.limit)
    unit = subject.features(request).units[code]
    yield Edit(code, _on(method, method.steer, z, unit, code), request)


def _kind(code: str, spec: Spec) -> Kind:
    return spec.kinds.get(code) or alone(code, spec.shape, spec.rate).coding


def _on(method: Any, act: Any, z: Tensor, argument: Any, code: str) -> Tensor:
    """An edit where the method lies, given on the CPU."""
    device = next(iter(method.parameters()), z).device
    with torch.no_grad():
        moved: Tensor = act(z.to(device), argument.to(device) if isinstance(argument, Tensor) else argument, code)
    return moved.cpu()


def _decoder_of(found: Result, code: str) -> _decoder.Decoder:
    path = found.artifacts.get("decoder_all.safetensors")
    _check_decoder(path is not None, code, code)
    assert path is not None
    decoder, form = _decoder.restore(path, reconstruction.build)
    _check_decoder(True, form["transform"], code)
    return decoder


def _check_decoder(of_all: bool, transform: str | None, code: str) -> None:
    if not of_all:
        raise ConfigError("reads the decoder of 'all'; add it to the parts of reconstruction")
    if transform != code:
        seen = f"under '{transform}'" if transform else "clean"
        raise ConfigError(
            f"the decoder of reconstruction sees images that are {seen}; "
            f"set its option transform to '{code}', which is what is edited"
        )


def _figure(subject: Subject, shown: list[tuple[str, Tensor, Tensor]], code: str) -> Any:
    """Circular: a column for each turn, two rows for each image; else a column for each image."""
    path = subject.out / "edits.png"
    if len(shown) == 1:
        name, real, drawn = shown[0]
        return _files.grid(path, torch.stack([real, drawn]), ["real", "edited"], [""] * len(real), f"edits of {name}")
    chosen = shown[:: max(1, len(shown) // COLUMNS)]
    pairs = [torch.stack([which[i] for which in column]) for i in range(IMAGES) for column in _sides(chosen)]
    rows = [name for _ in range(IMAGES) for name in ("real", "edited")]
    title = f"edits of {code}: images really transformed, above what edited representations decode to"
    return _files.grid(path, torch.stack(pairs), rows, [name for name, _, _ in chosen], title)


def _sides(shown: list[tuple[str, Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [real for _, real, _ in shown], [drawn for _, _, drawn in shown]

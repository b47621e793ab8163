"""Which encoder: a preset by name, whose options can be replaced one by one.

Every encoder maps (B, *shape) to (B, features) and says `features`. Another family joins by naming its presets here.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from datasets.config import Config, ConfigError
from trainables.nets.cifar_resnet import CifarResNet, Shortcut
from trainables.nets.lift import MAPS, Lifted

PRESETS: dict[str, dict[str, Any]] = {
    "": {"width": 128, "stem": 64, "shortcut": "B"},
    "lifted_": {"width": 128, "stem": 64, "shortcut": "B", "in_channels": 54},
    "narrow_": {"width": 16, "stem": 16, "shortcut": "A"},
}
NAME = re.compile(r"(|lifted_|narrow_)cifar10_resnet(\d+)")


class EncoderConfig(Config):
    """The encoder; an option that is left out is the preset's."""

    name: str = Field(
        "cifar10_resnet32",
        description="[lifted_|narrow_]cifar10_resnetN, N = 6 n + 2: wide (512 features), wide on the lift of colour "
        "images, narrow (64 features) (DUET: cifar10_resnet32)",
    )
    depth: int | None = Field(None, ge=8, le=1202, description="layers, 6 n + 2, in place of the N of the name")
    width: int | None = Field(None, ge=1, le=1024, description="channels of the first stage; features = 4 width")
    stem: int | None = Field(None, ge=1, le=1024, description="channels of the first convolution")
    in_channels: int | None = Field(None, ge=1, description="channels of the input; left out: what the data have")
    shortcut: Shortcut | None = Field(None, description="A = pad with zeros, B = 1x1 convolution")
    final_norm: bool = Field(True, description="batch normalisation of the output (DUET: on)")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        match = NAME.fullmatch(name)
        if match is None or int(match[2]) < 8 or (int(match[2]) - 2) % 6:
            raise ValueError("must be [lifted_|narrow_]cifar10_resnetN with N = 6 n + 2, e.g. narrow_cifar10_resnet20")
        return name


def build_encoder(cfg: EncoderConfig, shape: tuple[int, ...]) -> CifarResNet | Lifted:
    """The encoder for items of `shape` (C, H, W); `.features` is the length of its output.

    One that takes 18 channels for each of the data's sees their lift (see `trainables/nets/lift.py`).

    Raises:
        ConfigError: data that are no images, or have another number of channels than the encoder takes.
    """
    match = NAME.fullmatch(cfg.name)
    assert match is not None  # the field's validator saw to it
    chosen = cfg.model_dump(exclude={"name"}, exclude_none=True)
    options = {"depth": int(match[2]), **PRESETS[match[1]], **chosen}
    if len(shape) != 3:
        raise ConfigError(f"encoder {cfg.name}: takes images (C, H, W), the data have shape {shape}")
    if options.setdefault("in_channels", shape[0]) == shape[0]:
        return CifarResNet(**options)
    if options["in_channels"] != MAPS * shape[0]:
        raise ConfigError(f"encoder {cfg.name}: takes {options['in_channels']} channels, the data have {shape[0]}")
    net = CifarResNet(**options)
    return Lifted(net, net.features)

"""Which encoder: a preset by name, whose options can be replaced one by one.

Every encoder maps (B, *shape) to (B, features) and says `features`. Another family joins by naming its presets here.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets.config import Config, ConfigError, near
from trainables.nets import padded_resnet
from trainables.nets.cifar_resnet import CifarResNet, Shortcut
from trainables.nets.lift import MAPS, Lifted
from trainables.nets.padded_resnet import PaddedResNet, SplitPathways

CIFAR: dict[str, dict[str, Any]] = {
    "": {"width": 128, "stem": 64, "shortcut": "B"},
    "lifted_": {"width": 128, "stem": 64, "shortcut": "B", "in_channels": 54},
    "narrow_": {"width": 16, "stem": 16, "shortcut": "A"},
}
NAME = re.compile(r"(|lifted_|narrow_)cifar10_resnet(\d+)")
TORCHVISION = "torchvision_"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
OF_CIFAR = ("stem", "shortcut", "final_norm")  # options that the other families do not have
OF_PADDED = ("base_width", "groups", "widen_end", "final_relu")


class EncoderConfig(Config):
    """The encoder; an option that is left out is the preset's."""

    name: str = Field(
        "cifar10_resnet32",
        description="[lifted_|narrow_]cifar10_resnetN, N = 6 n + 2: wide (512 features), wide on the lift of colour "
        "images, narrow (64 features) (DUET: cifar10_resnet32); resnet18 and its kin as SIE has them, small_resnet10 "
        "(128 features) for small machines; torchvision_resnet18 and its kin",
    )
    depth: int | None = Field(None, ge=8, le=1202, description="layers, in place of those of the name")
    width: int | None = Field(None, ge=1, le=1024, description="channels of the first stage")
    stem: int | None = Field(None, ge=1, le=1024, description="channels of the first convolution (CIFAR's)")
    in_channels: int | None = Field(None, ge=1, description="channels of the input; left out: what the data have")
    shortcut: Shortcut | None = Field(None, description="A = pad with zeros, B = 1x1 convolution (CIFAR's)")
    final_norm: bool | None = Field(None, description="batch normalisation of the output (CIFAR's; DUET: on)")
    base_width: int | None = Field(None, ge=1, le=4096, description="of 64, inside bottlenecks (SIE's)")
    groups: int | None = Field(None, ge=1, le=64, description="of the convolution inside bottlenecks (SIE's)")
    widen_end: float | None = Field(None, gt=0, le=16, description="times the width of the last stage (SIE's)")
    final_relu: bool | None = Field(None, description="after the very last block (SIE's: on)")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        match = NAME.fullmatch(name)
        if match is not None and (int(match[2]) < 8 or (int(match[2]) - 2) % 6):
            raise ValueError("must be [lifted_|narrow_]cifar10_resnetN with N = 6 n + 2, e.g. narrow_cifar10_resnet20")
        others = [*padded_resnet.PRESETS, *(TORCHVISION + name for name in RESNETS)]
        if match is None and name not in others:
            raise ValueError(
                "must be [lifted_|narrow_]cifar10_resnetN with N = 6 n + 2, e.g. narrow_cifar10_resnet20, or "
                f"{', '.join(others)}{near(name, others)}"
            )
        return name


class Torchvision(nn.Module):
    """A ResNet of torchvision without its classifier: (B, C, H, W) -> (B, features)."""

    def __init__(self, name: str, in_channels: int) -> None:
        import torchvision

        super().__init__()
        self.net = getattr(torchvision.models, name)(weights=None)
        self.features: int = self.net.fc.in_features
        self.net.fc = nn.Identity()
        if in_channels != 3:
            self.net.conv1 = nn.Conv2d(in_channels, self.net.conv1.out_channels, 7, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, features)."""
        out: Tensor = self.net(x)
        return out


Encoder = CifarResNet | Lifted | PaddedResNet | SplitPathways | Torchvision


def build_encoder(cfg: EncoderConfig, shape: tuple[int, ...]) -> Encoder:
    """The encoder for items of `shape` (C, H, W); `.features` is the length of its output.

    One that takes 18 channels for each of the data's sees their lift (see `trainables/nets/lift.py`).

    Raises:
        ConfigError: data that are no images, or have another number of channels than the encoder takes; an option that
            the encoder does not have.
    """
    match = NAME.fullmatch(cfg.name)
    chosen = cfg.model_dump(exclude={"name"}, exclude_none=True)
    if len(shape) != 3:
        raise ConfigError(f"encoder {cfg.name}: takes images (C, H, W), the data have shape {shape}")
    if match is not None:
        _refuse(cfg.name, chosen, OF_PADDED)
        return _cifar(cfg.name, {"depth": int(match[2]), **CIFAR[match[1]], **chosen}, shape)
    if chosen.setdefault("in_channels", shape[0]) != shape[0]:
        raise ConfigError(f"encoder {cfg.name}: takes {chosen['in_channels']} channels, the data have {shape[0]}")
    if cfg.name.startswith(TORCHVISION):
        _refuse(cfg.name, chosen, (*OF_CIFAR, *OF_PADDED, "depth", "width"))
        return Torchvision(cfg.name.removeprefix(TORCHVISION), shape[0])
    _refuse(cfg.name, chosen, OF_CIFAR)
    del chosen["in_channels"]
    return padded_resnet.build(cfg.name, shape, **chosen)


def _refuse(name: str, chosen: dict[str, Any], options: tuple[str, ...]) -> None:
    for option in options:
        if option in chosen:
            raise ConfigError(f"encoder {name}: has no option {option}")


def _cifar(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> CifarResNet | Lifted:
    if options.setdefault("in_channels", shape[0]) == shape[0]:
        return CifarResNet(**options)
    if options["in_channels"] != MAPS * shape[0]:
        raise ConfigError(f"encoder {name}: takes {options['in_channels']} channels, the data have {shape[0]}")
    net = CifarResNet(**options)
    return Lifted(net, net.features)

"""ResNets of torchvision without their classifier: the mean over the last map is the feature.

Layouts of files that are read: torchvision's own, and the same trained by others, whose names have a prefix: SimCLR
(`encoder.`, beside a `projector.`) and DINO (nothing, or `backbone.` beside a `head.`).

Sources: He et al., CVPR 2016, arXiv 1512.03385; Chen et al., ICML 2020, arXiv 2002.05709 (SimCLR); Caron et al., ICCV
2021, arXiv 2104.14294 (DINO).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors.base import Extractor

LEFT_OUT = ("fc", "projector", "head")  # what stands behind the encoder
PREFIXES = ("backbone.", "encoder.")


class Options(Config):
    """Which ResNet."""

    net: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = Field(
        "resnet50", description="torchvision's"
    )


class ResNet(Extractor):
    """Part "all" (B, D), the mean over the cells of the last map; `frames` gives them."""

    Config: ClassVar[type[Options]] = Options
    channels: ClassVar[int] = 3
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        import torchvision

        if len(spec.shape) != 3 or spec.shape[0] != 3:
            raise ConfigError(f"{cfg.net}: takes images of 3 channels, the data have items of {spec.shape}")
        self.net = getattr(torchvision.models, cfg.net)(weights=None)
        self.parts = {"all": self.net.fc.in_features}
        del self.net.fc
        self.places = {"all": tuple(-(-side // 32) for side in spec.shape[1:])}

    def original(self, name: str) -> str | None:
        """Names of torchvision, with or without a prefix."""
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        return None if name.split(".")[0] in LEFT_OUT else f"net.{name}"

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 3, H, W) -> "all" (B, D)."""
        return {"all": self._last(x).mean((2, 3))}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The cells of the last map, (B, h w, D); nothing is drawn."""
        return {"all": self._last(x).flatten(2).transpose(1, 2)}

    def _last(self, x: Tensor) -> Tensor:
        net = self.net
        x = net.maxpool(F.relu(net.bn1(net.conv1(x))))
        found: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return found


METHOD = ResNet

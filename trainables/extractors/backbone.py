"""A backbone alone, for weights that come without heads: there is nothing to train, all can be evaluated.

Such are the `final_weights.pth` of SIE's code (arXiv 2302.10283) and backbones trained with labels.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.core.method import Method
from trainables.nets.encoder import EncoderConfig, build_encoder
from trainables.nets.pairs import backbone_of_original


class Options(Config):
    """Which backbone, and how its representation is divided."""

    encoder: EncoderConfig = Field(
        default_factory=lambda: EncoderConfig(name="resnet18"), description="see trainables/nets/encoder.py"
    )
    equi: int | None = Field(None, ge=1, description="equivariant dimensions, the last; None = there are no parts")


class Backbone(Method):
    """Parts: "all" (B, D), and with `equi` "inv" (B, D - E) and "equi" (B, E)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.encoder = build_encoder(cfg.encoder, spec.shape)
        features = self.encoder.features
        self.parts = {"all": features}
        if cfg.equi is not None:
            if cfg.equi >= features:
                raise ConfigError(f"method.equi: must be below the encoder's {features} features (got {cfg.equi})")
            self.parts |= {"inv": features - cfg.equi, "equi": cfg.equi}

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse to be trained.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("method backbone: has nothing to train; evaluate it with `sweep eval`")

    def original(self, name: str) -> str | None:
        """Names of a backbone that was stored alone, or with the prefix `backbone.` beside a classifier."""
        for prefix in ("backbone.", "encoder."):
            if name.startswith(prefix):
                name = name.removeprefix(prefix)
        return None if name.split(".")[0] in CLASSIFIERS else backbone_of_original(f"backbone.{name}")

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, S, S) -> every part."""
        z = self.encoder(x)
        split = z.shape[1] - (self.cfg.equi or 0)
        return {"all": z} if self.cfg.equi is None else {"all": z, "inv": z[:, :split], "equi": z[:, split:]}


CLASSIFIERS = ("fc", "head", "classifier", "linear")
METHOD = Backbone

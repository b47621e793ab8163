"""What methods on two views share: encoder, tracking classifier; and contrastive ones: projection head, NT-Xent."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets.base import Batch, Spec
from datasets.config import Config, ConfigError, under_default
from trainables.core import dist
from trainables.core.method import Method
from trainables.losses.classification import cross_entropy, topk_hits
from trainables.losses.contrast import Negatives, nt_xent
from trainables.nets.encoder import EncoderConfig, build_encoder
from trainables.nets.heads import MLP, expander

TRACKED = "class"  # the label that the tracking classifier learns, where the data have it


class PairConfig(Config):
    """Options of every method on two views."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig, description="see trainables/nets/encoder.py")
    joint_forward: bool = Field(
        False,
        description="both views in one pass, so that batch normalisation mixes them (DUET, SIE: off)",
    )
    tracking: bool = Field(True, description="train a linear classifier on detached features beside (DUET: on)")

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An option of the encoder without its name is one of the method's own default."""
        return under_default(cls, "encoder", value)


class PairMethod(Method):
    """Base of methods on two views. A subclass defines `forward` and `encode` from these pieces.

    Attributes:
        encoder: (B, C, H, W) -> (B, D).
        tracker: Linear(D, classes) on *detached* features of view 1; None without class labels.
    """

    def __init__(self, cfg: PairConfig, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.cfg: PairConfig = cfg
        self.encoder = build_encoder(cfg.encoder, spec.shape)
        classes = spec.labels.get(TRACKED, 0)
        self.tracker = nn.Linear(self.encoder.features, classes) if cfg.tracking and classes else None

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse data that are no images, or that come in another number of views than two.

        Raises:
            ConfigError: one line.
        """
        if spec.views != 2:
            raise ConfigError(f"{cls.__name__}: takes 2 views, the views section gives {spec.views}")
        features_of(cfg.encoder, spec)

    def each(self, module: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """`module` on each view by itself, or on both at once with the option `joint_forward`."""
        if self.cfg.joint_forward:
            joint: Tensor = module(torch.cat([first, second]))
            return joint[: len(first)], joint[len(first) :]
        return module(first), module(second)

    def track(self, z1: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy and accuracies of the tracking classifier; its gradient stops at the features."""
        if self.tracker is None:
            return {}
        logits, labels = self.tracker(z1.detach()), batch.labels[TRACKED]
        return {
            "tracking_ce": dist.mean(cross_entropy(logits, labels)),
            "tracking_top1": dist.mean(topk_hits(logits.detach(), labels, 1)),
            "tracking_top5": dist.mean(topk_hits(logits.detach(), labels, 5)),
        }


class TwoViewConfig(PairConfig):
    """Options of every contrastive method on two views."""

    head_hidden: int = Field(2048, ge=1, le=65_536, description="units of both hidden layers of the projection head")
    head_out: int = Field(128, ge=1, le=65_536, description="dimensions of the embedding that is contrasted")
    temperature: float = Field(0.1, gt=0, le=10, description="of NT-Xent (DUET: 0.1; ESSL's own code: 0.5)")
    negatives: Negatives = Field("both", description="of both views, or the other one alone (ESSL's own: cross)")
    head_norm: bool = Field(True, description="end the head with a batch norm (DUET: on), or bias-free (SIE: off)")
    directions: Literal["sum", "mean"] = Field("sum", description="of both views' terms (DUET: sum; SIE, ESSL: mean)")


class TwoViewMethod(PairMethod):
    """Base of SimCLR-like methods. A subclass builds `head` from these pieces too."""

    cfg: TwoViewConfig

    def projection(self, d_in: int) -> nn.Sequential:
        """The projection head d_in - hidden - hidden - out, with batch norms, the last one, if any, without ReLU."""
        hidden = (self.cfg.head_hidden, self.cfg.head_hidden)
        return (
            MLP(d_in, hidden, self.cfg.head_out) if self.cfg.head_norm else expander(d_in, (*hidden, self.cfg.head_out))
        )

    def contrast(self, e1: Tensor, e2: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of the global batch and its matching accuracies in percent."""
        result = nt_xent(e1, e2, self.cfg.temperature, self.cfg.negatives)
        rates = dist.mean(torch.stack(list(result.hits.values()), dim=1))
        nce = dist.mean(result.values) / (2 if self.cfg.directions == "mean" else 1)
        return nce, dict(zip(result.hits, rates.unbind(), strict=True))


def features_of(cfg: EncoderConfig, spec: Spec) -> int:
    """D of an encoder, without memory for its weights.

    Raises:
        ConfigError: the encoder does not fit the data.
    """
    with torch.device("meta"):
        return build_encoder(cfg, spec.shape).features

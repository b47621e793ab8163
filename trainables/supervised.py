"""Supervised: the networks of CPC, GIM, SIM and V3 trained on labels, the bound that self-supervision is measured by.

    end to end (default)    logits = W mean_t c(x) + b, c the context, or without one the last latent
    frozen                  the same on a network that stays as it started: what random features are worth
    greedy                  of every module m  logits_m = W_m mean_t c_m + b_m, on the detached output of the one below
    loss = (sum over modules of) the cross entropy

Labels are one for each item, or (B, F) one for each frame, -1 = none: then logits are those of frames, averaged to F
where there are more, and the mean is one over cross entropies. Of images the mean is that over the patches.

Of pages (`encoder.name: pages`, V3's encoder with a classifier of each fragment) the factor is one of fragments.
Evaluations read the same parts as of GIM; `scores` are what the last classifier says of frames.

Sources: Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv 2408.12936 (end to end, frozen); Löwe, O'Connor, Veeling,
NeurIPS 2019, arXiv 1905.11786 (supervised and greedy supervised); Wu et al., ICLR 2025, arXiv 2407.03824 (pages).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Batch, Spec
from datasets.config import ConfigError, near
from trainables.losses.classification import cross_entropy, topk_hits
from trainables.nets.isolated import ModularMethod, ModularMethodConfig
from trainables.nets.modular import ModularConfig


class Config(ModularMethodConfig):
    """Options of the supervised baselines."""

    encoder: ModularConfig = Field(
        default_factory=lambda: ModularConfig(name="supervised_audio"), description="see trainables/nets/modular.py"
    )
    factor: str | None = Field(None, description="labelled factor to be told; None = the only one with classes")
    greedy: bool = Field(False, description="a classifier for each module, no gradient between modules (GIM)")
    frozen: bool = Field(False, description="train the classifier alone, on a random network (SIM's baseline)")
    bias: bool = Field(True, description="of the classifier")
    head_start: Literal["default", "xavier"] = Field("default", description="of its weights (GIM's for phones: xavier)")


Options = Config  # inside the class `Config` is its attribute


class Supervised(ModularMethod):
    """Parts: "module0" (B, C), ..., "context" (B, R); "all" is the context, or without one the last latent."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.factor = factor_of(cfg, spec)
        if cfg.frozen:
            self.trained = ()
            self.freeze()
        last = len(self.net) - 1
        self.heads = nn.ModuleDict()
        for number in range(len(self.net)) if cfg.greedy else [last]:
            head = nn.Linear(self.units[number].context_width, spec.labels[self.factor], bias=cfg.bias)
            if cfg.head_start == "xavier":
                nn.init.xavier_normal_(head.weight)
            self.heads[str(number)] = head
        for number, unit in enumerate(self.units):
            if unit.predicts is not None and str(number) not in self.heads:
                unit.predicts.requires_grad_(False)  # nothing reads this context

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse data without the label.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        factor_of(cfg, spec)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The cross entropy of the global batch, of each classifier, and accuracies in percent."""
        x, target = batch.views[0], batch.labels[self.factor]
        losses, hits = {}, {}
        for number, unit in enumerate(self.units):
            latent = unit(x)
            z = latent.mean
            if str(number) in self.heads:
                ce, hit = self.judge(self.heads[str(number)], unit.context(z), target)
                losses[f"ce_{number}"], hits[f"top1_{number}"] = ce, hit
            x = unit.onward(latent, z)
            if self.cfg.greedy:
                x = x.detach()
        return self.report(losses, hits)

    def judge(self, head: nn.Module, c: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy and hits in percent per item (b,), of frames c (b, L, d) and labels (b,) or (b, F)."""
        if target.ndim == 1:
            logits = head(c.mean(1))
            return cross_entropy(logits, target), topk_hits(logits.detach(), target, 1)
        logits = head(F.adaptive_avg_pool1d(c.transpose(1, 2), target.shape[1]).transpose(1, 2))
        known = (target >= 0).to(logits.dtype)
        flat, labels = logits.flatten(0, 1), target.clamp_min(0).flatten()
        ce, hit = cross_entropy(flat, labels), topk_hits(flat.detach(), labels, 1)
        count = known.sum(1).clamp_min(1)
        return tuple((rows.view_as(known) * known).sum(1) / count for rows in (ce, hit))  # type: ignore[return-value]

    def scores(self, frames: Tensor) -> Tensor:
        """Logits (..., classes) of frames of "all" (..., d)."""
        logits: Tensor = self.heads[str(len(self.net) - 1)](frames)
        return logits


def factor_of(cfg: Options, spec: Spec) -> str:
    """The factor that is to be told.

    Raises:
        ConfigError: the data have no such classes, or several of which none is named.
    """
    classes = sorted(name for name, count in spec.labels.items() if count)
    if cfg.factor is None and len(classes) == 1:
        return classes[0]
    if cfg.factor is None:
        raise ConfigError(f"method.factor: name one of the data's classes: {', '.join(classes) or 'there are none'}")
    if cfg.factor not in classes:
        raise ConfigError(f"method.factor: the data have no classes '{cfg.factor}'{near(cfg.factor, classes)}")
    return cfg.factor


METHOD = Supervised

"""ESSL: SimCLR that must also tell which transform was applied to a small view.

    z_v = f(x_v)    e_v = h(z_v)              of the two views
    u = q(f(g x'))                            x' a view of half the size, g the transform in question
    aux = cross entropy of u and which version of g it was (ron, fli, flv, gra), over all versions
          or the squared error of u and g's parameter      (rot, bri, con, sat, hue)
    loss = NT-Xent(e_1, e_2) + lambda * aux [+ cross entropy of a linear classifier on the detached z_1]

f is the encoder, h the projection head, q a predictor with layer norms; gradients of aux reach f. The transform in
question is not in the stack of the views, so that the views stay invariant to the rest. With lambda = 0 there is no
predictor, and no third pass that would change the running statistics of f: SimCLR. The three passes have batch
statistics of their own; in evaluation form views and small view share the running ones, and x' is a central crop.

The authors' own CIFAR-10 code differs from this form, which is that of DUET's baseline: temperature 0.5, negatives of
the other view alone, the mean of both directions in place of their sum, SGD. `temperature`, `negatives`, `directions`
and `train.optimizer` are options.

Source: Dangovski, Jing, Loh, Han, Srivastava, Cheung, Agrawal, Soljacic, "Equivariant Contrastive Learning", ICLR 2022,
arXiv 2111.00899; as the baseline of DUET (Suau et al., ICML 2023, arXiv 2306.16058).
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets import config
from datasets.auxiliary import TASKS, Auxiliary
from datasets.base import Batch, Question, Spec
from datasets.config import ConfigError, near
from trainables.core import dist
from trainables.losses.classification import cross_entropy, squared_error, topk_hits
from trainables.nets.heads import MLP
from trainables.nets.two_view import TwoViewConfig, TwoViewMethod, features_of


class Config(TwoViewConfig):
    """Options of ESSL; defaults are those of DUET's code."""

    lambda_: float = Field(
        0.4, ge=0, le=1e6, alias="lambda", description="of the auxiliary loss; 0 = SimCLR (DUET: 0.4)"
    )
    equi_tx: str = Field("ron", description=f"the transform to be told, not in views.tx: {' '.join(TASKS)}")
    crop_fraction: float = Field(0.5, gt=0, le=1, description="side of the small view, share of the views' (DUET: 0.5)")
    predictor_hidden: int = Field(2048, ge=1, le=65_536, description="units of both hidden layers (DUET: 2048)")

    @field_validator("equi_tx")
    @classmethod
    def _has_a_task(cls, code: str) -> str:
        if code not in TASKS:
            raise ConfigError(f"'{code}' cannot be predicted{near(code, set(TASKS))}")
        return code


Options = Config  # inside the class `Config` is its attribute


class ESSL(TwoViewMethod):
    """Parts: "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("lambda",)

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features, hidden = self.encoder.features, (cfg.predictor_hidden, cfg.predictor_hidden)
        self.head = self.projection(features)
        outputs = TASKS[cfg.equi_tx].outputs
        self.predictor = MLP(features, hidden, outputs, norm="layer", final_norm=False) if cfg.lambda_ else None
        self.parts = {"all": features}

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse as every two-view method, and a small view that the encoder does not take.

        Warns of a turn that cannot be told since the small view is turned anyway.
        """
        super().check(cfg, spec)
        small = cls.auxiliary(cfg)
        if small is not None:
            try:
                features_of(cfg.encoder, replace(spec, shape=(spec.shape[0], *small.size(spec.shape))))
            except ConfigError as error:
                raise ConfigError(f"crop_fraction: the small view cannot be encoded: {error}") from None
        other = {"ron": "rot", "rot": "ron"}.get(cfg.equi_tx, "")
        if cfg.lambda_ and spec.kinds.get(other) in ("circular", "quarter"):
            warnings.warn(
                f"method.equi_tx: '{cfg.equi_tx}' can hardly be told from views that '{other}' turns all around; "
                f"leave '{other}' out of views.tx",
                stacklevel=2,
            )

    @classmethod
    def auxiliary(cls, cfg: config.Config) -> Auxiliary | None:
        """The small view whose transform is to be told."""
        assert isinstance(cfg, Options)
        return Auxiliary(cfg.equi_tx, cfg.crop_fraction) if cfg.lambda_ else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        e1, e2 = self.each(self.head, z1, z2)
        nce, matching = self.contrast(e1, e2)
        told = self.tell(batch.question) if self.predictor is not None else {}
        tracking = self.track(z1, batch)
        terms = [nce, *(parts[name] for parts, name in ((told, "essl_weighted"), (tracking, "tracking_ce")) if parts)]
        return dist.agree({"loss": torch.stack(terms).sum(), "nce": nce, **told, **matching, **tracking})

    def tell(self, question: Question | None) -> dict[str, Tensor]:
        """The auxiliary loss, raw and times lambda, and accuracies in percent where the answer is a class."""
        assert question is not None, "the views were built without the auxiliary view that the method asks for"
        assert self.predictor is not None
        return self.answer(self.predictor(self.encoder(question.x)), question.target)

    def answer(self, u: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Predictions (n B, outputs) against what is true."""
        if not TASKS[self.cfg.equi_tx].versions:
            loss = dist.mean(squared_error(u, target.to(u.dtype)))
            return {"essl_loss": loss, "essl_weighted": self.cfg.lambda_ * loss}
        loss = dist.mean(cross_entropy(u, target))
        hits: dict[str, Any] = {f"essl_top{k}": dist.mean(topk_hits(u.detach(), target, k)) for k in (1, 5)}
        return {"essl_loss": loss, "essl_weighted": self.cfg.lambda_ * loss, **hits}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> "all" (B, D)."""
        return {"all": self.encoder(x)}


METHOD = ESSL

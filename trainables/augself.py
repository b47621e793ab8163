"""AugSelf: SimCLR that must also tell which transformation leads from one view to the other.

    z_v = f(x_v)    e_v = h(z_v)    u = q([z_1 | z_2])      of the two views
    loss = InfoNCE(e_1, e_2) + ec mean (u - g)^2

g is the known transformation, q a regressor of three layers whose gradient reaches f; InfoNCE is the mean over both
directions. Evaluations read z ("all").

Sources: Lee, Lee, Lee, Lee, Shin, "Improving Transferability of Representations via Augmentation-Aware
Self-Supervision", NeurIPS 2021, arXiv 2111.09613; form of SimCLRAugSelf in SIE's code (Garrido, Najman, LeCun, ICML
2023, arXiv 2302.10283).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Batch, Spec
from trainables.core import dist
from trainables.losses.contrast import nt_xent
from trainables.losses.vicreg import squared_distance
from trainables.nets.heads import expander
from trainables.nets.pairs import RelatedConfig, RelatedMethod, Sizes
from trainables.nets.predictors import regressor


class Config(RelatedConfig):
    """Options of AugSelf; defaults are those of SIE's baseline."""

    projector: Sizes = Field((2048, 2048, 2048), description="sizes of the expander's layers (SIE: 2048-2048-2048)")
    temperature: float = Field(0.1, gt=0, le=10, description="of InfoNCE (SIE: 0.1)")
    ec: float = Field(1.0, ge=0, le=1e6, description="of the regression of g (SIE: 1); its error is at most about 0.2")


Options = Config  # inside the class `Config` is its attribute


class AugSelf(RelatedMethod):
    """Parts: "all" (B, D), "emb" (B, d)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("ec",)

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features = self.encoder.features
        self.projector = expander(features, cfg.projector)
        self.predictor = regressor(2 * features, 2 * features, self.k)
        self.parts = {"all": features, "emb": cfg.projector[-1]}
        self.watch(spec, self.parts, self.parts)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        e1, e2 = self.each(self.projector, z1, z2)
        nce = dist.mean(nt_xent(e1, e2, self.cfg.temperature).values) / 2
        told = squared_distance(self.predictor(torch.cat([z1, z2], dim=1)), self.relation(batch))
        first, second = {"all": z1, "emb": e1}, {"all": z2, "emb": e2}
        return self.report(nce + self.cfg.ec * told, {"nce": nce, "told": told}, first, second, batch)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> "all" (B, D), "emb" (B, d)."""
        z = self.encoder(x)
        return {"all": z, "emb": self.projector(z)}


METHOD = AugSelf

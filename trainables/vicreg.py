"""VICReg: views of one thing agree, every dimension of the embedding varies, no two vary together.

    z_v = f(x_v)    e_v = h(z_v)                            of the two views
    loss = sim mean (e_1 - e_2)^2 + std V + cov C
    V = [hinge(e_1) + hinge(e_2)] / 2      hinge(e) = mean_j max(0, 1 - std_j(e))
    C = c(e_1) + c(e_2)                    c(e) = sum of squared off-diagonals of the covariance / d

f is the encoder, h the expander; standard deviations and covariances are those of the global batch. With `invariant`
only so many leading dimensions of the embedding must agree, and all vary: VICRegPartInv of SIE's code. Evaluations read
z ("all") and e ("emb").

Sources: Bardes, Ponce, LeCun, "VICReg", ICLR 2022, arXiv 2105.04906; weights and form of Garrido, Najman, LeCun, ICML
2023, arXiv 2302.10283.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.losses.vicreg import covariance, squared_distance, variance
from trainables.nets.heads import expander
from trainables.nets.pairs import RelatedConfig, RelatedMethod, Sizes


class Config(RelatedConfig):
    """Options of VICReg; defaults are those of SIE's baseline."""

    projector: Sizes = Field((2048, 2048, 2048), description="sizes of the expander's layers (SIE: 2048-2048-2048)")
    invariant: int | None = Field(None, ge=1, description="leading dimensions that must agree; None = all")
    sim: float = Field(10.0, ge=0, le=1e6, description="of the distance between the views (SIE: 10; VICReg: 25)")
    std: float = Field(10.0, ge=0, le=1e6, description="of the variance (SIE: 10; VICReg: 25)")
    cov: float = Field(1.0, ge=0, le=1e6, description="of the covariance (SIE: 1; VICReg: 1)")


Options = Config  # inside the class `Config` is its attribute


class VICReg(RelatedMethod):
    """Parts: "all" (B, D), "emb" (B, d), and with `invariant` its two parts "emb_inv", "emb_equi"."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("sim", "std", "cov")
    NEEDS_GROUP: ClassVar[bool] = False

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features, size = self.encoder.features, cfg.projector[-1]
        self.projector = expander(features, cfg.projector)
        whole = {"all": features, "emb": size}
        agreeing, rest = cfg.invariant or size, size - (cfg.invariant or size)
        free = {"emb_equi": rest} if rest else {}
        self.parts = whole | ({"emb_inv": agreeing, **free} if cfg.invariant else {})
        self.watch(spec, whole | {"emb_inv": agreeing}, whole | free)

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse more invariant dimensions than there are.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        if cfg.invariant is not None and cfg.invariant > cfg.projector[-1]:
            raise ConfigError(
                f"method.invariant: {cfg.invariant} of an embedding of only {cfg.projector[-1]} dimensions"
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        e1, e2 = self.each(self.projector, z1, z2)
        agreeing = self.cfg.invariant
        terms = {
            "invariance": squared_distance(e1[:, :agreeing], e2[:, :agreeing]),
            "variance": (variance(e1) + variance(e2)) / 2,
            "covariance": covariance(e1) + covariance(e2),
        }
        cfg = self.cfg
        loss = cfg.sim * terms["invariance"] + cfg.std * terms["variance"] + cfg.cov * terms["covariance"]
        return self.report(loss, terms, self.divided(z1, e1), self.divided(z2, e2), batch)

    def divided(self, z: Tensor, e: Tensor) -> dict[str, Tensor]:
        """Representation and embedding, and the dimensions of this that must agree, and those that need not."""
        agreeing = self.cfg.invariant or e.shape[1]
        return {"all": z, "emb": e, "emb_inv": e[:, :agreeing], "emb_equi": e[:, agreeing:]}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> every part."""
        z = self.encoder(x)
        found = self.divided(z, self.projector(z))
        return {part: found[part] for part in self.parts}


METHOD = VICReg

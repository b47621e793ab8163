"""EquiMod: an invariance loss, and beside it an embedding whose change under a known transformation is predicted.

    z_v = f(x_v)    i_v = h_inv(z_v)    e_v = h_equi(z_v)    p = predictor(e_1, g)     of the two views
    infonce   loss = InfoNCE(i_1, i_2) + equi_factor InfoNCE(p, e_2)
    vicreg    loss = L(i_1, i_2; i_1) + equi_factor L(p, e_2; e_1)
              L(a, b; c) = sim mean (a - b)^2 + std [hinge(c) + hinge(b)] / 2 + cov [c(c) + c(b)]

g leads from view 1 to view 2; InfoNCE is the mean over both directions, hinge and c as in `vicreg.py`. Both
embeddings read the whole representation. Without `invariant` only the equivariant term is left: SimCLROnlyEqui of SIE's
code, where VICRegEquiMod, SimCLREquiMod and their RotColor forms are this method's options too. Evaluations read z
("all").

Sources: Devillers, Lefort, "EquiMod: An Equivariance Module to Improve Visual Instance Discrimination", ICLR 2023,
arXiv 2211.01244; forms and weights of Garrido, Najman, LeCun, ICML 2023, arXiv 2302.10283.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.core import dist
from trainables.losses.contrast import nt_xent
from trainables.losses.vicreg import covariance, squared_distance, variance
from trainables.nets.heads import expander
from trainables.nets.pairs import RelatedConfig, RelatedMethod, Sizes
from trainables.nets.predictors import PredictorConfig, build_predictor


class Config(RelatedConfig):
    """Options of EquiMod; defaults are those of SIE's SimCLREquiMod."""

    loss: Literal["infonce", "vicreg"] = Field("infonce", description="what compares embeddings (EquiMod: infonce)")
    invariant: bool = Field(True, description="the invariance loss beside; off: SimCLROnlyEqui, with infonce alone")
    projector: Sizes = Field((2048, 2048, 2048), description="sizes of both expanders' layers (EquiMod: 1024-1024-128)")
    predictor: PredictorConfig = Field(default_factory=PredictorConfig, description="see trainables/nets/predictors.py")
    equi_factor: float = Field(1.0, ge=0, le=1e6, description="of the equivariant loss (EquiMod: 1)")
    temperature: float = Field(0.1, gt=0, le=10, description="of infonce (EquiMod: 0.1)")
    sim: float = Field(10.0, ge=0, le=1e6, description="of the distances, with vicreg (SIE: 10)")
    std: float = Field(10.0, ge=0, le=1e6, description="of the variance, with vicreg (SIE: 10)")
    cov: float = Field(1.0, ge=0, le=1e6, description="of the covariance, with vicreg (SIE: 1)")

    @model_validator(mode="after")
    def _applied(self) -> Config:
        """Refuse an option that would change nothing."""
        for name in ("temperature",) if self.loss == "vicreg" else ("sim", "std", "cov"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no option of the loss '{self.loss}'")
        return self


Options = Config  # inside the class `Config` is its attribute


class EquiMod(RelatedMethod):
    """Parts: "all" (B, D), "emb_equi" (B, d), and with `invariant` "emb_inv" (B, d)."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("equi_factor", "sim", "std", "cov")

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features, size = self.encoder.features, cfg.projector[-1]
        self.projector_equi = expander(features, cfg.projector)
        self.projector_inv = expander(features, cfg.projector) if cfg.invariant else None
        self.predictor = build_predictor(cfg.predictor, size, self.k)
        self.parts = {"all": features, "emb_equi": size, **({"emb_inv": size} if cfg.invariant else {})}
        whole = {"all": features, "emb": size * (1 + cfg.invariant)}
        inv = {"emb_inv": size} if cfg.invariant else {}
        self.watch(spec, whole | inv, whole | {"equi": features, "emb_equi": size})

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse the equivariant term alone with vicreg, which is SIE without an invariant part.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        if cfg.loss == "vicreg" and not cfg.invariant:
            raise ConfigError(
                "method.invariant: off needs loss infonce; with vicreg take the method sie with equi: null"
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        first, second = {"all": z1, "equi": z1}, {"all": z2, "equi": z2}
        first["emb_equi"], second["emb_equi"] = self.each(self.projector_equi, z1, z2)
        if self.projector_inv is not None:
            first["emb_inv"], second["emb_inv"] = self.each(self.projector_inv, z1, z2)
        for parts in (first, second):
            parts["emb"] = torch.cat([parts[name] for name in ("emb_inv", "emb_equi") if name in parts], dim=1)
        predicted = self.predictor(first["emb_equi"], self.relation(batch))
        terms: dict[str, Tensor] = {}
        loss = z1.new_zeros(())
        if self.projector_inv is not None:
            invariant, found = self.compare(first["emb_inv"], second["emb_inv"], first["emb_inv"])
            terms |= {f"invariant_{name}": value for name, value in found.items()}
            loss = loss + invariant
        equivariant, found = self.compare(predicted, second["emb_equi"], first["emb_equi"])
        terms |= {f"equivariant_{name}": value for name, value in found.items()}
        factor = self.cfg.equi_factor if self.projector_inv is not None else 1.0
        return self.report(loss + factor * equivariant, terms, first, second, batch, predicted)

    def compare(self, a: Tensor, b: Tensor, spread: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a against b, each (B, d), and its terms; `spread` is kept from collapsing along with b."""
        cfg = self.cfg
        if cfg.loss == "infonce":
            nce = dist.mean(nt_xent(a, b, cfg.temperature).values) / 2
            return nce, {"nce": nce}
        terms = {
            "distance": squared_distance(a, b),
            "variance": (variance(spread) + variance(b)) / 2,
            "covariance": covariance(spread) + covariance(b),
        }
        return cfg.sim * terms["distance"] + cfg.std * terms["variance"] + cfg.cov * terms["covariance"], terms

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> every part."""
        z = self.encoder(x)
        parts = {"all": z, "emb_equi": self.projector_equi(z)}
        return parts if self.projector_inv is None else {**parts, "emb_inv": self.projector_inv(z)}

    def predict(self, parts: dict[str, Tensor], delta: Tensor) -> dict[str, Tensor]:
        """The equivariant embedding after a transformation g (B, k): "emb_equi" (B, d)."""
        return {"emb_equi": self.predictor(parts["emb_equi"], delta)}


METHOD = EquiMod

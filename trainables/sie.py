"""SIE: a representation of two parts, one the same for both views, one that a known transformation turns.

    z_v = f(x_v) = [inv | equi]      i_v = h_inv(inv_v)      e_v = h_equi(equi_v)      of the two views
    p = predictor(e_1, g)            g leads from view 1 to view 2 (a quaternion, hue differences, ...)
    loss = sim mean (i_1 - i_2)^2 + equi_factor sim mean (p - e_2)^2
         + std [V(Z) + hinge(p) / 2] + cov C(Z)             Z = [i | e], V and C as in `vicreg.py`

The last `equi` dimensions of the representation are equivariant. V and C act on both parts together, so that they do
not say the same thing twice. The predictor's matrix is made from g by a hypernetwork without biases: it cannot ignore
g. With `equi` = None the whole representation is equivariant and there is no i (SIEOnlyEqui, whose equivariant term
has the weight sim alone); without `predicted_variance` the hinge on p is left out (SIENoVar); `group` [rotation,
colour] is SIERotColor. Nothing is symmetrised, no gradient is stopped.

Source: Garrido, Najman, LeCun, "Self-Supervised Learning of Split Invariant Equivariant Representations", ICML 2023,
arXiv 2302.10283.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.losses.vicreg import covariance, squared_distance, variance
from trainables.nets.heads import expander
from trainables.nets.pairs import RelatedConfig, RelatedMethod, Sizes
from trainables.nets.predictors import PredictorConfig, build_predictor
from trainables.nets.two_view import features_of


class Config(RelatedConfig):
    """Options of SIE; defaults are those of its published run."""

    equi: int | None = Field(256, ge=1, description="equivariant dimensions, the last; None = all (SIE: 256 of 512)")
    projector: Sizes = Field(
        (2048, 2048, 2048), description="sizes of the expander's layers, shared out by the parts' (SIE: 2048-2048-2048)"
    )
    predictor: PredictorConfig = Field(default_factory=PredictorConfig, description="see trainables/nets/predictors.py")
    equi_factor: float = Field(0.45, ge=0, le=1e6, description="of the equivariant term, times sim (SIE: 0.45)")
    sim: float = Field(10.0, ge=0, le=1e6, description="of both distances (SIE: 10)")
    std: float = Field(10.0, ge=0, le=1e6, description="of the variance (SIE: 10)")
    cov: float = Field(1.0, ge=0, le=1e6, description="of the covariance (SIE: 1)")
    predicted_variance: bool = Field(
        True, description="the variance also of what is predicted (SIE: on; SIENoVar: off)"
    )


Options = Config  # inside the class `Config` is its attribute


class SIE(RelatedMethod):
    """Parts: "all" (B, D), "inv" (B, D - E), "equi" (B, E); "emb", "emb_inv", "emb_equi" behind the expanders.

    With `equi` = None there are "all", "equi" (the same), "emb" and "emb_equi".
    """

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("equi_factor", "sim", "std", "cov")

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features = self.encoder.features
        equi = features if cfg.equi is None else cfg.equi
        sizes = {
            part: shared(cfg.projector, d, features) for part, d in (("inv", features - equi), ("equi", equi)) if d
        }
        self.split = features - equi
        self.projector_inv = expander(self.split, sizes["inv"]) if self.split else None
        self.projector_equi = expander(equi, sizes["equi"])
        self.predictor = build_predictor(cfg.predictor, sizes["equi"][-1], self.k)
        self.parts = {"all": features, "equi": equi, "emb": 0, "emb_equi": sizes["equi"][-1]}
        if self.split:
            self.parts |= {"inv": self.split, "emb_inv": sizes["inv"][-1]}
        self.parts["emb"] = sum(found[-1] for found in sizes.values())
        whole = {part: self.parts[part] for part in ("all", "emb")}
        of_part = {
            kind: {p: d for p, d in self.parts.items() if p in (kind, f"emb_{kind}")} for kind in ("inv", "equi")
        }
        self.watch(spec, whole | of_part["inv"], whole | of_part["equi"])

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse parts without dimensions.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        features = features_of(cfg.encoder, spec)
        if cfg.equi is None:
            return
        if not 1 <= cfg.equi < features:
            raise ConfigError(
                f"method.equi: must leave both parts something of the encoder's {features} features (got {cfg.equi}); "
                "null = all are equivariant, and for none take the method vicreg"
            )
        for d in (cfg.equi, features - cfg.equi):
            if 0 in shared(cfg.projector, d, features):
                raise ConfigError(
                    f"method.projector: {d} of {features} features get none of {cfg.projector}; enlarge it"
                )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        g, cfg = self.relation(batch), self.cfg
        first, second = self._parts(z1, z2)
        predicted = self.predictor(first["emb_equi"], g)
        terms = {
            "equivariance": squared_distance(predicted, second["emb_equi"]),
            "variance": (variance(first["emb"]) + variance(second["emb"])) / 2,
            "covariance": covariance(first["emb"]) + covariance(second["emb"]),
        }
        factor = cfg.equi_factor if self.split else 1.0
        loss = factor * cfg.sim * terms["equivariance"] + cfg.std * terms["variance"] + cfg.cov * terms["covariance"]
        if self.split:
            terms["invariance"] = squared_distance(first["emb_inv"], second["emb_inv"])
            loss = loss + cfg.sim * terms["invariance"]
        if cfg.predicted_variance:
            terms["predicted_variance"] = variance(predicted) / 2
            loss = loss + cfg.std * terms["predicted_variance"]
        return self.report(loss, terms, first, second, batch, predicted)

    def _parts(self, z1: Tensor, z2: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every part of both views; each projector sees view 1 before view 2."""
        found: list[dict[str, Tensor]] = [{"all": z, "equi": z[:, self.split :]} for z in (z1, z2)]
        if self.projector_inv is not None:
            for parts, z, e in zip(found, (z1, z2), self._each(self.projector_inv, z1, z2, 0, self.split), strict=True):
                parts |= {"inv": z[:, : self.split], "emb_inv": e}
        equi = self._each(self.projector_equi, z1, z2, self.split, z1.shape[1])
        for parts, e in zip(found, equi, strict=True):
            parts["emb_equi"] = e
            parts["emb"] = torch.cat([parts["emb_inv"], e], dim=1) if "emb_inv" in parts else e
        return found[0], found[1]

    def _each(self, module: nn.Module, z1: Tensor, z2: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self.each(module, z1[:, start:end], z2[:, start:end])

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> every part."""
        z = self.encoder(x)
        parts = {"all": z, "equi": z[:, self.split :], "emb_equi": self.projector_equi(z[:, self.split :])}
        parts["emb"] = parts["emb_equi"]
        if self.projector_inv is not None:
            parts |= {"inv": z[:, : self.split], "emb_inv": self.projector_inv(z[:, : self.split])}
            parts["emb"] = torch.cat([parts["emb_inv"], parts["emb_equi"]], dim=1)
        return parts

    def predict(self, parts: dict[str, Tensor], delta: Tensor) -> dict[str, Tensor]:
        """The equivariant embedding after a transformation g (B, k): "emb_equi" (B, d)."""
        return {"emb_equi": self.predictor(parts["emb_equi"], delta)}


def shared(sizes: tuple[int, ...], part: int, features: int) -> tuple[int, ...]:
    """The expander's sizes of a part of the representation, each its share, halves rounded to even."""
    return tuple(round(size * (part / features)) for size in sizes)


METHOD = SIE

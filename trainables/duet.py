"""DUET: a representation whose rows are the bins of a transform's parameter and whose columns are content.

    z_v = f(x_v) in R^D, read as K x G x C          K transforms, G bins each, C = D / (K G) columns
    content:   c_v = sum_g z_v[k, g, :], concatenated over k           e_v = h(c_v)
    marginal:  P_v[k, :] = softmax_g( mean_c z_v[k, g, c] )
    target:    t_v[k, :] = von Mises(2 pi p_vk, kappa) or Gaussian(p_vk, sigma), summed over each bin
    loss = NT-Xent(e_1, e_2) + lambda * JS(P, t) [+ cross entropy of a linear classifier on the detached z_1]

p_vk in [0, 1] is the parameter of transform k that was really applied to view v (`Batch.units`). JS is the mean over
both views and all K in training; in evaluation view 1 is clean and JS the mean over view 2 alone. G = 0 leaves the
representation unstructured (SimCLR), with G = 1 the group loss is 0; lambda = 0 keeps the pooling without a target.
Figure 1 of the paper sums over c where its code takes the mean, which is what lambda was set for: `reduction`.

Source: Suau, Danieli, Keller, Blaas, Huang, Ramapuram, Busbridge, Zappella, "DUET: 2D Structured and Approximately
Equivariant Representations", ICML 2023, arXiv 2306.16058.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError, near
from trainables.core import dist
from trainables.losses.divergence import jensen_shannon, log_gaussian, log_von_mises
from trainables.nets.duet_layer import Pooler, as_groups, marginal_logits, pool_content
from trainables.nets.two_view import TwoViewConfig, TwoViewMethod, features_of

NO_UNIT = {"res", "ccr", "jit"}  # transforms that no single number in [0, 1] describes


class Config(TwoViewConfig):
    """Options of DUET; defaults are those of its code."""

    lambda_: float = Field(
        10.0, ge=0, le=1e6, alias="lambda", description="of the group loss (DUET: 10; rot, vm: 1000)"
    )
    bins: int = Field(8, ge=0, le=1024, description="G, bins of each parameter; 0 = SimCLR (DUET: 8)")
    equi_tx: tuple[str, ...] = Field(("rot",), min_length=1, description="codes of the transforms to be equivariant to")
    target: Literal["ga", "vm"] = Field("ga", description="Gaussian, or von Mises for circular parameters such as rot")
    sigma: float = Field(0.2, gt=0, le=10, description="standard deviation of ga, in units of the range (DUET: 0.2)")
    kappa: float = Field(3.0, gt=0, le=1000, description="concentration of vm (DUET: 3)")
    pooler: Pooler = Field("sum", description="how the bins are pooled to content (DUET: sum)")
    pool_groups: Literal["concat", "joint"] = Field("concat", description="content per transform, or pooled over all")
    reduction: Literal["mean", "sum"] = Field("mean", description="columns to marginal logits (DUET's code: mean)")

    @field_validator("equi_tx", mode="before")
    @classmethod
    def _one_code(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


Options = Config  # inside the class `Config` is its attribute


class DUET(TwoViewMethod):
    """Parts: "all" (B, D), "content" (B, K C) or (B, C), "group" (B, K G) marginal probabilities.

    With bins it has the capabilities "roll", "marginal" and "steer" for each of its transforms.
    """

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("lambda",)
    bins: int
    equivariant_to: tuple[str, ...]

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        features, self.codes = self.encoder.features, tuple(cfg.equi_tx)
        self.parts = {"all": features, "content": features}
        if cfg.bins:  # without bins there is nothing to roll: the capabilities are absent
            self.bins, self.equivariant_to = cfg.bins, self.codes
            columns = features // (len(self.codes) * cfg.bins)
            kept = 1 if cfg.pool_groups == "joint" else len(self.codes)
            self.parts |= {"content": kept * columns, "group": len(self.codes) * cfg.bins}
        self.head = self.projection(self.parts["content"])

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse what cannot work with these views; warn of a target that does not fit the transform's geometry.

        Raises:
            ConfigError: a transform that is not in the stack, has no parameter or is named twice; a representation
                that does not divide into bins; a standard deviation over one bin.
        """
        super().check(cfg, spec)
        rows = len(cfg.equi_tx) * cfg.bins
        for code in cfg.equi_tx if cfg.bins else ():
            _check_code(code, cfg, spec)
        features = features_of(cfg.encoder, spec)
        if rows and features % rows:
            raise ConfigError(f"method.bins: {rows} bins in all must divide the encoder's {features} features")
        if cfg.pooler == "std" and cfg.bins and (rows if cfg.pool_groups == "joint" else cfg.bins) < 2:
            raise ConfigError("method.pooler: 'std' needs at least 2 bins; choose more bins or another pooler")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        e1, e2 = self.each(self.head, self.content(z1), self.content(z2))
        nce, matching = self.contrast(e1, e2)
        group = self.group_loss(z1, z2, batch)
        tracking = self.track(z1, batch)
        terms = [nce, *(parts[name] for parts, name in ((group, "group_weighted"), (tracking, "tracking_ce")) if parts)]
        return dist.agree({"loss": torch.stack(terms).sum(), "nce": nce, **group, **matching, **tracking})

    def group_loss(self, z1: Tensor, z2: Tensor, batch: Batch) -> dict[str, Tensor]:
        """JS between marginals and targets, raw and times lambda; of both views in training, else of view 2."""
        if not self.cfg.bins:
            return {}
        views = ((0, z1), (1, z2)) if self.training else ((1, z2),)
        rows_BVK = torch.stack(
            [jensen_shannon(self.log_marginals(z), self.log_targets(batch, view)) for view, z in views], dim=1
        )
        raw = dist.mean(rows_BVK.flatten(1).mean(1))
        return {"group_loss": raw, "group_weighted": self.cfg.lambda_ * raw}

    def content(self, z: Tensor) -> Tensor:
        """The representation with its bins pooled away: (B, D) -> (B, K C), or (B, C); with G = 0 as it is."""
        if not self.cfg.bins:
            return z
        return pool_content(
            as_groups(z, len(self.codes), self.cfg.bins), self.cfg.pooler, self.cfg.pool_groups == "joint"
        )

    def log_marginals(self, z: Tensor) -> Tensor:
        """ln P over the bins of every transform: (B, D) -> (B, K, G), at least in float32."""
        full = z.float() if z.dtype in (torch.bfloat16, torch.float16) else z
        return marginal_logits(as_groups(full, len(self.codes), self.cfg.bins), self.cfg.reduction).log_softmax(-1)

    def log_targets(self, batch: Batch, view: int) -> Tensor:
        """ln t of a view: (B, K, G)."""
        p_BK = torch.cat([batch.units[code][view] for code in self.codes], dim=1)
        return self.log_target(p_BK.to(batch.views[view].dtype))

    def log_target(self, p: Tensor) -> Tensor:
        """ln t around parameters in units: (...) -> (..., G)."""
        if self.cfg.target == "vm":
            return log_von_mises(p, self.cfg.bins, self.cfg.kappa)
        return log_gaussian(p, self.cfg.bins, self.cfg.sigma)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> "all", "content", "group"."""
        z = self.encoder(x)
        parts = {"all": z, "content": self.content(z)}
        return {**parts, "group": self.log_marginals(z).exp().flatten(1)} if self.cfg.bins else parts

    def roll(self, z: Tensor, m: int, code: str) -> Tensor:
        """(B, D) -> (B, D) with the bins of one transform moved up by m, cyclically: a step of m / G of its range."""
        index = self.codes.index(code)
        moved = as_groups(z, len(self.codes), self.bins).clone()
        moved[:, index] = moved[:, index].roll(m, dims=1)
        return moved.flatten(1)

    def steer(self, z: Tensor, p: Tensor, code: str) -> Tensor:
        """z (B, D) whose marginal of one transform is made exactly the target at p (B, 1).

        z'[g, c] = z[g, c] + d_g - mean_g d with d_g = ln t_g(p) - ln P(g): a sum over g stays as it is.
        """
        index = self.codes.index(code)
        moved = as_groups(z, len(self.codes), self.bins).clone()
        d_BG = self.log_target(p[:, 0].to(z.dtype)) - self.log_marginals(z)[:, index].to(z.dtype)
        d_BG = d_BG - d_BG.mean(1, keepdim=True)
        columns = moved.shape[-1] if self.cfg.reduction == "sum" else 1
        moved[:, index] = moved[:, index] + (d_BG / columns)[..., None]
        return moved.flatten(1)

    def marginal(self, z: Tensor, code: str) -> Tensor:
        """Probabilities over the bins of one transform: (B, D) -> (B, G)."""
        return self.log_marginals(z)[:, self.codes.index(code)].exp()


def _check_code(code: str, cfg: Options, spec: Spec) -> None:
    if code in NO_UNIT:
        raise ConfigError(f"method.equi_tx: '{code}' has no parameter to be equivariant to; choose another transform")
    if code not in spec.kinds:
        raise ConfigError(f"method.equi_tx: '{code}' is not in the stack of the views{near(code, set(spec.kinds))}")
    if cfg.equi_tx.count(code) > 1:
        raise ConfigError(f"method.equi_tx: '{code}' is named twice")
    kind = spec.kinds[code]
    if cfg.target == "ga" and kind in ("circular", "quarter"):
        warnings.warn(
            f"method.target: the ends of '{code}' meet on the circle but are far apart for 'ga'; 'vm' fits",
            stacklevel=3,
        )
    if cfg.target == "vm" and kind == "zero_one":
        raise ConfigError(
            f"method.target: 0 and 1 of '{code}' are the same angle for 'vm', so nothing could be learned; "
            f"choose 'ga', or leave out views.options.{code}.zero_one"
        )
    if cfg.target == "vm" and kind == "continuous":
        warnings.warn(f"method.target: the ends of '{code}' differ but are one angle for 'vm'; 'ga' fits", stacklevel=3)


METHOD = DUET

"""SIM: Greedy InfoMax whose modules give distributions, kept near the normal one, so that the latents are smooth.

    z_0 = x    (mu_m, v_m) = f_m(sg z_{m-1})                    of module m, sg stops the gradient, v = ln variance
    z_m, z'_m ~ N(mu_m, exp v_m)    c_m = g_m(z'_m) or z'_m     two independent samples; z_m goes on
    KL_m = sum (mu^2 + exp v - 1 - v) / 2  over places and channels, divided by
           C: summed over time, the code and its published weights (`kl_reduction: time`)
           L: summed over channels, the papers (`channels`); the first is L / C times this, of each module another
    loss = sum_m InfoNCE(c_m, z_m) + beta_m KL_m                see `losses/info_nce.py`

f_m are convolutions with two linear heads; the last module of sound is a GRU over z of the one below, without
distribution. Of images one sample is both context and target, and the next module reads the feature maps instead (see
`nets/patches.py`). beta (`kl_weight`) is one number or one for each module with a distribution. With beta = 0 and means
in place of samples this is GIM. `train_module` trains one module, on those below as they are. After training as well as
in evaluations z is the mean, unless `sample_at_evaluation`; losses on the validation split keep sampling.

Evaluations read "module0", "module1", ..., "context" ("all"), each the mean over frames (`frames`: all).

Source: Denoodt, de Boer, Oramas, "Smooth InfoMax - Towards Easier Post-Hoc Interpretability", ECML PKDD 2025, arXiv
2408.12936; Denoodt, "V-GIM", master's thesis, VUB 2023.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.core.draws import Draws
from trainables.core.method import Progress
from trainables.losses.divergence import standard_normal_kl
from trainables.nets.isolated import PredictiveConfig, PredictiveMethod, noise_of_items
from trainables.nets.latent import Latent
from trainables.nets.modular import Network

Weight = Annotated[float, Field(ge=0, le=1e6)]


class Config(PredictiveConfig):
    """Options of SIM; defaults are those of its code."""

    kl_weight: Weight | tuple[Weight, ...] = Field(
        0.01,
        description="beta, one for all or one for each module with a distribution, also by its number, "
        "method.kl_weight.0 (SIM: 0.01; LibriSpeech: 0.001)",
    )
    kl_reduction: Literal["time", "channels"] = Field(
        "time", description="what KL is summed over, with a mean over the other (SIM's code: time; images: channels)"
    )
    kl_warmup: float = Field(0.0, ge=0, le=1, description="share of the training over which beta rises from 0 (SIM: 0)")
    sample_at_evaluation: bool = Field(
        False, description="parts from one sample of each item's distribution, the same whenever it is seen; off: means"
    )
    train_module: int | None = Field(None, ge=0, description="train this module alone, by number from 0; None = all")

    @field_validator("kl_weight", mode="before")
    @classmethod
    def _numbered(cls, value: Any) -> Any:
        """{"0": ..., "1": ...} in the order of the modules, none left out."""
        if not isinstance(value, dict):
            return value
        if sorted(map(str, value)) != [str(number) for number in range(len(value))]:
            raise ValueError("must name the modules from 0 on, each once")
        return tuple(value[key] for key in sorted(value, key=int))


Options = Config  # inside the class `Config` is its attribute


class SIM(PredictiveMethod):
    """Parts: "module0" (B, C), ..., "context" (B, R); "all" is the context, or without one the last latent."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("kl_weight", "kl_reduction", "prediction_steps", "negatives")
    PROBABILISTIC: ClassVar[bool] = True
    warmed: Tensor

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.register_buffer("warmed", torch.ones(()), persistent=False)
        gaussian = [number for number, unit in enumerate(self.units) if unit.probabilistic]
        betas = cfg.kl_weight if isinstance(cfg.kl_weight, tuple) else (cfg.kl_weight,) * len(gaussian)
        self.betas = dict(zip(gaussian, betas, strict=True))

    @classmethod
    def check_network(cls, cfg: Any, network: Network) -> None:
        """Refuse a network without distributions, or another number of weights than there are.

        Raises:
            ConfigError: one line.
        """
        super().check_network(cfg, network)
        count = sum(unit.probabilistic for unit in network.units)
        if not count:
            raise ConfigError("method.encoder.head: without linear heads no module has a distribution; choose 1")
        if isinstance(cfg.kl_weight, tuple) and len(cfg.kl_weight) != count:
            raise ConfigError(
                f"method.kl_weight: one number, or one for each of the {count} modules with a distribution "
                f"(got {len(cfg.kl_weight)})"
            )

    def before_step(self, progress: Progress) -> None:
        """Let beta rise."""
        if self.cfg.kl_warmup:
            done = (progress.epoch * progress.steps_per_epoch + progress.step) / progress.steps_per_epoch
            self.warmed.fill_(min(done / progress.epochs / self.cfg.kl_warmup, 1.0))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the global batch, one for each module that is trained, their terms and their sum."""
        x, draws = batch.views[0], self.draws(batch)
        losses: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for number, unit in enumerate(self.units[: self.trained[-1] + 1]):
            latent = unit(x)
            z = latent.sample(self.drawn(draws, f"z{number}", latent))
            if number in self.trained:
                other = z if unit.grid is not None else latent.sample(self.drawn(draws, f"c{number}", latent))
                nce = self.contrast(number, unit.context(other), z, draws)
                losses[f"loss_{number}"] = nce.values
                terms |= {f"nce_{number}": nce.values.detach(), f"nce_top1_{number}": nce.hits}
                if latent.logvar is not None:
                    kl = self.divergence(latent)
                    losses[f"loss_{number}"] = nce.values + self.beta(number) * kl[self.cfg.kl_reduction]
                    terms |= {f"kl_{reduction}_{number}": value.detach() for reduction, value in kl.items()}
            x = unit.onward(latent, z).detach()
        return self.report(losses, terms)

    def drawn(self, draws: Draws, name: str, latent: Latent) -> Tensor | None:
        """Noise for one sample of a latent; a point needs none."""
        return None if latent.logvar is None else draws.normal(name, latent.mean)

    def divergence(self, latent: Latent) -> dict[str, Tensor]:
        """KL to N(0, 1) per item (b,), in both reductions."""
        assert latent.logvar is not None
        kl_BLC = standard_normal_kl(latent.mean, latent.logvar)
        return {"time": kl_BLC.sum(1).mean(1), "channels": kl_BLC.sum(2).mean(1)}

    def beta(self, number: int) -> Tensor | float:
        """The weight of a module's KL at this moment; in evaluation mode the full one."""
        return self.betas[number] * self.warmed if self.training and self.cfg.kl_warmup else self.betas[number]

    def noise(self, latent: Latent, x: Tensor, number: int, rng: torch.Generator | None) -> Tensor | None:
        """With `sample_at_evaluation` a sample that follows from the item's content, so that no batch changes it."""
        if latent.logvar is not None and rng is None and self.cfg.sample_at_evaluation:
            return noise_of_items(x, latent, number)
        return super().noise(latent, x, number, rng)


METHOD = SIM

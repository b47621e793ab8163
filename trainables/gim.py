"""GIM: a network whose modules learn each for itself; no gradient crosses a border between them.

    z_0 = x    z_m = f_m(sg z_{m-1})    c_m = g_m(z_m) or z_m                     of module m, sg stops the gradient
    loss = sum_m InfoNCE(c_m, z_m)      see `losses/info_nce.py`

f_m are convolutions and a linear map; the last module of sound is a GRU g over z of the one below, or g lies inside the
last or each (`encoder.context_at`). Of images f_m are residual blocks over patches, z_m the mean over a patch, and the
next module reads the feature maps (see `nets/patches.py`). As the terms share no weight, the sum trains each module as
if it were alone: `train_module` trains one, on those below as they are, which `init` may take from a checkpoint.

Evaluations read "module0", "module1", ..., "context" ("all"), each the mean over frames (`frames`: all).

Source: Löwe, O'Connor, Veeling, "Putting An End to End-to-End: Gradient-Isolated Learning of Representations", NeurIPS
2019, arXiv 1905.11786.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from datasets.base import Batch
from trainables.nets.isolated import PredictiveConfig, PredictiveMethod


class Config(PredictiveConfig):
    """Options of GIM."""

    train_module: int | None = Field(None, ge=0, description="train this module alone, by number from 0; None = all")


Options = Config  # inside the class `Config` is its attribute


class GIM(PredictiveMethod):
    """Parts: "module0" (B, C), ..., "context" (B, R); "all" is the context, or without one the last latent."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("prediction_steps", "negatives")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the global batch, one for each module that is trained, and their sum."""
        x, draws = batch.views[0], self.draws(batch)
        losses, hits = {}, {}
        for number, unit in enumerate(self.units[: self.trained[-1] + 1]):
            latent = unit(x)
            z = latent.mean
            if number in self.trained:
                nce = self.contrast(number, unit.context(z), z, draws)
                losses[f"nce_{number}"], hits[f"nce_top1_{number}"] = nce.values, nce.hits
            x = unit.onward(latent, z).detach()
        return self.report(losses, hits)


METHOD = GIM

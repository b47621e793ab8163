"""CPC: a context that tells what comes next, trained end to end.

    z = f(x) in R^{L x C}    c = g(z)           L frames of a sound; c_t knows z_1 .. z_t
    loss = mean over j = 1..k and t of  -ln softmax([q.z_{t+j}, q.n_1, .., q.n_N])_0      q = W_j c_t

f: convolutions and a linear map, g: a GRU, n: latents of other moments and sounds (`sampling`), within a window of 128
frames. Of an image z is a grid of patches, g a PixelCNN; c predicts patches 2 .. k + 1 rows below it in its column,
with W_j on the targets (see `losses/info_nce.py`). With `encoder.name: cpc_extra_audio` linear layers stand where SIM's
modules end, so that the layers can be compared one by one.

Evaluations read "context" ("all"), "module0" = z and single layers, each the mean over frames (`frames`: all).

Source: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748; in
the forms that Löwe, O'Connor, Veeling, NeurIPS 2019, arXiv 1905.11786, and Denoodt, de Boer, Oramas, ECML PKDD 2025,
arXiv 2408.12936, compare with.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from datasets.base import Batch
from datasets.config import ConfigError
from trainables.nets.isolated import PredictiveConfig, PredictiveMethod
from trainables.nets.modular import ModularConfig, Network


class Config(PredictiveConfig):
    """Options of CPC."""

    encoder: ModularConfig = Field(
        default_factory=lambda: ModularConfig(name="cpc_audio"), description="see trainables/nets/modular.py"
    )


Options = Config  # inside the class `Config` is its attribute


class CPC(PredictiveMethod):
    """Parts: "all" = "context" (B, R), "module0" (B, C), "layer1", ... of the layers that the encoder keeps."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 1
    coefficients: ClassVar[tuple[str, ...]] = ("prediction_steps", "negatives")

    @classmethod
    def check_network(cls, cfg: Any, network: Network) -> None:
        """Refuse a network of several modules, between which a gradient would have to pass.

        Raises:
            ConfigError: one line.
        """
        if len(network.units) != 1:
            raise ConfigError(
                f"method.encoder: CPC is one module, {cfg.encoder.name} has {len(network.units)}; take cpc_audio, "
                "cpc_resnet50 or the method gim"
            )
        super().check_network(cfg, network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch; every scalar is the same on every rank."""
        (unit,) = self.units
        z = unit(batch.views[0]).mean
        nce = self.contrast(0, unit.context(z), z, self.draws(batch))
        return self.report({"nce_0": nce.values}, {"nce_top1_0": nce.hits})


METHOD = CPC

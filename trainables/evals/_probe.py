"""Which probe reads a factor, with its options: what `linear`, `frame_votes` and `adversarial` share."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from datasets.config import Config, ConfigError
from trainables.evals import _adam, _heads
from trainables.evals._adam import Adam
from trainables.evals._heads import STEPS, Head, Hidden
from trainables.evals._labelled import Labelled
from trainables.evals.probes import Linear, ProbeKind, classifier, hold_out


class ProbeConfig(Config):
    """Options of a probe."""

    probe: ProbeKind | Literal["adam", "mlp"] = Field(
        "logistic",
        description="logistic: exact multinomial; ridge: one-hot regression; sgd: heads at all rates at once; "
        "adam: as SIM, GIM and CPC publish it, no setting chosen; "
        "mlp: a small network, not linear any more (SIE's other head)",
    )
    bias: bool = Field(True, description="whether a linear probe has an intercept (SIM, weights to be looked at: off)")
    adam: Adam = Field(default_factory=Adam, description="settings of the probe adam")
    hidden: Hidden = Field((256, 256), description="sizes of the mlp's hidden layers (SIE: 1024, 1024)")
    steps: int | None = Field(None, ge=16, le=1_000_000, description=STEPS)

    def check_probe(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            ConfigError: one line.
        """
        if self.probe == "mlp" and not self.bias:
            raise ConfigError("bias: off is for linear probes; the mlp has intercepts")


def fit(cfg: ProbeConfig, train: Labelled, classes: int, seed: int) -> Linear | Head:
    """The probe of train rows; the same seed holds out the same items, whichever part they are of."""
    draws = np.random.default_rng(seed)
    if cfg.probe == "adam":
        return _adam.fit(train.x, train.y, train.row, classes, cfg.adam, draws, train.draws, cfg.bias)[0]
    held_out = hold_out(train.owner, draws)
    if cfg.probe == "mlp":
        return _heads.classifier(train.x, train.y, classes, held_out, cfg.hidden, cfg.steps, draws)
    return classifier(train.x, train.y, classes, held_out, cfg.probe, draws, cfg.bias)

"""SimCLR: a representation that is invariant to the transforms between two views.

    z_v = f(x_v)    e_v = h(z_v)
    loss = NT-Xent(e_1, e_2) [+ cross entropy of a linear classifier on the detached z_1]

f is the encoder, h the projection head; NT-Xent sums both directions (see `losses/contrast.py`), which is twice the
usual average over 2B. Evaluations read z ("all").

Source: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709; as the baseline of DUET (Suau et al., ICML 2023,
arXiv 2306.16058).
"""

from __future__ import annotations

import re
from typing import ClassVar

from torch import Tensor

from datasets.base import Batch, Spec
from trainables.core import dist
from trainables.nets.pairs import OBSERVER, backbone_of_original
from trainables.nets.two_view import TwoViewConfig, TwoViewMethod


class Config(TwoViewConfig):
    """Options of SimCLR: those of every method on two views."""


Options = Config  # inside the class `Config` is its attribute


class SimCLR(TwoViewMethod):
    """Parts: "all" (B, D)."""

    Config: ClassVar[type[Options]] = Options
    VERSION: ClassVar[int] = 1

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.head = self.projection(self.encoder.features)
        self.parts = {"all": self.encoder.features}

    def original(self, name: str) -> str | None:
        """Names of the SimCLR in SIE's code (arXiv 2302.10283); its online evaluator is left out."""
        return None if OBSERVER.search(name) else re.sub(r"^projector\.", "head.", backbone_of_original(name))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch and its terms; every scalar is the same on every rank."""
        z1, z2 = self.each(self.encoder, *batch.views)
        e1, e2 = self.each(self.head, z1, z2)
        nce, matching = self.contrast(e1, e2)
        tracking = self.track(z1, batch)
        loss = nce + tracking["tracking_ce"] if tracking else nce
        return dist.agree({"loss": loss, "nce": nce, **matching, **tracking})

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, C, H, W) -> "all" (B, D)."""
        return {"all": self.encoder(x)}


METHOD = SimCLR

"""V3's encoder of fragments as the one module of a network: what a supervised baseline of V3 trains.

Convolutions (of vectors hidden layers), linear, GELU, linear: the branch of the content alone, for every fragment of a
page. Its latent has a place for each fragment.

Source: Wu et al., ICLR 2025, arXiv 2407.03824.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.nets.latent import Latent, Unit
from trainables.nets.v3_autoencoders import AutoencoderConfig, Name, encoder_body

WIDTH = 512  # d_c, as published


class PageUnit(Unit):
    """Pages (B, n, *fragment) -> a latent (B, n, 512)."""

    def __init__(self, layout: Name, channels: int | None, fragment: tuple[int, ...]) -> None:
        """Build for fragments of a shape.

        Raises:
            ConfigError: the network does not take it.
        """
        super().__init__()
        self.inner = fragment if len(fragment) != 2 else (1, *fragment)
        self.body, flat = encoder_body(AutoencoderConfig(name=layout, channels=channels), fragment)
        self.joint, self.content = nn.Linear(flat, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.width = self.context_width = WIDTH
        self.probabilistic, self.predicts = False, None

    def forward(self, x: Tensor) -> Latent:
        """The latent of every fragment."""
        z = self.content(F.gelu(self.joint(self.body(x.reshape(-1, *self.inner)).flatten(1))))
        return Latent(z.unflatten(0, x.shape[:2]))

    def context(self, z: Tensor) -> Tensor:
        """The latent itself."""
        return z

    def onward(self, latent: Latent, z: Tensor) -> Tensor:
        """The latent; nothing follows."""
        return z

"""Decoders of latents back to a waveform: transposed convolutions over time, ReLU between them and none at the end.

The presets undo the strides of the networks in `modular.py` exactly: a word of 10,240 samples and a crop of 20,480 come
back in full length. `module0` to `module2` belong to the latents of `sim_audio`, layers 1, 3 and 4 of `cpc_audio`, 2, 5
and 7 of `cpc_extra_audio`; `simple_v2` and `v3_two_modules` to those of `vgim_audio` and `small_audio`; `gim_l1` to
`gim_l4` to single convolutions.

Sources: Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv 2408.12936; Denoodt, "V-GIM", VUB 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.config import ConfigError, near

Layer = tuple[int, int, int, int]  # kernel, stride, padding, output padding

SIMPLE_V2: tuple[Layer, ...] = ((3, 1, 1, 0), (8, 4, 0, 0), (8, 3, 2, 1), (8, 4, 0, 3), (10, 4, 2, 2))
GIM: tuple[Layer, ...] = ((4, 2, 2, 0), (4, 2, 2, 1), (10, 4, 2, 1), (12, 5, 2, 2))


@dataclass(frozen=True)
class Shape:
    """Layers of a decoder.

    Attributes:
        bare: layers, by number from 0, behind which there is no ReLU though others follow.
    """

    layers: tuple[Layer, ...]
    bare: tuple[int, ...] = ()


PRESETS: dict[str, Shape] = {
    "module0": Shape(((8, 4, 2, 3), (3, 1, 1, 0), (3, 1, 1, 0), (10, 5, 2, 4), (3, 1, 1, 0), (3, 1, 1, 0))),
    "module1": Shape(((4, 2, 2, 0), (4, 2, 2, 1), (8, 4, 2, 3), (10, 5, 2, 4))),
    "module2": Shape(((4, 2, 1, 1), (4, 2, 2, 0), (4, 2, 2, 1), (8, 4, 2, 3), (10, 5, 2, 4))),
    "simple_v1": Shape(((3, 1, 1, 0), (8, 4, 0, 1), (10, 5, 0, 0), (8, 4, 0, 3), (10, 5, 0, 0))),
    "simple_v2": Shape(SIMPLE_V2),
    "v2_two_modules": Shape(((3, 1, 1, 0), (8, 3, 2, 1), (8, 3, 2, 0), *SIMPLE_V2), bare=(2,)),
    "v3_two_modules": Shape(((3, 1, 1, 0), (6, 2, 2, 0), (6, 2, 2, 0), *SIMPLE_V2), bare=(2,)),
    **{f"gim_l{count}": Shape(GIM[-count:]) for count in (1, 2, 3, 4)},
}


class SoundDecoder(nn.Module):
    """Frames (B, L, C) -> a waveform (B, 1, T); `samples(L)` says T.

    Attributes:
        convolutions: transposed convolutions in their order.
    """

    def __init__(self, channels: int, preset: str, hidden: int | None = None) -> None:
        """Build.

        Args:
            channels: C. hidden: between the layers; None = C.

        Raises:
            ConfigError: there is no such preset.
        """
        super().__init__()
        if preset not in PRESETS:
            raise ConfigError(f"decoder '{preset}': no such decoder{near(preset, set(PRESETS))}")
        self.shape = PRESETS[preset]
        widths = [channels, *[hidden or channels] * (len(self.shape.layers) - 1), 1]
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose1d(widths[i], widths[i + 1], kernel, stride, pad, output_pad)
            for i, (kernel, stride, pad, output_pad) in enumerate(self.shape.layers)
        )

    def forward(self, z: Tensor) -> Tensor:
        """The waveform."""
        x, last = z.transpose(1, 2), len(self.convolutions) - 1
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if number < last and number not in self.shape.bare:
                x = F.relu(x)
        return x

    def samples(self, frames: int) -> int:
        """T of so many frames; 0 if nothing is left between two layers."""
        for kernel, stride, pad, output_pad in self.shape.layers:
            frames = max((frames - 1) * stride - 2 * pad + kernel + output_pad, 0) if frames else 0
        return frames

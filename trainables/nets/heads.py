"""Heads on top of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

Norm = Literal["batch", "layer"]
NORMS: dict[Norm, type[nn.BatchNorm1d] | type[nn.LayerNorm]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Sequential):
    """Linear-norm-ReLU for each hidden size, then Linear and, with `final_norm`, a norm: (B, d_in) -> (B, d_out).

    With hidden (2048, 2048), d_out 128 and a final batch norm it is the projection head of DUET (arXiv 2306.16058) and
    SimCLR; with layer norms and without a final one ESSL's predictor (arXiv 2111.00899). Linear layers have biases and
    PyTorch's default start.
    """

    def __init__(
        self, d_in: int, hidden: Sequence[int], d_out: int, norm: Norm = "batch", final_norm: bool = True
    ) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(d_in, size), NORMS[norm](size), nn.ReLU()]
            d_in = size
        layers.append(nn.Linear(d_in, d_out))
        if final_norm:
            layers.append(NORMS[norm](d_out))
        super().__init__(*layers)


def expander(d_in: int, sizes: Sequence[int]) -> nn.Sequential:
    """The projector of VICReg: Linear-BN-ReLU for all but the last of `sizes`, which is a linear map without bias."""
    layers: list[nn.Module] = []
    for size in sizes[:-1]:
        layers += [nn.Linear(d_in, size), nn.BatchNorm1d(size), nn.ReLU()]
        d_in = size
    return nn.Sequential(*layers, nn.Linear(d_in, sizes[-1], bias=False))

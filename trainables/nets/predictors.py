"""Predictors of a transformed embedding: (B, E) and the transformation g (B, k) -> (B, E).

Sources: Garrido, Najman, LeCun, ICML 2023, arXiv 2302.10283 (hypernetwork); Devillers, Lefort, "EquiMod", ICLR 2023,
arXiv 2211.01244 (a network that is given g beside the embedding). Names of weights are those of SIE's checkpoints.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from datasets.config import Config


class PredictorConfig(Config):
    """How the equivariant embedding of the second view is predicted from that of the first."""

    kind: Literal["hypernetwork", "mlp"] = Field("hypernetwork", description="g makes the weights, or is an input")
    hypernetwork: Literal["linear", "deep"] = Field("linear", description="one linear map of g, or three with ReLU")
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (), description="sizes between the predictor's layers; () = one matrix"
    )
    relu: bool = Field(False, description="ReLU between the predictor's layers")
    bias: bool = Field(False, description="generated biases; with any bias g can be ignored")
    hypernetwork_bias: bool = Field(False, description="biases inside the hypernetwork")
    layers: int = Field(1, ge=1, le=16, description="of the mlp; with 1 the prediction is a sum of g's part and z's")

    @field_validator("hidden", mode="before")
    @classmethod
    def _sizes(cls, value: object) -> object:
        """Also as the original writes them: "1024-1024"."""
        return value.split("-") if isinstance(value, str) and value else value or ()

    @model_validator(mode="after")
    def _applied(self) -> PredictorConfig:
        """Refuse an option that would change nothing."""
        idle = {"mlp": ("hypernetwork", "hidden", "relu", "bias", "hypernetwork_bias"), "hypernetwork": ("layers",)}
        for name in idle[self.kind]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no option of the kind '{self.kind}'")
        if self.relu and not self.hidden:
            raise ValueError("relu stands between layers, and without hidden there is one alone")
        return self


class Hypernetwork(nn.Module):
    """g (B, k) -> its last inner values (B, k), and the linear map that makes all weights of a predictor of them."""

    def __init__(self, k: int, total: int, deep: bool, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2 if deep else 0):
            layers += [nn.Linear(k, k, bias=bias), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(k, total, bias=bias))

    def forward(self, g: Tensor) -> tuple[Tensor, nn.Linear]:
        """The inner values, and the map."""
        return self.net[:-1](g), cast(nn.Linear, self.net[-1])


class HypernetworkPredictor(nn.Module):
    """A predictor whose weights g makes, sample by sample: h <- W_i(g) h (+ b_i(g)) for each layer.

    Linear and without biases the prediction is sum_k g_k A_k h: bilinear, odd in g, zero at g = 0, so that g cannot be
    ignored. PyTorch's start makes its output about sqrt(E / 12) times as large as its input.

    The weights themselves are never made: what they do to h is linear in the products of h with the last inner values
    of the hypernetwork, one matrix product a layer with k E numbers a sample in memory instead of E^2.
    """

    def __init__(self, cfg: PredictorConfig, size: int, k: int) -> None:
        super().__init__()
        dims = (size, *cfg.hidden, size)
        self.shapes = list(zip(dims[1:], dims[:-1], strict=True))  # (out, in) of each layer
        self.bias, self.relu = cfg.bias, cfg.relu
        total = sum(d_out * (d_in + cfg.bias) for d_out, d_in in self.shapes)
        self.hypernet = Hypernetwork(k, total, cfg.hypernetwork == "deep", cfg.hypernetwork_bias)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """z (B, E), g (B, k) -> (B, E)."""
        inner, last = self.hypernet(g)
        h, start = z, 0
        for number, (d_out, d_in) in enumerate(self.shapes):
            rows = slice(start, start + d_out * d_in)
            products = (h[:, :, None] * inner[:, None, :]).flatten(1)  # (B, in k)
            moved = products @ last.weight[rows].view(d_out, -1).T
            if last.bias is not None:
                moved = moved + h @ last.bias[rows].view(d_out, d_in).T
            start = rows.stop
            if self.bias:
                moved = moved + F.linear(inner, *_rows(last, start, start + d_out))
                start += d_out
            h = moved.relu() if self.relu and number < len(self.shapes) - 1 else moved
        return h


def _rows(linear: nn.Linear, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some of a linear map's outputs."""
    return linear.weight[start:stop], None if linear.bias is None else linear.bias[start:stop]


class MLPPredictor(nn.Module):
    """An MLP on g and z side by side, g first, with ReLU between its layers."""

    def __init__(self, size: int, k: int, layers: int) -> None:
        super().__init__()
        made: list[nn.Module] = [nn.Linear(size + k, size)]
        for _ in range(layers - 1):
            made += [nn.ReLU(), nn.Linear(size, size)]
        self.pred = nn.Sequential(*made)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """z (B, E), g (B, k) -> (B, E)."""
        out: Tensor = self.pred(torch.cat([g, z], dim=1))
        return out


def build_predictor(cfg: PredictorConfig, size: int, k: int) -> HypernetworkPredictor | MLPPredictor:
    """The predictor for embeddings of `size` and transformations of k numbers."""
    return MLPPredictor(size, k, cfg.layers) if cfg.kind == "mlp" else HypernetworkPredictor(cfg, size, k)


def regressor(d_in: int, hidden: int, d_out: int) -> nn.Sequential:
    """Linear-ReLU-Linear-ReLU-Linear, as AugSelf (Lee et al., NeurIPS 2021, arXiv 2111.09613) reads g from views."""
    return nn.Sequential(
        nn.Linear(d_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, d_out)
    )

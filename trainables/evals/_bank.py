"""Networks of probes side by side: P of one shape, each layer of which is one batched product for all of them.

A network is Linear-ReLU for each hidden size and a last Linear; without a hidden size it is one layer ("slp"). Of a
feature that is to be predicted from another one and a parameter, the parameter goes through Linear-ReLU of its own and
stands behind the features; `batch_norm` is one for the features that go in and for those that are to come out. Names of
tensors are those of a single network whose layers and activations are counted together, with an axis of P in front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datasets.atomic import replacing
from datasets.config import ConfigError

Output = Literal["none", "relu", "sigmoid", "softmax"]
OUTPUTS: tuple[Output, ...] = ("none", "relu", "sigmoid", "softmax")
State = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """What all networks of a bank share.

    Attributes:
        d_in: of the features. d_out: of what is predicted. hidden: sizes between them. embedding: dimensions of the
            parameter's, 0 = there is none. batch_norm: see the module's docstring. output: last activation.
    """

    d_in: int
    d_out: int
    hidden: tuple[int, ...] = ()
    embedding: int = 0
    batch_norm: bool = False
    output: Output = "none"


class Stacked(nn.Module):
    """P linear layers, their weights drawn as those of one by PyTorch, the same for all."""

    def __init__(self, count: int, d_in: int, d_out: int, rng: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        weight, bias = (
            torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=rng)
            for shape in ((d_out, d_in), (d_out,))
        )
        self.weight = nn.Parameter(weight.expand(count, -1, -1).clone())
        self.bias = nn.Parameter(bias.expand(count, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """x (P, b, d), or (b, d) that all of them see -> (P, b, t)."""
        if x.ndim == 2:
            flat = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
            return flat.unflatten(1, self.bias.shape).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))


class StackedNorm(nn.Module):
    """P batch norms of f features, with the defaults of PyTorch's."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, count: int, size: int, dtype: torch.dtype, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(count, size, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(count, size, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(count, size, dtype=dtype))
        self.register_buffer("running_var", torch.ones(count, size, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x (P, b, f), or (b, f) for all -> (P, b, f); in training by its own statistics, which are remembered."""
        x = x if x.ndim == 3 else x.expand(len(self.weight), -1, -1)
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(1), x.var(1, correction=0)
            with torch.no_grad():
                unbiased = var * x.shape[1] / max(x.shape[1] - 1, 1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (x - mean[:, None]) * scale[:, None] + self.bias[:, None]


class Bank(nn.Module):
    """P networks of one shape."""

    def __init__(
        self, shape: Shape, count: int = 1, rng: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        """All of them begin with the same weights, those of `rng`."""
        super().__init__()
        rng = rng or torch.Generator().manual_seed(0)
        self.shape, self.count = shape, count
        self.param_encoder = nn.ModuleList()
        if shape.embedding:
            self.param_encoder.extend([Stacked(count, 1, shape.embedding, rng, dtype), nn.ReLU()])
        self.layers = nn.ModuleList()
        d_in = shape.d_in + shape.embedding
        for size in shape.hidden:
            self.layers.extend([Stacked(count, d_in, size, rng, dtype), nn.ReLU()])
            d_in = size
        self.layers.append(Stacked(count, d_in, shape.d_out, rng, dtype))
        self.input_batch_norm = StackedNorm(count, shape.d_in, dtype) if shape.batch_norm else None

    def normalised(self, x: Tensor) -> Tensor:
        """Features, those that go in or those that are to come out, as the networks take them."""
        return x if self.input_batch_norm is None else self.input_batch_norm(x)

    def forward(self, x: Tensor, p: Tensor | None = None) -> Tensor:
        """x (P, b, d), or (b, d) for all, normalised; p (P, b, 1) of a parameter -> (P, b, t)."""
        if p is not None:
            for layer in self.param_encoder:
                p = layer(p)
            x = torch.cat([x if x.ndim == 3 else x.expand(self.count, -1, -1), p], -1)
        for layer in self.layers:
            x = layer(x)
        match self.shape.output:
            case "relu":
                return x.relu()
            case "sigmoid":
                return x.sigmoid()
            case "softmax":
                return x.softmax(-1)
        return x

    def state(self, place: int) -> State:
        """A copy of one network's tensors."""
        return {name: value[place].clone() for name, value in self.state_dict().items()}

    def take(self, places: Sequence[int]) -> Bank:
        """A bank of some of the networks, with copies of their tensors."""
        return bank_of(self.shape, [self.state(place) for place in places])


def bank_of(shape: Shape, states: Sequence[State]) -> Bank:
    """The networks whose tensors are given.

    Raises:
        RuntimeError: they do not belong to such a shape.
    """
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    bank = Bank(shape, len(states), dtype=states[0]["layers.0.weight"].dtype)
    bank.load_state_dict(stacked)
    return bank


@dataclass(frozen=True)
class Probe:
    """One fitted probe: net((x - mean) / scale) spread + centre.

    Attributes:
        state: of a network of `shape`. mean, scale: of the features, (d,). centre, spread: of what is predicted, (t,).
    """

    shape: Shape
    state: State
    mean: Tensor
    scale: Tensor
    centre: Tensor
    spread: Tensor

    def __call__(self, x: Tensor, p: Tensor | None = None) -> Tensor:
        """Features x (n, d), of a shape with a parameter p (n, 1) -> (n, t), in the units of what was fitted."""
        net, dtype = self.net(), self.centre.dtype
        with torch.no_grad():
            shown = net.normalised((x.to(dtype) - self.mean) / self.scale)
            found: Tensor = net(shown, None if p is None else p.to(dtype)[None])[0]
        return found * self.spread + self.centre

    def net(self) -> Bank:
        """The network, in evaluation mode."""
        return bank_of(self.shape, [self.state]).eval()

    def save(self, path: Path) -> Path:
        """Write it as safetensors, whole or not at all."""
        own = {name: getattr(self, name) for name in ("mean", "scale", "centre", "spread")}
        tensors = {name: value.contiguous() for name, value in {**self.state, **own}.items()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"output": self.shape.output})
        return path


def read(path: Path) -> Probe:
    """What `Probe.save` wrote; the tensors tell the shape.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        with safe_open(path, "pt") as file:
            output = (file.metadata() or {}).get("output", "none")
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        own = {name: named.pop(name) for name in ("mean", "scale", "centre", "spread")}
        layers = sorted((name for name in named if name.startswith("layers.") and "weight" in name), key=_number)
        encoder = named.get("param_encoder.0.weight", torch.zeros(0, 1))
        shape = Shape(
            d_in=len(own["mean"]),
            d_out=len(own["centre"]),
            hidden=tuple(len(named[name]) for name in layers[:-1]),
            embedding=len(encoder),
            batch_norm="input_batch_norm.weight" in named,
            output=OUTPUTS[OUTPUTS.index(output)],
        )
        bank_of(shape, [named])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{path}: is no probe ({' '.join(str(error).split())[:120]})") from None
    return Probe(shape, named, **own)


def _number(name: str) -> int:
    return int(name.split(".")[1])


def linear(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, knots: Tensor | None = None) -> Probe:
    """A fitted linear map as a probe: (inputs - mean) / scale @ weight + bias, weight (d + e, t).

    Args:
        knots: (e,) where the last e inputs are relu(p - knot) of a parameter p.
    """
    folded = (weight / scale[:, None]).T
    state = {"layers.0.weight": folded, "layers.0.bias": bias - folded @ mean}
    embedding = 0 if knots is None else len(knots)
    if knots is not None:
        state["param_encoder.0.weight"] = torch.ones_like(knots)[:, None]
        state["param_encoder.0.bias"] = -knots
    shape = Shape(len(weight) - embedding, len(bias), embedding=embedding)
    ones, zeros = torch.ones_like, torch.zeros_like
    features = mean[: shape.d_in]
    return Probe(shape, state, zeros(features), ones(features), zeros(bias), ones(bias))

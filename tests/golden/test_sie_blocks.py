"""Backbones, projector, predictors and losses of SIE against values of its original code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.losses.contrast import nt_xent
from trainables.losses.vicreg import correlation, spread
from trainables.nets.heads import expander
from trainables.nets.padded_resnet import PaddedResNet, SplitPathways
from trainables.nets.predictors import PredictorConfig, build_predictor

FOLDER = Path(__file__).parent / "sie"


def golden(name: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) if file[key].dtype.kind in "fi" else file[key] for key in file.files}


def close(actual: Tensor | float | None, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest value."""
    assert actual is not None
    expected = torch.as_tensor(expected)
    actual = torch.as_tensor(actual).detach().reshape(expected.shape).to(expected.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


def named(g: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in g.items() if key.startswith(prefix)}


def matching(g: dict[str, Any], module: nn.Module, inputs: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    """Output and gradients in training mode, buffers after it, output in evaluation mode before."""
    module.load_state_dict(named(g, "param/"))
    if "out_eval" in g:
        close(module.eval()(*inputs.values()), g["out_eval"], tolerance)
    given = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    out = module.train()(*given.values())
    close(out, g["out_train"] if "out_train" in g else g["out"], tolerance)
    (out * g["cotangent"]).sum().backward()  # type: ignore[no-untyped-call]
    for name, value in given.items():
        close(value.grad, g[f"grad_{name}"], tolerance)
    for name, value in named(g, "grad_param/").items():
        close(dict(module.named_parameters())[name].grad, value, tolerance)
    for name, value in named(g, "buffer_after/").items():
        close(dict(module.named_buffers())[name], value, tolerance)


def net(g: dict[str, Any], **options: Any) -> PaddedResNet:
    return PaddedResNet(g["layers"].tolist(), width=int(g["width"]), **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("basic", {"bottleneck": False}),
        ("bottleneck", {"bottleneck": True}),
        ("no_relu", {"bottleneck": False, "final_relu": False}),
        ("wide_end", {"bottleneck": False, "widen_end": 2}),
        ("small_end", {"bottleneck": False, "widen_end": 0.5}),
    ],
)
def test_backbone(name: str, options: dict[str, Any]) -> None:
    g = golden(f"resnet_{name}")
    matching(g, net(g, **options).double(), {"x": g["x"].double()}, 1e-8)


def test_split_pathways_but_for_the_order_of_its_parts() -> None:
    """The original puts the equivariant tower first, where its methods expect the invariant one."""
    g = golden("resnet_splitpathways")
    towers = [net(g, bottleneck=False, widen_end=0.5) for _ in range(2)]
    half = towers[0].features
    for key in ("out_train", "out_eval", "cotangent"):
        g[key] = g[key].roll(half, dims=1)
    matching(g, SplitPathways(*towers).double(), {"x": g["x"].double()}, 1e-8)


def test_a_block_with_its_stride_on_the_second_convolution() -> None:
    g = golden("basicblock_stride2")
    block = net({"layers": torch.tensor([1, 1, 1, 1]), "width": 2}, bottleneck=False).layer2[0].double()
    block.load_state_dict({**block.state_dict(), **named(g, "param/")})
    close(block.train()(g["x"]), g["out_train"])


def test_projector() -> None:
    g = golden("projector")
    sizes = [int(size) for size in str(g["mlp"]).split("-")]
    matching(g, expander(g["x"].shape[1], sizes).double(), {"x": g["x"]})


@pytest.mark.parametrize("name", ["deep", "linear", "linear_rotcolor", "two_layer_relu_bias"])
def test_hypernetwork(name: str) -> None:
    g = golden(f"hypernet_{name}")
    c = json.loads(str(g["config"]))
    cfg = PredictorConfig(
        hypernetwork=c["hypernetwork"], hidden=c["predictor"], relu=c["predictor_relu"], bias=c["bias_pred"],
        hypernetwork_bias=c["bias_hypernet"],
    )  # fmt: skip
    g["grad_x"] = g["grad_x"][:, 0]
    predictor = build_predictor(cfg, c["equivariant_size"], c["latent_size"]).double()
    matching(g, predictor, {"x": g["x"][:, 0], "z": g["z"]})


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_mlp_predictor(layers: int) -> None:
    g = golden(f"mlp_predictor_{layers}layer")
    predictor = build_predictor(PredictorConfig(kind="mlp", layers=layers), 6, 4).double()
    matching(g, predictor, {"x": g["x"], "z": g["z"]})


def test_info_nce_is_half_of_both_directions() -> None:
    g = golden("info_nce")
    features = g["features"].requires_grad_()
    loss = nt_xent(*features.chunk(2), float(g["temperature"])).values.mean() / 2
    close(loss, g["loss"])
    loss.backward()
    close(features.grad, g["grad"])


def test_statistics_of_collapse() -> None:
    g = golden("metrics")
    close(correlation(g["stat_embedding"])[0], g["stat/coremb_s"])
    close(correlation(g["stat_proj"])[0], g["stat/corhead_s"])
    close(spread(g["stat_embedding"]), g["stat/stdemb_s"])
    close(spread(g["stat_proj"]), g["stat/stdhead_s"])

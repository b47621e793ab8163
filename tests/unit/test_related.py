"""What SIE's construction promises, without long training: predictors that cannot ignore g, and how it collapses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from datasets.base import Batch, DataError, Spec
from datasets.config import ConfigError
from trainables.core.config import resolve
from trainables.nets.encoder import EncoderConfig, build_encoder
from trainables.nets.predictors import PredictorConfig, build_predictor
from trainables.sie import SIE
from trainables.vicreg import VICReg

SPEC = Spec(shape=(3, 32, 32), views=2, relations={"rotation": 4})
SMALL = {"encoder": {"name": "small_resnet10", "width": 8}, "equi": 32, "projector": (32, 32, 32), "tracking": False}


def test_the_published_prediction_is_odd_in_g_and_zero_at_zero() -> None:
    torch.manual_seed(0)
    z, g = torch.randn(5, 6), torch.randn(5, 4)
    published = build_predictor(PredictorConfig(), 6, 4)
    assert torch.allclose(published(z, -g), -published(z, g)) and not published(z, 0 * g).any()
    for other in (PredictorConfig(kind="mlp"), PredictorConfig(hypernetwork_bias=True)):
        predictor = build_predictor(other, 6, 4)
        assert not torch.allclose(predictor(z, -g), -predictor(z, g))
    assert build_predictor(PredictorConfig(kind="mlp"), 6, 4)(z, 0 * g).any()
    generated = build_predictor(PredictorConfig(bias=True), 6, 4)  # its biases are made from g too
    assert torch.allclose(generated(z, -g), -generated(z, g), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"hypernetwork": "deep"}, {"hidden": (5,), "relu": True, "bias": True, "hypernetwork_bias": True}],
)
def test_a_prediction_is_that_of_each_samples_own_matrices(options: dict[str, Any]) -> None:
    """The weights that g makes, written out for one sample after the other."""
    torch.manual_seed(0)
    cfg = PredictorConfig(**options)
    predictor = build_predictor(cfg, 3, 4).double()
    z, g = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    flat = predictor.hypernet.net(g)  # type: ignore[union-attr,operator]
    for row in range(len(z)):
        h, start, dims = z[row], 0, (3, *cfg.hidden, 3)
        for number, (d_in, d_out) in enumerate(pairwise(dims)):
            h = flat[row, start : start + d_out * d_in].view(d_out, d_in) @ h
            start += d_out * d_in
            if cfg.bias:
                h = h + flat[row, start : start + d_out]
                start += d_out
            h = h.relu() if cfg.relu and number < len(dims) - 2 else h
        assert start == flat.shape[1]
        assert torch.allclose(predictor(z, g)[row], h, rtol=1e-12)


def trained(steps: int, **weights: float) -> float:
    """How far the embedding's deviations are below 1 after so many steps on noise; 0.99 = it is a point."""
    torch.manual_seed(0)
    method = SIE(SIE.Config(**SMALL, **weights), SPEC).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(steps):
        x, g = torch.rand(2, 64, 3, 32, 32), torch.nn.functional.normalize(torch.randn(64, 4), dim=1)
        found = method(Batch([x[0], x[1]], torch.arange(64), relations={"rotation": g}))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    return float(found["variance"])


def test_without_variance_and_covariance_it_collapses() -> None:
    assert trained(40, std=0.0, cov=0.0) > 0.97
    assert trained(40) < 0.85


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "equimod", "sim": 3.0}, "sim is no option of the loss 'infonce'"),
        ({"name": "equimod", "loss": "vicreg", "temperature": 0.5}, "temperature is no option of the loss 'vicreg'"),
        ({"name": "sie", "predictor": {"kind": "mlp", "hidden": [64]}}, "hidden is no option of the kind 'mlp'"),
        ({"name": "sie", "predictor": {"layers": 3}}, "layers is no option of the kind 'hypernetwork'"),
        ({"name": "sie", "predictor": {"relu": True}}, "without hidden there is one alone"),
        ({"name": "sie", "predictor": {"hidden": [0]}}, "predictor.hidden"),
        ({"name": "sie", "projector": "2048-x"}, "method.projector"),
    ],
)
def test_options_that_would_change_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve({"method": values, "data": {"name": "bench3die"}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet18", "groups": 2}, "groups: a ResNet-18 has nothing that it could change"),
        ({"name": "resnet18", "base_width": 128}, "base_width: a ResNet-18 has nothing"),
        ({"name": "small_resnet10", "final_relu": False}, "final_relu: a ResNet-10 has nothing"),
        ({"name": "resnet18", "widen_end": 0.001}, "leaves the last stage no channels"),
    ],
)
def test_options_of_an_encoder_that_would_change_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(EncoderConfig(**options), (3, 32, 32))


def test_vicreg_shows_what_escapes_its_invariance() -> None:
    cfg = VICReg.Config(encoder=SMALL["encoder"], projector=(16, 12), invariant=5)
    method = VICReg(cfg, SPEC).eval()
    found = method.encode(torch.rand(3, 3, 32, 32))
    assert {part: z.shape[1] for part, z in found.items()} == method.parts
    assert torch.equal(found["emb"], torch.cat([found["emb_inv"], found["emb_equi"]], dim=1))
    assert method.parts["emb_equi"] == 7


def test_a_machine_with_other_data_than_the_plans_says_so() -> None:
    resolved = resolve({"method": {"name": "simclr"}, "data": {"name": "digits"}})
    spec = resolved.source(None, "train").spec
    assert resolved.source(None, "train", planned=spec.fingerprint).spec == spec
    with pytest.raises(DataError, match="this machine has others than those the sweep was planned with"):
        resolved.source(None, "train", planned="0123")
